//! The program, as a user runs it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder with runs of every kind.
fn runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |run: &str, name: &str, text: &str| {
        let dir = folder.path().join(run);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), text).unwrap();
    };
    let manifest = |id: &str, started: u32, state: &str, attempts: &str| {
        format!(
            "{{\"id\":\"{id}\",\"name\":\"trainer\",\"started\":{started},\"ended\":{},\"state\":\"{state}\",\
             \"world_size\":1,\"attempts\":{attempts}}}",
            started + 3725
        )
    };
    write(
        "one",
        "run.json",
        &manifest(
            "k3v9q2ab",
            1000,
            "finished",
            r#"[{"last_step":900,"ledger":{"step":3,"data":1}}]"#,
        ),
    );
    write(
        "one",
        "config.json",
        r#"{"config":{"lr":0.001,"model":{"depth":12},"seed":1}}"#,
    );
    write(
        "one",
        "summary.json",
        r#"{"trainer":{"state":"finished","last_step":900,"steps_per_sec":136.14,"samples_per_sec":17400.0,"goodput":0.79,
            "metrics":[{"name":"loss","last":2.4811,"mean":2.6926,"min":2.1872,"max":8.0,"count":900}]}}"#,
    );
    write(
        "one",
        "metrics.jsonl",
        "{\"step\":1,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":8.0,\"nonfinite\":\"\",\"attempt\":1}\n\
         {\"step\":2,\"time\":2.5,\"logger\":\"trainer\",\"metrics/loss\":null,\"nonfinite\":\"{\\\"metrics/loss\\\":\\\"NaN\\\"}\"}\n",
    );
    write(
        "two",
        "run.json",
        &manifest(
            "x07d9q2a",
            2000,
            "killed",
            r#"[{"started":2000,"ended":2010,"state":"killed"},{"started":2020}]"#,
        ),
    );
    write(
        "two",
        "config.json",
        r#"{"config":{"lr":0.0001,"model":{"depth":12},"seed":2}}"#,
    );
    write(
        "two",
        "metrics.jsonl",
        "{\"step\":7,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":0.03125}\n",
    );
    write(
        "evil",
        "run.json",
        "{\"id\":\"e\",\"name\":\"\\u001b[2J<script>\",\"started\":500,\"state\":\"failed\"}",
    );
    write("broken", "run.json", "{");
    fs::create_dir(folder.path().join("checkpoints")).unwrap();
    folder
}

