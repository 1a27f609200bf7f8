//! A chain of processes in one folder: runs them, kills each, and checks the files that they leave.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::check::{self, KilledProcess};
use crate::findings::Findings;
use crate::manifests;
use crate::plan::{ChainStep, KillPlan, ProcessPlan, SentSignal};
use crate::receipts::{CallKind, CallReceipts, ReturnedCalls};
use crate::resumed;
use crate::stage::{Life, Stage};

/// The outcome of one process of a chain.
pub(crate) struct ProcessOutcome {
    pub(crate) kind: String,
    pub(crate) lines: u64,
    pub(crate) values: u64,
    /// Number of calls that later processes have recovered from its ring.
    pub(crate) recovered: u64,
}

/// The processes that were killed in one folder.
pub(crate) struct KillChain {
    folder: PathBuf,
    pub(crate) dead: Vec<KilledProcess>,
    kinds: Vec<String>,
    /// Number of processes that were killed while they recovered.
    pub(crate) killed_recoveries: u64,
    pids: Vec<u32>,
    processes: u64,
    trouble: Vec<String>,
    stage: Arc<Stage>,
}

/// A process that makes no progress for this time hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait, from the start of the work, for a process to pass its point.
const POINT_PATIENCE: Duration = Duration::from_millis(150);

