//! `logcore show`: a run, its health and its ranks.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{json, logcore, text};
use crate::support::{in_window, runs};

#[test]
fn show_has_everything_of_one_run() {
    let folder = runs();
    let shown = text(&logcore(folder.path(), &["show", "k3v9"]));
    insta::assert_snapshot!(shown, @r#"
    run              k3v9q2ab
    name             trainer
    state            finished
    started          1970-01-01 00:16:40
    ended            1970-01-01 01:18:45
    duration         1h 02m
    last step        900
    steps per sec    136.1
    samples per sec  17400
    goodput          79%
    rows             2
    world size       1
    dir              ./one

    config
    lr      0.001
    model   {"depth":12}
    seed    1

    metric   last   mean    min  max  count
    loss    2.481  2.693  2.187    8    900

    time
    data  1.0s  25.0%
    step  3.0s  75.0%

    file
    config.json     53 B
    metrics.jsonl  189 B
    run.json       156 B
    summary.json   216 B
    "#);
    let two = text(&logcore(folder.path(), &["show"]));
    assert!(
        two.contains("x07d9q2a") && two.contains("attempt"),
        "the newest run has two attempts: {two}"
    );
}

#[test]
fn show_and_compare_say_how_many_values_a_mean_is_of_and_cut_long_names() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(100_000);
    for (run, metrics, head) in [
        ("all", r#"{"name":"i","mean":2.0,"count":3}"#.to_owned(), "mean"),
        (
            "newest",
            r#"{"name":"i","mean":650.5,"mean_of":100,"count":700}"#.to_owned(),
            "mean of 100",
        ),
        (
            "some",
            format!(
                r#"{{"name":"i","mean":650.5,"mean_of":100,"count":700}},{{"name":"{long}","last":1,"mean":2.0,"count":3}}"#
            ),
            "mean of ≤100",
        ),
    ] {
        let dir = folder.path().join(run);
        fs::create_dir_all(&dir).unwrap();
        let manifest = format!(r#"{{"id":"{run}","name":"a","started":1000,"state":"finished","attempts":[{{}}]}}"#);
        fs::write(dir.join("run.json"), manifest).unwrap();
        fs::write(
            dir.join("summary.json"),
            format!(r#"{{"a":{{"metrics":[{metrics}]}}}}"#),
        )
        .unwrap();
        let shown = text(&logcore(folder.path(), &["show", run]));
        let line = shown.lines().find(|line| line.starts_with("metric")).unwrap();
        let heads: Vec<&str> = line
            .split("  ")
            .map(str::trim)
            .filter(|head| !head.is_empty())
            .collect();
        assert!(heads.contains(&head), "{line}");
        let widest = shown.lines().map(|line| line.chars().count()).max();
        assert!(widest < Some(200), "{widest:?}");
    }
    let compared = text(&logcore(folder.path(), &["compare", "all", "some"]));
    let cut = format!("{}… last", "n".repeat(99));
    assert!(compared.lines().any(|line| line.starts_with(&cut)), "{compared}");
    assert!(compared.lines().all(|line| line.chars().count() < 200));
    let shown = logcore(folder.path(), &["show", "some", "--json"]);
    assert!(text(&shown).contains(&long));
}

#[test]
fn show_has_the_health_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ranks");
    write_health(&dir);
    let shown = text(&logcore(folder.path(), &["show", "ranks"]));
    let health = shown.split("\n\n").skip(1).take(3).collect::<Vec<_>>().join("\n\n");
    insta::assert_snapshot!("show_health", health);
    for columns in ["60", "80"] {
        let narrow = in_window(folder.path(), columns, &["show", "ranks"]);
        let width: usize = columns.parse().unwrap();
        assert!(narrow.lines().all(|line| line.chars().count() <= width), "{narrow}");
        assert!(narrow.contains("loss is 23, usual is 1"), "{narrow}");
    }

    let run = &json(folder.path(), &["show", "ranks"])["runs"][0];
    let events = run["events"].as_array().unwrap();
    assert_eq!(
        (events.len(), &events[0]["value"], &events[24]["kind"]),
        (25, &"NaN".into(), &"skew".into())
    );
    assert_eq!(
        run["incidents"][0],
        serde_json::json!({"name": "7-nan.json", "bytes": 2})
    );
    let ranks = run["ranks"].as_array().unwrap();
    assert_eq!(
        (ranks.len(), &ranks[1]["data_share"], &ranks[1]["phase"]),
        (2, &0.6_f32.into(), &"data".into())
    );
}

#[test]
fn show_names_what_it_cannot_read_of_the_health() {
    let folder = runs();
    fs::write(folder.path().join("one/events.jsonl"), "no event\n{}\n").unwrap();
    fs::write(folder.path().join("one/incidents"), "").unwrap();
    let shown = json(folder.path(), &["show", "one"]);
    let problems: Vec<&str> = shown["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["error"].as_str().unwrap())
        .collect();
    assert!(
        problems[0].starts_with("2 lines are left out of the events of "),
        "{problems:?}"
    );
    assert!(problems[1].contains("incidents") && problems.len() == 2, "{problems:?}");
    let run = &shown["runs"][0];
    assert_eq!(
        (&run["events"], &run["incidents"], &run["ranks"]),
        (&Value::from([0; 0]), &Value::from([0; 0]), &Value::from([0; 0]))
    );
}

#[test]
fn show_prints_the_ranks_that_are_furthest_behind() {
    use logcore_health::slot::{RankState, SlotFolder};

    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("run.json"),
        r#"{"id":"wide","world_size":40,"attempts":[{}]}"#,
    )
    .unwrap();
    for rank in 0..40 {
        let mut state = RankState::new(rank, 1);
        state.step = Some(u64::from(100 - rank));
        SlotFolder::new(folder.path()).write(&state).unwrap();
    }
    let shown = text(&logcore(folder.path(), &["show", "."]));
    assert!(shown.contains("8 more ranks that are ahead: --json has all"), "{shown}");
    assert!(
        !shown.contains("\n   7    93") && shown.contains("\n  39    61"),
        "{shown}"
    );
}

/// Writes events, incident files and the states of ranks into a run.
fn write_health(dir: &Path) {
    use logcore::{AlertLevel, FileRank};
    use logcore_health::event::{Event, EventLog, HealthKind};
    use logcore_health::slot::{RankPhase, RankState, SlotFolder};
    use std::time::{Duration, SystemTime};

    let manifest = r#"{"id":"ranks","name":"ranks","started":1000,"ended":2000,"state":"finished","world_size":2,"attempts":[{}]}"#;
    fs::create_dir_all(dir.join("incidents")).unwrap();
    fs::write(dir.join("run.json"), manifest).unwrap();
    let mut log = EventLog::new(dir, FileRank(None));
    for number in 0..24_u32 {
        let mut event = Event::new(
            HealthKind::Rule,
            AlertLevel::Warn,
            format!("loss is {number}, usual is 1"),
        );
        event.time = f64::from(1000 + number);
        event.step = Some(number.into());
        event.metric = Some("loss".to_owned());
        event.value = Some(f64::NAN.into());
        log.append(&event).unwrap();
    }
    let mut event = Event::new(HealthKind::Skew, AlertLevel::Error, "rank 1 waits\u{1b}[2J\nfor data");
    (event.time, event.rank) = (1100.0, 1);
    EventLog::new(dir, FileRank(Some(1))).append(&event).unwrap();
    for name in ["7-nan.json", "12-nan.json", "stall-1100.txt", "odd\u{1b}[2J.txt"] {
        fs::write(dir.join("incidents").join(name), "{}").unwrap();
    }
    for (rank, step, seconds, share, phase) in [
        (0, 120, 0.25, 0.05, RankPhase::Step),
        (1, 118, 0.5, 0.6, RankPhase::Data),
    ] {
        let mut state = RankState::new(rank, 1);
        state.time = SystemTime::now() - Duration::from_secs(7205);
        state.step = Some(step);
        (state.step_seconds, state.data_share, state.phase) = (seconds, share, phase);
        SlotFolder::new(dir).write(&state).unwrap();
    }
}
