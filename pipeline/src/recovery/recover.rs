//! Delivers what killed processes have left in their rings.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use logcore::escape::EscapingFormatter;
use logcore::kill_point::kill_point;
use logcore::{BuildContext, Deadline, FileRank, LogConfig, SinkError, StopFlag, registry, suppress_logging};

use crate::caller::command::NamedSink;
use crate::caller::shared::Shared;
use crate::frame::body::{Echo, LoggerId, decode_control};
use crate::frame::chunks::Pieces;
use crate::frame::clock;
use crate::frame::repeats::RepeatFolder;
use crate::process::write_signals::shield_writes;
use crate::ring::file::{
    MACHINE, ORIGIN, POINTER, beside, inode_of, is_ours, is_ring_name, is_unfinished, marks_of, pieces_of, rank_of,
    unfinished,
};
use crate::ring::host_id::{Place, this_boot};
use crate::ring::layout::{NONCE, PID};
use crate::ring::queue::{Corrupt, Dead, Kind, Reader, Ring, Saved};
use crate::ring::region::Region;
use crate::writer::checkpoint::{self, Checkpoint, NamedFolder, SavedLogger, VERSION, path_of};
use crate::writer::dispatch::Delivery;
use crate::writer::thread::replay;

/// What was delivered of a killed process.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recovered {
    /// Its process.
    pub pid: u64,
    /// How many calls were still in its ring. Some of them may have been in the files already; none is there twice.
    pub calls: u64,
    /// The loggers that it had open, each with the highest step of its metrics.
    pub loggers: Vec<(String, Option<u64>)>,
    /// Its runs go on in this process, which was forked from it.
    pub goes_on: bool,
    /// What could not be done.
    pub problems: Vec<String>,
}

/// Why a ring was left as it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoveryError {
    /// Its process lives, or another one delivers it at this moment.
    Live {
        /// The process that made it.
        pid: u64,
    },
    /// It is none that this process may or can deliver.
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Delivers what killed processes have left that logged into `folder`, exactly once, and ends their runs. May itself be
/// killed and repeated. Live processes are left alone.
///
/// A ring is delivered by sinks that are linked into this program, and into the log directories alone that it was made for: each
/// of them holds a name of it, which it knows. A copy of a ring is left alone. So is the W&B log of a run whose W&B folder was
/// elsewhere, unless the environment names that folder.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// assert!(logcore_pipeline::recover(folder.path()).is_empty());
/// ```
pub fn recover(folder: &Path) -> Vec<Result<Recovered, RecoveryError>> {
    Request::of(folder).run(|_| true)
}

/// The same for a folder whose contents the user vouches for: a ring that is a copy is delivered into this folder.
pub fn recover_trusted(folder: &Path) -> Vec<Result<Recovered, RecoveryError>> {
    Request {
        trusts: true,
        ..Request::of(folder)
    }
    .run(|_| true)
}

/// The recovery at a start of this `config`: the same for those whose files are of a rank that is `wanted`. Of processes that
/// start at once in one folder, each sees to its own, and so writes nothing new before it. The runs of the process `parent` were not
/// killed: they go on in this one, which was forked from it.
pub fn recover_ranks(
    config: &LogConfig,
    parent: Option<u64>,
    wanted: impl Fn(FileRank) -> bool,
) -> Vec<Result<Recovered, RecoveryError>> {
    Request {
        config: Some(config),
        parent,
        ..Request::of(&config.log_dir)
    }
    .run(wanted)
}

/// A request to deliver the rings of a folder.
#[derive(Clone, Copy)]
struct Request<'a> {
    folder: &'a Path,
    /// Of the start that asks.
    config: Option<&'a LogConfig>,
    /// The process from which this one was forked, and whose runs it goes on with.
    parent: Option<u64>,
    /// A copy is as good as a ring.
    trusts: bool,
}

impl<'a> Request<'a> {
    fn of(folder: &'a Path) -> Self {
        Self {
            folder,
            config: None,
            parent: None,
            trusts: false,
        }
    }

