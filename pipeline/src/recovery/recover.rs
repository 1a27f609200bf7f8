//! Delivers the rings of a log directory.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, TryLockError};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use logcore::kill_point::kill_point;
use logcore::{BuildContext, Deadline, FileRank, LogConfig, SinkError, StopFlag, registry, suppress_logging};

use super::found_ring::{FoundRing, RingRefusal};
use super::outcome::{KilledRun, Recovered, RecoveryError};
use super::search::FoundNames;
use crate::caller::command::NamedSink;
use crate::caller::pipeline_state::PipelineState;
use crate::frame::chunks::ChunkAssembler;
use crate::frame::clock::from_nanos;
use crate::frame::decode::decode_control;
use crate::frame::repeats::RepeatFolder;
use crate::frame::types::{LoggerId, ReplayHint};
use crate::process::block_write_signals;
use crate::ring::dead::{CorruptRing, DeadRing, SavedCheckpoint};
use crate::ring::file::{NamedFolder, files_beside, rank_of};
use crate::ring::host_id::boot_number;
use crate::ring::queue::FrameKind;
use crate::writer::checkpoint::{self, Checkpoint, SavedLogger, VERSION};
use crate::writer::dispatch::Dispatcher;

/// Delivers the frames in `folder` that killed processes left, exactly once, and ends their runs.
/// Recovery may itself be killed and repeated. Rings of live processes are skipped.
///
/// `folder` is the folder of a run, or holds the folders of runs. The sinks of this program deliver
/// a ring, into the log directories that the ring was made for: each of them has a name of the
/// ring, and the ring contains their inodes. Copies of rings are skipped. So is the W&B log of a
/// run whose W&B folder was elsewhere, unless the environment names that folder.
///
/// `note_killed` learns of each log directory of a killed process.
///
/// # Example: nothing to recover
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert!(logcore_pipeline::recover(folder.path(), &|_| {}).is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recover(folder: &Path, note_killed: &KilledRunHook<'_>) -> Vec<Result<Recovered, RecoveryError>> {
    RecoveryRequest::new(folder, note_killed).run(&|_| true)
}

/// Learns of the end of a killed process, on a thread of the recovery.
pub type KilledRunHook<'a> = dyn Fn(&KilledRun<'_>) + Sync + 'a;

/// Does the same for a folder whose contents the user trusts: a copy of a ring is delivered into
/// this folder.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert!(logcore_pipeline::recover_trusted(folder.path(), &|_| {}).is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recover_trusted(folder: &Path, note_killed: &KilledRunHook<'_>) -> Vec<Result<Recovered, RecoveryError>> {
    RecoveryRequest {
        trusts: true,
        ..RecoveryRequest::new(folder, note_killed)
    }
    .run(&|_| true)
}

/// Does the same when a process starts with `config`, for the rings whose rank is `wanted`. If
/// processes start together in one folder, each recovers the rings of its own rank, before it
/// writes anything new. Rings in run folders are found by their entries alone.
///
/// The runs of the process `parent` were not killed: they continue in this process, which was
/// forked from it.
///
/// ```
/// use logcore::{FileRank, LogConfig};
///
/// let folder = tempfile::tempdir()?;
/// let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
/// let rank = FileRank::from_config(&config);
/// let outcomes = logcore_pipeline::recover_ranks(&config, None, &|other| other == rank, &|_| {});
/// assert!(outcomes.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recover_ranks(
    config: &LogConfig,
    parent: Option<u64>,
    wanted: &dyn Fn(FileRank) -> bool,
    note_killed: &KilledRunHook<'_>,
) -> Vec<Result<Recovered, RecoveryError>> {
    RecoveryRequest {
        config: Some(config),
        parent,
        ..RecoveryRequest::new(&config.log_dir, note_killed)
    }
    .run(wanted)
}

/// A request to deliver the rings of a folder.
#[derive(Clone, Copy)]
struct RecoveryRequest<'a> {
    folder: &'a Path,
    /// The config of the process, if the request comes from its start.
    config: Option<&'a LogConfig>,
    /// The process from which this one was forked, and whose runs this one continues.
    parent: Option<u64>,
    /// `true` if copies of rings are delivered.
    trusts: bool,
    note_killed: &'a KilledRunHook<'a>,
}

/// The delivery of a ring.
struct Delivery {
    recovered: Recovered,
    /// `true` if a part of the ring could not be delivered, and the ring must be kept.
    is_partial: bool,
}

