//! `logcore sync`: delivers runs that are only on disk.

use std::path::PathBuf;

use anyhow::Result;

use crate::arguments::SyncArguments;
use crate::output::{Outcome, Output};

#[cfg(not(feature = "sync"))]
pub(super) fn run(_: &SyncArguments, _: &[PathBuf], _: &mut Output) -> Result<Outcome> {
    anyhow::bail!("cannot sync: this program was built without the feature `sync`. Install it with that feature")
}

/// Delivers all runs in the folders. Something is left undone if one of them is not complete on the
/// server.
#[cfg(feature = "sync")]
pub(super) fn run(arguments: &SyncArguments, folders: &[PathBuf], output: &mut Output) -> Result<Outcome> {
    use anyhow::ensure;
    use logcore::escape::to_one_line;
    use serde_json::{Value, json};

    let target = Target::new(arguments);
    let runs = target.find_runs(folders);
    let names: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
    ensure!(
        !runs.is_empty(),
        "cannot sync {}: there is no {}. Name a folder that holds one",
        to_one_line(&names.join(", ")),
        target.run_noun()
    );
    let mut outcome = Outcome::Done;
    let mut synced: Vec<Value> = Vec::new();
    for run in &runs {
        let folder = target.folder_of(run).to_string_lossy();
        let shown = to_one_line(&folder);
        let mut bar = ReadingBar::new(&shown);
        let delivered = target.deliver(run, &mut bar);
        bar.clear();
        match delivered {
            Ok(Delivered { outcome, text, url }) => {
                let shown_url = url.as_ref().map(|url| format!(": {}", to_one_line(url)));
                output.line(format!("{shown}: {text}{}", shown_url.unwrap_or_default()));
                synced.push(json!({"folder": folder, "outcome": outcome, "url": url}));
            }
            Err(error) => {
                outcome = Outcome::LeftUndone;
                output.problem(Some(&folder), &format!("{shown}: {error}"));
            }
        }
    }
    output.member("synced", synced.into());
    Ok(outcome)
}

#[cfg(feature = "sync")]
use self::target::{Delivered, Target};

#[cfg(feature = "sync")]
mod target {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use facade::{mlflow, wandb};

    use super::ReadingBar;
    use crate::arguments::{SyncArguments, SyncTarget};

    /// The kind of server that the runs go to, with the options of a delivery.
    pub(super) enum Target {
        Wandb(wandb::SyncOptions),
        Mlflow(mlflow::SyncOptions),
    }

    /// The end of a delivery, by its name in JSON and as a text.
    pub(super) struct Delivered {
        pub(super) outcome: &'static str,
        pub(super) text: &'static str,
        pub(super) url: Option<String>,
    }

    impl Target {
        pub(super) fn new(arguments: &SyncArguments) -> Self {
            let retry_limit = arguments.retry_limit.map(Duration::from_secs);
            match arguments.to {
                SyncTarget::Wandb => {
                    let mut options = wandb::SyncOptions::default();
                    let url = arguments.url.as_deref();
                    options
                        .options
                        .extend(url.map(|url| ("base_url".to_owned(), url.into())));
                    options.retry_limit = retry_limit;
                    Self::Wandb(options)
                }
                SyncTarget::Mlflow => {
                    let mut options = mlflow::SyncOptions::default();
                    let url = arguments.url.as_deref();
                    options.options.extend(url.map(|url| ("uri".to_owned(), url.into())));
                    options.retry_limit = retry_limit;
                    Self::Mlflow(options)
                }
            }
        }

        /// Returns the runs in the folders: W&B logs, or folders with rows.
        pub(super) fn find_runs(&self, folders: &[PathBuf]) -> Vec<PathBuf> {
            let find = match self {
                Self::Wandb(_) => wandb::find_logs,
                Self::Mlflow(_) => mlflow::find_runs,
            };
            let mut runs: Vec<PathBuf> = folders.iter().flat_map(|folder| find(folder)).collect();
            runs.sort();
            runs.dedup();
            runs
        }

        /// Returns a noun for what [`find_runs`](Self::find_runs) finds.
        pub(super) fn run_noun(&self) -> &'static str {
            match self {
                Self::Wandb(_) => "W&B run",
                Self::Mlflow(_) => "run with `metrics.jsonl`",
            }
        }

        /// Returns the folder of a run.
        pub(super) fn folder_of<'a>(&self, run: &'a Path) -> &'a Path {
            match self {
                Self::Wandb(_) => run.parent().unwrap_or(run),
                Self::Mlflow(_) => run,
            }
        }

        pub(super) fn deliver(&self, run: &Path, bar: &mut ReadingBar<'_>) -> anyhow::Result<Delivered> {
            const DELIVERED: (&str, &str) = ("delivered", "delivered");
            const ALREADY_THERE: (&str, &str) = ("already_there", "was there already");
            let ((outcome, text), url) = match self {
                Self::Wandb(options) => {
                    let report = wandb::sync(run, options, |read, size| bar.draw(read, size))?;
                    let outcome = match report.outcome {
                        wandb::Synced::Delivered => DELIVERED,
                        wandb::Synced::Killed => ("killed", "delivered, and marked as failed: its process was killed"),
                        wandb::Synced::AlreadyThere => ALREADY_THERE,
                        _ => ("done", "done"),
                    };
                    (outcome, report.url)
                }
                Self::Mlflow(options) => {
                    let report = mlflow::sync(run, options, |read, size| bar.draw(read, size))?;
                    let outcome = match report.outcome {
                        mlflow::Synced::Delivered => DELIVERED,
                        mlflow::Synced::Killed => ("killed", "delivered, and marked as killed"),
                        mlflow::Synced::AlreadyThere => ALREADY_THERE,
                        _ => ("done", "done"),
                    };
                    (outcome, report.url)
                }
            };
            Ok(Delivered { outcome, text, url })
        }
    }
}

/// Shows on a terminal how much of a log is read.
#[cfg(feature = "sync")]
struct ReadingBar<'a> {
    name: &'a str,
    is_shown: bool,
    percent: u64,
}

#[cfg(feature = "sync")]
impl<'a> ReadingBar<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            is_shown: false,
            percent: u64::MAX,
        }
    }

    fn draw(&mut self, read: u64, size: u64) {
        use std::io::{self, IsTerminal as _, Write as _};

        let percent = (read * 100).checked_div(size).unwrap_or(100).min(100);
        if percent == self.percent || !io::stderr().is_terminal() {
            return;
        }
        (self.percent, self.is_shown) = (percent, true);
        let done = "█".repeat(percent as usize / 4);
        let _ = write!(io::stderr(), "\r{}: {percent:>3}% |{done:<25}|", self.name);
    }

    fn clear(&self) {
        use std::io::Write as _;

        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
