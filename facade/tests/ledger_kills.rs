//! The ledger of a run that is killed and resumed five times, beside a stopwatch of the program's
//! own.
#![cfg(all(unix, feature = "jsonl", feature = "progress"))]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use facade::{LogConfig, setup_logging};
use logcore::RunManifest;

const FOLDER: &str = "LEDGER_FOLDER";
const LAST: &str = "LEDGER_LAST";
const KILLS: usize = 5;
/// Steps between two checkpoints.
const CHECKPOINT_STEPS: u64 = 40;
/// A limit for anything that should happen soon.
const SOON: Duration = Duration::from_secs(60);

/// The times that the stopwatch of the program takes, one line each, as it happens.
struct Stopwatch {
    file: fs::File,
    lap: Instant,
}

impl Stopwatch {
    fn note(&mut self, use_of_time: &str, step: u64) {
        let seconds = self.lap.elapsed().as_secs_f64();
        self.lap = Instant::now();
        // In one write, so that a kill leaves no part of a line.
        let line = format!("{use_of_time} {step} {seconds}\n");
        self.file.write_all(line.as_bytes()).unwrap();
    }
}

/// Trains from the last checkpoint on, until the parent kills the process or the last attempt is
/// over.
fn train(folder: &Path) {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("stopwatch"))
        .unwrap();
    let logger = setup_logging(LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        run: "run".into(),
        resume: Some("auto".into()),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap();
    // The time before the start that `run.json` has is `down`; a set-up takes long on a busy
    // machine.
    let manifest = RunManifest::read(&folder.join("run")).unwrap();
    let since_start = seconds() - manifest.attempts.last().unwrap().started;
    let mut watch = Stopwatch {
        file,
        lap: Instant::now() - Duration::from_secs_f64(since_start),
    };
    let saved = fs::read_to_string(folder.join("checkpoint")).ok();
    let first = saved.map_or(1, |step| step.parse::<u64>().unwrap() + 1);
    logger.start_from(first);
    sleep(Duration::from_millis(50));
    logger.start_progress(1_000_000, "Train");
    let is_last = std::env::var_os(LAST).is_some();
    let steps = if is_last { first..first + 100 } else { first..1_000_000 };
    for step in steps {
        if step > first {
            {
                let _data = logger.phase("data");
                sleep(Duration::from_millis(3));
            }
            watch.note("data", step);
            {
                let _forward = logger.phase("forward");
                sleep(Duration::from_millis(5));
            }
            watch.note("forward", step);
            sleep(Duration::from_millis(4));
        }
        logger.update_progress(1, 1);
        logger.log_metrics([("loss", step)]);
        watch.note(if step > first { "step" } else { "startup" }, step);
        if step % CHECKPOINT_STEPS == 0 {
            {
                let _checkpoint = logger.phase("checkpoint");
                sleep(Duration::from_millis(60));
                fs::write(folder.join("checkpoint.new"), step.to_string()).unwrap();
                fs::rename(folder.join("checkpoint.new"), folder.join("checkpoint")).unwrap();
            }
            watch.note("checkpoint", step);
        }
    }
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(Path::new(&folder));
    }
}

fn start(folder: &Path, is_last: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::null());
    if is_last {
        command.env(LAST, "1");
    }
    command.spawn().unwrap()
}

fn read_steps(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("stopwatch")).unwrap_or_default();
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("step ")?.split(' ').next()?.parse().ok());
    last.unwrap_or(0)
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn five_kills_and_resumes_agree_with_a_stopwatch_within_a_percent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut down = 0.0;
    let mut ended = None;
    for attempt in 0..=KILLS {
        let mut child = start(folder, attempt == KILLS);
        if attempt < KILLS {
            // Between two checkpoints, each time elsewhere.
            let goal = read_steps(folder) + 110 + attempt as u64 * 23;
            let until = Instant::now() + SOON;
            while read_steps(folder) < goal {
                assert!(Instant::now() < until, "attempt {attempt} stands still");
                sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert_eq!(status.success(), attempt == KILLS);
        let manifest = RunManifest::read(&folder.join("run")).unwrap();
        let started = manifest.attempts.last().unwrap().started;
        down += ended.map_or(0.0, |ended| started - ended);
        ended = Some(seconds());
        sleep(Duration::from_millis(400));
    }
    let manifest = RunManifest::read(&folder.join("run")).unwrap();
    assert_eq!(manifest.attempts.len(), KILLS + 1);
    let last = manifest.attempts.last().unwrap();
    let (ledger, wall) = (&last.ledger, last.ended.unwrap() - manifest.started);
    let measured = measure(&fs::read_to_string(folder.join("stopwatch")).unwrap(), down);
    let total: f64 = ledger.values().sum();
    assert!((total - wall).abs() < wall * 0.01, "{total} of {wall}: {ledger:?}");
    for (name, seconds) in &measured {
        let booked = ledger.get(name).copied().unwrap_or_default();
        assert!(
            (booked - seconds).abs() < wall * 0.01,
            "{name}: {booked} and not {seconds}, of {wall}: {ledger:?}, {measured:?}"
        );
    }
}

#[test]
fn an_attempt_that_is_killed_within_its_first_second_has_its_steps_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut child = start(folder, false);
    let until = Instant::now() + SOON;
    while read_steps(folder) < 30 {
        assert!(Instant::now() < until, "the child stands still");
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let text = fs::read_to_string(folder.join("stopwatch")).unwrap();
    let startup = measure(&text, 0.0)["startup"];
    // The next attempt writes the end of the killed one.
    assert!(start(folder, true).wait().unwrap().success());
    let manifest = RunManifest::read(&folder.join("run")).unwrap();
    let ledger = &manifest.attempts[0].ledger;
    assert!(
        (ledger["startup"] - startup).abs() < 0.1,
        "{startup} until the first step: {ledger:?}"
    );
}

/// Returns the seconds by their use, from the lines of the stopwatch and the time between attempts.
fn measure(text: &str, down: f64) -> BTreeMap<String, f64> {
    let lines = text.lines().map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let step: u64 = words.next().unwrap().parse().unwrap();
        (name, step, words.next().unwrap().parse::<f64>().unwrap())
    });
    let mut kept: Vec<(&str, u64, f64)> = Vec::new();
    let mut measured: BTreeMap<String, f64> = [("down".to_owned(), down), ("lost".to_owned(), 0.0)].into();
    for (name, step, seconds) in lines {
        if name == "startup" {
            // Steps that are done again were for nothing.
            kept.retain(|(name, known, seconds)| {
                let is_lost = *known >= step && *name != "startup";
                if is_lost {
                    *measured.get_mut("lost").unwrap() += seconds;
                }
                !is_lost
            });
        }
        kept.push((name, step, seconds));
    }
    for (name, _, seconds) in kept {
        *measured.entry(name.to_owned()).or_default() += seconds;
    }
    measured
}
