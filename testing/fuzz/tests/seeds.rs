//! Every target takes what it begins with, in the program that takes an input again.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus};

use fuzz::TARGETS;

fn run(target: &str, files: &[&Path]) -> ExitStatus {
    let (folder, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = File::options()
        .create_new(true)
        .append(true)
        .open(output.path().join("output"))
        .unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .arg(target)
        .args(files)
        .current_dir(folder.path())
        .stdout(output)
        .status()
        .unwrap();
    if status.success() {
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{target} leaves something"
        );
    }
    status
}

#[test]
fn every_target_takes_its_seeds_and_leaves_nothing() {
    for target in TARGETS {
        assert!(run(target.name, &[]).success(), "{}", target.name);
    }
}

#[test]
fn an_input_that_breaks_a_promise_is_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let [harmless, crash] = ["harmless", "crash"].map(|name| folder.path().join(name));
    fs::write(&harmless, b"LOG\x01a").unwrap();
    fs::write(&crash, b"LOG\xff").unwrap();
    assert!(run("planted-panic", &[&harmless]).success());
    assert!(!run("planted-panic", &[&harmless, &crash]).success());
}
