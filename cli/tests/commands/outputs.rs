//! Files and pipes that commands write, up to a signal or a closed end.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::common::{command, error, logcore, text};
use crate::support::runs;

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
    assert!(error(&left).contains("is left alone"));
}

/// A ring may lie in such a folder.
#[cfg(unix)]
#[test]
fn repair_names_a_folder_that_it_cannot_look_into() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let folder = runs();
    let set_mode = |name: &str, mode| {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let repair = || {
        let mut repair = command(folder.path(), &["repair", "."]);
        if rustix::process::geteuid().is_root() {
            repair.uid(65534).gid(65534);
        }
        repair.output().unwrap()
    };
    set_mode("", 0o755);
    assert_eq!(text(&repair()), ".: there is nothing to do\n");
    set_mode("one", 0o311);
    let output = repair();
    set_mode("one", 0o755);
    let problem = error(&output);
    assert!(
        problem.contains("cannot look for lost lines in ./one: Permission denied"),
        "{problem}"
    );
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_no_part_of_an_output() {
    use std::os::unix::process::ExitStatusExt as _;

    use rustix::process::{Pid, Signal, kill_process};

    use crate::support::row;

    let folder = runs();
    // Long enough that no export is over when the signal comes.
    let rows: String = (0..400_000).map(|step| row(step, 0.5) + "\n").collect();
    fs::write(folder.path().join("one/metrics.jsonl"), rows).unwrap();
    let place = folder.path().join("out");
    for arguments in [
        &["export", "one", "--to", "csv", "-o", "out/rows.csv"][..],
        &["merge", "one", "--out", "out"],
    ] {
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        let names = || fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name());
        let mut child = command(folder.path(), arguments).spawn().unwrap();
        while names().next().is_none() {
            assert!(child.try_wait().unwrap().is_none(), "{arguments:?} has ended");
            std::thread::yield_now();
        }
        // SIGINT goes the same way, unless a shell has told the tests in the background to ignore
        // it.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{arguments:?}: {status}");
        assert_eq!(names().collect::<Vec<_>>(), [""; 0], "{arguments:?}");
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

#[test]
fn a_reader_that_closes_the_pipe_ends_the_program_without_an_error() {
    let folder = runs();
    let rows = (0..20_000).map(|step| format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"trainer\",\"loss\":1}}\n"));
    fs::write(folder.path().join("two/metrics.jsonl"), rows.collect::<String>()).unwrap();
    let mut child = command(folder.path(), &["export", "two", "--to", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
