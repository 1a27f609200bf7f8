//! Several processes of one run in one folder, started as torchrun would. Each is this test
//! program, run again.
#![cfg(all(
    unix,
    feature = "console",
    feature = "file",
    feature = "jsonl",
    feature = "metrics",
    feature = "progress"
))]
#![allow(clippy::print_stderr, reason = "a rank tells its parent how far it is")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use facade::{LogConfig, setup_logging};
use serde_json::Value;

/// Names the case in the child.
const CASE: &str = "RANKS_CASE";
const FOLDER: &str = "RANKS_FOLDER";

const WORLD: u32 = 8;
const STEPS: u64 = 6;
/// The data of this rank is at an end after so many steps.
const SHORT: (u32, u64) = (5, 2);
/// This rank is killed after so many steps.
const KILLED: (u32, u64) = (3, 4);

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    match std::env::var(CASE).as_deref() {
        Ok("train") => train(),
        Ok("talk") => talk(),
        _ => {}
    }
}

fn train() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let rank: u32 = std::env::var("RANK").unwrap().parse().unwrap();
    let first_run = std::env::var_os("AGAIN").is_none();
    wait();
    let logger = setup_logging(LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        run: "flat".into(),
        enable_wandb: cfg!(feature = "wandb"),
        sinks: match cfg!(feature = "wandb") {
            true => [("wandb".to_owned(), serde_json::json!({"mode": "offline"}))].into(),
            false => BTreeMap::new(),
        },
        ..LogConfig::default()
    })
    .unwrap();
    logger.info("Starting training");
    logger.warning("careful");
    // Recovery prints nothing on the terminal.
    logger.flush().unwrap();
    logger.debug(format_args!("only {rank} says this"));
    logger.log_config(&serde_json::json!({"lr": 0.1}));
    logger.start_progress(STEPS, "Training");
    for step in 1..=STEPS {
        logger.update_progress(1, 8 * (rank + 1));
        logger.log_metrics([("loss", f64::from(rank) + step as f64)]);
        match (rank, step) {
            SHORT => break,
            KILLED if first_run => {
                eprintln!("ready");
                wait();
            }
            _ => {}
        }
    }
    assert_eq!(
        logger.metrics().history("loss").unwrap()[0].value,
        f64::from(rank) + 1.0
    );
    logger.finish();
}

/// Sets a logger up from the environment, logs, and waits.
fn talk() {
    let logger = setup_logging("talker").unwrap();
    logger.info("hello");
    logger.warning("careful");
    logger.flush().unwrap();
    eprintln!("ready");
    wait();
}

