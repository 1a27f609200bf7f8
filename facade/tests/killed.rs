//! A process that is killed, and the next one. Each case is a child process: this test program, run
//! again.
#![cfg(all(unix, feature = "file", feature = "jsonl"))]
#![allow(unsafe_code, reason = "a fork is one of the ends of a process")]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use facade::{LogConfig, LogManager, RingPlace, SinkError, UnifiedLogger, recover, recover_trusted, setup_logging};
use logcore::{Record, RunManifest, RunState, Sink};

/// Names the case in the child.
const CASE: &str = "KILLED_CASE";
const FOLDER: &str = "KILLED_FOLDER";

const LINES: u32 = 5_000;

fn config(folder: &Path, place: RingPlace) -> LogConfig {
    LogConfig {
        name: "child".into(),
        log_dir: folder.into(),
        run: "flat".into(),
        enable_console: false,
        ring_place: place,
        ..LogConfig::default()
    }
}

/// Runs a case in the child, instead of the tests: the child reports each returned call, and waits
/// to be killed.
fn child(case: &str) {
    let folder = std::env::var_os(FOLDER).unwrap();
    let folder = Path::new(&folder);
    match case {
        "recovers without room" => return recover_without_room(folder),
        "goes elsewhere" => return go_elsewhere(folder),
        "many loggers" | "no place for marks" => return be_many(folder, case == "many loggers"),
        "very many loggers" => return be_very_many(folder),
        _ => {}
    }
    let place = match case {
        "deferred" => RingPlace::LogDir,
        "shared memory" | "own run in shared memory" => RingPlace::SharedMemory,
        "plain memory" => RingPlace::Memory,
        _ => RingPlace::Auto,
    };
    let logger = setup_logging(LogConfig {
        fold_repeats: case == "folded",
        run: run_of(case),
        ..config(folder, place)
    })
    .unwrap();
    logger.log_config(&serde_json::json!({"lr": 0.1}));
    match case {
        "finished" => drop(logger.finish()),
        "deferred" => defer_all(&logger),
        "long" => logger.info("x".repeat(3 << 20)),
        "forked" => fork_and_log(&logger),
        "folded" => (0..LINES).for_each(|number| logger.info(number / 7)),
        "forked and left" => fork_and_outlive(&logger, folder),
        "has a program running" => {
            let mut program = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
            log_all(&logger);
            println!("program {}", program.id());
            let waits = std::thread::Builder::new().name("waits".to_owned());
            waits.spawn(move || program.wait()).unwrap();
        }
        _ => log_all(&logger),
    }
    if case == "folded" {
        println!("ready");
        std::io::stdout().flush().unwrap();
        for number in LINES.. {
            logger.info(number / 7);
        }
    }
    be_ready();
}

fn run_of(case: &str) -> String {
    let run = if case.starts_with("own run") { "auto" } else { "flat" };
    run.to_owned()
}

/// Limits files to the size of the text file, as a quota does.
fn recover_without_room(folder: &Path) {
    let length = fs::metadata(folder.join("training.log")).unwrap().len();
    let limit = libc::rlimit {
        rlim_cur: length,
        rlim_max: length,
    };
    // SAFETY: numbers alone are passed; the process is a child for this test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    let left = recover(folder).pop().unwrap().unwrap_err();
    println!("ready: {left}");
}

/// A relative path keeps the meaning that it had at the set-up.
fn go_elsewhere(folder: &Path) {
    std::env::set_current_dir(folder).unwrap();
    let logger = setup_logging(config(Path::new("logs"), RingPlace::Auto)).unwrap();
    logger.log_config(&serde_json::json!({"lr": 0.1}));
    fs::create_dir(folder.join("elsewhere")).unwrap();
    std::env::set_current_dir(folder.join("elsewhere")).unwrap();
    log_all(&logger);
    be_ready();
}

/// Opens so many loggers that the resume points of their sinks do not fit into the ring.
const MANY: u32 = 200;

