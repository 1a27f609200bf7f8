//! `logcore man`.

use std::fs;
use std::process::Command;

use crate::common::{error, json, logcore, text};
use crate::support::names;

#[test]
fn each_command_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = text(&logcore(folder.path(), &["man"]));
    assert!(page.contains(".TH logcore 1") && page.contains(".SH NAME"), "{page}");
    let prune = text(&logcore(folder.path(), &["man", "prune"]));
    assert!(
        prune.contains(".TH logcore-prune 1") && prune.contains("older"),
        "{prune}"
    );
    let written = json(folder.path(), &["man", "-o", "pages"]);
    let pages = names(&folder.path().join("pages"));
    assert_eq!(written["files"].as_array().unwrap().len(), pages.len());
    for command in ["ls", "prune", "import", "doctor", "completions"] {
        assert!(pages.contains(&format!("logcore-{command}.1")), "{pages:?}");
    }
    assert!(pages.contains(&"logcore.1".to_owned()) && !pages.contains(&"logcore-help.1".to_owned()));
    assert_eq!(
        fs::read_to_string(folder.path().join("pages/logcore-prune.1"))
            .unwrap()
            .trim(),
        prune.trim()
    );
    // Where there is a program that checks pages, all pages pass.
    for page in &pages {
        let check = Command::new("mandoc")
            .args(["-T", "lint", "-W", "error"])
            .arg(folder.path().join("pages").join(page))
            .output();
        if let Ok(check) = check {
            assert!(
                check.status.success(),
                "{page}: {}",
                String::from_utf8_lossy(&check.stdout)
            );
        }
    }
}

#[test]
fn an_unknown_page_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = logcore(folder.path(), &["man", "fly"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(error(&unknown).contains("logcore help"), "{}", error(&unknown));
    fs::write(folder.path().join("file"), "").unwrap();
    let taken = logcore(folder.path(), &["man", "-o", "file"]);
    assert_eq!(taken.status.code(), Some(2));
}
