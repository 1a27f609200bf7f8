//! Media values: their files, their lines in the index, and what happens when they cannot be
//! written. Some cases are child processes: this test program, run again.
#![cfg(all(unix, feature = "media", feature = "jsonl", feature = "file"))]
#![allow(unsafe_code, reason = "a limit of the process is set")]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use facade::{Histogram, Image, LogConfig, Table, UnifiedLogger, recover, setup_logging};
use logcore::{MediaContent, StoredMedia};

/// Names the case in the child.
const CASE: &str = "MEDIA_CASE";
const FOLDER: &str = "MEDIA_FOLDER";

/// The config of a logger. The tests of a process run beside each other, so each has a name of its
/// own.
fn config(name: &str, folder: &Path) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.into(),
        run: "flat".into(),
        enable_console: false,
        ..LogConfig::default()
    }
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    if case == "limited" {
        let limit = libc::rlimit {
            rlim_cur: 1 << 20,
            rlim_max: 1 << 20,
        };
        // SAFETY: numbers alone are passed; the process is a child for this test.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    }
    let logger = setup_logging(config("child", &folder)).unwrap();
    match case.as_str() {
        "limited" => {
            logger.log_text("long", "x".repeat(2 << 20), 1);
            logger.log_text("short", "x", 2);
            logger.save_file(std::env::current_exe().unwrap());
            drop(logger.finish());
        }
        "ranked" => {
            log_one(&logger, 7);
            drop(logger.finish());
        }
        _ => {
            for step in 0.. {
                log_one(&logger, step);
                println!("logged {step}");
                std::io::stdout().flush().unwrap();
            }
        }
    }
}

fn log_one(logger: &UnifiedLogger, step: u64) {
    let grey = u8::try_from(step % 256).unwrap();
    logger.log_image("grey", Image::grey(1, 1, [grey]), step);
    logger.log_histogram("grad", Histogram::of([step], 2), step);
}

fn start(case: &str, folder: &Path, variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["the_child", "--exact", "--nocapture"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the lines of an index.
fn index(path: &Path) -> Vec<StoredMedia> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns all files beneath a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return vec![];
    };
    let files = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path) } else { vec![path] }
    });
    files.collect()
}

