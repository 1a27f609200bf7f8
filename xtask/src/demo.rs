//! The walkthrough: a few steps, each with one sentence of explanation.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cargo;

/// Bits per byte that the loss must fall below.
const BOUND: f64 = 4.0;
const BOUND_FAST: f64 = 5.0;
/// The programs that the demo runs.
const PROGRAMS: [&str; 5] = ["train", "quick_start", "custom_sink", "resume", "logcore"];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = DemoOptions::parse(arguments)?;
    if options.out.exists() {
        fs::remove_dir_all(&options.out).with_context(|| format!("clean {}", options.out.display()))?;
    }
    println!("Building the examples and the program ...");
    let demo = Demo {
        programs: options.build_examples()?,
        stage: Stage::new(),
        options,
    };
    let quick = demo.show_smallest_program()?;
    let (training, wall) = demo.train()?;
    demo.show_files(&training)?;
    demo.show_wandb_run(&training)?;
    let custom = demo.show_custom_sink()?;
    let resumed = demo.kill_and_resume()?;
    let report = demo.show_program(&training, &resumed)?;
    demo.measure(&training, wall)?;
    println!("\nThe files are in");
    for folder in [&quick, &training, &custom, &resumed] {
        println!("  {}", folder.display());
    }
    println!("Open the report in a browser:\n  {}", report.display());
    Ok(())
}

/// The steps of the walkthrough. Each that runs an example returns the folder of its files.
struct Demo {
    options: DemoOptions,
    programs: ExamplePrograms,
    stage: Stage,
}

impl Demo {
    fn show_smallest_program(&self) -> Result<PathBuf> {
        self.stage.title(
            "1. The smallest program",
            "One logger takes text, progress, metrics and memory.",
        );
        let quick = self.options.out.join("quick_start");
        self.programs.run("quick_start", &[quick.to_string_lossy().as_ref()])?;
        Ok(quick)
    }

    /// Also returns the time that the training took.
    fn train(&self) -> Result<(PathBuf, Duration)> {
        self.stage.title(
            "2. A real training",
            "A small language model learns this workspace's own source, byte by byte.",
        );
        let training = self.options.out.join("train");
        let log_dir = training.to_string_lossy().into_owned();
        let mut arguments = vec!["--wandb", &*self.options.wandb, "--log-dir", &*log_dir];
        if self.options.fast {
            arguments.push("--fast");
        }
        let start = Instant::now();
        self.programs.run("train", &arguments)?;
        Ok((training, start.elapsed()))
    }

    fn show_files(&self, training: &Path) -> Result<()> {
        self.stage.title("3. Its files", "Plain files, which any tool opens.");
        for (name, lines) in [("training.log", 4), ("metrics.jsonl", 2), ("config.json", 6)] {
            show_head(&training.join(name), lines)?;
        }
        Ok(())
    }

    fn show_wandb_run(&self, training: &Path) -> Result<()> {
        self.stage.title(
            "4. Its Weights & Biases run",
            match self.options.wandb.as_str() {
                "offline" => "It is on disk in the official format; `logcore sync DIR` delivers it.",
                _ => "It was on the server as it went; a copy is on disk.",
            },
        );
        show_wandb(training)
    }

    fn show_custom_sink(&self) -> Result<PathBuf> {
        self.stage.title(
            "5. A sink of one's own",
            "The crate `tally-sink` is switched on by a config file; nothing else knows of it.",
        );
        let custom = self.options.out.join("custom_sink");
        self.programs.run("custom_sink", &[custom.to_string_lossy().as_ref()])?;
        show_head(&custom.join("latest/tally.json"), 12)?;
        Ok(custom)
    }

    fn kill_and_resume(&self) -> Result<PathBuf> {
        self.stage.title(
            "6. Two runs, a kill and a resume",
            "The first run ends, the second is killed at step 37. The same command goes on behind its checkpoint of step \
             30.",
        );
        let resumed = self.options.out.join("resume");
        let folder = &*resumed.to_string_lossy();
        self.programs.run("resume", &[folder])?;
        ensure!(
            self.programs.run("resume", &[folder, "37"]).is_err(),
            "the second run was not killed"
        );
        self.programs.run("resume", &[folder])?;
        show_attempts(&resumed)?;
        Ok(resumed)
    }