impl KillChain {
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
            stage: Arc::default(),
        })
    }

    /// The log directory.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn stage(&self) -> Arc<Stage> {
        Arc::clone(&self.stage)
    }

    /// Runs and kills a process, then the processes that recover its ring.
    pub(crate) fn step(&mut self, step: &ChainStep) -> Result<()> {
        let mut life = step.life.clone();
        if let Some(run) = life.run.resumed() {
            life.first_step = resumed::next_to_log(run, &self.dead, step.repeated);
        }
        self.live(&life, &step.death)?;
        for death in &step.recoveries {
            let mut child = self.start_recovery(Some(death))?;
            let status = match death {
                KillPlan::Ready(delay) | KillPlan::Started(delay) => {
                    sleep(Duration::from_micros(*delay));
                    kill(&mut child)?
                }
                KillPlan::Point(..) | KillPlan::Signal(..) => wait_or_kill(&mut child, "a recovery hangs")?,
            };
            self.killed_recoveries += u64::from(was_killed(status));
            if !was_killed(status) && !status.success() {
                self.trouble.push(format!("a recovery ended with {status}"));
            }
        }
        Ok(())
    }

    /// Runs and kills a process.
    pub(crate) fn live(&mut self, life: &ProcessPlan, death: &KillPlan) -> Result<()> {
        CallReceipts::create(&life.receipts)?;
        self.stage.set(Life::Changing);
        let mut child = self.start(&["live", &serde_json::to_string(life)?], Some(death))?;
        let mut kind = death.kind();
        let status = match death {
            KillPlan::Started(delay) => {
                sleep(Duration::from_micros(*delay));
                kill(&mut child)?
            }
            KillPlan::Ready(delay) => {
                self.await_ready(life, &mut child)?;
                self.expect_live(&mut child)?;
                self.stage.set_ready(child.id());
                sleep(Duration::from_micros(*delay));
                self.stage.set(Life::Changing);
                kill(&mut child)?
            }
            KillPlan::Signal(delay, signal) => {
                self.await_ready(life, &mut child)?;
                self.stage.set_ready(child.id());
                sleep(Duration::from_micros(*delay));
                self.stage.set(Life::Changing);
                send(&mut child, *signal)?;
                match signal.killed_after {
                    Some(pause) => {
                        sleep(Duration::from_micros(pause));
                        kill(&mut child)?
                    }
                    None => wait_or_kill(&mut child, &format!("a process survives {}", signal.name))?,
                }
            }
            KillPlan::Point(..) => {
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
        self.stage.set(Life::Nobody);
        if !was_killed(status) {
            self.trouble
                .push(format!("g{} ended by itself: {status}", life.generation));
        }
        self.expect_dead(&child, death)?;
        self.dead.push(KilledProcess {
            life: life.clone(),
            returned: ReturnedCalls::read(&life.receipts)?,
        });
        self.kinds.push(kind);
        Ok(())
    }

    /// Checks that readers see the run of a live process.
    fn expect_live(&mut self, child: &mut Child) -> Result<()> {
        let state = manifests::state_of(&self.log(), child.id())?;
        if state.as_deref() != Some("running") && child.try_wait()?.is_none() {
            self.trouble.push(format!("the run of a live process is {state:?}"));
        }
        Ok(())
    }

    /// Checks that readers see the end of a dead process at once.
    fn expect_dead(&mut self, child: &Child, death: &KillPlan) -> Result<()> {
        let state = manifests::state_of(&self.log(), child.id())?;
        let is_true = match (state.as_deref(), death) {
            // It may have been killed before its run began.
            (None, KillPlan::Started(_) | KillPlan::Point(..)) | (Some("killed"), _) => true,
            (Some("interrupted" | "preempted" | "failed"), KillPlan::Signal(..)) => true,
            _ => false,
        };
        if !is_true {
            self.trouble
                .push(format!("after {} the run is {state:?}", death.kind()));
        }
        Ok(())
    }

    /// Recovers the rest, then once more, which must change nothing.
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

    /// Checks all files of the chain.
    pub(crate) fn check(&self) -> Result<Findings> {
        let mut findings = check::check(&self.log(), &self.dead)?;
        manifests::check(&self.log(), &mut findings)?;
        for trouble in &self.trouble {
            findings.other(trouble.clone());
        }
        for number in 0..self.processes {
            for line in fs::read_to_string(self.stderr(number))?.lines() {
                if recovered(line).is_none() && !is_of_an_end(line) {
                    findings.other(format!("process {number} printed {line:?}"));
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

    /// Returns the outcome of each process.
    pub(crate) fn outcomes(&self) -> Result<Vec<ProcessOutcome>> {
        let mut outcomes: Vec<ProcessOutcome> = self
            .dead
            .iter()
            .zip(&self.kinds)
            .map(|(dead, kind)| ProcessOutcome {
                kind: kind.clone(),
                lines: dead.returned.total(CallKind::Lines),
                values: dead.returned.total(CallKind::Values),
                recovered: 0,
            })
            .collect();
        for number in 0..self.processes {
            for line in fs::read_to_string(self.stderr(number))?.lines() {
                if let Some((calls, Some(generation))) = recovered(line)
                    && let Some(outcome) = outcomes.get_mut(generation)
                {
                    outcome.recovered += calls;
                }
            }
        }
        Ok(outcomes)
    }

    fn start_recovery(&mut self, death: Option<&KillPlan>) -> Result<Child> {
        let log = self.log();
        let log = log.to_str().context("a folder whose name is no text")?;
        self.start(&["recover", log], death)
    }

    fn start(&mut self, arguments: &[&str], death: Option<&KillPlan>) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(self.stderr(self.processes))?);
        if let Some(KillPlan::Point(name, times)) = death {
            command.env("KILL_POINT", format!("{name}:{times}"));
        }
        self.processes += 1;
        let child = command.spawn().context("start a process")?;
        self.pids.push(child.id());
        Ok(child)
    }

    /// Path of the file that holds the standard error of a process.
    fn stderr(&self, number: u64) -> PathBuf {
        self.folder.join(format!("stderr-{number}"))
    }

    /// Waits until the process has its logger or is gone.
    fn await_ready(&self, life: &ProcessPlan, child: &mut Child) -> Result<()> {
        let since = Instant::now();
        while !ReturnedCalls::read(&life.receipts)?.was_ready() && child.try_wait()?.is_none() {
            if since.elapsed() > PATIENCE {
                kill(child)?;
                bail!("g{} is not ready after a minute", life.generation);
            }
            sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// Returns `true` for a line that a process prints when a signal leaves it the time to end.
fn is_of_an_end(line: &str) -> bool {
    line.starts_with("logcore: W&B: ") || (line.contains("sink `wandb` of logger") && line.contains("only on disk"))
}

/// Parses the calls and the generation of `logcore: recovered 37 calls of run `g3`, killed at step
/// 5`.
fn recovered(line: &str) -> Option<(u64, Option<usize>)> {
    let rest = line.strip_prefix("logcore: recovered ")?;
    // Behind a semicolon stands another logger, or a failure.
    if rest.split("; ").skip(1).any(|part| !part.starts_with("run `")) {
        return None;
    }
    let calls = rest.split(' ').next()?.parse().ok()?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let generation = names.find_map(|name| name.strip_prefix('g')?.parse().ok());
    Some((calls, generation))
}

/// Sends a signal. If the process is gone already, something else has killed it, which the check
/// finds.
fn send(child: &mut Child, signal: SentSignal) -> Result<()> {
    let id = child.id().to_string();
    // Rust's own handler ignores the first such signal, because no fault has caused it. Two signals
    // at once count as one.
    let is_ignored_once = matches!(signal.name, "SIGSEGV" | "SIGBUS");
    let since = Instant::now();
    loop {
        Command::new("kill")
            .args([&format!("-{}", signal.number), &id])
            .stderr(Stdio::null())
            .status()?;
        sleep(Duration::from_millis(1));
        if !is_ignored_once || child.try_wait()?.is_some() || since.elapsed() > PATIENCE {
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

/// Waits for the end of a process. A process that hangs is killed, because it would fill the disk,
/// and `trouble` is the error.
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