impl<'a> RecoveryRequest<'a> {
    fn new(folder: &'a Path, note_killed: &'a KilledRunHook<'a>) -> Self {
        Self {
            folder,
            config: None,
            parent: None,
            trusts: false,
            note_killed,
        }
    }

    fn run(&self, wanted: &dyn Fn(FileRank) -> bool) -> Vec<Result<Recovered, RecoveryError>> {
        // A folder that cannot be read has no rings that could be delivered.
        let Ok(folder) = self.folder.canonicalize() else {
            return Vec::new();
        };
        let found = FoundNames::search(&folder, self.config.is_none(), wanted);
        let outcomes = found.names.iter().filter_map(|name| {
            let folder = name.parent()?;
            RecoveryRequest { folder, ..*self }.recover(name).transpose()
        });
        let outcomes = outcomes.collect();
        found.remove_used_entries(self.note_killed);
        outcomes
    }

    /// Recovers the ring behind a name; `None` if there is nothing to recover.
    fn recover(&self, name: &Path) -> Result<Option<Recovered>, RecoveryError> {
        let refuse = |why: String| RecoveryError::Refused {
            path: name.to_owned(),
            why,
        };
        let Some(found) = FoundRing::open(name).map_err(refuse)? else {
            return Ok(None);
        };
        match found.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = self.folder.to_owned();
                return found
                    .owner()
                    .map_or(Ok(None), |pid| Err(RecoveryError::Live { pid, folder }));
            }
            Err(TryLockError::Error(error)) => return Err(refuse(format!("it cannot be locked: {error}"))),
        }
        // The process that held the lock before may have delivered the ring.
        if !found.path.exists() {
            return Ok(None);
        }
        let delivered = found.read().and_then(|dead| match &dead.checkpoint {
            // The process died before its first logger was open.
            SavedCheckpoint::Inside(checkpoint) if checkpoint.is_empty() => {
                (self.note_killed)(&KilledRun::new(self.folder, dead.pid, rank_of_name(name)));
                Ok(None)
            }
            _ => self.deliver_on_thread(dead, &found).map(Some),
        });
        match delivered {
            Ok(Some(Delivery {
                mut recovered,
                is_partial: true,
            })) => {
                let aside = found.put_aside("kept");
                recovered.problems.push(format!(
                    "the ring was put aside as {}, and nothing of it is lost",
                    aside.display()
                ));
                Ok(Some(recovered))
            }
            Ok(delivered) => {
                for path in files_beside(&found.path).iter().chain([&found.path, &found.name]) {
                    kill_point("unlinking");
                    let _ = fs::remove_file(path);
                }
                Ok(delivered.map(|delivery| delivery.recovered))
            }
            Err(RingRefusal::Postponed(why)) => Err(refuse(why)),
            Err(RingRefusal::Foreign(why)) => Err(refuse(format!(
                "{why}; if you trust it, `logcore repair --trust {}` delivers it",
                self.folder.display()
            ))),
            Err(RingRefusal::Corrupt(why)) => {
                // Later recoveries skip the file, and nothing of it is destroyed.
                let aside = found.put_aside("unreadable");
                Err(refuse(format!("{why}; it was put aside as {}", aside.display())))
            }
        }
    }

    /// Delivers a ring on a separate thread, whose writes fail where their signals would end the
    /// program.
    fn deliver_on_thread(&self, dead: DeadRing, found: &FoundRing) -> Result<Delivery, RingRefusal> {
        thread::scope(|scope| {
            let work = || {
                block_write_signals();
                suppress_logging(|| self.deliver(dead, found))
            };
            let thread = thread::Builder::new()
                .name("logcore-recovery".to_owned())
                .spawn_scoped(scope, work)
                .map_err(|error| RingRefusal::Postponed(format!("the system has no thread to deliver it: {error}")))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn deliver(&self, mut dead: DeadRing, found: &FoundRing) -> Result<Delivery, RingRefusal> {
        let checkpoint = self.read_checkpoint(&dead, found)?;
        let mut recovered = Recovered {
            pid: dead.pid,
            calls: 0,
            loggers: Vec::new(),
            goes_on: self.parent == Some(dead.pid),
            problems: Vec::new(),
        };
        if dead.identity.boot != boot_number() {
            // After a power cut, a file may contain any mixture of old and new pages.
            let problem = "the machine has rebooted since, so the contents of the ring are not trusted";
            recovered.problems.push(problem.to_owned());
            for folder in self.folders(&dead, &checkpoint, found).iter().flatten() {
                (self.note_killed)(&KilledRun::new(folder, dead.pid, rank_of_name(&found.name)));
            }
            let is_partial = false;
            return Ok(Delivery { recovered, is_partial });
        }

        let opened = opened_since(&mut dead, &checkpoint)?;
        let loggers: Vec<_> = checkpoint.loggers.iter().chain(opened.values()).collect();
        if let Some(sink) = loggers
            .iter()
            .flat_map(|logger| &logger.sinks)
            .find(|sink| !registry::can_recover(&sink.name))
        {
            let why = format!(
                "this program has no sink `{}`: run a program that has it",
                shortened(&sink.name)
            );
            return Err(RingRefusal::Postponed(why));
        }
        if checkpoint.version != VERSION {
            recovered.problems.push(format!(
                "version {} has written it: some lines may be duplicates",
                shortened(&checkpoint.version)
            ));
        }
        self.replay(dead, found, &checkpoint, &loggers, recovered)
    }

    /// Delivers the frames behind a checkpoint, and ends the loggers: those of the checkpoint, and
    /// those that were opened since.
    fn replay(
        &self,
        mut dead: DeadRing,
        found: &FoundRing,
        checkpoint: &Checkpoint,
        loggers: &[&SavedLogger],
        mut recovered: Recovered,
    ) -> Result<Delivery, RingRefusal> {
        dead.seek(checkpoint.position)?;

        kill_point("recovery begins");
        let folders = self.folders(&dead, checkpoint, found);
        let mut restorer = SinkRestorer {
            request: self,
            folders: &folders,
            older_folder: dead.is_older.then(|| checkpoint.folders.first()).flatten(),
            problems: &mut recovered.problems,
            has_lost_sinks: false,
        };
        // Sinks of loggers that were opened during the replay find in their files what is already
        // written. So they are restored before anything is added.
        let mut restored = BTreeMap::new();
        for &logger in loggers {
            restored.insert(logger.id, (logger, restorer.restore(logger)?));
        }
        let has_lost_sinks = restorer.has_lost_sinks;
        let left_out = loggers
            .iter()
            .filter(|logger| logger.left_out > 0)
            .map(|logger| logger.id);
        let mut replay = Replay {
            dispatcher: Dispatcher::new(Arc::new(PipelineState::new(Arc::clone(dead.reader.ring())))),
            chunks: ChunkAssembler::restore(found.open_chunks(), checkpoint.chunk_bytes),
            deadline: Deadline::after(SINK_TIMEOUT),
            left_out: left_out.collect(),
            restored,
            newest: checkpoint.time,
            calls: 0,
            undelivered: 0,
        };
        for logger in &checkpoint.loggers {
            replay.open(logger.id);
        }
        while let Some((kind, body)) = dead.reader.next_committed() {
            replay.frame(kind, body);
            kill_point("replayed");
        }
        kill_point("all replayed");
        // A repetition of the recovery has to write the same text, because sinks look for it in
        // their files.
        let end = match recovered.goes_on {
            true => "the process ended, and a forked child continues the run",
            false => "the run was killed",
        };
        let Replay {
            mut dispatcher,
            deadline,
            newest,
            calls,
            undelivered,
            ..
        } = replay;
        let ended = dispatcher.loggers.end_killed(end, from_nanos(newest), deadline);
        recovered.calls = calls;
        recovered.loggers = ended.map_err(|error| RingRefusal::Postponed(format!("{error}; {LATER}")))?;
        if !recovered.goes_on {
            for (number, folder) in folders.iter().enumerate() {
                let Some(folder) = folder else { continue };
                (self.note_killed)(&KilledRun {
                    ended: Some(from_nanos(newest)),
                    last_step: last_step_in(number, loggers, &recovered),
                    ..KilledRun::new(folder, dead.pid, rank_of_name(&found.name))
                });
            }
            kill_point("run noted");
        }
        if undelivered > 0 {
            recovered.problems.push(format!(
                "{undelivered} of them could not be delivered: the ring had no room for their resume points"
            ));
        }
        let is_partial = undelivered > 0 || has_lost_sinks;
        Ok(Delivery { recovered, is_partial })
    }

    /// Reads the checkpoint of a ring, and checks that the ring belongs to the folder.
    fn read_checkpoint(&self, dead: &DeadRing, found: &FoundRing) -> Result<Checkpoint, RingRefusal> {
        let is_checked = !self.trusts && !dead.is_older;
        if is_checked {
            found.check_original(dead)?;
        }
        let bytes = match &dead.checkpoint {
            SavedCheckpoint::Inside(bytes) => bytes,
            SavedCheckpoint::Beside { turn, length } => &found.read_checkpoint(*turn, *length)?,
        };
        let checkpoint = checkpoint::read(bytes, dead.is_older).ok_or(CorruptRing("its checkpoint cannot be read"))?;
        let is_name = |folder: &NamedFolder| folder.inode == found.name_inode;
        if is_checked && !checkpoint.folders.iter().any(is_name) {
            return Err(RingRefusal::Foreign("it is a copy of a pointer to a ring".to_owned()));
        }
        if checkpoint.loggers.len() > MAX_LOGGERS {
            return Err(CorruptRing("it names more loggers than a process has").into());
        }
        Ok(checkpoint)
    }

    /// Returns the paths of the log directories of the ring; `None` for those without a name of it.
    fn folders(&self, dead: &DeadRing, checkpoint: &Checkpoint, found: &FoundRing) -> Vec<Option<PathBuf>> {
        let here = || Some(self.folder.to_owned());
        let beside_here = |folder: &NamedFolder| {
            let path = self.folder.with_file_name(folder.path.file_name()?);
            let inode = folder.inode;
            Some(NamedFolder { path, inode })
        };
        let folders = checkpoint.folders.iter().enumerate();
        let path_of = |(number, folder): (usize, &NamedFolder)| match found.named_folder(folder, dead) {
            Some(path) => Some(path),
            // The folder was renamed, or is mounted elsewhere.
            None if !dead.is_older && folder.inode == found.name_inode => here(),
            None if dead.is_older || self.trusts && number == 0 => here(),
            // The root of several runs was renamed.
            None => found.named_folder(&beside_here(folder)?, dead),
        };
        folders.map(path_of).collect()
    }
}

/// Restores the sinks of loggers from their resume points.
struct SinkRestorer<'r> {
    request: &'r RecoveryRequest<'r>,
    folders: &'r [Option<PathBuf>],
    /// The log directory of a ring of the version before.
    older_folder: Option<&'r NamedFolder>,
    problems: &'r mut Vec<String>,
    /// `true` if some sink could not be restored, and its output may be wanted.
    has_lost_sinks: bool,
}

impl SinkRestorer<'_> {
    fn restore(&mut self, logger: &SavedLogger) -> Result<Vec<NamedSink>, RingRefusal> {
        if logger.sinks.is_empty() {
            return Ok(Vec::new());
        }
        let folder = logger
            .folder
            .and_then(|folder| self.folders.get(folder as usize)?.clone())
            .ok_or_else(|| {
                let name = shortened(&logger.name);
                RingRefusal::Foreign(format!("the log directory of logger `{name}` has no name of it"))
            })?;
        let config = LogConfig {
            name: logger.name.clone(),
            log_dir: folder,
            ..self.request.config.cloned().unwrap_or_default()
        };
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop);
        let context = if self.request.trusts {
            context.allow_links()
        } else {
            // The lock on its ring proves that the process is dead.
            context.for_dead_process()
        };
        let mut sinks = Vec::new();
        for saved in &logger.sinks {
            let resume_point = self.older_folder.map_or(Cow::Borrowed(&*saved.resume_point), |folder| {
                relative_paths(&saved.resume_point, &folder.path)
            });
            match registry::recover_sink(&saved.name, &resume_point, &context) {
                Ok(sink) => sinks.push(NamedSink {
                    repeat_folder: saved
                        .repeats
                        .as_ref()
                        .map(|(frame, count)| RepeatFolder::restore(frame, *count)),
                    ..NamedSink::new(&saved.name, saved.level, sink)
                }),
                Err(error) => {
                    let problem = format!("sink `{}` of logger `{}`: {error}", saved.name, shortened(&logger.name));
                    if error.kind().is_foreign_path() {
                        return Err(RingRefusal::Foreign(problem));
                    }
                    if is_temporary(&error) {
                        return Err(RingRefusal::Postponed(format!("{problem}; {LATER}")));
                    }
                    // A user who has removed an output does not want it back. Any other output may
                    // be wanted.
                    self.has_lost_sinks |= !error.kind().is_not_found();
                    self.problems.push(problem);
                }
            }
        }
        Ok(sinks)
    }
}

