//! Lines that are no rows: commands go on without them, and name them.

use std::fs;

use crate::common::{error, json, logcore, text};
use crate::support::{row, runs};

#[test]
fn lines_that_are_no_rows_are_named() {
    let folder = runs();
    let file = folder.path().join("one/metrics.jsonl");
    // A torn line, the hole that a file system leaves after a loss of power, and a torn end.
    let torn = &row(2, 7.0)[..20];
    let rows = format!(
        "{}\n{torn}{}\n{}{}\n{}\n{torn}",
        row(1, 8.0),
        row(3, 6.0),
        "\0".repeat(4096),
        row(4, 5.0),
        row(5, 4.0)
    );
    fs::write(&file, rows).unwrap();
    let part = "2 lines are no rows, and are left out; the first is line 2 of one/metrics.jsonl; \
                the last line is incomplete, and is left out";
    let mut commands = vec![
        vec!["export", "one", "--to", "csv"],
        vec!["export", "one", "--to", "jsonl", "-o", "rows.jsonl"],
        vec!["plot", "one", "loss"],
    ];
    if cfg!(feature = "parquet") {
        commands.push(vec!["export", "one", "--to", "parquet", "-o", "rows.parquet"]);
    }
    if cfg!(feature = "tensorboard") {
        commands.push(vec!["export", "one", "--to", "tensorboard", "-o", "events"]);
    }
    for command in commands {
        let output = logcore(folder.path(), &command);
        let error = error(&output);
        text(&output);
        assert!(
            error.contains("rows are missing in ") && error.contains(part),
            "{command:?}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
    }
    let object = json(folder.path(), &["export", "one", "--to", "csv", "-o", "rows.csv"]);
    assert_eq!(
        (&object["rows"], &object["left_out"], &object["torn"]),
        (&2.into(), &2.into(), &true.into())
    );
    assert_eq!(object["first_left_out"], "line 2 of one/metrics.jsonl");
    assert!(
        object["problems"][0]["error"].as_str().unwrap().contains(part),
        "{object}"
    );

    let merged = logcore(folder.path(), &["merge", "one"]);
    let skipped = error(&merged);
    text(&merged);
    assert!(
        skipped.contains("skipped 2 foreign lines, the first is line 2 of one/metrics.jsonl; skipped the incomplete last line of rank 0"),
        "{skipped}"
    );
    let object = json(folder.path(), &["merge", "one"]);
    let merged = &object["files"][0];
    assert_eq!(
        (&merged["left_out"], &merged["first_left_out"], &merged["torn"]),
        (
            &2.into(),
            &"line 2 of one/metrics.jsonl".into(),
            &serde_json::json!([0])
        )
    );
    assert_eq!(object["problems"].as_array().unwrap().len(), 1);

    let page = logcore(folder.path(), &["report", "one"]);
    let error = error(&page);
    assert!(error.contains("Rows are missing: 2 lines are no rows"), "{error}");
}