    /// Returns the path of the page.
    fn show_program(&self, training: &Path, resumed: &Path) -> Result<PathBuf> {
        self.stage.title(
            "7. The program `logcore`",
            "It lists runs, draws their curves, and writes them as a page for any browser.",
        );
        let report = self.options.out.join("report.html");
        let (log_dir, page) = (&*training.to_string_lossy(), &*report.to_string_lossy());
        self.programs.run("logcore", &["ls", &resumed.to_string_lossy()])?;
        self.programs
            .run("logcore", &["plot", "latest", "loss", "--log-dir", log_dir])?;
        self.programs
            .run("logcore", &["report", "latest", "--log-dir", log_dir, "-o", page])?;
        Ok(report)
    }

    /// Fails if something promised is missing in the files of the training.
    fn measure(&self, training: &Path, wall: Duration) -> Result<()> {
        let run = TrainingRun::read(training)?;
        run.check(if self.options.fast { BOUND_FAST } else { BOUND })?;
        self.stage.title("Measurements", "Read back from metrics.jsonl.");
        run.table(wall);
        Ok(())
    }
}

struct DemoOptions {
    fast: bool,
    /// `true` for programs of the profile `dev`, which the tests build, too.
    dev: bool,
    /// The address of a W&B server, or `offline`.
    wandb: String,
    out: PathBuf,
}

impl DemoOptions {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            fast: false,
            dev: false,
            wandb: "offline".to_owned(),
            out: cargo::root().join("outputs/demo"),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--fast" => options.fast = true,
                "--dev" => options.dev = true,
                "--wandb" => options.wandb = arguments.next().context("--wandb needs an address")?.clone(),
                "--out" => options.out = arguments.next().context("--out needs a folder")?.into(),
                other => bail!("unknown argument `{other}`: the demo takes --fast, --dev, --wandb URL and --out DIR"),
            }
        }
        Ok(options)
    }

    /// Builds the examples and returns their folder.
    fn build_examples(&self) -> Result<ExamplePrograms> {
        // The profile `dev` is for CI, with the selection of the tests, which have built the
        // programs already.
        let selection = match self.dev {
            true => &cargo::EVERYTHING[..],
            false => &[
                "--profile",
                "demo",
                "--package",
                "examples",
                "--package",
                "logcore-cli",
                "--no-default-features",
            ],
        };
        let programs = PROGRAMS.iter().flat_map(|program| ["--bin", program]);
        let selection: Vec<_> = selection.iter().copied().chain(programs).collect();
        let program = cargo::build(&[&["build", "--quiet"], &selection[..]].concat())?;
        Ok(ExamplePrograms(program.parent().unwrap_or(&program).to_owned()))
    }
}

/// Writes titles, in bold on a terminal.
struct Stage {
    bold: bool,
}

impl Stage {
    fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            bold: wanted && io::stdout().is_terminal(),
        }
    }

    fn title(&self, title: &str, sentence: &str) {
        let (on, off) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{on}{title}{off}\n{sentence}\n");
    }
}

/// The folder of the built examples, and of the program `logcore`.
struct ExamplePrograms(PathBuf);

impl ExamplePrograms {
    /// Runs an example, which prints on the terminal.
    fn run(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let program = self.0.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        cargo::run_command(Command::new(program).args(arguments).current_dir(cargo::root()))
    }
}

fn show_head(path: &Path, lines: usize) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    println!("{}", path.display());
    for line in text.lines().take(lines) {
        let shown: String = line.chars().take(110).collect();
        println!("  {shown}{}", if shown.len() < line.len() { "…" } else { "" });
    }
    if text.lines().count() > lines {
        println!("  …");
    }
    Ok(())
}

/// Lists the files of the newest W&B run.
fn show_wandb(log_dir: &Path) -> Result<()> {
    let runs = log_dir.join("latest/wandb");
    let entries = fs::read_dir(&runs).with_context(|| format!("read {}", runs.display()))?;
    let mut folders: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    // The names hold the time of the start; `latest-run` is a link.
    folders.retain(|folder| folder.is_dir() && !folder.is_symlink());
    folders.sort();
    let folder = folders
        .last()
        .with_context(|| format!("there is no W&B run in {}", runs.display()))?;
    println!("{}", folder.display());
    let mut names: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
    names.sort_by_key(|entry| entry.file_name());
    for entry in names {
        let (name, about) = (entry.file_name(), entry.metadata()?);
        let name = name.to_string_lossy();
        match about.is_dir() {
            true => println!("  {name}/"),
            false => println!("  {name:<40} {:>9} bytes", about.len()),
        }
    }
    Ok(())
}