/// Waits for a line from the parent.
fn wait() {
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// A rank that runs, with the terminal that all share.
struct RunningRank {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl RunningRank {
    fn start(case: &str, folder: &Path, environment: &[(&str, &str)]) -> Self {
        let terminal = File::options().create(true).append(true).open(folder.join("terminal"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .env(FOLDER, folder.join("logs"))
            .env("LOGCORE_RUN", "flat")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(terminal.unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            stderr,
            said: String::new(),
        }
    }

    fn rank(case: &str, folder: &Path, rank: u32, environment: &[(&str, &str)]) -> Self {
        let rank = rank.to_string();
        let mut all = vec![
            ("RANK", &*rank),
            ("LOCAL_RANK", &*rank),
            ("WORLD_SIZE", "8"),
            ("LOGCORE_RUN", "flat"),
        ];
        all.extend_from_slice(environment);
        Self::start(case, folder, &all)
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn until_ready(&mut self) {
        while !self.said.ends_with("ready\n") {
            assert_ne!(self.stderr.read_line(&mut self.said).unwrap(), 0, "{}", self.said);
        }
    }

    /// Returns the text on stderr after a successful end.
    fn end(mut self) -> String {
        self.stderr.read_to_string(&mut self.said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.said);
        self.said
    }
}

/// Runs all ranks at once; returns the text of each on stderr. In the first run one of them is
/// killed.
fn run(folder: &Path, first: bool) -> Vec<String> {
    let again: &[_] = if first { &[] } else { &[("AGAIN", "1")] };
    let mut ranks: Vec<_> = (0..WORLD)
        .map(|rank| RunningRank::rank("train", folder, rank, again))
        .collect();
    ranks.iter_mut().for_each(RunningRank::go);
    let mut said = Vec::new();
    for (rank, mut running) in (0..).zip(ranks) {
        if first && rank == KILLED.0 {
            running.until_ready();
            running.child.kill().unwrap();
            running.child.wait().unwrap();
            said.push(running.said);
        } else {
            said.push(running.end());
        }
    }
    said
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join("logs").join(name)).unwrap()
}

fn messages(folder: &Path, name: &str) -> Vec<String> {
    let text = read(folder, name);
    text.lines()
        .map(|line| line.splitn(4, " | ").nth(3).unwrap().to_owned())
        .collect()
}

fn rows(folder: &Path, name: &str) -> Vec<Value> {
    read(folder, name)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_rank(rank: u32, name: &str) -> String {
    let (stem, ending) = name.rsplit_once('.').unwrap();
    match rank {
        0 => name.to_owned(),
        rank => format!("{stem}.rank{rank}.{ending}"),
    }
}

fn last_step(rank: u32) -> u64 {
    if rank == SHORT.0 { SHORT.1 } else { STEPS }
}

#[test]
fn each_rank_has_files_of_its_own_and_a_killed_one_is_recovered_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for said in run(folder, true) {
        assert!(!said.contains("logcore:"), "{said}");
    }
    let said = run(folder, false);
    for (rank, said) in (0..).zip(&said) {
        let notices: Vec<_> = said.lines().filter(|line| line.starts_with("logcore:")).collect();
        match rank == KILLED.0 {
            true => assert!(
                matches!(&*notices, [only] if only.starts_with("logcore: [rank 3] recovered ") && only.contains("of run `trainer`, killed at step 4")),
                "{said}"
            ),
            false => assert!(notices.is_empty(), "{said}"),
        }
    }
    for rank in 0..WORLD {
        let once = [
            "Starting training".to_owned(),
            "careful".to_owned(),
            format!("only {rank} says this"),
        ];
        let mut expected = once.to_vec();
        if rank == KILLED.0 {
            expected.push("the run was killed at step 4".to_owned());
        }
        expected.extend(once);
        assert_eq!(
            messages(folder, &of_rank(rank, "training.log")),
            expected,
            "rank {rank}"
        );

        let steps = rows(folder, &of_rank(rank, "metrics.jsonl"));
        let steps: Vec<_> = steps.iter().map(|row| row["step"].as_u64().unwrap()).collect();
        let first = if rank == KILLED.0 { KILLED.1 } else { last_step(rank) };
        assert!(
            steps.iter().copied().eq((1..=first).chain(1..=last_step(rank))),
            "rank {rank}: {steps:?}"
        );

        let config: Value = serde_json::from_str(&read(folder, &of_rank(rank, "config.json"))).unwrap();
        assert_eq!(
            (&config["config"]["lr"], &config["end"]["exit_code"]),
            (&0.1.into(), &0.into())
        );
    }
    let names = fs::read_dir(folder.join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        names
            .map(|name| name.into_string().unwrap())
            .all(|name| !name.starts_with('.') || name.starts_with(".lock"))
    );
    if cfg!(feature = "wandb") {
        let runs = fs::read_dir(folder.join("logs/wandb"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let runs = runs.filter(|name| name.to_str().unwrap().starts_with("offline-run-"));
        assert_eq!(runs.count(), 2, "only rank 0 has a run");
    }

    let terminal = fs::read_to_string(folder.join("terminal")).unwrap();
    let count = |text: &str| terminal.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("| INFO  | trainer | Starting training"), 2, "{terminal}");
    assert_eq!(count("| WARN  | trainer | careful"), 2, "{terminal}");
    assert_eq!(count("only"), 0, "{terminal}");
    assert_eq!(count("trainer finished after"), 2, "{terminal}");
    for rank in 1..WORLD {
        assert_eq!(
            count(&format!("| WARN  | trainer | [rank {rank}] careful")),
            2,
            "{terminal}"
        );
    }
    assert_eq!(count("[rank "), 2 * (WORLD as usize - 1), "{terminal}");
    assert_eq!(count("100%"), 2, "only rank 0 says how far it is: {terminal}");
}

#[cfg(feature = "merge")]
#[test]
fn merge_ranks_merges_the_files_of_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(folder, true);
    let logs = folder.join("logs");
    facade::recover(&logs).pop().unwrap().unwrap();
    let merged = facade::merge_ranks(&logs, &logs).unwrap();
    assert!(
        merged.files.iter().all(|file| file.ranks.iter().copied().eq(0..WORLD)),
        "{merged:?}"
    );
    assert!(
        merged
            .files
            .iter()
            .all(|file| file.left_out == 0 && file.torn.is_empty()),
        "{merged:?}"
    );

    let mut texts = messages(folder, "training.merged.log");
    texts.sort();
    let mut expected: Vec<_> = (0..WORLD)
        .map(|rank| format!("[rank {rank}] only {rank} says this"))
        .collect();
    expected.extend(["[ranks 0-7] Starting training", "[ranks 0-7] careful"].map(str::to_owned));
    expected.push(format!("[rank {}] the run was killed at step {}", KILLED.0, KILLED.1));
    expected.sort();
    assert_eq!(texts, expected);
    let text = read(folder, "training.merged.log");
    assert!(text.lines().map(|line| &line[..23]).is_sorted(), "{text}");

    let of_ranks: Vec<_> = (0..WORLD)
        .map(|rank| rows(folder, &of_rank(rank, "metrics.jsonl")))
        .collect();
    let merged = rows(folder, "metrics.merged.jsonl");
    let steps: Vec<_> = merged.iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(1..=STEPS), "{steps:?}");
    for row in &merged {
        let step = row["step"].as_u64().unwrap();
        // The rank r has the loss r + step, and took 8 (r + 1) samples: 168 is the sum of r (r +
        // 1), 36 that of r + 1. Rank 5 is gone after step 2, rank 3 after step 4.
        let (ranks, mean) = match step {
            1..=2 => (8, 168.0 / 36.0),
            3..=4 => (7, (168.0 - 30.0) / (36.0 - 6.0)),
            _ => (6, (168.0 - 30.0 - 12.0) / (36.0 - 6.0 - 4.0)),
        };
        assert_eq!(row["ranks"], ranks);
        let found = row["metrics/loss"].as_f64().unwrap();
        assert!((found - mean - step as f64).abs() < 1e-9, "step {step}: {found}");
        assert_eq!(row["metrics/loss/min"], step as f64);
        assert_eq!(row["metrics/loss/max"], step as f64 + 7.0);
        let slowest = of_ranks
            .iter()
            .filter_map(|rows| rows.iter().find(|row| row["step"] == step)?["throughput/batch_time_ms"].as_f64())
            .fold(f64::NEG_INFINITY, f64::max);
        let named = &of_ranks[row["slowest_rank"].as_u64().unwrap() as usize];
        let of_named = named.iter().find(|row| row["step"] == step).unwrap();
        // The first interval of a progress gives no rate.
        match step {
            1 => assert!(of_named["throughput/batch_time_ms"].is_null()),
            _ => assert_eq!(of_named["throughput/batch_time_ms"], slowest),
        }
    }
}

#[test]
fn the_rank_options_change_every_default() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let logs = folder.join("logs");
    let logs = ("LOGCORE_LOG_DIR", logs.to_str().unwrap());
    let shared = [
        logs,
        ("LOGCORE_RANK_FILES", "off"),
        ("LOGCORE_OTHER_RANKS_LEVEL", "info"),
    ];
    let mut first = RunningRank::rank("talk", folder, 0, &shared);
    first.until_ready();
    let mut second = RunningRank::rank("talk", folder, 1, &shared);
    second.until_ready();
    // `LOGCORE_RANK` goes before the launcher.
    let mut third = RunningRank::rank("talk", folder, 1, &[logs, ("LOGCORE_RANK", "2")]);
    third.until_ready();
    first.go();
    second.go();
    third.go();
    assert!(!first.end().contains("logcore:"));
    assert!(second.end().contains("both append to the same files"));
    assert!(!third.end().contains("logcore:"));
    assert_eq!(
        messages(folder, "training.log"),
        ["hello", "careful", "hello", "careful"]
    );
    assert_eq!(messages(folder, "training.rank2.log"), ["hello", "careful"]);
    let terminal = fs::read_to_string(folder.join("terminal")).unwrap();
    for (text, count) in [
        ("| hello", 1),
        ("[rank 1] hello", 1),
        ("[rank 2] hello", 0),
        ("[rank 2] careful", 1),
    ] {
        assert_eq!(
            terminal.lines().filter(|line| line.contains(text)).count(),
            count,
            "{text} in {terminal}"
        );
    }
}

#[test]
fn the_first_rank_recovers_ranks_that_this_run_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let logs = folder.join("logs");
    let logs = ("LOGCORE_LOG_DIR", logs.to_str().unwrap());
    let mut killed = RunningRank::rank("talk", folder, 12, &[logs, ("WORLD_SIZE", "16")]);
    killed.until_ready();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    for said in at_once(folder, &[logs]) {
        let ours: Vec<_> = said.lines().filter(|line| line.starts_with("logcore:")).collect();
        assert!(
            ours.iter().all(|line| line.starts_with("logcore: recovered ")),
            "{said}"
        );
    }
    assert_eq!(
        messages(folder, "training.rank12.log"),
        ["hello", "careful", "the run was killed"]
    );
}

#[test]
fn one_of_many_processes_with_shared_files_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let logs = folder.join("logs");
    let shared = [
        ("LOGCORE_LOG_DIR", logs.to_str().unwrap()),
        ("LOGCORE_RANK_FILES", "off"),
    ];
    let mut killed = RunningRank::rank("talk", folder, 6, &shared);
    killed.until_ready();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let said = at_once(folder, &shared).concat();
    assert_eq!(said.matches("recovered ").count(), 1, "{said}");
    let messages = messages(folder, "training.log");
    let count = |text: &str| messages.iter().filter(|message| *message == text).count();
    assert_eq!(
        (count("hello"), count("careful"), count("the run was killed")),
        (9, 9, 1),
        "{messages:?}"
    );
}

