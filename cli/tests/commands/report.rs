//! `logcore report`: the page that it writes, and the page that it leaves alone.

use std::fs;

use crate::common::{logcore, text};
use crate::support::{assert_refused, runs};

#[test]
fn report_writes_a_page_that_needs_nothing_else() {
    let folder = runs();
    let written = text(&logcore(folder.path(), &["report", "one", "-o", "page.html"]));
    assert!(
        written.starts_with("page.html: 1 run, 1 curve, 0 lines, 0.1 MB"),
        "{written}"
    );
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("k3v9q2ab"));
    assert!(text(&logcore(folder.path(), &["report", "-o", "-"])).contains("x07d9q2a"));
    let empty = tempfile::tempdir().unwrap();
    let none = logcore(empty.path(), &["report"]);
    assert_eq!(
        (none.status.code(), fs::read_dir(empty.path()).unwrap().count()),
        (Some(2), 0)
    );
}

#[test]
fn a_report_replaces_no_page_of_another_program() {
    let folder = runs();
    let page = folder.path().join("report.html");
    for _ in 0..2 {
        text(&logcore(folder.path(), &["report"]));
        assert!(fs::read_to_string(&page).unwrap().contains("k3v9q2ab"));
    }
    let coverage = "<!doctype html><title>Runs</title><p>coverage: 93 %";
    fs::write(&page, coverage).unwrap();
    assert_refused(folder.path(), &["report"], "Name a file with -o");
    assert_eq!(fs::read_to_string(&page).unwrap(), coverage);
    text(&logcore(folder.path(), &["report", "-o", "report.html"]));
    assert!(fs::read_to_string(&page).unwrap().contains("k3v9q2ab"));
}