/// Replays the frames of a ring.
struct Replay<'r> {
    dispatcher: Dispatcher,
    chunks: ChunkAssembler,
    deadline: Deadline,
    /// The loggers without some of their sinks.
    left_out: BTreeSet<LoggerId>,
    /// The loggers that are not open yet, with their sinks.
    restored: BTreeMap<LoggerId, (&'r SavedLogger, Vec<NamedSink>)>,
    /// The time of the newest frame.
    newest: i64,
    calls: u64,
    /// Number of calls whose logger lacks a sink.
    undelivered: u64,
}

impl Replay<'_> {
    fn open(&mut self, id: LoggerId) {
        if let Some((logger, sinks)) = self.restored.remove(&id) {
            let loggers = &mut self.dispatcher.loggers;
            loggers.restore(id, &logger.name, logger.propagate, logger.step, sinks);
        }
    }

    fn frame(&mut self, kind: FrameKind, body: &[u8]) {
        if !matches!(kind, FrameKind::Control | FrameKind::Chunk)
            && let Some(time) = body.first_chunk()
        {
            self.newest = self.newest.max(i64::from_le_bytes(*time));
        }
        if let Some(logger) = opened_by(kind, body) {
            self.open(logger.id);
        }
        if let Some(logger) = self.dispatcher.replay(&mut self.chunks, kind, body, self.deadline) {
            self.calls += 1;
            self.undelivered += u64::from(self.left_out.contains(&logger));
        }
    }
}