fn be_many(folder: &Path, has_place: bool) {
    let named = |number: u32| LogConfig {
        name: format!("logger {number}"),
        ring_bytes: 65_536,
        ..config(folder, RingPlace::LogDir)
    };
    let first = setup_logging(named(0)).unwrap();
    if !has_place {
        let ring = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let ring = ring
            .into_iter()
            .find(|path| path.extension().is_some_and(|end| end == "ring"));
        for ending in ["marks0", "marks1"] {
            fs::create_dir(ring.as_ref().unwrap().with_extension(format!("ring.{ending}"))).unwrap();
        }
    }
    let mut loggers = vec![first];
    loggers.extend((1..MANY).map(|number| setup_logging(named(number)).unwrap()));
    if !has_place {
        // The writer comes no further than to the first record, and the ring has room for those of
        // some.
        LogManager::get_instance()
            .add_sink("stuck", Box::new(StuckSink))
            .unwrap();
    }
    let saying = if has_place { loggers.len() } else { 100 };
    for (number, logger) in loggers.iter().take(saying).enumerate() {
        logger.info(number);
        logger.log_metrics_at(0, [("value", number as u64)]);
    }
    be_ready();
}

/// So many that their checkpoint waits for a pause, and the newest are known by frames alone.
const VERY_MANY: u32 = 1000;

fn be_very_many(folder: &Path) {
    let named = |number: u32| LogConfig {
        name: format!("logger {number}"),
        ..config(folder, RingPlace::LogDir)
    };
    let loggers: Vec<_> = (0..VERY_MANY)
        .map(|number| setup_logging(named(number)).unwrap())
        .collect();
    for (number, logger) in loggers.iter().enumerate().rev() {
        logger.info(number);
    }
    be_ready();
}

struct StuckSink;

impl Sink for StuckSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        loop {
            std::thread::park();
        }
    }
}