/// Runs all ranks at once; returns the text of each on stderr.
fn at_once(folder: &Path, environment: &[(&str, &str)]) -> Vec<String> {
    let mut ranks: Vec<_> = (0..WORLD)
        .map(|rank| RunningRank::rank("talk", folder, rank, environment))
        .collect();
    ranks.iter_mut().for_each(RunningRank::until_ready);
    ranks.iter_mut().for_each(RunningRank::go);
    ranks.into_iter().map(RunningRank::end).collect()
}

#[cfg(feature = "wandb")]
#[test]
fn other_ranks_have_wandb_runs_if_the_config_asks_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let logs = folder.join("logs");
    let environment = [
        ("LOGCORE_LOG_DIR", logs.to_str().unwrap()),
        ("LOGCORE_ENABLE_WANDB", "on"),
        ("LOGCORE_SINKS", r#"{"wandb": {"mode": "offline"}}"#),
    ];
    for (wanted, runs) in [("off", 0), ("on", 1)] {
        let environment = [&environment[..], &[("LOGCORE_OTHER_RANKS_WANDB", wanted)]].concat();
        let mut running = RunningRank::rank("talk", folder, 2, &environment);
        running.until_ready();
        running.go();
        running.end();
        assert_eq!(facade::wandb::find_logs(&logs).len(), runs, "{wanted}");
    }
}

#[test]
fn a_launcher_with_invalid_variables_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let logs = folder.join("logs");
    let environment = [("RANK", "gold"), ("LOGCORE_LOG_DIR", logs.to_str().unwrap())];
    let mut running = RunningRank::start("talk", folder, &environment);
    running.until_ready();
    running.go();
    let said = running.end();
    assert_eq!(said.matches("logcore: invalid RANK = \"gold\"").count(), 1, "{said}");
    assert_eq!(messages(folder, "training.log"), ["hello", "careful"]);
}
