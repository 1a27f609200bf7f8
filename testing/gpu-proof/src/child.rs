//! Runs programs that may never end.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use facade::logcore::sync::lock;

/// The output of a program, and its end.
pub(crate) struct ChildOutput {
    pub(crate) stdout: String,
    /// Exit code; `None` if a signal or the deadline has ended the program.
    pub(crate) code: Option<i32>,
    /// The end as text.
    pub(crate) end: String,
}

const POLL: Duration = Duration::from_millis(20);

/// Runs a program until `deadline` at most. Its errors go to the terminal.
///
/// A program that hangs in the driver does not die of a kill, so nobody waits for it: what it has
/// printed by then is its output.
///
/// # Errors
///
/// If the program cannot be started.
pub(crate) fn run(command: &mut Command, deadline: Instant) -> Result<ChildOutput> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut stdout = child.stdout.take().context("the program has no standard output")?;
    let printed = Arc::new(Mutex::new(Vec::new()));
    let of_reader = Arc::clone(&printed);
    let reader = Builder::new().name("output".to_owned()).spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            lock(&of_reader).extend_from_slice(&buffer[..length]);
        }
    })?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            let _ = reader.join();
            break Some(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            break None;
        }
        thread::sleep(POLL);
    };
    let stdout = String::from_utf8_lossy(&lock(&printed)).into_owned();
    Ok(ChildOutput {
        stdout,
        code: status.and_then(|status| status.code()),
        end: status.map_or_else(|| "it did not end in time".to_owned(), |status| status.to_string()),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn output_and_code_come_back() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let output = run(&mut shell("echo out; exit 3"), deadline).unwrap();
        assert_eq!((output.stdout.as_str(), output.code), ("out\n", Some(3)));
        assert!(output.end.contains('3'), "{}", output.end);
    }

    #[test]
    fn hanging_program_is_given_up_and_its_output_is_kept() {
        let after = |millis| {
            let deadline = Instant::now() + Duration::from_millis(millis);
            run(&mut shell("echo out; exec sleep 600"), deadline).unwrap()
        };
        // A busy machine takes its time to start the program.
        let outputs = [50, 500, 5_000, 50_000].into_iter().map(after);
        let output = outputs.into_iter().find(|output| !output.stdout.is_empty()).unwrap();
        assert_eq!((output.stdout.as_str(), output.code), ("out\n", None));
        assert_eq!(output.end, "it did not end in time");
    }

    #[test]
    fn missing_program_is_an_error() {
        let error = run(&mut Command::new("/nowhere/gpu-proof"), Instant::now())
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "cannot start /nowhere/gpu-proof");
    }
}