fn be_ready() {
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn log_all(logger: &UnifiedLogger) {
    for number in 0..LINES {
        logger.info(number);
        logger.log_metrics_at(u64::from(number), [("value", number)]);
    }
}

/// The writer comes no further than to the first record, and formats none of the others.
fn defer_all(logger: &UnifiedLogger) {
    LogManager::get_instance()
        .add_sink("stuck", Box::new(StuckSink))
        .unwrap();
    for number in 0..DEFERRED {
        let (share, text) = share_and_text(number);
        facade::info!(logger, "{} of {:?}: {:*>12.3e}", number, text, share);
    }
}

const DEFERRED: u32 = 1000;

fn share_and_text(number: u32) -> (f64, String) {
    (f64::from(number) / 7.0, format!("ä {}\n", number % 9))
}

fn fork_and_log(logger: &UnifiedLogger) {
    // SAFETY: the child only logs, which is the case at hand, and ends by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            log_all(logger);
            logger.flush().unwrap();
            // SAFETY: ends this process alone.
            unsafe { libc::_exit(0) }
        }
        pid => {
            // SAFETY: our own child.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// The child of the fork logs after its parent has ended and was recovered, many times the size of
/// the ring.
fn fork_and_outlive(logger: &UnifiedLogger, folder: &Path) {
    // SAFETY: the child only looks at a folder and logs, and ends by `_exit`.
    unsafe {
        if libc::fork() == 0 {
            // It ends the process, unless that is quicker.
            libc::alarm(50);
            println!("forked");
            std::io::stdout().flush().unwrap();
            while !folder.join("go").exists() {
                std::thread::yield_now();
            }
            let line = "x".repeat(1 << 20);
            (0..100).for_each(|_| logger.info(&line));
            println!("every call has returned");
            std::io::stdout().flush().unwrap();
            libc::_exit(0)
        }
    }
}

/// Runs this test program again.
fn command(case: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .stdout(Stdio::piped());
    command
}

/// Runs a child until it reports that it is ready.
fn start(case: &str, folder: &Path) -> Child {
    let mut child = command(case, folder).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    assert!(
        BufReader::new(stdout)
            .lines()
            .any(|line| line.unwrap().contains("ready"))
    );
    child
}

fn kill(case: &str, folder: &Path) {
    let mut child = start(case, folder);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn messages(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    messages_in(&text)
}

/// Before anybody has recovered them, when the last line may be a part of one.
fn whole_messages(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    messages_in(&text[..end])
}

fn messages_in(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.splitn(4, " | ").nth(3).unwrap().to_owned())
        .collect()
}

fn rows(folder: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn rings(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter(|name| name.to_str().unwrap().ends_with(".ring")).count()
}

/// Everything once and in order, and the end that the next process wrote.
fn assert_all_there(folder: &Path) {
    let messages = messages(folder);
    let expected = (0..LINES).map(|number| number.to_string());
    let end = format!("the run was killed at step {}", LINES - 1);
    assert!(
        messages.iter().cloned().eq(expected.chain([end])),
        "{} lines",
        messages.len()
    );
    let rows = rows(folder);
    let steps = rows.iter().map(|row| row["step"].as_u64().unwrap());
    assert!(steps.eq(0..u64::from(LINES)), "{} rows", rows.len());
    assert!(rows.iter().all(|row| row["metrics/value"] == row["step"]));
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!(
        (&config["config"]["lr"], &config["end"]["exit_code"]),
        (&0.1.into(), &137.into())
    );
    assert_eq!(rings(folder), 0);
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case);
    }
}

#[test]
fn recovery_delivers_each_call_of_a_killed_process_once() {
    let folder = tempfile::tempdir().unwrap();
    kill("lines", folder.path());
    assert_eq!(rings(folder.path()), 1);
    let recovered = recover(folder.path());
    let recovered = recovered.into_iter().next().unwrap().unwrap();
    assert!(recovered.problems.is_empty(), "{recovered}");
    assert_eq!(recovered.loggers, [("child".to_owned(), Some(u64::from(LINES) - 1))]);
    assert!(
        recovered.to_string().contains("of run `child`, killed at step 4999"),
        "{recovered}"
    );
    assert_all_there(folder.path());
    assert!(recover(folder.path()).is_empty());
    assert_all_there(folder.path());
}

#[test]
fn recovery_formats_what_a_killed_process_has_not() {
    let folder = tempfile::tempdir().unwrap();
    kill("deferred", folder.path());
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let ring = names
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "ring"));
    let ring = fs::read(ring.unwrap()).unwrap();
    let literal = b"{} of {:?}: {:*>12.3e}";
    let deferred = ring.windows(literal.len()).filter(|bytes| bytes == literal).count();
    assert_eq!(deferred, DEFERRED as usize);
    recover(folder.path()).pop().unwrap().unwrap();
    let mut messages = messages(folder.path());
    assert_eq!(messages.pop().as_deref(), Some("the run was killed"));
    let expected = (0..DEFERRED).map(|number| {
        let (share, text) = share_and_text(number);
        format!("{number} of {text:?}: {share:*>12.3e}")
    });
    assert_eq!(messages, expected.collect::<Vec<_>>());
}

#[test]
fn the_next_start_recovers_before_it_writes_anything_new() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    kill("shared memory", folder.path());
    let logger = setup_logging(config(folder.path(), RingPlace::Auto)).unwrap();
    assert_all_there_before("after", folder.path(), &logger);
}

fn assert_all_there_before(text: &str, folder: &Path, logger: &UnifiedLogger) {
    logger.info(text);
    logger.finish();
    let mut messages = messages(folder);
    assert_eq!(messages.pop().as_deref(), Some(text));
    assert_eq!(messages.len(), LINES as usize + 1);
    assert_eq!(rings(folder), 0, "a ring is gone with its last logger");
}

/// Returns the folders of the runs in a log directory.
fn run_folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    let runs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut folders: Vec<_> = runs.map(|run| run.path()).collect();
    folders.retain(|path| path.file_name().is_some_and(|name| name != ".logcore"));
    folders
}

fn entries(root: &Path) -> usize {
    fs::read_dir(root.join(".logcore/rings")).map_or(0, Iterator::count)
}

