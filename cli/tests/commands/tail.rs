//! `logcore tail`: the newest lines of a run that may rotate, resume or go away.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::common::{command, logcore, text};
use crate::support::runs;

#[test]
fn tail_prints_the_newest_lines_of_all_ranks() {
    let folder = runs();
    let write = |name: &str, seconds: &[u32], text: &str| {
        let line = |second: &u32| format!("2026-11-29 12:00:{second:02} | INFO  | trainer | {text} {second}\n");
        fs::write(
            folder.path().join("one").join(name),
            seconds.iter().map(line).collect::<String>(),
        )
        .unwrap();
    };
    write("training.log", &[1, 2, 3], "line");
    write("training.rank1.log", &[2], "line");
    write("training.rank2.log", &[4], "other\u{1b}[2J");
    let shown = text(&logcore(folder.path(), &["tail", "one", "-n", "3"]));
    insta::assert_snapshot!(shown, @r"
    [ranks 0-1] 2026-11-29 12:00:02 | INFO  | trainer | line 2
    2026-11-29 12:00:03 | INFO  | trainer | line 3
    [rank 2] 2026-11-29 12:00:04 | INFO  | trainer | other\x1b[2J 4
    ");
    let objects = text(&logcore(folder.path(), &["tail", "one", "-n", "1", "--json"]));
    let object: Value = serde_json::from_str(&objects).unwrap();
    assert_eq!(
        (&object["command"], &object["ranks"]),
        (&"tail".into(), &serde_json::json!([2]))
    );
}

#[test]
fn tail_follows_a_run_through_a_rotation_and_a_resume() {
    let folder = runs();
    let dir = folder.path().join("one");
    let log = dir.join("training.log");
    fs::write(&log, "2026-11-29 12:00:01 | INFO  | trainer | first\n").unwrap();
    let mut child = command(folder.path(), &["tail", "-f", "one"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("first"));
    fs::rename(&log, dir.join("training.log.1")).unwrap();
    fs::write(&log, "2026-11-29 12:00:02 | INFO  | trainer | second\n").unwrap();
    assert!(lines.next().unwrap().ends_with("second"));
    fs::write(
        dir.join("run.json"),
        r#"{"id":"k3v9q2ab","state":"failed","attempts":[{},{}]}"#,
    )
    .unwrap();
    assert_eq!(lines.next().unwrap(), "attempt 2 begins");
    fs::write(
        dir.join("run.json"),
        r#"{"id":"k3v9q2ab","state":"finished","attempts":[{},{}]}"#,
    )
    .unwrap();
    assert_eq!(lines.next().unwrap(), "the run is finished");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn tail_waits_for_a_folder_that_is_away() {
    let folder = runs();
    let (dir, away) = (folder.path().join("one"), folder.path().join("away"));
    let log = dir.join("training.log");
    fs::write(&log, "2026-11-29 12:00:01 | INFO  | trainer | first\n").unwrap();
    let mut child = command(folder.path(), &["tail", "-f", "one"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut notes = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("first"));
    for (number, part) in [(1, "No such file"), (2, "No such file")] {
        fs::rename(&dir, &away).unwrap();
        let note = notes.next().unwrap();
        assert!(
            note.contains(part) && note.ends_with("goes on when it is back"),
            "{note}"
        );
        let mut file = fs::File::options()
            .append(true)
            .open(away.join("training.log"))
            .unwrap();
        writeln!(file, "2026-11-29 12:00:02 | INFO  | trainer | later {number}").unwrap();
        fs::rename(&away, &dir).unwrap();
        assert!(lines.next().unwrap().ends_with(&format!("later {number}")));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(notes.next(), None, "one note each time");
}
