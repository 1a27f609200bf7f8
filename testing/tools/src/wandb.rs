//! Delivers W&B runs that are only on disk to their server.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use facade::logcore::escape::to_one_line;
use facade::wandb::{SyncOptions, Synced, find_logs, sync};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((task, rest)) if task == "sync" => sync_all(rest),
        _ => bail!("wandb has one task: `sync DIR…`"),
    }
}

/// Delivers all runs in the folders; fails if one of them is not complete on the server.
fn sync_all(arguments: &[String]) -> Result<()> {
    let (options, folders) = parse(arguments)?;
    let mut logs: Vec<PathBuf> = folders.iter().flat_map(|folder| find_logs(folder)).collect();
    logs.sort();
    logs.dedup();
    ensure!(!logs.is_empty(), "there is no W&B run in {}", list(&folders));
    let mut failed = 0;
    for log in &logs {
        let shown = log.parent().unwrap_or(log).display().to_string();
        let name = to_one_line(&shown);
        let mut bar = ReadingBar::new(&name);
        let report = sync(log, &options, |read, size| bar.draw(read, size));
        bar.clear();
        match report {
            Ok(report) => {
                let what = match report.outcome {
                    Synced::Delivered => "delivered",
                    Synced::Killed => "delivered, and marked as failed: its process was killed",
                    Synced::AlreadyThere => "was there already",
                    _ => "done",
                };
                let url = report.url.map(|url| format!(": {url}")).unwrap_or_default();
                println!("{}", to_one_line(&format!("{shown}: {what}{url}")));
            }
            Err(error) => {
                failed += 1;
                println!("{}", to_one_line(&format!("{shown}: {error}")));
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} runs were not delivered", logs.len());
    Ok(())
}

fn parse(arguments: &[String]) -> Result<(SyncOptions, Vec<PathBuf>)> {
    let mut options = SyncOptions::default();
    let mut folders = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--url" => {
                let url = arguments.next().context("--url needs an address")?;
                options.options.insert("base_url".to_owned(), url.as_str().into());
            }
            "--retry-limit" => {
                let seconds = arguments.next().context("--retry-limit needs seconds")?;
                let seconds = seconds
                    .parse()
                    .with_context(|| format!("`{seconds}` is not a number of seconds"))?;
                options.retry_limit = Some(Duration::from_secs(seconds));
            }
            flag if flag.starts_with("--") => {
                bail!("unknown flag `{flag}`: sync takes --url URL, --retry-limit SECONDS and folders")
            }
            folder => {
                ensure!(Path::new(folder).exists(), "{folder} does not exist");
                folders.push(PathBuf::from(folder));
            }
        }
    }
    ensure!(!folders.is_empty(), "name the folder of a run, or one with runs in it");
    Ok((options, folders))
}

fn list(folders: &[PathBuf]) -> String {
    let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    to_one_line(&shown.join(", ")).into_owned()
}

/// Shows on a terminal how much of a log is read.
struct ReadingBar<'a> {
    name: &'a str,
    shown: bool,
    percent: u64,
}

impl<'a> ReadingBar<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            shown: false,
            percent: u64::MAX,
        }
    }

    fn draw(&mut self, read: u64, size: u64) {
        let percent = (read * 100).checked_div(size).unwrap_or(100).min(100);
        if percent == self.percent || !io::stdout().is_terminal() {
            return;
        }
        (self.percent, self.shown) = (percent, true);
        let done = "█".repeat(percent as usize / 4);
        print!("\r{}: {percent:>3}% |{done:<25}|", self.name);
        let _ = io::stdout().flush();
    }

    fn clear(&self) {
        if self.shown {
            print!("\r\x1b[2K");
        }
    }
}
