//! Files and links that commands refuse to read.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::{logcore, text};
use crate::support::{assert_refused, row, runs};

#[test]
fn files_that_cannot_be_read_are_no_silence() {
    let folder = runs();
    let run = folder.path().join("one");
    for name in ["metrics.jsonl", "training.log"] {
        let _ = fs::remove_file(run.join(name));
        symlink("elsewhere", run.join(name)).unwrap();
    }
    for (arguments, part) in [
        (
            &["watch", "one", "--until", "nan,end"][..],
            "cannot watch the rows of rank 0",
        ),
        (&["tail", "one"], "it is a link"),
    ] {
        assert_refused(folder.path(), arguments, part);
    }
    let ended = logcore(folder.path(), &["watch", "one", "--until", "end"]);
    assert_eq!(ended.status.code(), Some(0), "the end needs no rows");
}

#[test]
fn links_out_of_the_folder_of_the_runs_are_named() {
    let folder = runs();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("rows");
    fs::write(&secret, format!("{}\n", row(1, 0.0625))).unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for name in ["metrics.jsonl", "training.log"] {
        let _ = fs::remove_file(one.join(name));
        symlink(&secret, one.join(name)).unwrap();
    }
    symlink(&secret, two.join("metrics.jsonl.1")).unwrap();
    for command in [
        &["export", "one", "--to", "csv"][..],
        &["export", "two", "--to", "csv"],
        &["plot", "one"],
        &["merge", "one"],
        &["merge", "two"],
    ] {
        let output = assert_refused(folder.path(), command, "leads out of the folder of the runs");
        assert!(
            !String::from_utf8(output.stdout).unwrap().contains("0.0625"),
            "{command:?}"
        );
    }
    // Links of the library, and those of the user in a `log_dir`, go on working.
    fs::remove_file(two.join("metrics.jsonl.1")).unwrap();
    symlink("two", folder.path().join("latest")).unwrap();
    assert!(text(&logcore(folder.path(), &["export", "./latest", "--to", "csv"])).contains("0.03125"));
    fs::write(folder.path().join("run.json"), r#"{"id":"flat"}"#).unwrap();
    symlink("latest/metrics.jsonl", folder.path().join("metrics.jsonl")).unwrap();
    assert!(text(&logcore(folder.path(), &["export", ".", "--to", "csv"])).contains("0.03125"));
    fs::create_dir(folder.path().join(".logcore")).unwrap();
    fs::remove_file(folder.path().join("metrics.jsonl")).unwrap();
    symlink(&secret, folder.path().join("metrics.jsonl")).unwrap();
    fs::remove_file(one.join("metrics.jsonl")).unwrap();
    symlink("../metrics.jsonl", one.join("metrics.jsonl")).unwrap();
    for run in [".", "one"] {
        assert!(
            text(&logcore(folder.path(), &["export", run, "--to", "csv"])).contains("0.0625"),
            "{run}"
        );
    }
}
