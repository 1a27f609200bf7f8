//! Event files of TensorBoard: their import, and their export.

use std::fs;
use std::path::Path;

use logcore::MetricValue;
use logcore_tensorboard::{EventBuffer, SessionStatus};
use serde_json::{Value, json as value};

use crate::common::{error, json, logcore, text};
use crate::support::names;

const FILE: &str = "events.out.tfevents.1700000000.host";

/// Returns a file with the losses of some steps, behind the mark of a session at the first one.
fn losses(steps: impl Iterator<Item = u64> + Clone, loss: f32) -> EventBuffer {
    let mut events = EventBuffer::default();
    events.begin_file(1_700_000_000.0);
    events.begin_session(1_700_000_000.0, steps.clone().next().unwrap_or_default());
    for step in steps {
        let time = 1_700_000_000.0 + step as f64;
        events.scalars(time, step, [("loss", MetricValue::F32(loss))]);
        events.scalars(time, step, [("acc", MetricValue::Float(f64::NAN))]);
    }
    events
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn rows(folder: &Path, run: &str) -> String {
    text(&logcore(folder, &["export", run, "--to", "csv", "--log-dir", "logs"]))
}

#[test]
fn a_folder_of_event_files_becomes_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = losses(0..4, 0.1);
    first.hyper_parameters(
        5.0,
        value!({"model": {"width": 3}, "api_key": "s3cr3t"})
            .as_object()
            .unwrap(),
    );
    first.text(5.0, 0, "notes", "hello");
    write(folder.path(), &format!("tb/{FILE}.1"), first.bytes());
    let mut second = losses(2..5, 0.5);
    second.end_session(1_700_000_009.0, SessionStatus::Failure);
    // A live process has not written the end of the last record yet.
    let torn = [second.bytes(), &[1, 2, 3]].concat();
    write(folder.path(), &format!("tb/{FILE}.2"), &torn);

    let imported = json(folder.path(), &["import", "tb", "--log-dir", "logs"]);
    assert!(
        imported["problems"].to_string().contains("1 values are no numbers"),
        "{imported}"
    );
    let run = &imported["imported"][0];
    assert_eq!(
        (&run["name"], &run["rows"], &run["metrics"]),
        (&value!("tb"), &value!(5), &value!(2))
    );
    let lines = rows(folder.path(), "latest");
    let expected = "step,time,logger,attempt,metrics/loss,metrics/acc\n0,1700000000.0,tb,1,0.1,nan\n\
                    1,1700000001.0,tb,1,0.1,nan\n2,1700000002.0,tb,1,0.5,nan\n3,1700000003.0,tb,1,0.5,nan\n\
                    4,1700000004.0,tb,1,0.5,nan\n";
    assert_eq!(lines, expected);
    let shown = json(folder.path(), &["show", "latest", "--log-dir", "logs"]);
    let run = &shown["runs"][0];
    assert_eq!(run["config"], value!({"api_key": "***", "model.width": 3}));
    assert_eq!(
        (&run["state"], &run["ended"]),
        (&value!("failed"), &value!(1_700_000_009.0))
    );
}

#[test]
fn each_folder_is_a_run_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let events = losses(0..2, 0.5);
    for name in ["tb/a", "tb/b/c", "tb/run/tensorboard", "elsewhere", "tb/../../x"] {
        write(&folder.path().join("root"), &format!("{name}/{FILE}"), events.bytes());
    }
    #[cfg(unix)]
    {
        let elsewhere = folder.path().join("root/elsewhere");
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("root/tb/link")).unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("root/tb/b/up")).unwrap();
    }
    let imported = json(folder.path(), &["import", "root/tb", "--log-dir", "logs"]);
    let imported = imported["imported"].as_array().unwrap();
    let names: Vec<_> = imported.iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b/c", "run"]);
    let dirs = imported.iter().map(|run| Path::new(run["dir"].as_str().unwrap()));
    let parents: Vec<_> = dirs.map(|dir| dir.parent().unwrap().file_name().unwrap()).collect();
    assert_eq!(parents, ["logs"; 3]);
}

#[test]
fn a_damaged_file_is_read_up_to_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = losses(0..50, 0.5).bytes().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(folder.path(), FILE, &bytes);
    let output = logcore(folder.path(), &["import", FILE, "--log-dir", "logs", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        imported["problems"].to_string().contains("damaged at byte"),
        "{imported}"
    );
    let count = imported["imported"][0]["rows"].as_u64().unwrap();
    assert!((20..30).contains(&count), "{count}");
    assert_eq!(rows(folder.path(), "latest").lines().count() as u64, count + 1);
}