fn logcore(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcore"));
    command.args(arguments).current_dir(folder).env("TZ", "UTC");
    for variable in ["COLUMNS", "LOGCORE_LOG_DIR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_slice(&logcore(folder, &[arguments, &["--json"]].concat()).stdout).unwrap()
}

/// Runs a command in a window of so many columns.
fn in_window(folder: &Path, columns: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(arguments)
        .current_dir(folder)
        .env("COLUMNS", columns)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    text(&output)
}

#[test]
fn ls_lists_what_can_be_read_and_names_what_cannot() {
    let folder = runs();
    let output = logcore(
        folder.path(),
        &[
            "ls",
            "--columns",
            "id,name,state,last_step,steps_per_sec,summary.loss.last",
        ],
    );
    insta::assert_snapshot!(text(&output), @r"
    id        name             state     last_step  steps_per_sec  summary.loss.last
    x07d9q2a  trainer          killed            7                           0.03125
    k3v9q2ab  trainer          finished        900          136.1              2.481
    e         \x1b[2J<script>  failed
    ");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("broken/run.json") && errors.lines().count() == 1,
        "{errors}"
    );
    let listed = json(folder.path(), &["ls"]);
    assert_eq!((&listed["schema"], &listed["command"]), (&1.into(), &"ls".into()));
    assert_eq!(listed["runs"].as_array().unwrap().len(), 3);
    assert_eq!(listed["problems"].as_array().unwrap().len(), 1);
    let two = &listed["runs"][0];
    assert_eq!(
        (&two["id"], &two["attempt"], &two["rows"]),
        (&"x07d9q2a".into(), &2.into(), &1.into())
    );
    assert_eq!(
        (&two["config"]["lr"], &two["summary"]["loss"]["last"]),
        (&1e-4.into(), &0.031_25.into())
    );
}

#[test]
fn ls_bounds_what_it_reads_of_long_rows() {
    let folder = tempfile::tempdir().unwrap();
    let values: String = (0..100_000).map(|metric| format!(",\"m{metric}\":0.25")).collect();
    let rows = row(1, 0.5) + "\n" + &row(2, 0.5).replace('}', &values) + "}\n";
    for number in 0..30 {
        let dir = folder.path().join(format!("run{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(
            dir.join("run.json"),
            format!("{{\"id\":\"{number}\",\"state\":\"killed\"}}"),
        )
        .unwrap();
        fs::write(dir.join("metrics.jsonl"), &rows).unwrap();
    }
    let output = logcore(folder.path(), &["ls", "--columns", "last_step"]);
    let found = text(&output).matches('2').count();
    assert!((5..25).contains(&found), "{found} runs have a last step");
    let error = String::from_utf8(output.stderr).unwrap();
    let others = format!("and of {} more runs: the last row is too long", 29 - found);
    assert!(error.contains(&others) && error.lines().count() == 1, "{error}");
}

#[test]
fn ls_fits_the_window() {
    let folder = runs();
    for columns in ["60", "80", "160"] {
        let listed = in_window(folder.path(), columns, &["ls", "--where", "name = trainer"]);
        let width: usize = columns.parse().unwrap();
        assert!(listed.lines().all(|line| line.chars().count() <= width), "{listed}");
        assert!(listed.contains("k3v9q2ab") && listed.contains("finished"), "{listed}");
        assert_eq!(listed.contains("seed"), width > 60, "{listed}");
    }
}

#[test]
fn tables_look_right_in_narrow_and_wide_windows() {
    let folder = runs();
    let age = regex_lite::Regex::new(r"\b\d+d\b").unwrap();
    let place = folder.path().to_string_lossy().into_owned();
    for columns in ["80", "160"] {
        for command in [
            &["ls", "--where", "name = trainer"][..],
            &["show", "k3v9"],
            &["compare", "k3v9", "x07d"],
            &["prune", "--keep", "1", "--dry-run"],
        ] {
            let shown = in_window(folder.path(), columns, command).replace(&place, "[runs]");
            insta::assert_snapshot!(format!("{}_{columns}", command[0]), age.replace_all(&shown, "[age]"));
        }
    }
}

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
fn ls_leaves_out_and_sorts() {
    let folder = runs();
    let ids = |arguments: &[&str]| {
        let listed = json(folder.path(), &[&["ls"], arguments].concat());
        let runs = listed["runs"].as_array().unwrap().clone();
        runs.iter()
            .map(|run| run["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--where", "state", "=", "killed"]), ["x07d9q2a"]);
    assert_eq!(ids(&["--where", "config.lr > 0.0005"]), ["k3v9q2ab"]);
    assert_eq!(
        ids(&["--where", "config.model.depth=12", "--where", "last_step>=7"]),
        ["x07d9q2a", "k3v9q2ab"]
    );
    assert_eq!(ids(&["--sort", "last_step"]), ["k3v9q2ab", "x07d9q2a", "e"]);
    assert_eq!(ids(&["--sort", "-started"]), ["e", "k3v9q2ab", "x07d9q2a"]);
}

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
        let output = Command::new(env!("CARGO_BIN_EXE_logcore"))
            .args(command)
            .current_dir(folder.path())
            .env("COLUMNS", "200")
            .output()
            .unwrap();
        let shown = text(&output);
        assert!(shown.contains(r"x\nstate finished\n\x1b[8m"), "{command:?}: {shown}");
        assert!(
            !shown.contains("\nstate finished") && !shown.contains('\u{1b}'),
            "{command:?}: {shown}"
        );
    }
}

#[test]
fn compare_shows_what_differs() {
    let folder = runs();
    let compared = text(&logcore(folder.path(), &["compare", "one", "two"]));
    insta::assert_snapshot!(compared, @r"
                   k3v9q2ab  x07d9q2a
    name            trainer   trainer
    state          finished    killed
    duration         1h 02m    1h 02m
    last step           900         7
    steps per sec     136.1
    goodput             79%
    lr                0.001    0.0001
    seed                  1         2
    loss last         2.481   0.03125
    loss min          2.187
    loss max              8
    ");
    let compared = json(folder.path(), &["compare", "one", "two"]);
    assert_eq!(compared["differing_config"]["seed"], serde_json::json!([1, 2]));
}

#[test]
fn export_writes_a_file_or_the_standard_output() {
    let folder = runs();
    let csv = "step,time,logger,attempt,metrics/loss\n1,1.5,trainer,1,8.0\n2,2.5,trainer,1,nan\n";
    assert_eq!(text(&logcore(folder.path(), &["export", "one", "--to", "csv"])), csv);
    let written = logcore(folder.path(), &["export", "one", "--to", "csv", "-o", "rows.csv"]);
    assert_eq!(text(&written), "2 rows in rows.csv\n");
    assert_eq!(fs::read_to_string(folder.path().join("rows.csv")).unwrap(), csv);
    let lines = text(&logcore(folder.path(), &["export", "one", "--to", "jsonl"]));
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&rows[1]["metrics/loss"], &rows[1]["nonfinite"]),
        (&Value::Null, &"{\"metrics/loss\":\"NaN\"}".into())
    );
    #[cfg(unix)]
    {
        let link = folder.path().join("link.csv");
        std::os::unix::fs::symlink(folder.path().join("rows.csv"), &link).unwrap();
        text(&logcore(
            folder.path(),
            &["export", "two", "--to", "csv", "-o", "link.csv"],
        ));
        assert!(!link.is_symlink(), "the link is replaced");
        assert_eq!(fs::read_to_string(folder.path().join("rows.csv")).unwrap(), csv);
    }
}