fn warnings(logger: &UnifiedLogger) -> Vec<String> {
    let log = logger.log_file();
    logger.flush().unwrap();
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("WARN"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_value_is_a_file_and_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "remember").unwrap();
    let logger = setup_logging(LogConfig {
        redact: vec!["hf_[a-z]+".into()],
        ..config("each_value", &folder.path().join("logs"))
    })
    .unwrap();
    logger.log_image("val/sample", Image::rgb(2, 1, [0; 6]).caption("of hf_abc"), 3);
    logger.log_histogram("grad", Histogram::of([0.1, 0.3], 2), 3);
    logger.log_table("errors", Table::new(["id"]).row([1]), 4);
    logger.log_html("page", "<b>hf_abc</b>", 4);
    logger.log_text("sample", "ünïcode, hf_abc", 5);
    logger.log_text("sample", "ünïcode, hf_abc", None);
    fs::write(&notes, "remember").unwrap();
    logger.save_file(&notes);
    fs::write(&notes, "changed").unwrap();
    assert_eq!(warnings(&logger), [""; 0]);
    let report = logger.finish();
    assert!(report.sink("jsonl").unwrap().balanced());

    let run = folder.path().join("logs");
    let lines = index(&run.join("media.jsonl"));
    let facts: Vec<_> = lines
        .iter()
        .map(|line| {
            let about = &line.description;
            (about.key.as_str(), about.step, about.content.kind())
        })
        .collect();
    let expected = [
        ("val/sample", 3, "image"),
        ("grad", 3, "histogram"),
        ("errors", 4, "table"),
        ("page", 4, "html"),
        ("sample", 5, "text"),
        ("sample", 5, "text"),
        ("notes.txt", 5, "file"),
    ];
    assert_eq!(facts, expected);
    let content = |at: usize| {
        let file = lines[at].description.file.as_ref().unwrap();
        let bytes = fs::read(run.join(&file.path)).unwrap();
        assert_eq!(bytes.len() as u64, file.size);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    assert_eq!(lines[0].description.caption.as_deref(), Some("of ***"));
    assert!(content(0).contains("PNG"));
    let (counts, edges) = (vec![1, 1], vec![0.1, 0.2, 0.3]);
    assert_eq!(lines[1].description.content, MediaContent::Histogram { counts, edges });
    assert_eq!(lines[1].description.file, None);
    assert_eq!(content(2), r#"{"columns":["id"],"data":[[1]]}"#);
    assert_eq!((content(3), content(4)), ("<b>***</b>".into(), "ünïcode, ***".into()));
    assert_eq!(content(6), "remember");
    assert_eq!(
        lines[4].description, lines[5].description,
        "equal content is there once"
    );
    assert_eq!(files(&run.join("media")).len(), 5);
}

#[test]
fn a_file_that_is_saved_at_the_start_begins_no_step() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let run = LogConfig {
        run: "here".into(),
        ..config("saved", folder.path())
    };
    fs::write(folder.path().join("train.toml"), "lr = 0.1").unwrap();
    let logger = setup_logging(run.clone()).unwrap();
    for step in 0..10 {
        logger.log_metrics_at(step, [("loss", step)]);
    }
    logger.finish();
    let logger = setup_logging(LogConfig {
        resume: Some("latest".into()),
        ..run
    })
    .unwrap();
    logger.save_file(folder.path().join("train.toml"));
    logger.start_from(5);
    logger.log_metrics([("loss", 0.5)]);
    let dir = logger.run_dir();
    logger.finish();
    let rows = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(rows.lines().last().unwrap()).unwrap();
    assert_eq!((&last["step"], &last["attempt"]), (&5.into(), &2.into()), "{rows}");
    let log = fs::read_to_string(dir.join("training.log")).unwrap_or_default();
    assert!(!log.contains("start_from"), "{log}");
}

#[test]
fn a_value_that_cannot_be_logged_costs_one_warning() {
    // A logger without a set-up has the config of any other that lives.
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config("warned", folder.path())).unwrap();
    logger.log_image("torn", Image::rgb(2, 2, [0; 11]), 1);
    logger.log_image("empty", Image::rgb(0, 0, []), 1);
    logger.log_histogram("odd", Histogram::from_counts([1], [0.0]), 1);
    logger.log_table("uneven", Table::new(["a"]).row([1, 2]), 1);
    logger.log_text("", "no key", 1);
    logger.log_text(&"k".repeat(2000), "a long key", 1);
    logger.log_image("wordy", Image::grey(1, 1, [0]).caption("x".repeat(2 << 20)), 1);
    logger.save_file(folder.path().join("missing"));
    logger.save_file(folder.path());
    fs::write(folder.path().join("kept"), "kept").unwrap();
    let warnings = warnings(&logger);
    let reasons = [
        "log_image of `torn` is left out: an image of 2 x 2 pixels of 3 bytes needs 12 bytes, and has 11",
        "log_image of `empty` is left out: an image of 0 x 0 has no pixel; use at least 1 x 1",
        "log_histogram of `odd` is left out: a histogram has 1 counts and 1 edges",
        "log_table of `uneven` is left out: row 0",
        "log_text of `` is left out: its key is empty",
        "is left out: its key has 2000 bytes; use at most 1024",
        "log_image of `wordy` is left out: its caption is too long",
        "missing` is left out: cannot read the file: ",
        "is left out: cannot read the file: ",
    ];
    assert_eq!(warnings.len(), reasons.len(), "{warnings:#?}");
    for (warning, reason) in warnings.iter().zip(reasons) {
        assert!(warning.contains(reason), "{warning} has no {reason}");
    }
    drop(logger.finish());
    assert!(!folder.path().join("media.jsonl").exists());

    // Before a set-up there is no run: the warning goes to stderr, and no file is made.
    let library = facade::get_logger("library_without_setup");
    library.log_text("sample", "text", 1);
    assert!(!Path::new("logs/media").exists());
}

