//! The JSON objects that the program prints.

use serde_json::Value;

use crate::support::{logcore, write_run};

#[test]
fn data_and_the_object_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), "one", "finished", 1000);
    for arguments in [
        &["export", "one", "--to", "csv"][..],
        &["export", "one", "--to", "jsonl", "-o", "-"],
        &["report", "one", "-o", "-"],
    ] {
        let output = logcore(folder.path(), &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = object["problems"][0]["error"].as_str().unwrap();
        assert!(error.contains("Name a file with -o, or leave --json out"), "{error}");
    }
}