/// A row of a run, without its line end.
fn row(step: u32, loss: f64) -> String {
    format!("{{\"step\":{step},\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":{loss}}}")
}

#[test]
fn lines_that_are_no_rows_are_named() {
    let folder = runs();
    let file = folder.path().join("one/metrics.jsonl");
    // A torn line, the hole that a file system leaves after a loss of power, and a torn end.
    let torn = &row(2, 7.0)[..20];
    let rows = format!(
        "{}\n{torn}{}\n{}{}\n{}\n{torn}",
        row(1, 8.0),
        row(3, 6.0),
        "\0".repeat(4096),
        row(4, 5.0),
        row(5, 4.0)
    );
    fs::write(&file, rows).unwrap();
    let part = "2 lines are no rows, and are left out; the first is line 2 of one/metrics.jsonl; \
                the last line is incomplete, and is left out";
    let mut commands = vec![
        vec!["export", "one", "--to", "csv"],
        vec!["export", "one", "--to", "jsonl", "-o", "rows.jsonl"],
        vec!["plot", "one", "loss"],
    ];
    if cfg!(feature = "parquet") {
        commands.push(vec!["export", "one", "--to", "parquet", "-o", "rows.parquet"]);
    }
    if cfg!(feature = "tensorboard") {
        commands.push(vec!["export", "one", "--to", "tensorboard", "-o", "events"]);
    }
    for command in commands {
        let output = logcore(folder.path(), &command);
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        text(&output);
        assert!(
            error.contains("rows are missing in ") && error.contains(part),
            "{command:?}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
    }
    let object = json(folder.path(), &["export", "one", "--to", "csv", "-o", "rows.csv"]);
    assert_eq!(
        (&object["rows"], &object["left_out"], &object["torn"]),
        (&2.into(), &2.into(), &true.into())
    );
    assert_eq!(object["first_left_out"], "line 2 of one/metrics.jsonl");
    assert!(
        object["problems"][0]["error"].as_str().unwrap().contains(part),
        "{object}"
    );

    let merged = logcore(folder.path(), &["merge", "one"]);
    let error = String::from_utf8(merged.stderr.clone()).unwrap();
    text(&merged);
    assert!(
        error.contains("skipped 2 foreign lines, the first is line 2 of one/metrics.jsonl; skipped the incomplete last line of rank 0"),
        "{error}"
    );
    let object = json(folder.path(), &["merge", "one"]);
    let merged = &object["files"][0];
    assert_eq!(
        (&merged["left_out"], &merged["first_left_out"], &merged["torn"]),
        (
            &2.into(),
            &"line 2 of one/metrics.jsonl".into(),
            &serde_json::json!([0])
        )
    );
    assert_eq!(object["problems"].as_array().unwrap().len(), 1);

    let page = logcore(folder.path(), &["report", "one"]);
    let error = String::from_utf8(page.stderr).unwrap();
    assert!(error.contains("Rows are missing: 2 lines are no rows"), "{error}");
}

#[cfg(unix)]
#[test]
fn the_last_line_of_a_live_run_is_no_damage() {
    let folder = runs();
    let dir = folder.path().join("one");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let manifest = format!("{{\"id\":\"live\",\"state\":\"running\",\"host\":\"{}\"}}", host.trim());
    fs::write(dir.join("run.json"), manifest).unwrap();
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
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        text(&output);
        assert!(!error.contains("missing"), "{command:?}: {error}");
    }
}

