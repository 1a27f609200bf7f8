//! The last words in the `run.json` of a killed run.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use logcore::files;
use logcore::serde_json::{self, Value};
use logcore_pipeline::{KilledRun, print_notice};

use super::{ledger, links};

/// Lets `run.json` say that the run was killed: when, and at which step. Readers need not wait for
/// that, because nobody holds the lock of the run any more.
///
/// Rank 0 alone has a `run.json`. The file of a process that lives, or of an attempt after the
/// killed one, stays as it is.
pub(crate) fn note_killed(killed: &KilledRun<'_>) {
    if killed.rank.0.is_some() {
        return;
    }
    links::clean_up_beside(killed.folder);
    // Before the file is read, so that no process begins an attempt in between. A shared lock:
    // readers have one, too, and take only the lock of a process for a sign of life.
    let lock = files::open_no_follow(&killed.folder.join(LOCK));
    let is_live = |error| matches!(error, TryLockError::WouldBlock);
    if lock
        .as_ref()
        .is_ok_and(|lock| lock.try_lock_shared().is_err_and(is_live))
    {
        return;
    }
    // The process may have been killed amid its first `run.json`, which nobody replaces.
    files::remove_stale_replacements(killed.folder);
    let path = killed.folder.join(MANIFEST);
    let Ok(bytes) = files::read_no_follow(&path, MAX_BYTES) else {
        return;
    };
    let Ok(mut manifest) = serde_json::from_slice(&bytes) else {
        return;
    };
    // A run that hangs has no frames, and saves its ledger.
    let saved = path.metadata().and_then(|metadata| metadata.modified());
    let ended = killed.ended.max(saved.ok().filter(|saved| *saved <= SystemTime::now()));
    let last_step = killed
        .last_step
        .or_else(|| last_step_of_ended(killed.folder, &manifest));
    if !end_attempt(&mut manifest, killed.pid, ended, last_step) {
        return;
    }
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or(bytes);
    if let Err(error) = files::replace(&path, &text) {
        print_notice(
            &format!("run.json in {}", killed.folder.display()),
            &format!(
                "cannot write the end of the killed run into {}: {error}",
                path.display()
            ),
        );
    }
}

/// Returns the last step of a process that was killed after all its loggers had ended; the ring
/// tells the steps of open loggers. A `summary.json` from before the newest attempt is another
/// attempt's, and one with a killed logger can have entries of earlier attempts. A logger that a
/// signal has ended may have taken a few rows after its summary: they are the last ones.
fn last_step_of_ended(folder: &Path, manifest: &Value) -> Option<u64> {
    let path = folder.join(SUMMARY);
    let written = path.symlink_metadata().ok()?.modified().ok()?;
    let written = written.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let started = manifest["attempts"].as_array()?.last()?["started"].as_f64()?;
    if written < started {
        return None;
    }
    let bytes = files::read_no_follow(&path, MAX_BYTES).ok()?;
    let summary: Value = serde_json::from_slice(&bytes).ok()?;
    let loggers = summary.as_object()?;
    if loggers.values().any(|logger| logger["state"] == KILLED) {
        return None;
    }
    let steps = loggers.values().filter_map(|logger| logger["last_step"].as_u64());
    steps.max().max(last_step_of_rows(folder, started))
}

/// Returns the highest step of the last rows since `started`, in seconds since 1970.
fn last_step_of_rows(folder: &Path, started: f64) -> Option<u64> {
    let mut file = files::open_no_follow(&folder.join(ROWS)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_ROWS))).ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_ROWS).read_to_end(&mut bytes).ok()?;
    let rows = bytes.split(|byte| *byte == b'\n');
    let rows = rows.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let rows = rows.filter(|row| row["time"].as_f64().is_some_and(|time| time >= started));
    rows.filter_map(|row| row["step"].as_u64()).max()
}

