//! Compares our client with the official one: it reads our runs, and the same calls leave the same
//! run on the server.

use facade::wandb::{Histogram, MetricDefinition, Synced, find_logs};
use facade::{LogConfig, Rule, UnifiedLogger, setup_logging};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{check_all, config, log_all, official, online, start, synced, with};
use testkit::wandb_server::{KEY, WandbServer};

/// Cut anywhere, a log is readable up to its last whole record, for the official client as for us.
#[test]
fn the_official_client_reads_a_log_that_was_cut() {
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "cut", json!({"mode": "offline"}));
    log_all(&logger, &folder);
    for step in 100..1500_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    logger.finish();
    let log = find_logs(folder.path()).remove(0);
    let whole = std::fs::read(&log).unwrap();
    assert!(
        whole.len() > 2 * 32_768,
        "it goes over the ends of blocks: {}",
        whole.len()
    );
    let all = official::records(&log);
    assert_eq!(all.last().unwrap()["type"], "exit");
    let numbers: Vec<_> = all.iter().map(|record| record["num"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    for part in 1..12 {
        // Not at round places.
        let length = whole.len() * part / 12 + part * 7;
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        let run = folder.path().join("wandb/offline-run-20260101_000000-cut");
        std::fs::create_dir_all(&run).unwrap();
        let log = run.join("run-cut.wandb");
        std::fs::write(&log, &whole[..length]).unwrap();
        let read = official::records(&log);
        assert!(!read.is_empty() && all.starts_with(&read));
        assert_eq!(synced(&server, &folder), Synced::Killed);
        let rows = read.iter().filter(|record| record["type"] == "history").count();
        assert_eq!(server.run().history.len(), rows);
        assert_eq!(server.run().exit_code, Some(1), "a run without an end was killed");
    }
}

#[test]
fn a_row_takes_less_than_half_of_the_official_clients_bytes() {
    const SCRIPT: &str = r#"
import wandb
run = wandb.init(project="project", settings=wandb.Settings(x_disable_stats=True, disable_git=True, console="off"))
for step in range(2000):
    run.log({f"metric{at}": step / (at + 3) for at in range(10)})
run.finish()
"#;
    let theirs = TempDir::new().unwrap();
    official::script(SCRIPT, theirs.path(), &[("WANDB_MODE", "offline")]);
    let ours = TempDir::new().unwrap();
    let logger = start(&ours, "bytes", json!({"mode": "offline"}));
    let names: Vec<String> = (0..10).map(|at| format!("metric{at}")).collect();
    for step in 0..2000 {
        let values = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name, f64::from(step) / (at + 3) as f64));
        logger.log_metrics(values);
    }
    logger.finish();
    let size = |folder: &TempDir| std::fs::metadata(&find_logs(folder.path())[0]).unwrap().len();
    let (ours, theirs) = (size(&ours), size(&theirs));
    assert!(
        ours * 2 <= theirs,
        "{} bytes a row, the official client {}",
        ours / 2000,
        theirs / 2000
    );
}

#[test]
fn the_official_client_syncs_what_we_wrote() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "for_official", json!({"mode": "offline"}));
    log_all(&logger, &folder);
    logger.finish();
    official::sync(&server, &official::latest(folder.path()));
    check_all(&server);
}

/// Starts a logger whose rules match no metric: the official client says nothing about a NaN.
fn start_without_rules(folder: &TempDir, name: &str, options: Value) -> UnifiedLogger {
    let rule = Rule {
        metric: "no such metric".into(),
        nan: true,
        ..Rule::default()
    };
    setup_logging(LogConfig {
        rules: vec![rule],
        ..config(folder, name, options)
    })
    .unwrap()
}