/// Returns the rank in the name of a ring.
fn rank_of_name(path: &Path) -> FileRank {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map_or(FileRank(None), rank_of)
}

/// Returns the last step of the loggers whose files are in the log directory of this number.
fn last_step_in(number: usize, loggers: &[&SavedLogger], recovered: &Recovered) -> Option<u64> {
    let is_here = |name: &str| {
        let mut named = loggers.iter().filter(|logger| logger.name == name);
        named.any(|logger| logger.folder.is_some_and(|at| at as usize == number))
    };
    let steps = recovered.loggers.iter().filter(|(name, _)| is_here(name));
    steps.filter_map(|(_, step)| *step).max()
}

/// Returns the loggers that were opened after a checkpoint, as far as a frame of the writer
/// announces them.
fn opened_since(dead: &mut DeadRing, checkpoint: &Checkpoint) -> Result<BTreeMap<LoggerId, SavedLogger>, CorruptRing> {
    let saved: BTreeSet<_> = checkpoint.loggers.iter().map(|logger| logger.id).collect();
    let mut opened = BTreeMap::new();
    dead.seek(checkpoint.position)?;
    while let Some((kind, body)) = dead.reader.next_committed() {
        if let Some(logger) = opened_by(kind, body).filter(|logger| !saved.contains(&logger.id)) {
            opened.insert(logger.id, logger);
        }
    }
    Ok(opened)
}

