//! The instrumented program, and one run of it.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cargo;

/// Flags for coverage: the program counts the edges of its graph that it takes, and reports the
/// operands of comparisons. A stable compiler passes these flags to LLVM.
const INSTRUMENTED: [&str; 8] = [
    "--cfg=fuzzing",
    "--cfg=instrumented",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Otherwise each unit registers its counters twice.
    "-Ccodegen-units=1",
];
/// Limit of resident memory in MB.
const MOST_RESIDENT: u64 = 512;
/// Limit of virtual memory in KB, at which one huge allocation fails at once. The threads of a
/// logger reserve some.
const MOST_RESERVED: u64 = 4 << 20;

pub(super) struct Driver {
    program: PathBuf,
    seed: u32,
}

/// The outcome of a run.
pub(super) struct FuzzOutcome {
    inputs: String,
    last: String,
    pub(super) found: Option<FailingInput>,
}

/// An input that a target fails on.
pub(super) struct FailingInput {
    pub(super) cause: String,
    pub(super) input: PathBuf,
    pub(super) log: PathBuf,
}

impl Driver {
    pub(super) fn build(seed: u32) -> Result<Self> {
        let version = cargo::output(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let flags: Vec<_> = INSTRUMENTED.iter().map(|flag| format!("\"{flag}\"")).collect();
        let program = cargo::build(&[
            "build",
            "--quiet",
            "-p",
            "fuzz",
            "--profile",
            "fuzz",
            // With a target, build scripts and macros are not instrumented.
            "--target",
            host.context("cargo does not report its host")?,
            // A target folder of its own, because other flags would rebuild everything each time.
            "--target-dir",
            "target/fuzz",
            "--config",
            &format!("build.rustflags=[{}]", flags.join(",")),
        ])?;
        Ok(Self { program, seed })
    }

    /// Gives a target inputs for `seconds`, or until it fails on one. An input that takes longer
    /// than `patience` seconds hangs.
    pub(super) fn run(&self, (target, longest): &(&str, u32), seconds: u64, patience: u64) -> Result<FuzzOutcome> {
        let root = cargo::root().join("target/fuzz");
        let [corpus, found, logs] = ["corpus", "found", "log"].map(|folder| root.join(folder));
        let corpus = corpus.join(target);
        for folder in [&corpus, &found, &logs] {
            fs::create_dir_all(folder)?;
        }
        let log = logs.join(format!("{target}.txt"));
        let work = work_folder(target)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {MOST_RESERVED} && exec \"$0\" \"$@\"")])
            .arg(&self.program)
            .arg(&corpus)
            .arg(format!("-seed={}", self.seed))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={longest}"))
            .arg(format!("-timeout={patience}"))
            .arg(format!("-rss_limit_mb={MOST_RESIDENT}"))
            .arg(format!("-artifact_prefix={}/{target}-", found.display()))
            .arg(format!(
                "-dict={}",
                cargo::root().join("testing/fuzz/words.dict").display()
            ))
            .env("FUZZ_TARGET", target)
            .env("FUZZ_SEEDS", &corpus)
            .env("RUST_BACKTRACE", "0")
            .current_dir(work.path())
            .stdout(work.output()?)
            .stderr(File::create(&log)?);
        let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
        let printed = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let mut outcome = FuzzOutcome::read(&printed);
        if !status.success() {
            let input = printed
                .lines()
                .rev()
                .find_map(|line| line.split_once("Test unit written to "));
            outcome.found = Some(FailingInput {
                cause: cause_of(&printed).unwrap_or_else(|| status.to_string()),
                input: input
                    .with_context(|| format!("{target} ended without an input: {status}; see {}", log.display()))?
                    .1
                    .into(),
                log,
            });
        }
        Ok(outcome)
    }
}

impl FuzzOutcome {
    /// Parses the last line about the progress; libFuzzer prints lines such as `#4096 pulse cov: 12
    /// ft: 13 corp: 3/9b … exec/s: 2048 rss: 30Mb`.
    fn read(printed: &str) -> Self {
        let mut lines = printed
            .lines()
            .filter(|line| line.starts_with('#') && line.contains("corp: "));
        let last = lines.next_back().unwrap_or_default();
        Self {
            inputs: last
                .trim_start_matches('#')
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
            last: last.to_owned(),
            found: None,
        }
    }

    /// Returns a row of the table.
    pub(super) fn row(&self, target: &str) -> String {
        let after = |name: &str| {
            let mut words = self.last.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).unwrap_or_default()
        };
        let corpus = after("corp:").split('/').next().unwrap_or_default();
        let memory = after("rss:").trim_end_matches("Mb");
        let found = if self.found.is_some() { "**found**" } else { "" };
        format!(
            "| {target} | {} | {} | {} | {corpus} | {memory} | {found} |",
            self.inputs,
            after("exec/s:"),
            after("cov:"),
        )
    }
}

/// Returns the message of the panic, or the summary of libFuzzer.
fn cause_of(printed: &str) -> Option<String> {
    let mut lines = printed.lines();
    if let Some(place) = lines.by_ref().find(|line| line.contains("panicked at")) {
        return Some(format!("{place} {}", lines.next().unwrap_or_default()));
    }
    let summary = printed.lines().find_map(|line| line.strip_prefix("SUMMARY: "));
    summary.map(str::to_owned)
}

/// The working folder of a target, which is removed in the end.
pub(super) struct WorkFolder(PathBuf);

impl WorkFolder {
    pub(super) fn path(&self) -> PathBuf {
        self.0.join("folder")
    }

    /// Opens the file for the standard output of the target.
    pub(super) fn output(&self) -> io::Result<File> {
        // In the mode for appending, so that a target may empty the file.
        File::options().create(true).append(true).open(self.0.join("output"))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Creates the working folder of a target, in memory if possible. Each run of this checkout gives
/// it the same name, so that inputs with paths can be replayed; two runs at once would share it.
pub(super) fn work_folder(target: &str) -> Result<WorkFolder> {
    let memory = Some(Path::new("/dev/shm")).filter(|memory| memory.is_dir());
    let parent = memory.map_or_else(std::env::temp_dir, Path::to_owned);
    let mut checkout = DefaultHasher::new();
    cargo::root().hash(&mut checkout);
    let work = WorkFolder(
        parent
            .join(format!("logcore-fuzz-{:016x}", checkout.finish()))
            .join(target),
    );
    // A killed run has left its folder.
    let _ = fs::remove_dir_all(&work.0);
    fs::create_dir_all(work.path())?;
    Ok(work)
}
