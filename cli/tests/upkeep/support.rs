//! Runs of this machine, and what folders hold.

use std::fs;
use std::path::{Path, PathBuf};

/// Writes the files of a run of this machine that started and ended at these seconds.
pub(crate) fn write_run(log_dir: &Path, name: &str, state: &str, started: u64) -> PathBuf {
    let dir = log_dir.join(name);
    fs::create_dir_all(&dir).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let manifest = format!(
        "{{\"id\":{},\"host\":\"{}\",\"name\":\"trainer\",\"started\":{started},\"ended\":{},\"state\":\"{state}\",\
         \"attempts\":[{{\"started\":{started}}}]}}",
        serde_json::to_string(name).unwrap(),
        host.trim(),
        started + 5
    );
    fs::write(dir.join("run.json"), manifest).unwrap();
    fs::write(
        dir.join("metrics.jsonl"),
        "{\"step\":1,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":8.0}\n",
    )
    .unwrap();
    fs::write(dir.join("training.log"), "line\n").unwrap();
    fs::write(dir.join(".lock"), "").unwrap();
    dir
}

/// Returns the names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
