//! `logcore prune`.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::common::{command, error, json, logcore, text};
use crate::support::{names, write_run};

/// Four old runs, of which `d` is the newest.
fn runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, state, started) in [
        ("a", "finished", 1000),
        ("b", "failed", 2000),
        ("c", "interrupted", 3000),
        ("d", "finished", 4000),
    ] {
        write_run(folder.path(), name, state, started);
    }
    folder
}

/// Returns the names of the runs that are there.
fn left(folder: &Path) -> String {
    let runs = names(folder).into_iter().filter(|name| !name.starts_with('.'));
    runs.collect::<Vec<_>>().join(" ")
}

fn reason<'a>(pruned: &'a Value, id: &str) -> &'a str {
    let kept = pruned["kept"].as_array().unwrap();
    let run = kept.iter().find(|run| run["id"] == id);
    run.and_then(|run| run["reason"].as_str())
        .unwrap_or_else(|| panic!("{id}: {pruned}"))
}

#[test]
fn the_newest_runs_stay() {
    let folder = runs();
    let listed = text(&logcore(folder.path(), &["prune", "--keep", "2", "--dry-run"]));
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[1].contains("failed") && lines[1].ends_with("./b"), "{listed}");
    assert!(
        lines[2].ends_with("./a") && lines[3].starts_with("2 runs to delete, "),
        "{listed}"
    );
    assert_eq!(left(folder.path()), "a b c d", "nothing is deleted");
    let pruned = json(folder.path(), &["prune", "--keep", "2", "--yes"]);
    assert_eq!(left(folder.path()), "c d");
    assert_eq!(pruned["pruned"][0]["id"], "b");
    assert_eq!(pruned["pruned"][0]["deleted"], true);
    assert_eq!(
        names(&folder.path().join(".logcore")),
        ["prune.lock"],
        "nothing is left aside"
    );
    let again = text(&logcore(folder.path(), &["prune", "--keep", "2", "--yes"]));
    assert_eq!(again, "there is nothing to delete\n");
}

#[test]
fn all_criteria_hold_for_a_run_that_is_deleted() {
    let folder = runs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    write_run(folder.path(), "young", "finished", now - 3600);
    text(&logcore(
        folder.path(),
        &[
            "prune",
            "--older-than",
            "1d",
            "--where",
            "state = finished",
            "--keep",
            "2",
            "-y",
        ],
    ));
    assert_eq!(left(folder.path()), "b c d young");
    text(&logcore(folder.path(), &["prune", "--older-than", "1d", "-y"]));
    assert_eq!(left(folder.path()), "young");
    text(&logcore(folder.path(), &["prune", ".", "--keep", "0", "-y"]));
    assert_eq!(left(folder.path()), "");
}