    fn run(&self, wanted: impl Fn(FileRank) -> bool) -> Vec<Result<Recovered, RecoveryError>> {
        // A folder that cannot be read has no rings that we could deliver.
        let Ok(folder) = self.folder.canonicalize() else {
            return Vec::new();
        };
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_ring_name(name) && wanted(rank_of(name)) {
                names.push(entry.path());
            } else if is_unfinished(name) && wanted(rank_of(name)) {
                // A process that starts at this moment may not have locked it yet, but has another rank.
                forget_unfinished(&entry.path());
            }
        }
        names.sort();
        let request = Request {
            folder: &folder,
            ..*self
        };
        names
            .iter()
            .filter_map(|path| request.recover(path).transpose())
            .collect()
    }

    /// `None` if there is nothing any more.
    fn recover(&self, path: &Path) -> Result<Option<Recovered>, RecoveryError> {
        let refuse = |why: String| RecoveryError::Refused {
            path: path.to_owned(),
            why,
        };
        let Some(found) = find(path).map_err(refuse)? else {
            return Ok(None);
        };
        match found.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return who_has(&found.file).map_or(Ok(None), Err),
            Err(TryLockError::Error(error)) => return Err(refuse(format!("it cannot be locked: {error}"))),
        }
        // The process that had the lock before may have delivered it.
        if !found.ring.exists() {
            return Ok(None);
        }
        let recovered = read_ring(&found.file).and_then(|(region, length)| {
            let dead = Ring::of_dead(region, length)?;
            match &dead.checkpoint {
                // Its process died before its first logger was open.
                Saved::Within(checkpoint) if checkpoint.is_empty() => Ok(None),
                _ => self.deliver_apart(dead, &found).map(Some),
            }
        });
        match recovered {
            Ok(Some((recovered, true))) => {
                let aside = put_aside(&found, "kept");
                let problem = format!(
                    "the ring was put aside as {}, and nothing of it is lost",
                    aside.display()
                );
                let mut recovered = recovered;
                recovered.problems.push(problem);
                Ok(Some(recovered))
            }
            Ok(recovered) => {
                for path in beside(&found.ring).iter().chain([&found.ring, &found.name]) {
                    kill_point("unlinking");
                    let _ = fs::remove_file(path);
                }
                Ok(recovered.map(|(recovered, _)| recovered))
            }
            Err(Unusable::NotNow(why)) => Err(refuse(why)),
            Err(Unusable::Foreign(why)) => Err(refuse(format!(
                "{why}; if you trust it, `cargo xtask repair --trust {}` delivers it",
                self.folder.display()
            ))),
            Err(Unusable::Corrupt(why)) => {
                // Nobody is asked about it again, and nothing of it is destroyed.
                let aside = put_aside(&found, "unreadable");
                Err(refuse(format!("{why}; it was put aside as {}", aside.display())))
            }
        }
    }

    /// Delivers a ring on a thread of its own, whose writes fail where a signal of theirs would end the program.
    fn deliver_apart(&self, dead: Dead, found: &Found) -> Result<(Recovered, bool), Unusable> {
        thread::scope(|scope| {
            let work = || {
                shield_writes();
                suppress_logging(|| self.deliver(dead, found))
            };
            let thread = thread::Builder::new()
                .name("logcore-recovery".to_owned())
                .spawn_scoped(scope, work)
                .map_err(|error| Unusable::NotNow(format!("there is no thread to deliver it: {error}")))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Returns whether something of it could not be delivered, too.
    fn deliver(&self, mut dead: Dead, found: &Found) -> Result<(Recovered, bool), Unusable> {
        self.check(&dead, found)?;
        let bytes = match &dead.checkpoint {
            Saved::Within(bytes) => bytes,
            Saved::Beside(turn, length) => &read_marks(&found.ring, *turn, *length)?,
        };
        let checkpoint = checkpoint::read(bytes, dead.older).ok_or(Corrupt("its checkpoint cannot be read"))?;
        let is_name = |folder: &NamedFolder| folder.inode == found.name_inode;
        if !self.trusts && !dead.older && !checkpoint.folders.iter().any(is_name) {
            return Err(Unusable::Foreign("it is a copy of what leads to a ring".to_owned()));
        }
        if checkpoint.loggers.len() > MOST_LOGGERS {
            return Err(Corrupt("it names more loggers than a process has").into());
        }
        let mut recovered = Recovered {
            pid: dead.pid,
            calls: 0,
            loggers: Vec::new(),
            goes_on: self.parent == Some(dead.pid),
            problems: Vec::new(),
        };
        if dead.origin.boot != this_boot() {
            // Files come back from a power cut in any mixture of old and new pages.
            let problem = "the machine has been started anew since, so what was in the ring is not trusted";
            recovered.problems.push(problem.to_owned());
            return Ok((recovered, false));
        }
        let opened = opened_since(&mut dead.reader, &checkpoint)?;
        let saved = || {
            checkpoint
                .loggers
                .iter()
                .chain(opened.values())
                .flat_map(|logger| &logger.sinks)
        };
        if let Some(sink) = saved().find(|sink| !registry::can_recover(&sink.name)) {
            let why = format!(
                "this program has no sink `{}` to deliver it; run one that has",
                shortened(&sink.name)
            );
            return Err(Unusable::NotNow(why));
        }
        if checkpoint.version != VERSION {
            let problem = format!(
                "it was written by version {}: lines may be there twice",
                shortened(&checkpoint.version)
            );
            recovered.problems.push(problem);
        }
        dead.reader.go_to(checkpoint.at)?;

        kill_point("recovery begins");
        let folders = self.folders(&dead, &checkpoint, found);
        let mut delivery = Delivery::new(Arc::new(Shared::new(Arc::clone(dead.reader.ring()))));
        let (mut left_out, mut is_whole) = (BTreeSet::new(), true);
        // Those that come while the ring is replayed find in their files what is written already; so they look before anything is added.
        let mut to_come = BTreeMap::new();
        for logger in checkpoint.loggers.iter().chain(opened.values()) {
            let older = dead.older.then(|| checkpoint.folders.first()).flatten();
            let sinks = self.sinks_of(logger, &folders, older, &mut recovered.problems, &mut is_whole)?;
            if logger.left_out > 0 {
                left_out.insert(logger.id);
            }
            to_come.insert(logger.id, (logger, sinks));
        }
        for logger in &checkpoint.loggers {
            take_up(&mut delivery, to_come.remove(&logger.id));
        }
        let deadline = Deadline::after(PATIENCE);
        let mut pieces = Pieces::of_dead(open(&pieces_of(&found.ring)).ok().flatten(), checkpoint.pieces);
        let mut newest = checkpoint.time;
        let mut untaken = 0;
        while let Some((kind, body)) = dead.reader.next_committed() {
            if !matches!(kind, Kind::Control | Kind::Piece)
                && let Some(time) = body.first_chunk()
            {
                newest = newest.max(i64::from_le_bytes(*time));
            }
            if let Some(logger) = opened_by(kind, body) {
                take_up(&mut delivery, to_come.remove(&logger.id));
            }
            if let Some(logger) = replay(&mut delivery, &mut pieces, kind, body, deadline) {
                recovered.calls += 1;
                untaken += u64::from(left_out.contains(&logger));
            }
            kill_point("replayed");
        }
        kill_point("all replayed");
        // Whatever says when, a repetition has to say the same: the line is looked for in the file.
        let end = match recovered.goes_on {
            true => "the process has ended, and a child of it goes on with the run",
            false => "the run was killed",
        };
        let ended = delivery.end_killed(end, clock::time(newest), deadline);
        recovered.loggers = ended.map_err(|error| Unusable::NotNow(format!("{error}; {LATER}")))?;
        if untaken > 0 {
            let problem =
                format!("{untaken} of them could not be delivered: the ring had no room for where their files stood");
            recovered.problems.push(problem);
        }
        Ok((recovered, untaken > 0 || !is_whole))
    }

    /// Whether the file is a ring, and no copy of one.
    fn check(&self, dead: &Dead, found: &Found) -> Result<(), Unusable> {
        if self.trusts || dead.older {
            return Ok(());
        }
        let known = (dead.origin.nonce, dead.origin.inode);
        if found.inode != dead.origin.inode {
            return Err(Unusable::Foreign("it is a copy of a ring".to_owned()));
        }
        match &found.pointer {
            Some(pointer) if pointer.origin != Some(known) => Err(Unusable::Foreign(
                "it leads to another ring than it was made for".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Where the log directories of the ring are now; those that hold no name of it are nowhere.
    fn folders(&self, dead: &Dead, checkpoint: &Checkpoint, found: &Found) -> Vec<Option<PathBuf>> {
        let here = || Some(self.folder.to_owned());
        let folders = checkpoint.folders.iter().enumerate();
        let place_of = |(number, folder): (usize, &NamedFolder)| match found.is_named_in(folder, dead) {
            Some(path) => Some(path),
            // It has another name by now, or is mounted elsewhere.
            None if !dead.older && folder.inode == found.name_inode => here(),
            None if dead.older || self.trusts && number == 0 => here(),
            None => None,
        };
        folders.map(place_of).collect()
    }

    fn sinks_of(
        &self,
        logger: &SavedLogger,
        folders: &[Option<PathBuf>],
        older: Option<&NamedFolder>,
        problems: &mut Vec<String>,
        is_whole: &mut bool,
    ) -> Result<Vec<NamedSink>, Unusable> {
        if logger.sinks.is_empty() {
            return Ok(Vec::new());
        }
        let folder = logger
            .folder
            .and_then(|folder| folders.get(folder as usize)?.clone())
            .ok_or_else(|| {
                let name = shortened(&logger.name);
                Unusable::Foreign(format!("the log directory of logger `{name}` holds no name of it"))
            })?;
        let config = LogConfig {
            name: logger.name.clone(),
            log_dir: folder,
            ..self.config.cloned().unwrap_or_default()
        };
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop);
        let context = if self.trusts {
            context.allow_links()
        } else {
            // The lock on its ring says so.
            context.for_dead_process()
        };
        let mut sinks = Vec::new();
        for saved in &logger.sinks {
            let mark = older.map_or(Cow::Borrowed(&*saved.mark), |folder| {
                relative(&saved.mark, &folder.path)
            });
            match registry::recover_sink(&saved.name, &mark, &context) {
                Ok(sink) => sinks.push(NamedSink {
                    name: saved.name.clone(),
                    level: saved.level,
                    sink,
                    fold: saved
                        .fold
                        .as_ref()
                        .map(|(frame, count)| RepeatFolder::saved(frame, *count)),
                }),
                Err(error) => {
                    let words = format!("sink `{}` of logger `{}`: {error}", saved.name, shortened(&logger.name));
                    if error.kind().is_foreign_path() {
                        return Err(Unusable::Foreign(words));
                    }
                    if may_pass(&error) {
                        return Err(Unusable::NotNow(format!("{words}; {LATER}")));
                    }
                    // An output that its user has taken away is not to come back; anything else may be wanted.
                    *is_whole &= error.kind().is_not_found();
                    problems.push(words);
                }
            }
        }
        Ok(sinks)
    }
}

/// The loggers that have come since a checkpoint, as far as a frame of the writer tells of them.
fn opened_since(reader: &mut Reader, checkpoint: &Checkpoint) -> Result<BTreeMap<LoggerId, SavedLogger>, Corrupt> {
    let known: BTreeSet<_> = checkpoint.loggers.iter().map(|logger| logger.id).collect();
    let mut opened = BTreeMap::new();
    reader.go_to(checkpoint.at)?;
    while let Some((kind, body)) = reader.next_committed() {
        if let Some(logger) = opened_by(kind, body).filter(|logger| !known.contains(&logger.id)) {
            opened.insert(logger.id, logger);
        }
    }
    Ok(opened)
}

/// The logger that has come with a frame.
fn opened_by(kind: Kind, body: &[u8]) -> Option<SavedLogger> {
    match decode_control(body).filter(|_| kind == Kind::Control)? {
        (_, Echo::Opened(entry)) => checkpoint::read_entry(&entry),
        _ => None,
    }
}

fn take_up(delivery: &mut Delivery, logger: Option<(&SavedLogger, Vec<NamedSink>)>) {
    if let Some((logger, sinks)) = logger {
        delivery.take_up(logger.id, &logger.name, logger.propagate, logger.step, sinks);
    }
}

/// More than any process has: what a file says is not yet true.
const MOST_LOGGERS: usize = 1 << 17;

/// The process that has the lock on a ring; `None` if it is this one: an earlier session of it, whose end ran out of time.
fn who_has(mut file: &File) -> Option<RecoveryError> {
    let mut header = [0; 64];
    let read = file.read_exact(&mut header);
    let word = |at: usize| header[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    if read.is_ok() && is_ours(word(NONCE)) {
        return None;
    }
    Some(RecoveryError::Live { pid: word(PID) })
}

/// Gives a ring, with what is beside it, another name; returns that of the ring.
fn put_aside(found: &Found, ending: &str) -> PathBuf {
    let aside = found.ring.with_extension(ending);
    for (path, aside) in beside(&found.ring).iter().zip(beside(&aside)) {
        let _ = fs::rename(path, aside);
    }
    let _ = fs::rename(&found.ring, &aside);
    if found.pointer.is_some() {
        let _ = fs::remove_file(&found.name);
    }
    aside
}

enum Unusable {
    Corrupt(Corrupt),
    NotNow(String),
    /// It is not of this folder, or leads out of it.
    Foreign(String),
}

impl From<Corrupt> for Unusable {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// A ring that a name in a log directory leads to.
struct Found {
    name: PathBuf,
    name_inode: u64,
    /// The target that the name leads to, if the name is not the ring itself.
    pointer: Option<Target>,
    ring: PathBuf,
    file: File,
    inode: u64,
}

impl Found {
    /// The folder, if it still has its path and holds the name of this ring that was put there.
    fn is_named_in(&self, folder: &NamedFolder, dead: &Dead) -> Option<PathBuf> {
        let path = folder.path.join(self.name.file_name()?);
        let name = open(&path).ok().flatten()?;
        let known = (dead.origin.nonce, dead.origin.inode);
        let leads_here = || match target_of(&name).ok()? {
            Some(target) => Some(target.origin == Some(known)),
            None => Some(folder.inode == self.inode),
        };
        let is_its_name = self.inode == dead.origin.inode
            && inode_of(&name).is_ok_and(|inode| inode == folder.inode)
            && leads_here() == Some(true);
        is_its_name.then(|| folder.path.canonicalize().ok()).flatten()
    }
}

/// The ring behind a name, opened.
fn find(path: &Path) -> Result<Option<Found>, String> {
    let Some(name) = open(path)? else { return Ok(None) };
    let number = |file: &File| inode_of(file).map_err(|error| error.to_string());
    let name_inode = number(&name)?;
    let found = |ring: &Path, pointer: Option<Target>, file: File| {
        Ok(Some(Found {
            name: path.to_owned(),
            name_inode,
            pointer,
            ring: ring.to_owned(),
            inode: number(&file)?,
            file,
        }))
    };
    let Some(target) = target_of(&name)? else {
        // From the beginning, for whoever reads it.
        return match open(path)? {
            Some(file) => found(path, None, file),
            None => Ok(None),
        };
    };
    match open(&target.path)? {
        Some(file) => found(&target.path.clone(), Some(target), file),
        None => {
            if !target.place.may_be_hidden_from(&here(&target.path)) {
                let _ = fs::remove_file(path);
            }
            Ok(None)
        }
    }
}

struct Target {
    path: PathBuf,
    /// Where it was made.
    place: Place,
    /// Nonce and inode of the ring. The version before did not say, nor does a name that was never finished.
    origin: Option<(u64, u64)>,
}

/// The place of this process, for that file.
fn here(path: &Path) -> Place {
    Place::of(path.parent().unwrap_or(path))
}

/// Longer than any path.
const MOST_TEXT: u64 = 16 << 10;

/// Where a pointer leads; `None` if it is none.
fn target_of(mut file: &File) -> Result<Option<Target>, String> {
    let mut start = [0; POINTER.len()];
    if file.read_exact(&mut start).is_err() || start != *POINTER.as_bytes() {
        return Ok(None);
    }
    let mut text = Vec::new();
    let read = file.take(MOST_TEXT).read_to_end(&mut text);
    let target = read.ok().and_then(|_| parse_target(&text));
    target.map(Some).ok_or_else(|| "it leads to no ring".to_owned())
}

fn parse_target(text: &[u8]) -> Option<Target> {
    let (text, origin) = match split_last(text, ORIGIN) {
        Some((text, origin)) => (text, Some(parse_origin(origin)?)),
        None => (text, None),
    };
    let (path, place) = split_last(text, MACHINE)?;
    let path = path_of(path)?;
    let name = path.file_name()?.to_str()?;
    let place = Place::parse(std::str::from_utf8(place).ok()?)?;
    (path.is_absolute() && is_ring_name(name)).then_some(Target { path, place, origin })
}

fn parse_origin(text: &[u8]) -> Option<(u64, u64)> {
    let (nonce, inode) = std::str::from_utf8(text).ok()?.trim_end().split_once(' ')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(nonce)?, number(inode)?))
}

/// The text before the last `between`, and the text behind it.
fn split_last<'a>(text: &'a [u8], between: &str) -> Option<(&'a [u8], &'a [u8])> {
    let at = text
        .windows(between.len())
        .rposition(|part| part == between.as_bytes())?;
    Some((&text[..at], &text[at + between.len()..]))
}

/// Opens a file if it is one of ours: regular, under one name, and nobody else's.
fn open(path: &Path) -> Result<Option<File>, String> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC,
    );
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| format!("it cannot be opened: {error}"))?,
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // SAFETY: always allowed.
        if metadata.uid() != unsafe { libc::geteuid() } {
            return Err("it belongs to another user".to_owned());
        }
        if metadata.nlink() > 1 {
            return Err("it has more than one name".to_owned());
        }
    }
    Ok(Some(file))
}

