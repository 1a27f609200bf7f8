//! Processes that append to one file, and limits that the system sets a process.
#![cfg(target_os = "linux")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use logcore_appender::{Appender, Rotation};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PROCESSES: usize = 6;
const LINES: usize = 3000;
const LIMIT: u64 = 20_000;

/// Returns a command that runs this program again, for a part of one of the tests below.
fn part(name: &str, folder: &Path, number: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]);
    command
        .env("PART_FOLDER", folder)
        .env("PART_NUMBER", number.to_string());
    command.stdout(Stdio::null());
    command
}

/// Returns the folder and the number from [`part`]; `None` in the test itself.
fn part_arguments() -> Option<(PathBuf, usize)> {
    let folder = std::env::var_os("PART_FOLDER")?;
    let number = std::env::var("PART_NUMBER").ok()?.parse().ok()?;
    Some((folder.into(), number))
}

fn files(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

fn write_lines(path: &Path, rotation: Rotation, number: usize) {
    let mut appender = Appender::open(path, rotation).unwrap();
    for at in 0..LINES {
        appender.append(
            format!("process {number} line {at:05} {}\n", "y".repeat(80)).as_bytes(),
            1,
        );
        if at % 7 == number {
            appender.deliver_now().unwrap();
        }
    }
    appender.finish().unwrap();
    assert_eq!(appender.books().delivered, LINES as u64);
}

fn assert_all_there(folder: &Path) {
    let all = files(folder).concat();
    let lines: HashSet<&str> = all.lines().collect();
    assert_eq!(
        (all.lines().count(), lines.len()),
        (PROCESSES * LINES, PROCESSES * LINES)
    );
    assert!(lines.iter().all(|line| line.len() == 101), "one is torn");
}

#[test]
fn rotations_of_several_processes_lose_no_line() {
    let rotation = Rotation {
        max_bytes: Some(LIMIT),
        keep: 1000,
        ..Rotation::default()
    };
    if let Some((folder, number)) = part_arguments() {
        return write_lines(&folder.join("training.log"), rotation, number);
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "rotations_of_several_processes_lose_no_line";
    let parts = (0..PROCESSES).map(|number| part(name, folder.path(), number).spawn().unwrap());
    for mut part in parts.collect::<Vec<_>>() {
        assert!(part.wait().unwrap().success());
    }
    assert_all_there(folder.path());
    // On a busy machine a process may continue in the old file for a while.
    let all = (PROCESSES * LINES * 102) as u64;
    let count = files(folder.path()).len() as u64;
    assert!(count > all / LIMIT / 2, "only {count} files");
}

#[test]
fn several_processes_rotate_once_at_midnight() {
    let rotation = Rotation {
        daily: true,
        keep: 3,
        ..Rotation::default()
    };
    if let Some((folder, number)) = part_arguments() {
        return write_lines(&folder.join("training.log"), rotation, number);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    fs::write(&path, "yesterday\n").unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(yesterday)
        .unwrap();
    let parts = (0..PROCESSES).map(|number| {
        part("several_processes_rotate_once_at_midnight", folder.path(), number)
            .spawn()
            .unwrap()
    });
    for mut part in parts.collect::<Vec<_>>() {
        assert!(part.wait().unwrap().success());
    }
    assert_eq!(
        fs::read_to_string(folder.path().join("training.log.1")).unwrap(),
        "yesterday\n"
    );
    fs::remove_file(folder.path().join("training.log.1")).unwrap();
    assert_all_there(folder.path());
}

/// Runs a test again in a process of its own, which a limit does not outlive.
fn run_alone(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    // Without this, SIGXFSZ would end the process.
    let test = part(name, folder.path(), 0);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell.arg(test.get_program()).args(test.get_args());
    shell.envs(test.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn limit(resource: Resource, current: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    setrlimit(resource, Rlimit { current, maximum }).unwrap();
}

#[test]
fn a_record_that_reaches_the_file_size_limit_is_completed_later() {
    let Some((folder, _)) = part_arguments() else {
        return run_alone("a_record_that_reaches_the_file_size_limit_is_completed_later");
    };
    let path = folder.join("training.log");
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    let mut expected = String::new();
    for room in 0..40 {
        let there = fs::metadata(&path).unwrap().len();
        limit(Resource::Fsize, Some(there + room));
        let line = format!("a line of {room} and {}\n", "more ".repeat(10));
        expected += &line;
        appender.append(line.as_bytes(), 1);
        for _ in 0..3 {
            assert!(appender.deliver_now().is_err());
        }
        limit(Resource::Fsize, None);
        appender.deliver_now().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}

#[test]
fn a_rotation_without_free_descriptors_continues_in_the_old_file() {
    let Some((folder, _)) = part_arguments() else {
        return run_alone("a_rotation_without_free_descriptors_continues_in_the_old_file");
    };
    let path = folder.join("training.log");
    let rotation = Rotation {
        max_bytes: Some(20),
        keep: 100,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    limit(Resource::Nofile, Some(0));
    for number in 0..9 {
        appender.append(format!("line {number}\n").as_bytes(), 1);
        appender.deliver_now().unwrap();
    }
    limit(Resource::Nofile, Some(1024));
    let expected: String = (0..9).map(|number| format!("line {number}\n")).collect();
    assert_eq!(files(&folder).concat(), expected);
    assert!(path.exists());
}