#[test]
fn conditions_on_times_choose_by_the_clock() {
    let folder = runs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    write_run(folder.path(), "young", "finished", now - 3600);
    let chosen = |condition: &str| {
        let pruned = json(folder.path(), &["prune", "--where", condition, "--dry-run"]);
        let runs = pruned["pruned"].as_array().unwrap().iter();
        let mut ids: Vec<_> = runs.map(|run| run["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids.join(" ")
    };
    assert_eq!(chosen("age > 30d"), "a b c d");
    assert_eq!(chosen("age <= 30d"), "young");
    assert_eq!(chosen("started < 2026-01-01"), "a b c d");
    assert_eq!(chosen("ended > 1970-01-01T00:50:05"), "d young");
    assert_eq!(chosen("ended >= 1970-01-01 00:50:05"), "c d young");
    assert_eq!(chosen("duration >= 5s"), "a b c d young");
    assert_eq!(chosen("last_step < 1000"), "a b c d young");
    for (condition, part) in [
        ("last_step > 1k", "cannot compare the column last_step with `1k`"),
        ("age > 3w", "such as 90s, 10m, 12h or 30d"),
        ("started < yesterday", "such as 2026-01-31"),
        ("state == finished", "Write ="),
        ("state !== finished", "Write !="),
    ] {
        let refused = logcore(folder.path(), &["prune", "--where", condition, "--yes"]);
        assert_eq!(refused.status.code(), Some(2), "{condition}");
        assert!(error(&refused).contains(part), "{}", error(&refused));
    }
    assert_eq!(left(folder.path()), "a b c d young");
}

#[test]
fn without_a_criterion_or_a_yes_nothing_is_deleted() {
    let folder = runs();
    for (arguments, part) in [
        (&["prune"][..], "Add --keep, --older-than or --where"),
        (&["prune", "--yes"], "Add --keep"),
        (&["prune", "--keep", "1"], "Add --yes"),
        (&["prune", "--keep", "1", "--json"], "Add --yes"),
        (&["prune", "--keep", "many", "-y"], "--keep"),
        (&["prune", "--older-than", "30", "-y"], "write 30s, 30m, 30h or 30d"),
        (&["prune", "--where", "colour = red", "-y"], "config.NAME"),
        (&["prune", "nowhere", "--keep", "0", "-y"], "nowhere"),
    ] {
        let mut command = command(folder.path(), arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error(&output).contains(part), "{arguments:?}: {}", error(&output));
    }
    assert_eq!(left(folder.path()), "a b c d");
}

#[test]
fn runs_that_go_on_or_are_not_ours_stay() {
    let folder = tempfile::tempdir().unwrap();
    let log_dir = folder.path();
    write_run(log_dir, "a", "finished", 1000);
    let begun = fs::File::create(write_run(log_dir, "begun", "finished", 1000).join(".lock")).unwrap();
    begun.lock().unwrap();
    let rank = fs::File::create(write_run(log_dir, "rank", "finished", 1000).join(".lock.rank3")).unwrap();
    rank.lock().unwrap();
    let elsewhere = write_run(log_dir, "elsewhere", "running", 1000).join("run.json");
    let manifest = fs::read_to_string(&elsewhere).unwrap();
    fs::write(&elsewhere, manifest.replace("\"host\":\"", "\"host\":\"not-")).unwrap();
    let just_ended = write_run(log_dir, "just_ended", "running", 1000).join("run.json");
    fs::write(
        just_ended,
        manifest
            .replace("\"host\":\"", "\"host\":\"not-")
            .replace("running", "finished"),
    )
    .unwrap();
    write_run(log_dir, "future", "paused", 1000);
    fs::write(write_run(log_dir, "ended", "finished", 0).join("training.log"), "").unwrap();
    fs::create_dir(log_dir.join("checkpoints")).unwrap();
    fs::write(log_dir.join("checkpoints/model.pt"), "").unwrap();
    fs::create_dir(log_dir.join("other")).unwrap();
    fs::write(log_dir.join("other/run.json"), "{\"state\":\"finished\"}").unwrap();
    let before = left(log_dir);
    // The log_dir is a run itself: one that is `flat`.
    write_run(log_dir, ".", "finished", 500);
    let pruned = json(log_dir, &["prune", "--keep", "0", "--yes"]);
    for (id, expected) in [
        ("begun", "running"),
        ("rank", "running"),
        ("elsewhere", "running"),
        ("future", "unknown"),
        ("ended", "unknown"),
        ("", "unknown"),
    ] {
        assert_eq!(reason(&pruned, id), expected, "{id}");
    }
    let mut stays: Vec<_> = before.split(' ').filter(|name| *name != "a").collect();
    stays.extend(["metrics.jsonl", "run.json", "training.log"]);
    stays.sort_unstable();
    assert_eq!(left(log_dir), stays.join(" "));
    drop((begun, rank));
    text(&logcore(log_dir, &["prune", "--keep", "0", "--yes"]));
    assert!(
        !log_dir.join("begun").exists() && !log_dir.join("rank").exists(),
        "their processes have ended"
    );
}

#[test]
fn runs_that_others_need_stay() {
    let folder = runs();
    let log_dir = folder.path();
    fs::write(log_dir.join("a/model.pt"), "weights").unwrap();
    fs::write(log_dir.join("b/.logcore-12-0123abcd.ring"), "calls").unwrap();
    let wandb = log_dir.join("c/wandb/offline-run-20260101_000000-c");
    fs::create_dir_all(wandb.join("files/media/images")).unwrap();
    fs::write(wandb.join("run-c.wandb"), "log").unwrap();
    fs::write(wandb.join("run-c.wandb.upload"), "{\"complete\":false}").unwrap();
    fs::write(wandb.join("files/media/images/a.png"), "image").unwrap();
    let pruned = json(log_dir, &["prune", "--keep", "0", "--yes"]);
    assert_eq!(
        ["a", "b", "c"].map(|id| reason(&pruned, id)),
        ["foreign", "unrecovered", "unsent"]
    );
    assert_eq!(left(log_dir), "a b c");
    assert!(!log_dir.join("a/.lock").exists() || fs::read(log_dir.join("a/model.pt")).unwrap() == b"weights");
    let shown = text(&logcore(log_dir, &["prune", "--keep", "0", "--dry-run", "--unsent"]));
    assert!(
        shown.contains("model.pt") && shown.contains("logcore repair"),
        "{shown}"
    );
    text(&logcore(log_dir, &["prune", "--keep", "0", "--yes", "--unsent"]));
    assert_eq!(left(log_dir), "a b");
    let sent = write_run(log_dir, "sent", "finished", 1000).join("wandb/run-20260101_000000-s");
    fs::create_dir_all(&sent).unwrap();
    fs::write(sent.join("run-s.wandb"), "log").unwrap();
    fs::write(sent.join("run-s.wandb.upload"), "{\"complete\":true}").unwrap();
    text(&logcore(log_dir, &["prune", "--keep", "0", "--yes"]));
    assert_eq!(left(log_dir), "a b");
}

#[test]
fn one_process_deletes_at_a_time() {
    let folder = runs();
    fs::create_dir(folder.path().join(".logcore")).unwrap();
    let lock = fs::File::create(folder.path().join(".logcore/prune.lock")).unwrap();
    lock.lock().unwrap();
    let refused = logcore(folder.path(), &["prune", "--keep", "0", "--yes"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(error(&refused).contains("another process"), "{}", error(&refused));
    assert_eq!(left(folder.path()), "a b c d");
    drop(lock);
    text(&logcore(folder.path(), &["prune", "--keep", "0", "--yes"]));
    assert_eq!(left(folder.path()), "");
}

#[test]
fn a_deletion_that_was_killed_is_completed() {
    let folder = runs();
    let aside = folder.path().join(".logcore/pruned/0123456789abcdef");
    fs::create_dir_all(aside.parent().unwrap()).unwrap();
    fs::rename(folder.path().join("a"), &aside).unwrap();
    let precious = folder.path().join(".logcore/pruned/precious");
    fs::create_dir(&precious).unwrap();
    let listed = text(&logcore(folder.path(), &["prune", "--keep", "9", "--dry-run"]));
    assert!(listed.contains("1 run of an earlier prune"), "{listed}");
    fs::write(aside.join("model.pt"), "weights").unwrap();
    let stopped = logcore(folder.path(), &["prune", "--keep", "9", "--yes"]);
    assert_eq!(stopped.status.code(), Some(2));
    assert!(error(&stopped).contains("model.pt"), "{}", error(&stopped));
    assert!(aside.join("model.pt").exists(), "it is no file of logcore");
    fs::remove_file(aside.join("model.pt")).unwrap();
    text(&logcore(folder.path(), &["prune", "--keep", "9", "--yes"]));
    assert!(!aside.exists() && precious.exists());
    assert_eq!(left(folder.path()), "b c d");
}

#[cfg(unix)]
mod unix {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn links_are_removed_and_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let precious = outside.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        write_run(outside.path(), "elsewhere", "finished", 1000);
        let folder = runs();
        let log_dir = folder.path();
        symlink(outside.path().join("elsewhere"), log_dir.join("link")).unwrap();
        fs::remove_file(log_dir.join("a/training.log")).unwrap();
        symlink(&precious, log_dir.join("a/training.log")).unwrap();
        let files = log_dir.join("b/wandb/run-20260101_000000-b/files");
        fs::create_dir_all(&files).unwrap();
        symlink(outside.path(), files.join("folder")).unwrap();
        symlink("run-20260101_000000-b", log_dir.join("b/wandb/latest-run")).unwrap();
        symlink(outside.path(), log_dir.join("c/wandb")).unwrap();
        fs::remove_file(log_dir.join("d/run.json")).unwrap();
        symlink(log_dir.join("b/run.json"), log_dir.join("d/run.json")).unwrap();
        let pruned = logcore(log_dir, &["prune", "--keep", "0", "--yes"]);
        assert!(error(&pruned).contains("d/run.json"), "{}", error(&pruned));
        assert_eq!(left(log_dir), "c d link");
        assert_eq!(names(outside.path()), ["elsewhere", "precious"]);
        assert_eq!(names(&outside.path().join("elsewhere")).len(), 4);
        assert_eq!(fs::read(precious).unwrap(), b"precious");
    }

    #[test]
    fn nothing_is_moved_through_a_link() {
        let outside = tempfile::tempdir().unwrap();
        let folder = runs();
        symlink(outside.path(), folder.path().join(".logcore")).unwrap();
        let pruned = logcore(folder.path(), &["prune", "--keep", "3", "--yes"]);
        assert_eq!(pruned.status.code(), Some(2));
        assert_eq!(left(folder.path()), "a b c d");
        assert_eq!(names(outside.path()), [""; 0]);
    }

    #[test]
    fn pipes_and_other_things_are_not_ours() {
        let folder = runs();
        fs::remove_file(folder.path().join("a/run.json")).unwrap();
        for pipe in ["a/run.json", "b/training.log.1"] {
            let path = folder.path().join(pipe);
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }
        let pruned = json(folder.path(), &["prune", "--keep", "0", "--yes"]);
        assert_eq!(reason(&pruned, "b"), "foreign");
        assert_eq!(left(folder.path()), "a b");
    }

    #[test]
    fn names_of_runs_cannot_control_the_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let dir = write_run(folder.path(), "a\u{1b}[2J<script>", "finished", 1000);
        fs::write(dir.join("\u{1b}]0;x\u{7}"), "").unwrap();
        let listed = text(&logcore(folder.path(), &["prune", "--keep", "0", "--dry-run"]));
        assert!(!listed.contains('\u{1b}') && listed.contains("\\x1b"), "{listed}");
    }

    #[test]
    fn latest_leads_to_the_newest_run_that_is_left() {
        let folder = runs();
        let log_dir = folder.path();
        let latest = || fs::read_link(log_dir.join("latest")).ok();
        symlink("d", log_dir.join("latest")).unwrap();
        for name in ["training.log", "metrics.jsonl", "eval.txt"] {
            symlink(Path::new("latest").join(name), log_dir.join(name)).unwrap();
        }
        symlink("elsewhere", log_dir.join("summary.json")).unwrap();
        // The text file of a second logger, which its link and its first line tell.
        fs::write(
            log_dir.join("d/eval.txt"),
            "2026-11-23 14:48:15.123 | INFO  | eval | text\n",
        )
        .unwrap();
        text(&logcore(log_dir, &["prune", "--where", "id = d", "--yes"]));
        assert_eq!(latest(), Some(PathBuf::from("c")));
        assert_eq!(fs::read_to_string(log_dir.join("training.log")).unwrap(), "line\n");
        text(&logcore(log_dir, &["prune", "--where", "id = a", "--yes"]));
        assert_eq!(latest(), Some(PathBuf::from("c")));
        text(&logcore(log_dir, &["prune", "--keep", "0", "--yes"]));
        assert_eq!(left(log_dir), "summary.json", "links to nothing are gone");
    }

    /// A link that a user has made as logcore makes one does not make a checkpoint a file of
    /// logcore.
    #[test]
    fn what_a_link_of_the_user_names_stays() {
        let folder = runs();
        let log_dir = folder.path();
        symlink("d", log_dir.join("latest")).unwrap();
        for name in ["checkpoint", "notes.txt", "best.log"] {
            symlink(Path::new("latest").join(name), log_dir.join(name)).unwrap();
        }
        for (run, file) in [
            ("a", "checkpoint"),
            ("b", "checkpoint.1"),
            ("c", "notes.txt"),
            ("d", "best.rank3.log.1"),
        ] {
            fs::write(log_dir.join(run).join(file), "precious").unwrap();
        }
        let pruned = json(log_dir, &["prune", "--keep", "0", "--yes"]);
        assert_eq!(
            ["a", "b", "c", "d"].map(|id| reason(&pruned, id)),
            ["foreign"; 4],
            "{pruned}"
        );
        assert_eq!(left(log_dir), "a b best.log c checkpoint d latest notes.txt");
        for run in ["a", "b", "c", "d"] {
            fs::remove_dir_all(log_dir.join(run)).unwrap();
        }
        write_run(log_dir, "e", "finished", 5000);
        fs::remove_file(log_dir.join("latest")).unwrap();
        symlink("e", log_dir.join("latest")).unwrap();
        text(&logcore(log_dir, &["prune", "--keep", "0", "--yes"]));
        assert!(log_dir.join("checkpoint").is_symlink(), "the link is the user's");
    }

    #[test]
    fn a_terminal_is_asked() {
        let folder = runs();
        let answer = |answer: &str| {
            // `script` gives the program a terminal.
            let mut child = Command::new("script")
                .args([
                    "-qec",
                    &format!("{} prune --keep 3", env!("CARGO_BIN_EXE_logcore")),
                    "/dev/null",
                ])
                .current_dir(folder.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            writeln!(stdin, "{answer}").unwrap();
            let mut shown = String::new();
            child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
            drop(stdin);
            assert!(child.wait().unwrap().success(), "{shown}");
            assert!(shown.contains("Delete them? [y/N]"), "{shown}");
        };
        answer("");
        assert_eq!(left(folder.path()), "a b c d");
        answer("y");
        assert_eq!(left(folder.path()), "b c d");
    }

    #[cfg(feature = "sync")]
    #[test]
    fn every_file_that_a_run_leaves_is_ours() {
        testkit::own_process!();
        let folder = tempfile::tempdir().unwrap();
        let options = |name: &str| match name {
            "wandb" => serde_json::json!({"mode": "offline"}),
            _ => serde_json::json!({"records": true}),
        };
        for (attempt, resume) in [(1, None), (2, Some("x"))] {
            let logger = facade::setup_logging(facade::LogConfig {
                name: "trainer".into(),
                log_dir: folder.path().into(),
                filename: "text.txt".into(),
                run: "x".into(),
                resume: resume.map(str::to_owned),
                enable_console: false,
                enable_wandb: true,
                finish_summary: false,
                sinks: ["wandb", "jsonl"].map(|name| (name.to_owned(), options(name))).into(),
                ..facade::LogConfig::default()
            })
            .unwrap();
            assert_eq!(logger.run().attempt(), attempt);
            logger.info("a line");
            logger.log_metrics([("loss", 0.5)]);
            logger.log_config(&serde_json::json!({"lr": 0.1}));
            logger.finish();
        }
        text(&logcore(folder.path(), &["merge", "x"]));
        let before = names(&folder.path().join("x"));
        assert!(
            before.contains(&"records.jsonl".to_owned()) && before.contains(&"wandb".to_owned()),
            "{before:?}"
        );
        let kept = json(folder.path(), &["prune", "--keep", "0", "--yes"]);
        assert_eq!(reason(&kept, kept["kept"][0]["id"].as_str().unwrap()), "unsent");
        text(&logcore(folder.path(), &["prune", "--keep", "0", "--yes", "--unsent"]));
        assert_eq!(left(folder.path()), "", "{before:?}");
    }

    /// Of a process that resumes a run and one that deletes the run, one wins, and a run that was
    /// resumed is whole.
    #[test]
    fn a_run_that_is_resumed_meanwhile_is_whole() {
        testkit::own_process!();
        let folder = tempfile::tempdir().unwrap();
        let log_dir = folder.path();
        let begin = |resume: Option<&str>| {
            facade::setup_logging(facade::LogConfig {
                name: "trainer".into(),
                log_dir: log_dir.into(),
                run: "x".into(),
                resume: resume.map(str::to_owned),
                enable_console: false,
                finish_summary: false,
                ..facade::LogConfig::default()
            })
        };
        let has_ended = AtomicBool::new(false);
        let deletions = std::thread::scope(|scope| {
            let deleter = scope.spawn(|| {
                let mut deletions = 0;
                while !has_ended.load(Ordering::Relaxed) {
                    let pruned = json(log_dir, &["prune", "--keep", "0", "--yes"]);
                    let runs = pruned["pruned"].as_array().unwrap();
                    deletions += runs.iter().filter(|run| run["deleted"] == true).count();
                }
                deletions
            });
            let mut begun = 0;
            for _ in 0..300 {
                let logger = match begin(Some("x")) {
                    Ok(logger) => logger,
                    // The run is deleted.
                    Err(error) if !log_dir.join("x").exists() => {
                        assert!(error.to_string().contains("resume"), "{error}");
                        begun += 1;
                        begin(None).unwrap()
                    }
                    Err(error) => panic!("{error}"),
                };
                let attempt = logger.run().attempt();
                logger.info(format!("attempt {attempt}."));
                logger.flush().unwrap();
                let text = fs::read_to_string(log_dir.join("x/training.log")).unwrap();
                for earlier in 1..=attempt {
                    assert!(text.contains(&format!("attempt {earlier}.")), "{text}");
                }
                logger.finish();
            }
            has_ended.store(true, Ordering::Relaxed);
            assert!(begun > 1, "the run was deleted and begun again");
            deleter.join().unwrap()
        });
        assert!(deletions > 0);
        assert_eq!(
            names(&log_dir.join(".logcore")),
            ["prune.lock", "rings"],
            "no deletion is left incomplete"
        );
    }
}