/// Ends the newest attempt; returns `false` if it has ended, or is not that of the process.
fn end_attempt(manifest: &mut Value, pid: u64, ended: Option<SystemTime>, last_step: Option<u64>) -> bool {
    if manifest["state"] != RUNNING || manifest["pid"] != pid {
        return false;
    }
    let since = ended.and_then(|ended| ended.duration_since(UNIX_EPOCH).ok());
    // The times of files are up to ten milliseconds behind the clock.
    let begun = manifest["attempts"]
        .as_array()
        .and_then(|attempts| attempts.last()?["started"].as_f64());
    let ended = since.map(|since| since.as_secs_f64().max(begun.unwrap_or(0.0)));
    let ended = Value::from(ended);
    let started = manifest["started"].as_f64();
    let attempts = manifest.get_mut("attempts").and_then(Value::as_array_mut);
    if let Some(attempt) = attempts.and_then(|attempts| attempts.last_mut()?.as_object_mut()) {
        attempt.insert("state".to_owned(), KILLED.into());
        attempt.insert("ended".to_owned(), ended.clone());
        // The process has saved its step every ten seconds.
        let saved = attempt.get("last_step").and_then(Value::as_u64);
        attempt.insert("last_step".to_owned(), last_step.max(saved).into());
        let wall = ended.as_f64().zip(started).map(|(ended, started)| ended - started);
        let ledger = attempt
            .get(LEDGER)
            .cloned()
            .map(serde_json::from_value::<BTreeMap<_, _>>);
        if let (Some(wall), Some(Ok(mut ledger))) = (wall, ledger) {
            ledger::complete(&mut ledger, wall);
            attempt.insert(LEDGER.to_owned(), serde_json::json!(ledger));
        }
    }
    manifest["state"] = KILLED.into();
    manifest["ended"] = ended;
    manifest["exit_code"] = EXIT_CODE.into();
    true
}