/// Returns the logger that a frame announces.
fn opened_by(kind: FrameKind, body: &[u8]) -> Option<SavedLogger> {
    match decode_control(body).filter(|_| kind == FrameKind::Control)? {
        (_, ReplayHint::Opened(entry)) => checkpoint::read_entry(&entry),
        _ => None,
    }
}

/// More than any process has. A damaged file may claim anything.
const MAX_LOGGERS: usize = 1 << 17;

/// The time for all sinks together, whose files are on this machine.
const SINK_TIMEOUT: Duration = Duration::from_secs(60);

/// The future of a ring whose sinks have temporary trouble. A later recovery finds in the files
/// what they have written by then.
const LATER: &str = "it is delivered when that is over, by the next start or `logcore repair`";

/// Returns `true` if the system may succeed another time. A missing file does not come back, and an
/// error without a system's cause is about the contents.
fn is_temporary(error: &SinkError) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() != io::ErrorKind::NotFound)
}

/// Makes the paths in a resume point of the version before relative to the log directory. That
/// version wrote whole paths.
fn relative_paths<'a>(resume_point: &'a str, folder: &Path) -> Cow<'a, str> {
    // No resume point contains a path that is not a text.
    let Some(folder) = folder.to_str() else {
        return resume_point.into();
    };
    // As JSON, after the quote at the beginning of a text.
    let text = serde_json::Value::from(folder).to_string();
    let prefix = format!("{}/", text.trim_end_matches('"'));
    resume_point.replace(&prefix, "\"").into()
}

/// Shortens a name from a file to the length that a line has room for.
fn shortened(name: &str) -> String {
    const MAX_CHARS: usize = 100;
    let mut short: String = name.chars().take(MAX_CHARS).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}