/// The same calls to the official client and to us leave the same on a server.
#[test]
fn the_official_client_leaves_the_same() {
    const SCRIPT: &str = r#"
import wandb
run = wandb.init(project="project", name="a name", notes="some notes", tags=["a", "b"], group="g", job_type="train",
                 config={"lr": 0.1, "tiny": 1e-7, "nested": {"x": [1, 2], "y": None}, "text": "ü"},
                 settings=wandb.Settings(x_disable_stats=True, disable_git=True, console="wrap"))
run.define_metric("loss", summary="min,max,mean,last,first")
run.define_metric("none", summary="none")
run.define_metric("val/*", step_metric="epoch")
run.define_metric("hidden", hidden=True)
run.define_metric("goal", summary="min")
run.define_metric("goal", hidden=True)
run.define_metric("goal2", step_metric="epoch", summary="max")
run.define_metric("goal2", summary="min", overwrite=True)
run.define_metric("copy", summary="copy")
run.define_metric("both", summary="mean,copy")
for step in range(6):
    run.log({"loss": 1 / (step + 1), "none": step, "copy": step, "both": step, "goal": float(step % 3), "epoch": step // 3}, step=step)
    if step == 4:
        run.log({"loss": 7.0, "merged": 1}, step=step)
run.log({"val/accuracy": float("nan"), "inf": float("inf"), "minus": float("-inf")}, step=6)
run.log({"loss": float("nan"), "exact": 2**62, "a.b": 1, "c/d": 2, "val/other": 1}, step=9)
run.log({"late": 1}, step=3)
run.log({"grad": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0]))}, step=10)
run.summary["best"] = 0.91
run.summary["loss_note"] = {"a": 1}
run.config.update({"later": True})
print("a line")
run.finish(exit_code=3)
"#;
    let official = WandbServer::start();
    let folder = TempDir::new().unwrap();
    let address = official.url();
    official::script(
        SCRIPT,
        folder.path(),
        &[("WANDB_BASE_URL", address.as_str()), ("WANDB_API_KEY", KEY)],
    );

    let expected = state_of(&official);

    let folder = TempDir::new().unwrap();
    official::script(SCRIPT, folder.path(), &[("WANDB_MODE", "offline")]);
    let server = WandbServer::start();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert_eq!(
        state_of(&server),
        expected,
        "the official client's own log, synced by us"
    );

    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    say_the_same(&start_without_rules(
        &folder,
        "same_online",
        with(online(&server), about()),
    ));
    assert_eq!(state_of(&server), expected, "online");

    let folder = TempDir::new().unwrap();
    say_the_same(&start_without_rules(
        &folder,
        "same_offline",
        with(json!({"mode": "offline"}), about()),
    ));
    let server = WandbServer::start();
    official::sync(&server, &official::latest(folder.path()));
    assert_eq!(
        state_of(&server),
        expected,
        "offline, then synced by the official client"
    );
    let server = WandbServer::start();
    std::fs::remove_file(format!("{}.synced", find_logs(folder.path())[0].display())).unwrap();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert_eq!(state_of(&server), expected, "offline, then synced by us");
}

fn about() -> Value {
    json!({"name": "a name", "notes": "some notes", "tags": ["a", "b"], "group": "g", "job_type": "train"})
}

/// The calls of the script, to us.
fn say_the_same(logger: &UnifiedLogger) {
    logger.log_config(&json!({"lr": 0.1, "tiny": 1e-7, "nested": {"x": [1, 2], "y": null}, "text": "ü"}));
    let wandb = logger.wandb();
    wandb.define_metric(MetricDefinition::new("loss").summary(["min", "max", "mean", "last", "first"]));
    wandb.define_metric(MetricDefinition::new("none").summary(["none"]));
    wandb.define_metric(MetricDefinition::new("val/*").step_metric("epoch"));
    wandb.define_metric(MetricDefinition::new("hidden").hidden());
    wandb.define_metric(MetricDefinition::new("goal").summary(["min"]));
    wandb.define_metric(MetricDefinition::new("goal").hidden());
    wandb.define_metric(MetricDefinition::new("goal2").step_metric("epoch").summary(["max"]));
    wandb.define_metric(MetricDefinition::new("goal2").summary(["min"]).overwrite());
    wandb.define_metric(MetricDefinition::new("copy").summary(["copy"]));
    wandb.define_metric(MetricDefinition::new("both").summary(["mean", "copy"]));
    for step in 0..6_u64 {
        let (loss, goal) = (1.0 / (step + 1) as f64, (step % 3) as f64);
        logger.log_metrics_at(
            step,
            facade::metrics! {"loss" => loss, "none" => step, "copy" => step, "both" => step, "goal" => goal, "epoch" => step / 3},
        );
        if step == 4 {
            logger.log_metrics_at(step, facade::metrics! {"loss" => 7.0, "merged" => 1});
        }
    }
    logger.log_metrics_at(
        6,
        [
            ("val/accuracy", f64::NAN),
            ("inf", f64::INFINITY),
            ("minus", f64::NEG_INFINITY),
        ],
    );
    logger.log_metrics_at(
        9,
        facade::metrics! {"loss" => f64::NAN, "exact" => 1_i64 << 62, "a.b" => 1, "c/d" => 2, "val/other" => 1},
    );
    logger.log_metrics_at(3, [("late", 1)]);
    wandb.log_histogram("grad", Histogram::from_counts([1, 2], [0.0, 0.5, 1.0]), 10);
    wandb.set_summary("best", 0.91);
    wandb.set_summary("loss_note", json!({"a": 1}));
    logger.log_config(&json!({"later": true}));
    logger.info("a line");
    logger.set_exit_code(3);
    logger.finish();
}

