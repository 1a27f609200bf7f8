//! Runs a chain of processes in one folder, kills each, and looks at what they leave.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::check::{self, Dead};
use super::findings::Findings;
use super::plan::{Death, Life, Signal, Step};
use super::receipts::{Receipts, Returned, What};

/// What became of one process of a chain.
pub(crate) struct Fate {
    pub(crate) kind: String,
    pub(crate) lines: u64,
    pub(crate) values: u64,
    /// Calls that others have recovered of it.
    pub(crate) recovered: u64,
}

/// A chain that has come to its end.
pub(crate) struct Chain {
    folder: PathBuf,
    pub(crate) dead: Vec<Dead>,
    kinds: Vec<String>,
    /// Processes that recovered and were killed at it.
    pub(crate) killed_recoveries: u64,
    pids: Vec<u32>,
    processes: u64,
    trouble: Vec<String>,
}

/// A process that reaches nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A point that is not passed within this time after the start of the work is not waited for.
const POINT_PATIENCE: Duration = Duration::from_millis(150);

impl Chain {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("log")).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            dead: Vec::new(),
            kinds: Vec::new(),
            killed_recoveries: 0,
            pids: Vec::new(),
            processes: 0,
            trouble: Vec::new(),
        })
    }

    /// The log directory.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A process lives and is killed, and those that recover it.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        self.live(&step.life, &step.death)?;
        for death in &step.recoveries {
            let mut child = self.start_recovery(Some(death))?;
            let status = match death {
                Death::Ready(delay) | Death::Started(delay) => {
                    sleep(Duration::from_micros(*delay));
                    kill(&mut child)?
                }
                Death::Point(..) | Death::Signal(..) => wait_or_kill(&mut child, "a recovery hangs")?,
            };
            self.killed_recoveries += u64::from(was_killed(status));
            if !was_killed(status) && !status.success() {
                self.trouble.push(format!("a recovery ended with {status}"));
            }
        }
        Ok(())
    }

    /// A process lives and is killed.
    pub(crate) fn live(&mut self, life: &Life, death: &Death) -> Result<()> {
        Receipts::create(&life.receipts)?;
        let mut child = self.start(&["live", &serde_json::to_string(life)?], Some(death))?;
        let mut kind = death.kind();
        let status = match death {
            Death::Started(delay) => {
                sleep(Duration::from_micros(*delay));
                kill(&mut child)?
            }
            Death::Ready(delay) => {
                self.await_ready(life, &mut child)?;
                sleep(Duration::from_micros(*delay));
                kill(&mut child)?
            }
            Death::Signal(delay, signal) => {
                self.await_ready(life, &mut child)?;
                sleep(Duration::from_micros(*delay));
                send(&mut child, *signal)?;
                match signal.killed_after {
                    Some(pause) => {
                        sleep(Duration::from_micros(pause));
                        kill(&mut child)?
                    }
                    None => wait_or_kill(&mut child, &format!("it outlives {}", signal.name))?,
                }
            }
            Death::Point(..) => {
                self.await_ready(life, &mut child)?;
                match wait(&mut child, POINT_PATIENCE)? {
                    Some(status) => status,
                    None => {
                        "past its point".clone_into(&mut kind);
                        kill(&mut child)?
                    }
                }
            }
        };
        if !was_killed(status) {
            self.trouble
                .push(format!("g{} ended by itself: {status}", life.generation));
        }
        self.dead.push(Dead {
            life: life.clone(),
            returned: Returned::read(&life.receipts)?,
        });
        self.kinds.push(kind);
        Ok(())
    }

    /// Delivers what is left, and again, which has to change nothing.
    pub(crate) fn recover(&mut self) -> Result<()> {
        for _ in 0..2 {
            let mut child = self.start_recovery(None)?;
            let status = wait_or_kill(&mut child, "the last recovery hangs")?;
            if !status.success() {
                self.trouble.push(format!("the last recovery ended with {status}"));
            }
        }
        Ok(())
    }

    /// Looks at all that is there.
    pub(crate) fn check(&self) -> Result<Findings> {
        let mut findings = check::check(&self.log(), &self.dead)?;
        for trouble in &self.trouble {
            findings.other(trouble.clone());
        }
        for number in 0..self.processes {
            for line in fs::read_to_string(self.stderr(number))?.lines() {
                if recovered(line).is_none() && !is_of_an_end(line) {
                    findings.other(format!("process {number} said {line:?}"));
                }
            }
        }
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = |pid: &u32| name.starts_with(&format!(".logcore-{pid}-"));
            if self.pids.iter().any(ours) {
                findings.other(format!("/dev/shm/{name} is left"));
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(findings)
    }

    /// What became of each process.
    pub(crate) fn fates(&self) -> Result<Vec<Fate>> {
        let mut fates: Vec<Fate> = self
            .dead
            .iter()
            .zip(&self.kinds)
            .map(|(dead, kind)| Fate {
                kind: kind.clone(),
                lines: dead.returned.total(What::Lines),
                values: dead.returned.total(What::Values),
                recovered: 0,
            })
            .collect();
        for number in 0..self.processes {
            for line in fs::read_to_string(self.stderr(number))?.lines() {
                if let Some((calls, Some(generation))) = recovered(line)
                    && let Some(fate) = fates.get_mut(generation)
                {
                    fate.recovered += calls;
                }
            }
        }
        Ok(fates)
    }

    fn start_recovery(&mut self, death: Option<&Death>) -> Result<Child> {
        let log = self.log();
        let log = log.to_str().context("a folder whose name is no text")?;
        self.start(&["recover", log], death)
    }

    fn start(&mut self, arguments: &[&str], death: Option<&Death>) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("torture-child").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(self.stderr(self.processes))?);
        if let Some(Death::Point(name, times)) = death {
            command.env("KILL_POINT", format!("{name}:{times}"));
        }
        self.processes += 1;
        let child = command.spawn().context("start a process")?;
        self.pids.push(child.id());
        Ok(child)
    }

    /// Where a process says what it has to say.
    fn stderr(&self, number: u64) -> PathBuf {
        self.folder.join(format!("stderr-{number}"))
    }

    /// Until the process has its logger, or is gone.
    fn await_ready(&self, life: &Life, child: &mut Child) -> Result<()> {
        let since = Instant::now();
        while !Returned::read(&life.receipts)?.was_ready() && child.try_wait()?.is_none() {
            if since.elapsed() > PATIENCE {
                kill(child)?;
                bail!("g{} is not ready after a minute", life.generation);
            }
            sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// Whether a process says this line when a signal gives it the time.
fn is_of_an_end(line: &str) -> bool {
    line.starts_with("logcore: W&B: ") || (line.contains("sink `wandb` of logger") && line.contains("only on disk"))
}

/// The calls and the generation that a line speaks of: `logcore: recovered 37 calls of run `g3`, killed at step 5`.
fn recovered(line: &str) -> Option<(u64, Option<usize>)> {
    let rest = line.strip_prefix("logcore: recovered ")?;
    // Whatever could not be done is said behind a semicolon.
    if rest.contains(';') {
        return None;
    }
    let calls = rest.split(' ').next()?.parse().ok()?;
    let generation = rest
        .split('`')
        .nth(1)
        .and_then(|name| name.strip_prefix('g')?.parse().ok());
    Some((calls, generation))
}

/// A process that is gone by then was killed by something else, which is found.
fn send(child: &mut Child, signal: Signal) -> Result<()> {
    let id = child.id().to_string();
    // The language's own handler lets the first one pass, as it is of no fault; two that come at once are one.
    let passes = matches!(signal.name, "SIGSEGV" | "SIGBUS");
    let since = Instant::now();
    loop {
        Command::new("kill")
            .args([&format!("-{}", signal.number), &id])
            .stderr(Stdio::null())
            .status()?;
        sleep(Duration::from_millis(1));
        if !passes || child.try_wait()?.is_some() || since.elapsed() > PATIENCE {
            return Ok(());
        }
    }
}

fn kill(child: &mut Child) -> Result<ExitStatus> {
    child.kill()?;
    Ok(child.wait()?)
}

fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let since = Instant::now();
    while since.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(Duration::from_micros(500));
    }
    Ok(None)
}

/// Nothing goes on after the rig has failed: a process that says `trouble` by not ending fills the disk.
fn wait_or_kill(child: &mut Child, trouble: &str) -> Result<ExitStatus> {
    match wait(child, PATIENCE)? {
        Some(status) => Ok(status),
        None => {
            kill(child)?;
            bail!("{trouble}");
        }
    }
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    matches!(status.signal(), Some(1 | 2 | 3 | 6 | 7 | 9 | 11 | 15))
}
