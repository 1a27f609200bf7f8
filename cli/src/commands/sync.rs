//! `logcore sync`: delivers W&B runs that are only on disk.

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
    use std::time::Duration;

    use anyhow::ensure;
    use facade::wandb::{SyncOptions, Synced, find_logs, sync};
    use logcore::escape::to_one_line;
    use serde_json::{Value, json};

    let mut options = SyncOptions::default();
    if let Some(url) = &arguments.url {
        options.options.insert("base_url".to_owned(), url.as_str().into());
    }
    options.retry_limit = arguments.retry_limit.map(Duration::from_secs).or(options.retry_limit);
    let mut logs: Vec<PathBuf> = folders.iter().flat_map(|folder| find_logs(folder)).collect();
    logs.sort();
    logs.dedup();
    let names: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
    ensure!(
        !logs.is_empty(),
        "cannot sync {}: there is no W&B run. Name a folder that holds one",
        to_one_line(&names.join(", "))
    );
    let mut outcome = Outcome::Done;
    let mut synced: Vec<Value> = Vec::new();
    for log in &logs {
        let folder = log.parent().unwrap_or(log).to_string_lossy();
        let shown = to_one_line(&folder);
        let mut bar = ReadingBar::new(&shown);
        let report = sync(log, &options, |read, size| bar.draw(read, size));
        bar.clear();
        match report {
            Ok(report) => {
                let (name, text) = match report.outcome {
                    Synced::Delivered => ("delivered", "delivered"),
                    Synced::Killed => ("killed", "delivered, and marked as failed: its process was killed"),
                    Synced::AlreadyThere => ("already_there", "was there already"),
                    _ => ("done", "done"),
                };
                let url = report.url.as_ref().map(|url| format!(": {}", to_one_line(url)));
                output.line(format!("{shown}: {text}{}", url.unwrap_or_default()));
                synced.push(json!({"folder": folder, "outcome": name, "url": report.url}));
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