/// Starts a run and finishes it.
fn log_in_a_run_of_its_own(root: &Path) {
    let logger = setup_logging(LogConfig {
        run: "auto".into(),
        ..config(root, RingPlace::Auto)
    });
    logger.unwrap().finish();
}

#[test]
fn the_next_start_delivers_each_ring_into_its_own_run() {
    testkit::own_process!();
    let root = tempfile::tempdir().unwrap();
    for mut child in ["own run", "own run in shared memory"].map(|case| start(case, root.path())) {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let killed = run_folders(root.path());
    assert_eq!((killed.len(), entries(root.path())), (2, 2));
    log_in_a_run_of_its_own(root.path());
    assert_eq!((run_folders(root.path()).len(), entries(root.path())), (3, 0));
    for run in killed {
        assert_all_there(&run);
    }
}

#[test]
fn a_renamed_log_directory_is_recovered_in_its_new_place() {
    testkit::own_process!();
    let outer = tempfile::tempdir().unwrap();
    let (was, is) = (outer.path().join("was"), outer.path().join("is"));
    kill("own run", &was);
    fs::rename(&was, &is).unwrap();
    log_in_a_run_of_its_own(&is);
    let mut runs = run_folders(&is);
    runs.retain(|run| RunManifest::read(run).unwrap().state == RunState::Killed);
    assert_eq!(runs.len(), 1);
    assert_all_there(&runs[0]);
    assert_eq!(entries(&is), 0);
}

#[test]
fn repair_finds_a_ring_without_an_entry() {
    testkit::own_process!();
    let root = tempfile::tempdir().unwrap();
    kill("own run", root.path());
    fs::remove_dir_all(root.path().join(".logcore")).unwrap();
    let run = run_folders(root.path()).pop().unwrap();
    log_in_a_run_of_its_own(root.path());
    assert_eq!(rings(&run), 1, "a start reads the entries alone");
    recover(root.path()).pop().unwrap().unwrap();
    assert_all_there(&run);
}

#[test]
fn recovery_does_not_follow_a_link_to_a_run() {
    testkit::own_process!();
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    kill("own run", root.path());
    let run = run_folders(root.path()).pop().unwrap();
    let moved = outside.path().join("run");
    fs::rename(&run, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &run).unwrap();
    let before = fs::read(moved.join("training.log")).unwrap();
    log_in_a_run_of_its_own(root.path());
    assert!(recover(root.path()).is_empty());
    assert_eq!(fs::read(moved.join("training.log")).unwrap(), before);
    recover(&moved).pop().unwrap().unwrap();
    assert_all_there(&moved);
}

#[test]
fn recovery_ignores_a_copy_of_a_log_directory_with_its_entries() {
    testkit::own_process!();
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    kill("own run", root.path());
    let run = run_folders(root.path()).pop().unwrap();
    let copied = other.path().join(run.file_name().unwrap());
    for folder in [&copied, &other.path().join(".logcore/rings")] {
        fs::create_dir_all(folder).unwrap();
    }
    copy(&run, &copied);
    copy(
        &root.path().join(".logcore/rings"),
        &other.path().join(".logcore/rings"),
    );
    let before = fs::read(copied.join("training.log")).unwrap();
    log_in_a_run_of_its_own(other.path());
    let refused = recover(other.path()).pop().unwrap().unwrap_err().to_string();
    assert!(
        refused.contains("it is a copy of a ring") && refused.contains("--trust"),
        "{refused}"
    );
    assert_eq!(fs::read(copied.join("training.log")).unwrap(), before);
    recover_trusted(other.path()).pop().unwrap().unwrap();
    assert_all_there(&copied);
    recover(root.path()).pop().unwrap().unwrap();
    assert_all_there(&run);
}

#[test]
fn a_renamed_folder_is_recovered_in_its_new_place() {
    let outer = tempfile::tempdir().unwrap();
    let (was, is) = (outer.path().join("was"), outer.path().join("is"));
    kill("lines", &was);
    fs::rename(&was, &is).unwrap();
    recover(&is).pop().unwrap().unwrap();
    assert_all_there(&is);
    assert!(!was.exists());
}

#[test]
fn recovery_leaves_a_live_process_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start("lines", folder.path());
    let left = recover(folder.path()).pop().unwrap().unwrap_err();
    assert!(
        left.to_string()
            .contains(&format!("process {} is still running", child.id())),
        "{left}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    recover(folder.path()).pop().unwrap().unwrap();
    assert_all_there(folder.path());
}

#[test]
fn a_finished_run_leaves_nothing_to_recover() {
    let folder = tempfile::tempdir().unwrap();
    kill("finished", folder.path());
    assert_eq!(rings(folder.path()), 0);
    assert!(recover(folder.path()).is_empty());
    assert!(!folder.path().join("training.log").exists() || messages(folder.path()).is_empty());
}

#[test]
fn a_message_larger_than_a_frame_is_recovered_whole() {
    let folder = tempfile::tempdir().unwrap();
    kill("long", folder.path());
    recover(folder.path()).pop().unwrap().unwrap();
    let messages = messages(folder.path());
    assert_eq!(messages[0].len(), 3 << 20);
    assert_eq!(messages[1], "the run was killed");
}

#[test]
fn a_pending_repeat_count_is_recovered() {
    // The child keeps running, so that each kill comes at another moment of the child and the
    // writer.
    for attempt in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start("folded", folder.path());
        let written = || fs::metadata(folder.path().join("training.log")).map_or(0, |file| file.len());
        while written() < attempt * 50_000 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        recover(folder.path()).pop().unwrap().unwrap();
        let messages = messages(folder.path());
        let (end, lines) = messages.split_last().unwrap();
        assert_eq!(end, "the run was killed");
        let mut records: Vec<&str> = Vec::new();
        for line in lines {
            match line.strip_prefix("last line repeated ") {
                None => records.push(line),
                Some(often) => {
                    let often = often.split(' ').next().unwrap().parse().unwrap_or(1);
                    let last = *records.last().unwrap();
                    records.extend(std::iter::repeat_n(last, often));
                }
            }
        }
        assert!(records.len() >= LINES as usize, "{} records", records.len());
        let expected = (0..records.len()).map(|number| (number / 7).to_string());
        assert!(
            records.iter().map(|record| (*record).to_owned()).eq(expected),
            "{} records",
            records.len()
        );
        assert!(lines.len() < records.len() / 2);
    }
}