const MANIFEST: &str = "run.json";
/// The file with the ends of loggers.
const SUMMARY: &str = "summary.json";
const ROWS: &str = "metrics.jsonl";
/// Bytes of the end of the rows that are read.
const LAST_ROWS: u64 = 64 << 10;
/// The file that rank 0 of a live run holds a lock on.
const LOCK: &str = ".lock";
/// Most bytes of a file that is read. A manifest of 10,000 attempts has about 2 MB, and so has a
/// summary of 5,000 loggers.
const MAX_BYTES: u64 = 16 << 20;
/// The seconds of the run by their use, in an attempt.
const LEDGER: &str = "ledger";
const RUNNING: &str = "running";
const KILLED: &str = "killed";
/// The exit code that a shell shows for a killed process.
const EXIT_CODE: u64 = 137;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use logcore::FileRank;
    use logcore::serde_json::json;

    use super::*;

    fn killed(folder: &Path, pid: u64, rank: Option<u32>) -> KilledRun<'_> {
        let mut killed = KilledRun::new(folder, pid, FileRank(rank));
        killed.ended = Some(UNIX_EPOCH + Duration::from_millis(1500));
        killed.last_step = Some(7);
        killed
    }

    #[test]
    fn a_killed_attempt_has_its_last_step_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        let first = json!({"started": 0.5, "ended": 0.75, "state": "finished"});
        let running = json!({
            "id": "k3v9q2ab", "pid": 12, "state": "running", "new": [1], "started": 0.5,
            "attempts": [first, {
                "started": 1.0, "ended": null, "state": "running", "ledger": {"startup": 0.25, "step": 0.25},
            }],
        });
        let write = |saved: f64| {
            fs::write(&path, running.to_string()).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs_f64(saved)).unwrap();
        };
        write(1.25);
        let read = || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
        note_killed(&killed(folder.path(), 12, Some(1)));
        note_killed(&killed(folder.path(), 13, None));
        let lock = fs::File::create(folder.path().join(LOCK)).unwrap();
        lock.lock().unwrap();
        note_killed(&killed(folder.path(), 12, None));
        assert_eq!(read(), running, "another rank, another process, and a live one");
        drop(lock);
        for _ in 0..2 {
            note_killed(&killed(folder.path(), 12, None));
            let expected = json!({
                "id": "k3v9q2ab", "pid": 12, "state": "killed", "ended": 1.5, "exit_code": 137, "new": [1],
                "started": 0.5,
                "attempts": [first, {
                    "started": 1.0, "ended": 1.5, "state": "killed", "last_step": 7,
                    "ledger": {"startup": 0.25, "step": 0.75},
                }],
            });
            assert_eq!(read(), expected);
        }
        // Saved without a new frame: the run hung.
        write(41.5);
        note_killed(&killed(folder.path(), 12, None));
        let attempt = &read()["attempts"][1];
        assert_eq!(
            (&attempt["ended"], &attempt["ledger"]["step"]),
            (&json!(41.5), &json!(40.75))
        );
        write(1e10);
        note_killed(&killed(folder.path(), 12, None));
        assert_eq!(read()["ended"], 1.5, "a time to come");
        write(0.75);
        let mut early = killed(folder.path(), 12, None);
        early.ended = None;
        note_killed(&early);
        assert_eq!(read()["attempts"][1]["ended"], 1.0, "no attempt ends before its start");
    }

    #[test]
    fn the_steps_of_loggers_that_had_all_ended_are_in_the_summary() {
        let folder = tempfile::tempdir().unwrap();
        let (path, summary) = (folder.path().join(MANIFEST), folder.path().join(SUMMARY));
        let ended =
            json!({"train": {"last_step": 41}, "eval": {"last_step": 8}, "odd": [], "none": {"last_step": null}});
        let mut killed_later = ended.clone();
        killed_later["late"] = json!({"state": "killed"});
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        for (text, started, of_ring, expected) in [
            (&ended, now - 5.0, None, json!(41)),
            (&ended, now - 5.0, Some(7), json!(7)),
            (&ended, now + 5.0, None, json!(null)),
            (&killed_later, now - 5.0, None, json!(null)),
        ] {
            fs::write(&summary, text.to_string()).unwrap();
            let running =
                json!({"pid": 12, "state": "running", "attempts": [{"started": started, "state": "running"}]});
            fs::write(&path, running.to_string()).unwrap();
            let mut killed = KilledRun::new(folder.path(), 12, FileRank(None));
            killed.last_step = of_ring;
            note_killed(&killed);
            let manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(manifest["attempts"][0]["last_step"], expected, "{manifest}");
        }
        // A signal has ended the logger while the program went on.
        let rows = [(90, now - 9.0), (43, now), (42, now)].map(|(step, time)| json!({"step": step, "time": time}));
        let rows = rows.map(|row| format!("{row}\n")).concat() + "{\"step\":99,\"ti";
        fs::write(folder.path().join(ROWS), rows).unwrap();
        fs::write(&summary, ended.to_string()).unwrap();
        let running = json!({"pid": 12, "state": "running", "attempts": [{"started": now - 5.0, "state": "running"}]});
        fs::write(&path, running.to_string()).unwrap();
        note_killed(&KilledRun::new(folder.path(), 12, FileRank(None)));
        let manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(manifest["attempts"][0]["last_step"], 43, "{manifest}");
    }

    #[test]
    fn a_file_of_a_process_that_was_killed_amid_its_first_manifest_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(".logcore-0123456789abcdef.tmp");
        fs::write(&left, "{").unwrap();
        note_killed(&killed(folder.path(), 12, Some(1)));
        assert!(left.exists(), "rank 0 alone has a manifest");
        note_killed(&killed(folder.path(), 12, None));
        assert!(!left.exists());
    }

    #[test]
    fn a_reader_that_looks_at_the_lock_hides_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        fs::write(&path, json!({"pid": 12, "state": "running"}).to_string()).unwrap();
        let reader = fs::File::create(folder.path().join(LOCK)).unwrap();
        reader.try_lock_shared().unwrap();
        note_killed(&killed(folder.path(), 12, None));
        let manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(manifest["state"], "killed");
    }

    #[test]
    fn a_file_that_is_no_manifest_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        note_killed(&killed(folder.path(), 12, None));
        let path = folder.path().join(MANIFEST);
        for text in ["", "[1]", "null", "{\"state\": \"running\"}"] {
            fs::write(&path, text).unwrap();
            note_killed(&killed(folder.path(), 12, None));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        note_killed(&killed(folder.path(), 12, None));
        assert!(path.is_symlink());
    }
}