/// The largest that a config allows, with its header, dictionary and checkpoints.
const LARGEST: u64 = (1 << 30) + (4 << 20);
/// The largest checkpoint beside a ring.
const LARGEST_MARKS: u64 = 256 << 20;

/// The contents of a ring, and their length.
fn read_ring(mut file: &File) -> Result<(Region, usize), Unusable> {
    let failed = |error: io::Error| Unusable::NotNow(format!("it cannot be read: {error}"));
    let length = file.metadata().map_err(failed)?.len();
    if length > LARGEST {
        return Err(Corrupt("it is longer than any ring").into());
    }
    let length = length as usize;
    let mut region = Region::plain(length).map_err(failed)?;
    match file.read_exact(&mut region.all_bytes()[..length]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Corrupt("it has become shorter meanwhile").into())
        }
        read => read.map(|()| (region, length)).map_err(failed),
    }
}

/// The checkpoint of a turn that is beside a ring.
fn read_marks(ring: &Path, turn: u64, length: u64) -> Result<Vec<u8>, Unusable> {
    if length > LARGEST_MARKS {
        return Err(Corrupt("its checkpoint is longer than any").into());
    }
    let mut bytes = Vec::new();
    let file = open(&marks_of(ring, turn)).map_err(Unusable::NotNow)?;
    let file = file.ok_or(Corrupt("its checkpoint is gone"))?;
    file.take(length)
        .read_to_end(&mut bytes)
        .map_err(|error| Unusable::NotNow(format!("its checkpoint cannot be read: {error}")))?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(Corrupt("its checkpoint is cut").into()),
    }
}