#[test]
fn a_ring_in_plain_memory_loses_the_last_calls_and_tears_none() {
    let folder = tempfile::tempdir().unwrap();
    kill("plain memory", folder.path());
    assert!(recover(folder.path()).is_empty());
    let messages = whole_messages(folder.path());
    let expected = (0..LINES).map(|number| number.to_string());
    assert!(messages.iter().cloned().eq(expected.take(messages.len())));
}

#[test]
fn a_child_of_a_fork_logs_through_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    kill("forked", folder.path());
    recover(folder.path()).pop().unwrap().unwrap();
    assert_all_there(folder.path());
}

/// Calls that cannot be written now are neither lost nor written twice later.
fn assert_left_for_later(folder: &Path, left: &str, over: impl FnOnce()) {
    assert!(
        left.contains("is left alone: sink `") && left.contains("it is delivered when that is over"),
        "{left}"
    );
    assert!(!left.contains('\n'));
    assert_eq!(rings(folder), 1);
    over();
    let recovered = recover(folder).pop().unwrap().unwrap();
    assert!(recovered.problems.is_empty(), "{recovered}");
    assert_all_there(folder);
}

#[test]
fn recovery_without_disk_space_is_repeated_later() {
    let folder = tempfile::tempdir().unwrap();
    kill("lines", folder.path());
    let mut child = command("recovers without room", folder.path()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Vec<String> = stdout
        .map(Result::unwrap)
        .filter(|line| line.contains("ready: "))
        .collect();
    assert!(child.wait().unwrap().success());
    assert_left_for_later(folder.path(), &said[0], || {});
}

#[test]
fn recovery_waits_while_a_folder_stands_in_the_place_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    kill("lines", folder.path());
    for name in ["training.log", "metrics.jsonl"] {
        let (path, aside) = (folder.path().join(name), folder.path().join("aside"));
        // The file may be absent: the process was killed before its first call came to it.
        let moved = fs::rename(&path, &aside);
        fs::create_dir(&path).unwrap();
        let left = recover(folder.path()).pop().unwrap().unwrap_err().to_string();
        assert!(
            left.contains("is left alone: sink `") && left.contains("directory"),
            "{left}"
        );
        fs::remove_dir(&path).unwrap();
        if moved.is_ok() {
            fs::rename(&aside, &path).unwrap();
        }
    }
    recover(folder.path()).pop().unwrap().unwrap();
    assert_all_there(folder.path());
}

