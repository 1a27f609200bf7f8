//! Delivers what killed processes have left in their rings.

use std::fmt::{self, Display, Write as _};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logcore::escape::Harmless;
use logcore::kill_point::kill_point;
use logcore::{BuildContext, Deadline, FileRank, LogConfig, SinkError, StopFlag, quiet, registry};

use crate::checkpoint::{self, Checkpoint, SavedLogger, VERSION};
use crate::clock;
use crate::command::NamedSink;
use crate::delivery::Delivery;
use crate::fold::Fold;
use crate::machine::{Place, this_boot};
use crate::pieces::Pieces;
use crate::ring::{Corrupt, Dead, Kind, Ring};
use crate::ring_file::{MACHINE, POINTER, is_ring_name, is_unfinished, pieces_of, rank_of, unfinished};
use crate::shared::Shared;
use crate::writer::replay;

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
/// A ring is delivered by sinks that are linked into this program.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// assert!(logcore_pipeline::recover(folder.path()).is_empty());
/// ```
pub fn recover(folder: &Path) -> Vec<Result<Recovered, RecoveryError>> {
    recover_ranks(folder, |_| true)
}

/// The same for those whose files are of a rank that is `wanted`: of processes that start at once in one folder, each sees to
/// its own, and so writes nothing new before it.
pub fn recover_ranks(folder: &Path, wanted: impl Fn(FileRank) -> bool) -> Vec<Result<Recovered, RecoveryError>> {
    // A folder that cannot be read has no rings that we could deliver.
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
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
    names.iter().filter_map(|path| recover_one(path).transpose()).collect()
}

/// `None` if there is nothing any more.
fn recover_one(path: &Path) -> Result<Option<Recovered>, RecoveryError> {
    let refuse = |why: String| RecoveryError::Refused {
        path: path.to_owned(),
        why,
    };
    let Some(found) = find(path).map_err(refuse)? else {
        return Ok(None);
    };
    let (ring_path, file) = found;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut start = [0; 32];
            let read = (&file).read_exact(&mut start);
            let pid = read.map_or(0, |()| {
                start[24..]
                    .iter()
                    .rev()
                    .fold(0, |pid, byte| pid << 8 | u64::from(*byte))
            });
            return Err(RecoveryError::Live { pid });
        }
        Err(TryLockError::Error(error)) => return Err(refuse(format!("it cannot be locked: {error}"))),
    }
    // Whoever had the lock before may have delivered it.
    if !ring_path.exists() {
        return Ok(None);
    }
    let recovered = read_ring(&file).and_then(|bytes| {
        let dead = Ring::of_dead(&bytes).map_err(Unusable::Corrupt)?;
        match dead.checkpoint.is_empty() {
            // Its process died before its first logger was open.
            true => Ok(None),
            false => quiet(|| deliver(dead, &ring_path)).map(Some),
        }
    });
    let recovered = match recovered {
        Ok(recovered) => recovered,
        Err(Unusable::NotNow(why)) => return Err(refuse(why)),
        Err(Unusable::Corrupt(why)) => {
            // Nobody is asked about it again, and nothing of it is destroyed.
            let aside = path.with_extension("unreadable");
            let _ = fs::rename(&ring_path, &aside);
            return Err(refuse(format!("{why}; it was put aside as {}", aside.display())));
        }
    };
    for path in [&pieces_of(&ring_path), &ring_path, path] {
        kill_point("unlinking");
        let _ = fs::remove_file(path);
    }
    Ok(recovered)
}

enum Unusable {
    Corrupt(Corrupt),
    NotNow(String),
}