/// Shows the attempts of each run in a folder; fails unless one run was killed and went on.
fn show_attempts(log_dir: &Path) -> Result<()> {
    let mut attempts_of_runs = Vec::new();
    for entry in fs::read_dir(log_dir).with_context(|| format!("read {}", log_dir.display()))? {
        let entry = entry?;
        // Links such as `latest` lead to the same folders.
        if !entry.file_type()?.is_dir() || entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path().join("run.json");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let manifest: Value = serde_json::from_str(&text)?;
        let attempts = manifest["attempts"].as_array().context("run.json has no attempts")?;
        println!("{}", entry.path().display());
        for (number, attempt) in (1..).zip(attempts) {
            println!(
                "  attempt {number}: {}, first step {}, last step {}",
                attempt["state"].as_str().unwrap_or("?"),
                attempt["first_step"]["resume"].as_u64().unwrap_or(1),
                attempt["last_step"]
            );
        }
        attempts_of_runs.push(attempts.len());
    }
    attempts_of_runs.sort_unstable();
    ensure!(
        attempts_of_runs == [1, 2],
        "the runs have {attempts_of_runs:?} attempts instead of 1 and 2"
    );
    Ok(())
}

/// The files of the training.
struct TrainingRun {
    rows: Vec<Value>,
    log: String,
    config: Value,
}

impl TrainingRun {
    fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let rows = read("metrics.jsonl")?
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("metrics.jsonl: {line}")))
            .collect::<Result<_>>()?;
        Ok(Self {
            rows,
            log: read("training.log")?,
            config: serde_json::from_str(&read("config.json")?)?,
        })
    }

    /// Returns the values of a column by step; rows of the same step count as one.
    fn column(&self, name: &str) -> BTreeMap<u64, f64> {
        self.rows
            .iter()
            .filter_map(|row| Some((row["step"].as_u64()?, row.get(name)?.as_f64()?)))
            .collect()
    }

    /// Fails if something promised is missing in the files.
    fn check(&self, bound: f64) -> Result<()> {
        let loss = self.column("metrics/loss");
        let (first, last) = (loss.keys().next(), loss.keys().next_back());
        let (Some(first), Some(last)) = (first, last) else {
            bail!("metrics.jsonl has no loss")
        };
        ensure!(
            loss.len() as u64 == last - first + 1,
            "{} rows for the steps {first} to {last}",
            loss.len()
        );
        let newest: Vec<f64> = loss.values().rev().take(50).copied().collect();
        let mean = newest.iter().sum::<f64>() / newest.len() as f64;
        ensure!(
            mean < bound,
            "the loss came to {mean:.2} bits per byte; {bound} was promised"
        );
        for column in [
            "metrics/accuracy",
            "metrics/learning_rate",
            "metrics/val/loss",
            "throughput/samples_per_sec",
        ] {
            ensure!(!self.column(column).is_empty(), "metrics.jsonl has no {column}");
        }
        ensure!(
            self.config["config"].as_object().is_some_and(|all| !all.is_empty()),
            "config.json has no hyper-parameters"
        );
        ensure!(self.log.contains(" | INFO  | "), "training.log has no lines");
        ensure!(!self.log.contains('\x1b'), "training.log has color codes");
        Ok(())
    }

    fn table(&self, wall: Duration) {
        println!(
            "{:<32} {:>10} {:>10} {:>10} {:>10} {:>7}",
            "", "first", "last", "least", "greatest", "values"
        );
        for name in [
            "metrics/loss",
            "metrics/accuracy",
            "metrics/val/loss",
            "metrics/learning_rate",
            "throughput/samples_per_sec",
            "throughput/batch_time_ms",
            "system/proc.memory.rssMB",
            "memory/gpu_allocated_gb",
        ] {
            let column = self.column(name);
            let (Some(first), Some(last)) = (column.values().next(), column.values().next_back()) else {
                continue;
            };
            let least = column.values().copied().fold(f64::INFINITY, f64::min);
            let greatest = column.values().copied().fold(f64::NEG_INFINITY, f64::max);
            let shown = [*first, *last, least, greatest].map(short);
            println!(
                "{name:<32} {:>10} {:>10} {:>10} {:>10} {:>7}",
                shown[0],
                shown[1],
                shown[2],
                shown[3],
                column.len()
            );
        }
        let steps = self.column("metrics/loss").len();
        println!("{steps} steps in {:.1} s", wall.as_secs_f64());
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..0.01 => format!("{value:.2e}"),
        ..100.0 => format!("{value:.3}"),
        _ => format!("{value:.0}"),
    }
}