#[test]
fn a_link_in_place_of_the_folder_is_not_followed() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("media")).unwrap();
    let logger = setup_logging(config("linked", folder.path())).unwrap();
    logger.log_text("sample", "text", 1);
    let warnings = warnings(&logger);
    assert!(
        warnings.len() == 1 && warnings[0].contains("cannot write the file"),
        "{warnings:?}"
    );
    drop(logger.finish());
    assert_eq!(files(elsewhere.path()), [""; 0].map(PathBuf::from));
}

#[test]
fn a_file_size_limit_costs_a_warning_and_not_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start("limited", folder.path(), &[]);
    assert!(child.wait().unwrap().success());
    let lines = index(&folder.path().join("media.jsonl"));
    let keys: Vec<_> = lines.iter().map(|line| line.description.key.as_str()).collect();
    assert_eq!(keys, ["short"]);
    assert_eq!(
        files(&folder.path().join("media")).len(),
        1,
        "no part of a file is left"
    );
    let log = fs::read_to_string(folder.path().join("training.log")).unwrap();
    assert_eq!(log.matches("is left out: cannot write the file: ").count(), 2, "{log}");
}

#[test]
fn each_rank_has_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start("ranked", folder.path(), &[("RANK", "1"), ("WORLD_SIZE", "2")]);
    assert!(child.wait().unwrap().success());
    assert!(!folder.path().join("media.jsonl").exists());
    assert_eq!(index(&folder.path().join("media.rank1.jsonl")).len(), 2);
}

/// The kill comes at any moment: while a file is written, between the file and the description in
/// the ring, before the writer has taken it.
#[test]
fn a_kill_loses_no_value_of_a_call_that_had_returned() {
    for returned in [1, 17, 60, 200] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start("killed", folder.path(), &[]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut logged = 0;
        for line in lines {
            if line.unwrap().contains("logged ") {
                logged += 1;
                if logged == returned {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let recovered = recover(folder.path());
        assert!(recovered.iter().all(Result::is_ok), "{recovered:?}");
        let lines = index(&folder.path().join("media.jsonl"));
        let distinct: BTreeSet<_> = lines
            .iter()
            .map(|line| (&line.description.key, line.description.step))
            .collect();
        assert_eq!(distinct.len(), lines.len(), "no line is there twice");
        for step in 0..logged {
            for key in ["grad", "grey"] {
                assert!(
                    distinct.contains(&(&key.to_owned(), step)),
                    "{key} of step {step} is lost"
                );
            }
        }
        for file in lines.iter().filter_map(|line| line.description.file.as_ref()) {
            assert_eq!(fs::metadata(folder.path().join(&file.path)).unwrap().len(), file.size);
        }
        let left: Vec<_> = files(&folder.path().join("media"))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "tmp"))
            .collect();
        assert_eq!(left, [""; 0].map(PathBuf::from), "the unfinished file is removed");
    }
}

/// The W&B run has the same file, and not a second one.
#[cfg(feature = "wandb")]
#[test]
fn a_wandb_run_links_to_the_file() {
    use std::os::unix::fs::MetadataExt as _;

    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        enable_wandb: true,
        sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
        ..config("media_of_wandb", folder.path())
    })
    .unwrap();
    logger.log_image("sample", Image::grey(1, 1, [7]), 3);
    logger.log_text("text", "<hello>", 3);
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "remember").unwrap();
    logger.save_file(&notes);
    let wandb = logger.wandb().folder().unwrap().join("files");
    let report = logger.finish();
    assert_eq!(report.sink("wandb").unwrap().dropped_total(), 0);
    let lines = index(&folder.path().join("media.jsonl"));
    let path = &lines[0].description.file.as_ref().unwrap().path;
    let (ours, theirs) = (folder.path().join(path), wandb.join(path));
    assert_eq!(fs::metadata(ours).unwrap().ino(), fs::metadata(theirs).unwrap().ino());
    let pages = files(&wandb.join("media/html"));
    assert!(fs::read_to_string(&pages[0]).unwrap().contains("&lt;hello>"));
    assert_eq!(fs::read_to_string(wandb.join("notes.txt")).unwrap(), "remember");
}