#[test]
fn a_plot_without_values_says_why() {
    let folder = runs();
    let file = folder.path().join("one/metrics.jsonl");
    fs::write(&file, "no row\n").unwrap();
    let unread = logcore(folder.path(), &["plot", "one"]);
    let error = String::from_utf8(unread.stderr).unwrap();
    assert_eq!(unread.status.code(), Some(2), "{error}");
    assert!(
        error.contains("1 line is no row, and is left out: line 1 of one/metrics.jsonl"),
        "{error}"
    );

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(folder.path().join("two/metrics.jsonl"), format!("{}\n", row(1, 8.0))).unwrap();
    // A folder of that name is no file of the run.
    assert!(text(&logcore(folder.path(), &["plot", "one"])).contains("there is nothing to plot. Name a run"));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "").unwrap();
    assert!(text(&logcore(folder.path(), &["plot", "one"])).contains("there is nothing to plot. Name a run"));
}

#[cfg(unix)]
#[test]
fn a_plot_names_the_rows_that_it_cannot_read() {
    let folder = runs();
    let pipe = folder.path().join("one/metrics.jsonl");
    fs::remove_file(&pipe).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&pipe).unwrap();
    let plotted = logcore(folder.path(), &["plot", "one", "two"]);
    let error = String::from_utf8(plotted.stderr).unwrap();
    assert_eq!(plotted.status.code(), Some(2), "{error}");
    assert!(error.contains("one/metrics.jsonl: it is a socket"), "{error}");
    assert!(!plotted.stdout.is_empty(), "the other run is drawn");
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_no_part_of_an_output() {
    use std::os::unix::process::ExitStatusExt as _;

    use rustix::process::{Pid, Signal, kill_process};

    let folder = runs();
    // Long enough that no export is over when the signal comes.
    let rows: String = (0..400_000).map(|step| row(step, 0.5) + "\n").collect();
    fs::write(folder.path().join("one/metrics.jsonl"), rows).unwrap();
    let place = folder.path().join("out");
    for command in [
        &["export", "one", "--to", "csv", "-o", "out/rows.csv"][..],
        &["merge", "one", "--out", "out"],
    ] {
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        let names = || fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name());
        let mut child = Command::new(env!("CARGO_BIN_EXE_logcore"))
            .args(command)
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        while names().next().is_none() {
            assert!(child.try_wait().unwrap().is_none(), "{command:?} has ended");
            std::thread::yield_now();
        }
        // SIGINT goes the same way, unless a shell has told the tests in the background to ignore it.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{command:?}: {status}");
        assert_eq!(names().collect::<Vec<_>>(), [""; 0], "{command:?}");
    }
}

#[test]
fn an_output_removes_what_a_killed_one_has_left() {
    let folder = runs();
    let left = folder.path().join("events/.logcore-0123456789abcdef.tmp");
    fs::create_dir(folder.path().join("events")).unwrap();
    let mut commands = vec![
        vec!["export", "one", "--to", "csv", "-o", "events/rows.csv"],
        vec!["merge", "one", "--out", "events"],
    ];
    if cfg!(feature = "tensorboard") {
        commands.insert(0, vec!["export", "one", "--to", "tensorboard", "-o", "events"]);
    }
    for command in commands {
        fs::write(&left, "part").unwrap();
        text(&logcore(folder.path(), &command));
        assert!(!left.exists(), "{command:?}");
    }
}

