//! Commands that look at a run while it is live.

use std::fs;
use std::process::Stdio;

use crate::common::{command, error, logcore, text};
use crate::support::{row, runs};

#[test]
fn the_last_line_of_a_live_run_is_no_damage() {
    let folder = runs();
    let dir = folder.path().join("one");
    fs::write(dir.join("run.json"), live_manifest("running")).unwrap();
    let lock = fs::File::create(dir.join(".lock")).unwrap();
    lock.lock().unwrap();
    fs::write(dir.join("metrics.jsonl"), format!("{}\n{{\"st", row(1, 8.0))).unwrap();
    for command in [
        &["export", "one", "--to", "csv"][..],
        &["plot", "one"],
        &["merge", "one"],
        &["report", "one"],
    ] {
        let output = logcore(folder.path(), command);
        let error = error(&output);
        text(&output);
        assert!(!error.contains("missing"), "{command:?}: {error}");
    }
}

#[test]
fn watch_sees_a_stall_and_the_end_of_a_live_run() {
    let folder = runs();
    let dir = folder.path().join("live");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("run.json"), live_manifest("running")).unwrap();
    let lock = fs::File::create(dir.join(".lock")).unwrap();
    lock.lock().unwrap();
    let stall = logcore(
        folder.path(),
        &["watch", "live", "--until", "stall,end", "--stall-after", "0.3s"],
    );
    assert_eq!(stall.status.code(), Some(14));
    let mut child = command(folder.path(), &["watch", "live"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none(), "the run is live");
    fs::write(dir.join("run.json"), live_manifest("finished")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Returns the manifest of a run of this machine, whose id is `live`.
fn live_manifest(state: &str) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{{\"id\":\"live\",\"state\":\"{state}\",\"host\":\"{}\"}}", host.trim())
}