impl From<Corrupt> for Unusable {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// The ring behind a name, opened.
fn find(path: &Path) -> Result<Option<(PathBuf, File)>, String> {
    let Some(file) = open(path)? else { return Ok(None) };
    let Some(target) = target_of(&file)? else {
        // From the beginning, for whoever reads it.
        return open(path).map(|file| Some((path.to_owned(), file?)));
    };
    let Target { path: target, place } = target;
    match open(&target)? {
        Some(file) => Ok(Some((target, file))),
        None => {
            if !place.may_be_hidden_from(&here(&target)) {
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
}

/// The place of this process, for that file.
fn here(path: &Path) -> Place {
    Place::of(path.parent().unwrap_or(path))
}

/// Where a pointer leads; `None` if it is none.
fn target_of(mut file: &File) -> Result<Option<Target>, String> {
    let mut start = [0; POINTER.len()];
    if file.read_exact(&mut start).is_err() || start != *POINTER.as_bytes() {
        return Ok(None);
    }
    let mut text = String::new();
    let read = file.take(4096).read_to_string(&mut text);
    let (target, place) = text.rsplit_once(MACHINE).unwrap_or_default();
    let target = Path::new(target);
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match Place::parse(place) {
        Some(place) if read.is_ok() && target.is_absolute() && is_ring_name(name) => Ok(Some(Target {
            path: target.to_owned(),
            place,
        })),
        _ => Err("it leads to no ring".to_owned()),
    }
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

fn read_ring(mut file: &File) -> Result<Vec<u8>, Unusable> {
    let failed = |error: io::Error| Unusable::NotNow(format!("it cannot be read: {error}"));
    let length = file.metadata().map_err(failed)?.len();
    if length > LARGEST {
        return Err(Corrupt("it is longer than any ring").into());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// How long sinks may take; what they write to is on this machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn deliver(mut dead: Dead, path: &Path) -> Result<Recovered, Unusable> {
    let checkpoint = checkpoint::read(&dead.checkpoint).ok_or(Corrupt("its checkpoint cannot be read"))?;
    let mut recovered = Recovered {
        pid: dead.pid,
        calls: 0,
        loggers: Vec::new(),
        problems: Vec::new(),
    };
    if dead.boot != this_boot() {
        // Files come back from a power cut in any mixture of old and new pages.
        let problem = "the machine has been started anew since, so what was in the ring is not trusted";
        recovered.problems.push(problem.to_owned());
        return Ok(recovered);
    }
    let saved = || checkpoint.loggers.iter().flat_map(|logger| &logger.sinks);
    if let Some(sink) = saved().find(|sink| !registry::can_recover(&sink.name)) {
        let why = format!(
            "this program has no sink `{}` to deliver it; run one that has",
            sink.name
        );
        return Err(Unusable::NotNow(why));
    }
    if checkpoint.version != VERSION {
        let problem = format!(
            "it was written by version {}: lines may be there twice",
            checkpoint.version
        );
        recovered.problems.push(problem);
    }
    dead.reader.go_to(checkpoint.at)?;

    kill_point("recovery begins");
    let moved = Moved::of(&checkpoint, path);
    let mut delivery = Delivery::new(Arc::new(Shared::new(Arc::clone(dead.reader.ring()))));
    for logger in &checkpoint.loggers {
        let sinks = sinks_of(logger, &moved, &mut recovered.problems)?;
        delivery.take_up(logger.id, &logger.name, logger.propagate, logger.step, sinks);
    }
    let deadline = Deadline::after(PATIENCE);
    let mut pieces = Pieces::of_dead(&pieces_of(path), checkpoint.pieces);
    let mut newest = checkpoint.time;
    while let Some((kind, body)) = dead.reader.next_committed() {
        if !matches!(kind, Kind::Control | Kind::Piece)
            && let Some(time) = body.first_chunk()
        {
            newest = newest.max(i64::from_le_bytes(*time));
        }
        recovered.calls += u64::from(replay(&mut delivery, &mut pieces, kind, body, deadline));
        kill_point("replayed");
    }
    kill_point("all replayed");
    // Whatever says when, a repetition has to say the same: the line is looked for in the file.
    let ended = delivery.end_killed(clock::time(newest), deadline);
    recovered.loggers = ended.map_err(|error| Unusable::NotNow(format!("{error}; {LATER}")))?;
    Ok(recovered)
}

/// What becomes of a ring whose sinks are in trouble that may pass. What they have taken by then they find again.
const LATER: &str = "it is delivered when that is over, by the next start or `cargo xtask repair`";

fn sinks_of(logger: &SavedLogger, moved: &Moved, problems: &mut Vec<String>) -> Result<Vec<NamedSink>, Unusable> {
    let config = LogConfig {
        name: logger.name.clone(),
        ..LogConfig::default()
    };
    let stop = StopFlag::default();
    let context = BuildContext::new(&config, &stop);
    let mut sinks = Vec::new();
    for saved in &logger.sinks {
        match registry::recover_sink(&saved.name, &moved.mark(&saved.mark), &context) {
            Ok(sink) => sinks.push(NamedSink {
                name: saved.name.clone(),
                level: saved.level,
                sink,
                fold: saved.fold.as_ref().map(|(frame, count)| Fold::saved(frame, *count)),
            }),
            Err(error) => {
                let words = format!("sink `{}` of logger `{}`: {error}", saved.name, logger.name);
                if may_pass(&error) {
                    return Err(Unusable::NotNow(format!("{words}; {LATER}")));
                }
                problems.push(words);
            }
        }
    }
    Ok(sinks)
}

/// Whether the system has refused what it may allow another time. What is gone does not come back, and what a sink has said
/// itself is about the contents.
fn may_pass(error: &SinkError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() != io::ErrorKind::NotFound)
}

/// A log directory that has another name now: its files are meant where they are.
struct Moved(Option<(String, String)>);

impl Moved {
    fn of(checkpoint: &Checkpoint, ring: &Path) -> Self {
        let now = ring.parent().and_then(|folder| folder.canonicalize().ok());
        let now = now.filter(|_| !checkpoint.folder.is_empty() && !Path::new(&checkpoint.folder).exists());
        let quoted = |folder: &str| {
            // As it stands in a mark, behind the quote that begins a text.
            let text = serde_json::Value::from(folder).to_string();
            text.trim_end_matches('"').to_owned()
        };
        Self(now.and_then(|now| Some((quoted(&checkpoint.folder), quoted(now.to_str()?)))))
    }

    fn mark(&self, mark: &str) -> String {
        match &self.0 {
            Some((was, is)) => mark
                .replace(&format!("{was}/"), &format!("{is}/"))
                .replace(&format!("{was}\""), &format!("{is}\"")),
            None => mark.to_owned(),
        }
    }
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

impl Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Harmless(f);
        let calls = if self.calls == 1 { "call" } else { "calls" };
        write!(f, "recovered {} {calls} of", self.calls)?;
        let mut separator = " ";
        for (name, step) in &self.loggers {
            write!(f, "{separator}run `{name}`, killed")?;
            if let Some(step) = step {
                write!(f, " at step {step}")?;
            }
            separator = "; ";
        }
        if self.loggers.is_empty() {
            write!(f, " process {}, whose loggers had finished", self.pid)?;
        }
        self.problems.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Harmless(f);
        match self {
            Self::Live { pid } => write!(f, "process {pid} is still running, or its ring is being delivered"),
            Self::Refused { path, why } => write!(f, "{} is left alone: {why}", path.display()),
        }
    }
}

impl std::error::Error for RecoveryError {}