#[test]
fn recovery_waits_while_a_file_cannot_be_read() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    kill("lines", folder.path());
    let path = folder.path().join("training.log");
    let allow = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    allow(0);
    match recover(folder.path()).pop().unwrap() {
        Err(left) => assert_left_for_later(folder.path(), &left.to_string(), || allow(0o644)),
        // Root may.
        Ok(_) => {
            allow(0o644);
            assert_all_there(folder.path());
        }
    }
}

#[test]
fn recovery_creates_deleted_files_again_with_the_pending_calls() {
    let folder = tempfile::tempdir().unwrap();
    kill("lines", folder.path());
    let before = whole_messages(folder.path());
    fs::remove_file(folder.path().join("training.log")).unwrap();
    // The last of the rows may be cut. A busy machine has not come to the first of them.
    let rows_before = match fs::read_to_string(folder.path().join("metrics.jsonl")) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => {
            fs::remove_file(folder.path().join("metrics.jsonl")).unwrap();
            read.unwrap()
        }
    };
    recover(folder.path()).pop().unwrap().unwrap();
    // Only calls from after the resume point are written.
    let after = messages(folder.path());
    assert_eq!(
        after.last().unwrap(),
        &format!("the run was killed at step {}", LINES - 1)
    );
    let first = LINES as usize + 1 - after.len();
    assert!(first <= before.len());
    let expected = (first as u32..LINES).map(|number| number.to_string());
    assert!(after[..after.len() - 1].iter().cloned().eq(expected));
    let steps: Vec<u64> = rows(folder.path())
        .iter()
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert!(steps.len() + rows_before.lines().count() >= LINES as usize);
    assert!(steps.is_sorted() && steps.last() == Some(&u64::from(LINES - 1)));
}

/// It must hold neither the lock on the ring nor anything else that outlives the process.
#[test]
fn recovery_does_not_wait_for_a_program_that_the_process_had_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command("has a program running", folder.path()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let program: i32 = said
        .find_map(|line| line.split("program ").nth(1)?.parse().ok())
        .unwrap();
    assert!(said.any(|line| line.contains("ready")));
    child.kill().unwrap();
    child.wait().unwrap();
    let recovered = recover(folder.path()).pop().unwrap();
    // SAFETY: a signal to the program that the child has started.
    assert_eq!(unsafe { libc::kill(program, libc::SIGKILL) }, 0);
    recovered.unwrap();
    assert_all_there(folder.path());
}

/// The child blocks neither the recovery of its parent nor itself: it has a writer of its own.
#[test]
fn a_child_that_outlives_its_parent_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command("forked and left", folder.path()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("forked")));
    child.kill().unwrap();
    child.wait().unwrap();
    recover(folder.path()).pop().unwrap().unwrap();
    assert_eq!(messages(folder.path()), ["the run was killed"]);
    fs::write(folder.path().join("go"), "").unwrap();
    // Until the child of the fork has ended, too.
    assert_eq!(said.last().as_deref(), Some("every call has returned"));
    for outcome in recover(folder.path()) {
        outcome.unwrap();
    }
    let lines = messages(folder.path());
    assert_eq!(lines.iter().filter(|line| line.starts_with('x')).count(), 100);
}