/// Returns the state of a run without the parts that differ from run to run.
fn state_of(server: &WandbServer) -> Value {
    let run = server.run();
    let timeless = |mut row: serde_json::Map<String, Value>| {
        for name in ["_timestamp", "_runtime", "_wandb"] {
            assert!(row.remove(name).is_some(), "{name} in {row:?}");
        }
        row
    };
    let mut about = run.about.clone();
    for name in ["host", "program", "commit", "repo"] {
        about.remove(name);
    }
    let rows: Vec<_> = run
        .rows()
        .into_iter()
        .map(|mut row| {
            row.insert("_wandb".to_owned(), Value::Null);
            timeless(row)
        })
        .collect();
    // The official client writes its own warnings to the console.
    let console: Vec<_> = run
        .console()
        .into_iter()
        .filter(|line| !line.contains("wandb: "))
        .collect();
    let files: Vec<_> = run.files.keys().filter(|name| *name != "requirements.txt").collect();
    json!({
        "about": about,
        "config": run.user_config(),
        "definitions": definitions(&run.config["_wandb"]["value"]["m"]),
        "rows": rows,
        "summary": timeless(run.summary.as_object().unwrap().clone()),
        "console": console,
        "exit_code": run.exit_code,
        "files": files,
    })
}

/// Definitions by name, in which the number of a step metric is replaced by its name: their order
/// means nothing.
fn definitions(list: &Value) -> Value {
    let list = list.as_array().unwrap();
    let name = |entry: &Value| entry["1"].as_str().or(entry["2"].as_str()).unwrap().to_owned();
    let sorted = |numbers: &Value| {
        let mut numbers: Vec<_> = numbers
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_u64().unwrap())
            .collect();
        numbers.sort_unstable();
        json!(numbers)
    };
    list.iter()
        .map(|entry| {
            let mut entry_now = entry.clone();
            if let Some(at) = entry["5"].as_u64() {
                entry_now["5"] = name(&list[at as usize - 1]).into();
            }
            entry_now["6"] = sorted(&entry["6"]);
            entry_now["7"] = sorted(&entry["7"]);
            (name(entry), entry_now)
        })
        .collect()
}

/// Rows of an offline part that is to resume a run take the same steps from us as from the official
/// client.
#[test]
fn steps_of_a_resumed_offline_part_are_those_of_the_official_client() {
    let steps_after = |sync: fn(&WandbServer, &TempDir)| {
        let server = WandbServer::start();
        let folder = TempDir::new().unwrap();
        let logger = start(
            &folder,
            "stands_at",
            with(online(&server), json!({"run_id": "r", "resume": "allow"})),
        );
        logger.log_metrics_at(7, [("x", 1)]);
        logger.finish();
        let folder = TempDir::new().unwrap();
        let options = json!({"mode": "offline", "run_id": "r", "resume": "allow"});
        let logger = start(&folder, "follows", options);
        for step in [0, 3, 9, 20] {
            logger.log_metrics_at(step, [("x", 2)]);
        }
        // It may be the last that the summary says of a step.
        logger.log_metrics_at(21, [("y", 2)]);
        logger.finish();
        sync(&server, &folder);
        let run = server.run();
        (run.steps(), run.summary["_step"].clone(), run.summary["y"].clone())
    };
    let ours = steps_after(|server, folder| assert_eq!(synced(server, folder), Synced::Delivered));
    let theirs = steps_after(|server, folder| official::sync(server, &official::latest(folder.path())));
    assert_eq!(ours, theirs);
}