/// How long sinks may take; what they write to is on this machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a ring whose sinks are in trouble that may pass. What they have taken by then they find again.
const LATER: &str = "it is delivered when that is over, by the next start or `cargo xtask repair`";

/// Whether the system has refused what it may allow another time. What is gone does not come back, and what a sink has said
/// itself is about the contents.
fn may_pass(error: &SinkError) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() != io::ErrorKind::NotFound)
}

/// A mark of the version before, which has whole paths: those in the log directory become relative to it.
fn relative<'a>(mark: &'a str, folder: &Path) -> Cow<'a, str> {
    // A path that is no text was never in a mark.
    let Some(folder) = folder.to_str() else {
        return mark.into();
    };
    // As it stands in a mark, behind the quote that begins a text.
    let text = serde_json::Value::from(folder).to_string();
    let within = format!("{}/", text.trim_end_matches('"'));
    mark.replace(&within, "\"").into()
}

/// A name from a file, as far as a line has room for it.
fn shortened(name: &str) -> String {
    const MOST: usize = 100;
    let mut short: String = name.chars().take(MOST).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

/// A ring whose process died while it made it, or its name, has nothing in it.
fn forget_unfinished(path: &Path) {
    let Ok(Some(file)) = open(path) else { return };
    if file.try_lock().is_err() {
        return;
    }
    if let Ok(Some(target)) = target_of(&file) {
        // Another machine may be at it, and not every file system shares its locks.
        if target.place.may_be_hidden_from(&here(&target.path)) {
            return;
        }
        forget(&unfinished(&target.path));
        forget(&target.path);
    }
    let _ = fs::remove_file(path);
}

/// Removes a ring, if its process is dead.
fn forget(path: &Path) {
    if let Ok(Some(file)) = open(path)
        && file.try_lock().is_ok()
    {
        let _ = fs::remove_file(path);
    }
}

/// So many runs are named in a line.
const MOST_NAMED: usize = 20;

impl Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        let calls = if self.calls == 1 { "call" } else { "calls" };
        write!(f, "recovered {} {calls} of", self.calls)?;
        let mut separator = " ";
        for (name, step) in self.loggers.iter().take(MOST_NAMED) {
            let end = if self.goes_on { "which goes on here" } else { "killed" };
            write!(f, "{separator}run `{name}`, {end}")?;
            if let Some(step) = step.filter(|_| !self.goes_on) {
                write!(f, " at step {step}")?;
            }
            separator = "; ";
        }
        if let Some(more) = self.loggers.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            write!(f, "; and {more} more")?;
        }
        if self.loggers.is_empty() {
            write!(f, " process {}, whose loggers had finished", self.pid)?;
        }
        self.problems.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Live { pid } => write!(f, "process {pid} is still running, or its ring is being delivered"),
            Self::Refused { path, why } => write!(f, "{} is left alone: {why}", path.display()),
        }
    }
}

impl std::error::Error for RecoveryError {}