#[cfg(unix)]
#[test]
fn files_that_cannot_be_read_are_no_silence() {
    let folder = runs();
    let run = folder.path().join("one");
    for name in ["metrics.jsonl", "training.log"] {
        let _ = fs::remove_file(run.join(name));
        std::os::unix::fs::symlink("elsewhere", run.join(name)).unwrap();
    }
    for (arguments, part) in [
        (
            &["watch", "one", "--until", "nan,end"][..],
            "cannot watch the rows of rank 0",
        ),
        (&["tail", "one"], "it is a link"),
    ] {
        let output = logcore(folder.path(), arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let ended = logcore(folder.path(), &["watch", "one", "--until", "end"]);
    assert_eq!(ended.status.code(), Some(0), "the end needs no rows");
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_of_the_runs_are_named() {
    use std::os::unix::fs::symlink;

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
        let output = logcore(folder.path(), command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
        assert!(
            error.contains("leads out of the folder of the runs"),
            "{command:?}: {error}"
        );
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

// The file systems of other systems refuse such names.
#[cfg(target_os = "linux")]
#[test]
fn folders_whose_names_are_not_utf_8_have_a_replacement_in_json() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let folder = runs();
    let [raw, raw_file, raw_folder] = [&b"raw\xff"[..], b"raw\xff.out", b"raw\xff.folder"].map(OsStr::from_bytes);
    fs::rename(folder.path().join("one"), folder.path().join(raw)).unwrap();
    fs::write(folder.path().join("table.csv"), "step,loss\n1,0.5\n").unwrap();
    let run = |before: &[&str], path: Option<&OsStr>, has_json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logcore"));
        command.args(before).args(path).current_dir(folder.path());
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

#[test]
fn wrong_arguments_and_missing_runs_are_errors_with_remedies() {
    let folder = runs();
    for (arguments, part) in [
        (&["show", "nothing"][..], "`latest`"),
        (&["ls", "nowhere"], "nowhere"),
        (&["ls", "--where", "colour = red"], "config.NAME"),
        (
            &["ls", "--where", "state", "==", "killed"],
            "`==` is no operator. Write =",
        ),
        // The shell has taken `> 0.1`.
        (&["ls", "--where", "config.lr"], "in quotes: --where"),
        (&["ls", "--sort", "summary.loss"], ".last"),
        (&["export", "one"], "--to"),
        (
            &["export", "one", "--to", "csv", "--rank", "7"],
            "It has those of rank 0",
        ),
        (&["repair", "nowhere"], "Name one"),
    ] {
        let output = logcore(folder.path(), arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let failed = json(folder.path(), &["show", "nothing"]);
    assert!(
        failed["problems"][0]["error"].as_str().unwrap().contains("nothing"),
        "{failed}"
    );
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_program_without_an_error() {
    let folder = runs();
    let rows = (0..20_000).map(|step| format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"trainer\",\"loss\":1}}\n"));
    fs::write(folder.path().join("two/metrics.jsonl"), rows.collect::<String>()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(["export", "two", "--to", "csv"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn merge_and_repair_work_on_folders() {
    let folder = runs();
    let one = folder.path().join("one");
    fs::write(
        one.join("metrics.rank1.jsonl"),
        "{\"step\":1,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":6.0}\n",
    )
    .unwrap();
    let merged = text(&logcore(folder.path(), &["merge", "one", "--out", "merged"]));
    assert!(merged.contains("metrics.merged.jsonl"), "{merged}");
    assert!(folder.path().join("merged/metrics.merged.jsonl").exists());
    let repaired = text(&logcore(folder.path(), &["repair", "."]));
    assert_eq!(repaired, ".: there is nothing to do\n");
    fs::write(one.join(".logcore-1-damaged.ring"), "no ring").unwrap();
    let left = logcore(folder.path(), &["repair"]);
    assert_eq!(left.status.code(), Some(1));
    assert!(String::from_utf8(left.stderr).unwrap().contains("is left alone"));
}

#[test]
fn completions_name_the_commands() {
    let folder = runs();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&logcore(folder.path(), &["completions", shell]));
        assert!(script.contains("compare") && script.contains("export"), "{shell}");
    }
}

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
    use std::io::{BufRead as _, BufReader};

    let folder = runs();
    let dir = folder.path().join("one");
    let log = dir.join("training.log");
    fs::write(&log, "2026-11-29 12:00:01 | INFO  | trainer | first\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(["tail", "-f", "one"])
        .current_dir(folder.path())
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
    use std::io::{BufRead as _, BufReader};

    let folder = runs();
    let (dir, away) = (folder.path().join("one"), folder.path().join("away"));
    let log = dir.join("training.log");
    fs::write(&log, "2026-11-29 12:00:01 | INFO  | trainer | first\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(["tail", "-f", "one"])
        .current_dir(folder.path())
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

#[test]
fn plot_draws_the_metrics_of_runs() {
    let folder = runs();
    let rows = (0..100).map(|step| {
        let loss = if step == 50 { 9.0 } else { 1.0 - f64::from(step) / 100.0 };
        format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"trainer\",\"metrics/loss\":{loss}}}\n")
    });
    fs::write(folder.path().join("one/metrics.jsonl"), rows.collect::<String>()).unwrap();
    let plot = in_window(folder.path(), "40", &["plot", "one", "loss", "--height", "4"]);
    insta::assert_snapshot!(plot);
    assert!(plot.lines().all(|line| line.chars().count() <= 40), "{plot}");
    let plots = json(folder.path(), &["plot", "one", "two", "loss"]);
    let curves = plots["plots"][0]["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 2);
    assert!(
        curves[0]["points"]
            .as_array()
            .unwrap()
            .contains(&serde_json::json!([50, 9.0])),
        "the spike is there"
    );
    let unknown = logcore(folder.path(), &["plot", "one", "lsos"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("metrics/loss"));
}

#[test]
fn report_writes_a_page_that_needs_nothing_else() {
    let folder = runs();
    let written = text(&logcore(folder.path(), &["report", "one", "-o", "page.html"]));
    assert!(
        written.starts_with("page.html: 1 run, 1 curve, 0 lines, 0.1 MB"),
        "{written}"
    );
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("k3v9q2ab"));
    assert!(text(&logcore(folder.path(), &["report", "-o", "-"])).contains("x07d9q2a"));
    let empty = tempfile::tempdir().unwrap();
    let none = logcore(empty.path(), &["report"]);
    assert_eq!(
        (none.status.code(), fs::read_dir(empty.path()).unwrap().count()),
        (Some(2), 0)
    );
}

#[test]
fn a_report_replaces_no_page_of_another_program() {
    let folder = runs();
    let page = folder.path().join("report.html");
    for _ in 0..2 {
        text(&logcore(folder.path(), &["report"]));
        assert!(fs::read_to_string(&page).unwrap().contains("k3v9q2ab"));
    }
    let coverage = "<!doctype html><title>Runs</title><p>coverage: 93 %";
    fs::write(&page, coverage).unwrap();
    let refused = logcore(folder.path(), &["report"]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(error.contains("Name a file with -o"), "{error}");
    assert_eq!(fs::read_to_string(&page).unwrap(), coverage);
    text(&logcore(folder.path(), &["report", "-o", "report.html"]));
    assert!(fs::read_to_string(&page).unwrap().contains("k3v9q2ab"));
}

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

#[cfg(unix)]
#[test]
fn watch_sees_a_stall_and_the_end_of_a_live_run() {
    let folder = runs();
    let dir = folder.path().join("live");
    fs::create_dir(&dir).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let manifest = |state: &str| format!("{{\"id\":\"live\",\"state\":\"{state}\",\"host\":\"{}\"}}", host.trim());
    fs::write(dir.join("run.json"), manifest("running")).unwrap();
    let lock = fs::File::create(dir.join(".lock")).unwrap();
    lock.lock().unwrap();
    let stall = logcore(
        folder.path(),
        &["watch", "live", "--until", "stall,end", "--stall-after", "0.3s"],
    );
    assert_eq!(stall.status.code(), Some(14));
    let mut child = Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(["watch", "live"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none(), "the run is live");
    fs::write(dir.join("run.json"), manifest("finished")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