#[test]
fn what_cannot_be_imported_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut wide = EventBuffer::default();
    let names: Vec<_> = (0..=100_000).map(|number| format!("m{number}")).collect();
    wide.scalars(1.0, 1, names.iter().map(|name| (name, MetricValue::Int(1))));
    let mut empty = EventBuffer::default();
    empty.begin_file(1.0);
    for (bytes, part) in [
        (wide.bytes(), "more than 100000 tags"),
        (empty.bytes(), "no event file with numbers"),
        (&[0xff; 40], "no event file with numbers"),
    ] {
        write(folder.path(), FILE, bytes);
        let output = logcore(folder.path(), &["import", FILE, "--log-dir", "logs"]);
        assert_eq!(output.status.code(), Some(2), "{part}");
        assert!(error(&output).contains(part), "{part}: {}", error(&output));
        assert_eq!(self::names(&folder.path().join("logs")), [".logcore"]);
        assert_eq!(self::names(&folder.path().join("logs/.logcore")), [""; 0]);
    }
}

#[test]
fn an_exported_run_is_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.csv"),
        "step,time,loss,lr\n2,12,0.5,0.1\n1,11,nan,\n3,13,-inf,0.25\n",
    )
    .unwrap();
    json(folder.path(), &["import", "a.csv", "--log-dir", "logs"]);
    let refused = logcore(
        folder.path(),
        &["export", "latest", "--to", "tensorboard", "--log-dir", "logs"],
    );
    assert!(
        error(&refused).contains("Name a new one with -o"),
        "{}",
        error(&refused)
    );
    let arguments = [
        "export",
        "latest",
        "--to",
        "tensorboard",
        "-o",
        "tb",
        "--log-dir",
        "logs",
    ];
    let exported = json(folder.path(), &arguments);
    assert_eq!((&exported["rows"], &exported["output"]), (&value!(3), &value!("tb")));
    let again = logcore(folder.path(), &arguments);
    assert!(error(&again).contains("is not empty"), "{}", error(&again));
    let imported = json(folder.path(), &["import", "tb", "--log-dir", "again"]);
    assert_eq!(imported["imported"][0]["rows"], 3);
    let lines = text(&logcore(
        folder.path(),
        &["export", "latest", "--to", "csv", "--log-dir", "again"],
    ));
    let expected = "step,time,logger,attempt,metrics/loss,metrics/lr\n1,11.0,tb,1,nan,\n2,12.0,tb,1,0.5,0.1\n\
                    3,13.0,tb,1,-inf,0.25\n";
    assert_eq!(lines, expected);
}

#[test]
fn two_tags_never_become_one_metric() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventBuffer::default();
    events.begin_file(1.0);
    for step in 1..3 {
        events.scalars(
            5.0,
            step,
            [("loss", MetricValue::Int(1)), ("metrics/loss", MetricValue::Int(2))],
        );
    }
    write(folder.path(), &format!("tb/{FILE}"), events.bytes());
    let imported = json(folder.path(), &["import", "tb", "--log-dir", "logs"]);
    assert_eq!(imported["imported"][0]["metrics"], 2);
    let notes = imported["problems"].to_string();
    assert!(notes.contains("metrics/loss is metrics/loss_2 in the rows"), "{notes}");
    let csv = rows(folder.path(), "latest");
    assert!(
        csv.contains("metrics/loss,metrics/loss_2") && csv.contains(",1.0,2.0"),
        "{csv}"
    );
}

#[test]
fn a_folder_that_cannot_be_imported_keeps_no_other_away() {
    let folder = tempfile::tempdir().unwrap();
    let good = losses(0..3, 0.5);
    let mut wide = EventBuffer::default();
    wide.begin_file(1.0);
    let tags: Vec<String> = (0..=100_000).map(|tag| format!("t{tag}")).collect();
    wide.scalars(5.0, 1, tags.iter().map(|tag| (tag, MetricValue::Int(1))));
    for (name, events) in [("a", &good), ("b", &wide), ("c", &good)] {
        write(folder.path(), &format!("tb/{name}/{FILE}"), events.bytes());
    }
    let output = logcore(folder.path(), &["import", "tb", "--log-dir", "logs", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(imported["imported"].as_array().unwrap().len(), 2, "{imported}");
    let problems = imported["problems"].to_string();
    assert!(problems.contains("cannot import tb/b"), "{problems}");
}

#[test]
fn hyper_parameters_alone_have_the_time_of_their_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventBuffer::default();
    events.begin_file(1_700_000_000.0);
    events.hyper_parameters(1_700_000_005.0, value!({"lr": 0.1}).as_object().unwrap());
    write(folder.path(), &format!("tb/{FILE}"), events.bytes());
    let imported = json(folder.path(), &["import", "tb", "--log-dir", "logs"]);
    let run = &json(folder.path(), &["ls", "--log-dir", "logs"])["runs"][0];
    assert_eq!(run["started"], 1_700_000_005.0, "{imported} {run}");
}
