//! `logcore watch`: its exit codes, and how long a look takes.

use std::fs;

use serde_json::Value;

use crate::common::logcore;
use crate::support::runs;

#[test]
fn watch_says_what_has_happened_by_its_exit_code() {
    let folder = runs();
    let watch = |arguments: &[&str]| {
        let output = logcore(folder.path(), &[&["watch"], arguments].concat());
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), object)
    };
    let (code, object) = watch(&["one"]);
    assert_eq!(
        (code, &object["event"], &object["id"]),
        (0, &"finished".into(), &"k3v9q2ab".into())
    );
    let (code, object) = watch(&["two"]);
    assert_eq!((code, &object["event"]), (11, &"killed".into()));
    assert_eq!(watch(&["evil", "--until", "end,stall"]).0, 10);
    let (code, object) = watch(&["one", "--until", "nan,end"]);
    assert_eq!(
        (code, &object["metric"], &object["step"]),
        (13, &"metrics/loss".into(), &2.into())
    );
    assert_eq!(watch(&["one", "--until", "stall", "--timeout", "0.1s"]).0, 15);
}

#[cfg(target_os = "linux")]
#[test]
fn a_watch_of_very_long_files_ends_in_time() {
    use std::time::{Duration, Instant};

    let folder = runs();
    let file = fs::File::create(folder.path().join("one/metrics.jsonl")).unwrap();
    if file.set_len(1 << 40).is_err() {
        // A file system without such files has no such problem.
        return;
    }
    let begun = Instant::now();
    let timeout = logcore(
        folder.path(),
        &["watch", "one", "--until", "nan,end", "--timeout", "1s"],
    );
    assert_eq!(timeout.status.code(), Some(15));
    let ended = logcore(folder.path(), &["watch", "one"]);
    assert_eq!(ended.status.code(), Some(0), "the end needs no rows");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