#[test]
fn recovery_refuses_and_keeps_a_file_that_is_not_a_ring() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(format!(".logcore-{name}.ring"));
    let secret = folder.path().join("secret");
    fs::write(&secret, "mine").unwrap();
    std::os::unix::fs::symlink(&secret, path("1-link")).unwrap();
    fs::write(path("2-pointer"), format!("at {}\n", secret.display())).unwrap();
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // Of an earlier start of this machine.
    let gone = format!("at /dev/shm/.logcore-0-gone.ring\non {} 1 1\n", machine.trim_end());
    fs::write(path("3-gone"), gone).unwrap();
    fs::write(path("4-noise"), [7; 5000]).unwrap();
    fs::write(path("5-short"), "LOGRING1").unwrap();
    let refused: Vec<_> = recover(folder.path())
        .into_iter()
        .map(|outcome| outcome.unwrap_err().to_string())
        .collect();
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert!(!path("3-gone").exists() && !path("4-noise").exists());
    assert!(folder.path().join(".logcore-4-noise.unreadable").exists());
    assert_eq!(fs::read_to_string(secret).unwrap(), "mine");
    // Recovery does not look at a file again that it has put aside.
    assert_eq!(recover(folder.path()).len(), 2);
}

#[test]
fn recovery_does_not_block_on_a_pipe_or_device() {
    let folder = tempfile::tempdir().unwrap();
    kill("lines", folder.path());
    let ring = ring(folder.path());
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    pipe(&folder.path().join(".logcore-1-pipe.ring"));
    pipe(&folder.path().join(".logcore-1-pipe.ring.new"));
    fs::create_dir(folder.path().join(".logcore-2-folder.ring")).unwrap();
    let path = folder.path().join(".logcore-3-device.ring");
    // SAFETY: a path that lives through the call; only root may, and the test does without.
    unsafe {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 5));
    }
    pipe(&ring.with_extension("ring.pieces"));
    let (delivered, refused): (Vec<_>, Vec<_>) = recover(folder.path()).into_iter().partition(Result::is_ok);
    assert_eq!(delivered.len(), 1);
    assert!(refused.len() >= 2, "{refused:?}");
    for refused in refused {
        assert!(refused.unwrap_err().to_string().contains("it is not a file"));
    }
    assert_eq!(messages(folder.path()).len(), LINES as usize + 1);
}

