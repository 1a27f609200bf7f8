//! Values that are long, far or hostile: none breaks a table or an object.

use std::fs;

use crate::common::{json, logcore, text};
use crate::support::{in_window, runs};

#[test]
fn a_very_long_value_fits_every_table() {
    let folder = runs();
    let long = "x".repeat(70_000);
    let config = format!(r#"{{"config":{{"prompt":"{long}"}}}}"#);
    fs::write(folder.path().join("one/config.json"), config).unwrap();
    for command in [&["ls"][..], &["compare", "one", "two"], &["show", "one"]] {
        let shown = text(&logcore(folder.path(), command));
        assert!(shown.contains(&long), "{command:?}");
        assert!(
            shown.lines().filter(|line| line.len() > 10_000).count() == 1,
            "{command:?}"
        );
        let narrow = in_window(folder.path(), "80", command);
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{command:?}");
    }
    let listed = json(folder.path(), &["ls", "--where", "id = k3v9q2ab"]);
    assert_eq!(listed["runs"][0]["config"]["prompt"], long);
}

#[test]
fn times_without_a_date_are_unknown() {
    let folder = runs();
    let manifest = r#"{"id":"far","name":"far","started":1e19,"ended":2e19,"state":"finished",
        "attempts":[{"started":1e19,"ended":2e19},{"started":1e300}]}"#;
    fs::write(folder.path().join("two/run.json"), manifest).unwrap();
    let listed = text(&logcore(
        folder.path(),
        &["ls", "--where", "id = far", "--columns", "id,started,ended,age"],
    ));
    insta::assert_snapshot!(listed, @r"
    id   started    ended  age
    far  unknown  unknown
    ");
    let shown = text(&logcore(folder.path(), &["show", "two"]));
    assert!(shown.contains("started    unknown\n"), "{shown}");
    let pruned = text(&logcore(folder.path(), &["prune", "--where", "id = far", "--dry-run"]));
    assert!(pruned.contains("two"), "{pruned}");
    for command in [
        &["compare", "one", "two"][..],
        &["plot", "two"],
        &["report", "two"],
        &["tail", "two"],
    ] {
        text(&logcore(folder.path(), command));
    }
}

#[test]
fn a_run_of_others_adds_no_line_and_no_style() {
    let folder = runs();
    let manifest = r#"{"id":"x\nstate finished\n\u001b[8m","name":"x\nstate finished\n\u001b[8m",
        "started":1000,"state":"killed","attempts":[{}]}"#;
    fs::write(folder.path().join("two/run.json"), manifest).unwrap();
    for command in [
        &["ls"][..],
        &["show", "two"],
        &["compare", "one", "two"],
        &["plot", "one", "two", "loss"],
        &["prune", "--keep", "0", "--dry-run"],
    ] {
        let shown = in_window(folder.path(), "200", command);
        assert!(shown.contains(r"x\nstate finished\n\x1b[8m"), "{command:?}: {shown}");
        assert!(
            !shown.contains("\nstate finished") && !shown.contains('\u{1b}'),
            "{command:?}: {shown}"
        );
    }
}

// The file systems of other systems refuse such names.
#[cfg(target_os = "linux")]
#[test]
fn folders_whose_names_are_not_utf_8_have_a_replacement_in_json() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use serde_json::Value;

    use crate::common::command;

    let folder = runs();
    let [raw, raw_file, raw_folder] = [&b"raw\xff"[..], b"raw\xff.out", b"raw\xff.folder"].map(OsStr::from_bytes);
    fs::rename(folder.path().join("one"), folder.path().join(raw)).unwrap();
    fs::write(folder.path().join("table.csv"), "step,loss\n1,0.5\n").unwrap();
    let run = |before: &[&str], path: Option<&OsStr>, has_json: bool| {
        let mut command = command(folder.path(), before);
        command.args(path);
        let output = command.args(has_json.then_some("--json")).output().unwrap();
        assert!(output.status.success(), "{before:?}: {output:?}");
        output.stdout
    };
    let json = |before: &[&str], path: Option<&OsStr>| -> Value {
        run(before, path, false);
        serde_json::from_slice(&run(before, path, true)).unwrap()
    };
    let shown = "raw\u{fffd}";
    let is_shown = |path: &Value| path.as_str().is_some_and(|path| path.contains(shown));
    let id = "id = k3v9q2ab";
    assert!(is_shown(&json(&["ls", "--where", id], None)["runs"][0]["dir"]));
    assert!(is_shown(&json(&["show", "k3v9q2ab"], None)["runs"][0]["dir"]));
    assert!(is_shown(&json(&["compare", "two", "k3v9q2ab"], None)["runs"][1]["dir"]));
    let pruned = json(&["prune", "--where", id, "--dry-run"], None);
    assert!(
        is_shown(&pruned["kept"][0]["dir"]) || is_shown(&pruned["pruned"][0]["dir"]),
        "{pruned}"
    );
    assert!(is_shown(
        &json(&["report", "two", "-o"], Some(raw_file))["report"]["path"]
    ));
    let exported = json(&["export", "two", "--to", "csv", "-o"], Some(raw_file));
    assert!(is_shown(&exported["output"]), "{exported}");
    assert!(is_shown(&json(&["man", "-o"], Some(raw_folder))["files"][0]["path"]));
    let imported = json(&["import", "table.csv", "--log-dir"], Some(raw_folder));
    assert!(is_shown(&imported["imported"][0]["dir"]), "{imported}");
}
