//! Tables: what they compare, and how they fit the window.

use crate::common::{json, logcore, text};
use crate::support::{in_window, runs};

#[test]
fn tables_look_right_in_narrow_and_wide_windows() {
    let folder = runs();
    let age = regex_lite::Regex::new(r"\b\d+d\b").unwrap();
    let place = folder.path().to_string_lossy().into_owned();
    for columns in ["80", "160"] {
        for command in [
            &["ls", "--where", "name = trainer"][..],
            &["show", "k3v9"],
            &["compare", "k3v9", "x07d"],
            &["prune", "--keep", "1", "--dry-run"],
        ] {
            let shown = in_window(folder.path(), columns, command).replace(&place, "[runs]");
            insta::assert_snapshot!(format!("{}_{columns}", command[0]), age.replace_all(&shown, "[age]"));
        }
    }
}

#[test]
fn ls_fits_the_window() {
    let folder = runs();
    for columns in ["60", "80", "160"] {
        let listed = in_window(folder.path(), columns, &["ls", "--where", "name = trainer"]);
        let width: usize = columns.parse().unwrap();
        assert!(listed.lines().all(|line| line.chars().count() <= width), "{listed}");
        assert!(listed.contains("k3v9q2ab") && listed.contains("finished"), "{listed}");
        assert_eq!(listed.contains("seed"), width > 60, "{listed}");
    }
}

#[test]
fn compare_shows_what_differs() {
    let folder = runs();
    let compared = text(&logcore(folder.path(), &["compare", "one", "two"]));
    insta::assert_snapshot!(compared, @r"
                   k3v9q2ab  x07d9q2a
    name            trainer   trainer
    state          finished    killed
    duration         1h 02m    1h 02m
    last step           900         7
    steps per sec     136.1
    goodput             79%
    lr                0.001    0.0001
    seed                  1         2
    loss last         2.481   0.03125
    loss min          2.187
    loss max              8
    ");
    let compared = json(folder.path(), &["compare", "one", "two"]);
    assert_eq!(compared["differing_config"]["seed"], serde_json::json!([1, 2]));
}