fn ring(folder: &Path) -> std::path::PathBuf {
    let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .find(|path| path.extension().is_some_and(|end| end == "ring"))
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A ring may come from somebody else, with any content.
#[test]
fn recovery_ignores_a_copy_of_a_ring() {
    for case in ["lines", "shared memory"] {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        kill(case, folder.path());
        copy(folder.path(), other.path());
        // As bytes: the last line may be a part of one, and the writer may have made no file yet.
        let before = |folder: &Path| {
            ["training.log", "metrics.jsonl"].map(|name| fs::read(folder.join(name)).unwrap_or_default())
        };
        let (here, there) = (before(folder.path()), before(other.path()));
        for _ in 0..2 {
            let refused = recover(other.path()).pop().unwrap().unwrap_err().to_string();
            assert!(refused.contains("--trust") && !refused.contains('\n'), "{refused}");
        }
        assert_eq!((before(folder.path()), before(other.path())), (here, there));
        assert_eq!((rings(folder.path()), rings(other.path())), (1, 1));
        if case == "lines" {
            // The user trusts the copy, and the original is delivered as if there were no copy.
            recover_trusted(other.path()).pop().unwrap().unwrap();
            assert_all_there(other.path());
        }
        recover(folder.path()).pop().unwrap().unwrap();
        assert_all_there(folder.path());
    }
}

/// A link may lead to any file of the user.
/// A process that is killed while it ends has removed its ring before the pointer to it.
#[cfg(target_os = "linux")]
#[test]
fn a_pointer_without_a_ring_goes_with_what_was_beside_the_ring() {
    let folder = tempfile::tempdir().unwrap();
    kill("shared memory", folder.path());
    let pointer = ring(folder.path());
    let shared = Path::new("/dev/shm").join(pointer.file_name().unwrap());
    let beside = ["pieces", "marks0", "marks1"].map(|ending| shared.with_extension(format!("ring.{ending}")));
    fs::remove_file(&shared).unwrap();
    beside.iter().for_each(|path| fs::write(path, "").unwrap());
    assert!(recover(folder.path()).is_empty());
    assert!(!pointer.exists() && beside.iter().all(|path| !path.exists()));
}

#[test]
fn recovery_follows_no_link() {
    for name in ["training.log", "metrics.jsonl"] {
        let outside = tempfile::tempdir().unwrap();
        let folder = loop {
            let folder = tempfile::tempdir().unwrap();
            kill("lines", folder.path());
            // The writer may not have made the file when the process is killed.
            if folder.path().join(name).exists() {
                break folder;
            }
        };
        let (path, precious) = (folder.path().join(name), outside.path().join("precious"));
        fs::rename(&path, &precious).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let before = fs::read(&precious).unwrap();
        let refused = recover(folder.path()).pop().unwrap().unwrap_err().to_string();
        assert!(refused.contains("a link") && refused.contains("--trust"), "{refused}");
        assert_eq!(fs::read(&precious).unwrap(), before);
        recover_trusted(folder.path()).pop().unwrap().unwrap();
        assert_all_there(folder.path());
    }
}

#[test]
fn a_relative_log_dir_stays_when_the_working_folder_changes() {
    let folder = tempfile::tempdir().unwrap();
    kill("goes elsewhere", folder.path());
    recover(&folder.path().join("logs")).pop().unwrap().unwrap();
    assert_all_there(&folder.path().join("logs"));
    assert_eq!(fs::read_dir(folder.path().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_folder_name_need_not_be_valid_unicode() {
    use std::os::unix::ffi::OsStrExt as _;

    for case in ["lines", "shared memory"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(std::ffi::OsStr::from_bytes(b"b\xff\xfe\nd"));
        kill(case, &folder);
        recover(&folder).pop().unwrap().unwrap();
        assert_all_there(&folder);
    }
}

#[test]
fn more_loggers_than_the_ring_has_room_for_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    kill("many loggers", folder.path());
    let recovered = recover(folder.path()).pop().unwrap().unwrap();
    assert!(recovered.problems.is_empty(), "{recovered}");
    let mut said: Vec<String> = messages(folder.path());
    said.retain(|message| !message.starts_with("the run was killed"));
    assert!(said.into_iter().eq((0..MANY).map(|number| number.to_string())));
    let mut values: Vec<u64> = rows(folder.path())
        .iter()
        .map(|row| row["metrics/value"].as_u64().unwrap())
        .collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..u64::from(MANY)));
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with(".logcore")),
        "{left:?}"
    );
}

#[test]
fn recovery_finds_loggers_opened_after_the_last_checkpoint() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        kill("very many loggers", folder.path());
        let recovered = recover(folder.path()).pop().unwrap().unwrap();
        assert!(recovered.problems.is_empty(), "{recovered}");
        assert_eq!(recovered.loggers.len(), VERY_MANY as usize);
        let mut said: Vec<String> = messages(folder.path());
        said.retain(|message| !message.starts_with("the run was killed"));
        assert!(
            said.into_iter()
                .eq((0..VERY_MANY).rev().map(|number| number.to_string()))
        );
    }
}

#[test]
fn recovery_keeps_calls_that_no_logger_takes() {
    let folder = tempfile::tempdir().unwrap();
    kill("no place for marks", folder.path());
    let before = fs::read(ring(folder.path())).unwrap();
    let recovered = recover(folder.path()).pop().unwrap().unwrap().to_string();
    assert!(
        recovered.contains("could not be delivered") && recovered.contains(".kept"),
        "{recovered}"
    );
    let mut entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries
        .find(|path| path.extension().is_some_and(|end| end == "kept"))
        .unwrap();
    assert_eq!(fs::read(kept).unwrap(), before);
    assert!(recover(folder.path()).is_empty());
}
