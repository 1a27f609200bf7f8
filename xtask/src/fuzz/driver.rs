//! The instrumented program, and one run of it.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cargo;

/// What makes the compiler count which edges of the program's graph are taken, and tell what is compared with what. These are
/// flags of LLVM, which a stable compiler passes on.
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
/// More memory than this, in MB, is held by no input.
const MOST_RESIDENT: u64 = 512;
/// And more than this, in KB, is not given to the program: what is asked for in one piece is found at once. The threads of a logger
/// reserve some.
const MOST_RESERVED: u64 = 4 << 20;

pub(super) struct Driver {
    program: PathBuf,
    seed: u32,
}

/// How a run ended.
pub(super) struct Outcome {
    inputs: String,
    last: String,
    pub(super) found: Option<Found>,
}

/// An input that broke a promise.
pub(super) struct Found {
    pub(super) what: String,
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
            // With a target, programs that only the build runs are left as they are.
            "--target",
            host.context("cargo does not say what it runs on")?,
            // In a folder of its own: other flags would build everything anew, again and again.
            "--target-dir",
            "target/fuzz",
            "--config",
            &format!("build.rustflags=[{}]", flags.join(",")),
        ])?;
        Ok(Self { program, seed })
    }

    /// Gives a target inputs for `seconds`, or until one breaks a promise. One that takes more than `patience` seconds hangs.
    pub(super) fn run(&self, (target, longest): &(&str, u32), seconds: u64, patience: u64) -> Result<Outcome> {
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
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let mut outcome = Outcome::read(&said);
        if !status.success() {
            let input = said
                .lines()
                .rev()
                .find_map(|line| line.split_once("Test unit written to "));
            outcome.found = Some(Found {
                what: what_was_said(&said).unwrap_or_else(|| status.to_string()),
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

impl Outcome {
    /// libFuzzer says where it stands in lines such as `#4096 pulse cov: 12 ft: 13 corp: 3/9b … exec/s: 2048 rss: 30Mb`.
    fn read(said: &str) -> Self {
        let mut lines = said
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

    /// A row of the table.
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

/// The panic, or what libFuzzer calls it.
fn what_was_said(said: &str) -> Option<String> {
    let mut lines = said.lines();
    if let Some(place) = lines.by_ref().find(|line| line.contains("panicked at")) {
        return Some(format!("{place} {}", lines.next().unwrap_or_default()));
    }
    let summary = said.lines().find_map(|line| line.strip_prefix("SUMMARY: "));
    summary.map(str::to_owned)
}

/// Where a target works.
pub(super) struct Work(PathBuf);

impl Work {
    pub(super) fn path(&self) -> PathBuf {
        self.0.join("folder")
    }

    /// Its standard output.
    pub(super) fn output(&self) -> io::Result<File> {
        // Appended to, so that a target may empty it.
        File::options().create(true).append(true).open(self.0.join("output"))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder in memory, where there is some. It has the same name in each run of this checkout, so that inputs in which paths stand
/// can be taken again; each target has one, so two runs at once are one too many.
pub(super) fn work_folder(target: &str) -> Result<Work> {
    let memory = Some(Path::new("/dev/shm")).filter(|memory| memory.is_dir());
    let parent = memory.map_or_else(std::env::temp_dir, Path::to_owned);
    let mut checkout = DefaultHasher::new();
    cargo::root().hash(&mut checkout);
    let work = Work(
        parent
            .join(format!("logcore-fuzz-{:016x}", checkout.finish()))
            .join(target),
    );
    // What a run that was killed has left.
    let _ = fs::remove_dir_all(&work.0);
    fs::create_dir_all(work.path())?;
    Ok(work)
}
