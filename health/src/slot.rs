//! Slots: 64 bytes in which each rank tells the others how far it is.
//!
//! Rank 3 writes `ranks/3` in the folder of the run, once a second; each rank has a file of its
//! own, so that two hosts never share a page. Nothing is mapped, locked or waited for, and a slot
//! that cannot be read is absent.
//!
//! # On a slow or shared disk
//!
//! Only the thread `logcore-health` may call this module. A call lasts as long as the file system
//! takes, without a bound: a server of NFS that is away (`hard`, the default) delays the thread
//! until the server is back. The training, its callers and the writer never wait for the thread.
//!
//! NFS shows a write to other hosts once the file was closed, and a change to a reader who opens
//! the file anew. So each write closes a copy of its descriptor, and each reading opens the files.
//! With `nocto`, or on file systems that cache more, a slot may be seen late by the time of the
//! attribute cache, 3 to 60 seconds by default. Readers allow for that: a slot is old after
//! [a minute](RankState::is_fresh). A reading costs one question to the server a rank: let one rank
//! read, every ten seconds or so, and the others only when they stall or stop.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logcore::files::{Folder, file_size_limit};

use crate::RANKS_FOLDER;

/// Number of bytes of a slot.
const SLOT_SIZE: usize = 64;

/// First bytes of a slot: a mark, and the version of the layout.
const MARK: [u8; 4] = *b"LCS1";

/// Place of the checksum, which is over all bytes before.
const SUM_AT: usize = 56;

/// The bit of the flags that says that there is a step.
const HAS_STEP: u8 = 1;

/// Most ranks whose slots are read, whatever the world size says.
const MAX_RANKS: u32 = 1 << 16;

/// How often a slot is read whose bytes are half old and half new.
const MAX_READS: usize = 3;

/// Greatest number of steps in a second that a slot may state.
const MAX_PACE: f32 = 1e6;

/// Age after which a slot says nothing about the present.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// The state of a rank, as the rank tells it in its slot.
///
/// ```
/// use logcore_health::slot::{RankPhase, RankState};
///
/// let mut state = RankState::new(3, 1);
/// state.step = Some(120);
/// state.phase = RankPhase::Step;
/// assert_eq!(RankState::from_bytes(&state.to_bytes()), Some(state));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RankState {
    /// Number of the process in the run.
    pub rank: u32,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Number of the process on its host.
    pub pid: u32,
    /// Newest step; `None` before the first one.
    pub step: Option<u64>,
    /// Time of the writing, in whole milliseconds.
    pub time: SystemTime,
    /// Time of the last movement: a progress update or a new step. In whole milliseconds.
    pub moved: SystemTime,
    /// Usual seconds of a step without the [exchange](crate::skew::is_exchange) with other ranks,
    /// as a moving average; 0 if unknown.
    pub step_seconds: f32,
    /// Share of these seconds that goes by with waiting for data, from 0 to 1.
    pub data_share: f32,
    /// Recent steps in a second, by the wall clock; 0 if unknown.
    pub pace: f32,
    /// The innermost phase at the time of the writing.
    pub phase: RankPhase,
    /// A mark of what the thread of the last movement has waited for in the kernel in all of the
    /// last ten seconds, from [`mark_wait`]; 0 if it has not, or if this could not be read.
    pub wait: u16,
}

/// The phase that a rank is in.
///
/// ```
/// use logcore_health::slot::RankPhase;
///
/// assert!(RankPhase::Data.is_moving() && !RankPhase::Checkpoint.is_moving());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RankPhase {
    /// Before the first step.
    Startup,
    /// Within a step.
    Step,
    /// Waiting for data.
    Data,
    /// Within an evaluation.
    Eval,
    /// Saving or loading a checkpoint.
    Checkpoint,
    /// The program says that nothing is to move.
    Idle,
    /// Another phase, or none.
    Other,
    /// The rank has ended its run.
    Ended,
}

impl RankState {
    /// Creates the state of a rank of this process, of this moment, before its first step.
    #[must_use]
    pub fn new(rank: u32, attempt: u32) -> Self {
        let now = from_millis(to_millis(SystemTime::now())).unwrap_or(UNIX_EPOCH);
        Self {
            rank,
            attempt,
            pid: std::process::id(),
            step: None,
            time: now,
            moved: now,
            step_seconds: 0.0,
            data_share: 0.0,
            pace: 0.0,
            phase: RankPhase::Startup,
            wait: 0,
        }
    }

    /// Returns the bytes of a slot, in little endian:
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0 to 3 | `LCS1`: a mark, and the version |
    /// | 4 to 15 | rank, attempt, pid |
    /// | 16 to 39 | step; time and last movement in milliseconds since 1970 |
    /// | 40 to 51 | step seconds, data share, pace |
    /// | 52 to 55 | phase; flags, of which bit 0 says that there is a step; mark of the wait |
    /// | 56 to 63 | FNV-1a, of 64 bits, over the bytes before |
    ///
    /// Numbers that no reader would accept are written as 0.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SLOT_SIZE] {
        let [step_seconds, data_share, pace] = [
            within(self.step_seconds, f32::MAX),
            within(self.data_share, 1.0),
            within(self.pace, MAX_PACE),
        ]
        .map(Option::unwrap_or_default);
        let mut bytes = [0; SLOT_SIZE];
        bytes[0..4].copy_from_slice(&MARK);
        bytes[4..8].copy_from_slice(&self.rank.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.attempt.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.pid.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.step.unwrap_or_default().to_le_bytes());
        bytes[24..32].copy_from_slice(&to_millis(self.time).to_le_bytes());
        bytes[32..40].copy_from_slice(&to_millis(self.moved).to_le_bytes());
        bytes[40..44].copy_from_slice(&step_seconds.to_le_bytes());
        bytes[44..48].copy_from_slice(&data_share.to_le_bytes());
        bytes[48..52].copy_from_slice(&pace.to_le_bytes());
        bytes[52] = self.phase.number();
        bytes[53] = if self.step.is_some() { HAS_STEP } else { 0 };
        bytes[54..56].copy_from_slice(&self.wait.to_le_bytes());
        let sum = fnv_1a(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the bytes of a slot. Returns `None` if they are torn, of another version, or state
    /// numbers that cannot be, such as a share above 1.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SLOT_SIZE]) -> Option<Self> {
        let int = |at: usize| u32::from_le_bytes(part(bytes, at));
        let long = |at: usize| u64::from_le_bytes(part(bytes, at));
        let float = |at: usize, most: f32| within(f32::from_le_bytes(part(bytes, at)), most);
        if bytes[..4] != MARK || long(SUM_AT) != fnv_1a(&bytes[..SUM_AT]) {
            return None;
        }
        Some(Self {
            rank: int(4),
            attempt: int(8),
            pid: int(12),
            step: (bytes[53] & HAS_STEP != 0).then(|| long(16)),
            time: from_millis(long(24))?,
            moved: from_millis(long(32))?,
            step_seconds: float(40, f32::MAX)?,
            data_share: float(44, 1.0)?,
            pace: float(48, MAX_PACE)?,
            phase: RankPhase::from_number(bytes[52])?,
            wait: u16::from_le_bytes(part(bytes, 54)),
        })
    }

    /// Returns `true` if the slot speaks of the present: it was written less than a minute before
    /// `now`, or after it by the clock of another host.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let state = logcore_health::slot::RankState::new(0, 1);
    /// assert!(state.is_fresh(state.time + Duration::from_secs(59)));
    /// assert!(!state.is_fresh(state.time + Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        let apart = now.duration_since(self.time).unwrap_or_else(|error| error.duration());
        apart < FRESH_FOR
    }
}

/// Returns the mark of a wait of a thread, for [`RankState::wait`]: equal waits have equal marks,
/// on all hosts. Never 0.
///
/// ```
/// use logcore_health::slot::mark_wait;
///
/// assert_eq!(mark_wait("futex_wait_queue"), mark_wait("futex_wait_queue"));
/// assert_ne!(mark_wait("futex_wait_queue"), mark_wait("pipe_read"));
/// ```
#[must_use]
pub fn mark_wait(name: &str) -> u16 {
    let sum = fnv_1a(name.as_bytes());
    // The high bits of FNV-1a are mixed best.
    ((sum >> 48) as u16).max(1)
}

impl RankPhase {
    /// All phases, in the order of their numbers in a slot.
    pub(crate) const ALL: [Self; 8] = [
        Self::Startup,
        Self::Step,
        Self::Data,
        Self::Eval,
        Self::Checkpoint,
        Self::Idle,
        Self::Other,
        Self::Ended,
    ];

    /// Returns `true` for the phases in which steps go on.
    #[must_use]
    pub fn is_moving(self) -> bool {
        matches!(self, Self::Step | Self::Data | Self::Other)
    }

    /// Returns the name in small letters.
    ///
    /// ```
    /// assert_eq!(logcore_health::slot::RankPhase::Checkpoint.name(), "checkpoint");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Step => "step",
            Self::Data => "data",
            Self::Eval => "eval",
            Self::Checkpoint => "checkpoint",
            Self::Idle => "idle",
            Self::Other => "other",
            Self::Ended => "ended",
        }
    }

    fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// The slots of a run: one is written, all are read.
///
/// ```
/// use logcore_health::slot::{RankState, SlotFolder};
///
/// let run = tempfile::tempdir()?;
/// let mut own = SlotFolder::new(run.path());
/// let mut other = SlotFolder::new(run.path());
/// own.write(&RankState::new(0, 1))?;
/// other.write(&RankState::new(3, 1))?;
/// let ranks: Vec<u32> = own.read_all(8, 1).iter().map(|state| state.rank).collect();
/// assert_eq!(ranks, [0, 3]);
/// assert!(own.read_all(8, 2).is_empty(), "another attempt");
/// own.remove()?;
/// other.remove()?;
/// assert!(!run.path().join("ranks").exists());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SlotFolder {
    run_dir: PathBuf,
    /// The file that [`write`](Self::write) writes, and its rank.
    own: Option<(u32, File)>,
}

impl SlotFolder {
    /// Prepares the slots in the folder of a run. Nothing is opened before the first call.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            own: None,
        }
    }

    /// Returns the folder of the run.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Writes the slot of a rank: one write of 64 bytes at the beginning of its file.
    ///
    /// The first write makes a new file and gives it the name, so that no link and no file of
    /// somebody else is ever written to. So does a later one, if the name is gone, or leads to what
    /// is no slot of this rank from the last minute: such a slot is that of a newer process.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or written, something else has the name of the folder, or
    /// `ulimit -f` is below 64 bytes. The next write makes a new file.
    pub fn write(&mut self, state: &RankState) -> io::Result<()> {
        let file = match self.own.take() {
            Some((rank, file)) if rank == state.rank && self.keeps_name(&file, rank) => file,
            _ => make_slot(&self.run_dir, state.rank)?,
        };
        write_slot(&file, &state.to_bytes())?;
        // The end of a descriptor, of whatever copy, sends what was written to a server of NFS; on
        // a local disk it costs nothing.
        drop(file.try_clone()?);
        self.own = Some((state.rank, file));
        Ok(())
    }

    /// Reads the slots of all ranks below `world_size`, in the order of the ranks.
    ///
    /// A slot is absent if it cannot be read, belongs to another attempt or another rank, or is no
    /// slot at all: a link, a pipe, a file of another length.
    #[must_use]
    pub fn read_all(&self, world_size: u32, attempt: u32) -> Vec<RankState> {
        let opened = Folder::open(&self.run_dir).and_then(|run| run.folder(Path::new(RANKS_FOLDER)));
        let Ok(folder) = opened else { return Vec::new() };
        (0..world_size.min(MAX_RANKS))
            .filter_map(|rank| read_slot(&folder, rank).filter(|state| state.attempt == attempt))
            .collect()
    }

    /// Removes the slot that [`write`](Self::write) has written, and the folder of all slots if it
    /// is empty then. A rank that was killed leaves its slot, which says when it ended.
    ///
    /// # Errors
    ///
    /// If the file cannot be removed. A missing file is no error.
    pub fn remove(&mut self) -> io::Result<()> {
        let Some((rank, _)) = self.own.take() else {
            return Ok(());
        };
        let run = Folder::open(&self.run_dir)?;
        match run.remove_file(&slot_path(rank)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Other ranks may be there.
        let _ = run.remove_dir(Path::new(RANKS_FOLDER));
        Ok(())
    }

    /// Returns `true` if the slot of a rank is this file, or that of a newer process of the rank.
    fn keeps_name(&self, file: &File, rank: u32) -> bool {
        if is_at(file, &self.run_dir, rank) {
            return true;
        }
        let opened = Folder::open(&self.run_dir).and_then(|run| run.folder(Path::new(RANKS_FOLDER)));
        let newer = opened.ok().and_then(|folder| read_slot(&folder, rank));
        newer.is_some_and(|newer| newer.is_fresh(SystemTime::now()))
    }
}

fn slot_path(rank: u32) -> PathBuf {
    Path::new(RANKS_FOLDER).join(rank.to_string())
}

/// Makes an empty file and gives it the name of the slot. Whatever had the name before loses it.
fn make_slot(run_dir: &Path, rank: u32) -> io::Result<File> {
    if file_size_limit() < SLOT_SIZE as u64 {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let run = Folder::open(run_dir)?;
    run.create_dir_all(Path::new(RANKS_FOLDER))?;
    // Only this rank uses the name, so that killed processes leave one such file at most.
    let temporary = slot_path(rank).with_extension("tmp");
    let file = match run.create_new(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            run.remove_file(&temporary)?;
            run.create_new(&temporary)?
        }
        created => created?,
    };
    run.rename(&temporary, &slot_path(rank))?;
    Ok(file)
}

/// Returns `true` if the name of the slot leads to the file, through no link.
#[cfg(unix)]
fn is_at(file: &File, run_dir: &Path, rank: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let is_folder = run_dir
        .join(RANKS_FOLDER)
        .symlink_metadata()
        .is_ok_and(|there| there.is_dir());
    let there = run_dir.join(slot_path(rank)).symlink_metadata();
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    is_folder && there.map(identity).ok() == file.metadata().map(identity).ok()
}

/// Returns `true`: without numbers of files, only a write tells that one is gone.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path, _: u32) -> bool {
    true
}

/// Reads a slot, and reads anew while the bytes are half old and half new.
fn read_slot(folder: &Folder, rank: u32) -> Option<RankState> {
    let file = folder.open_file(Path::new(&rank.to_string())).ok()?;
    let state = (0..MAX_READS).find_map(|_| RankState::from_bytes(&read_bytes(&file)?));
    state.filter(|state| state.rank == rank)
}

/// Returns the bytes of a file that has just those of a slot.
fn read_bytes(file: &File) -> Option<[u8; SLOT_SIZE]> {
    let mut bytes = [0; SLOT_SIZE + 1];
    let read = read_at(file, &mut bytes).ok()?;
    bytes[..read].try_into().ok()
}

#[cfg(unix)]
fn write_slot(file: &File, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn write_slot(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek as _, Write as _};
    file.rewind()?;
    file.write_all(bytes)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    use std::io::{Read as _, Seek as _};
    file.rewind()?;
    file.read(bytes)
}

/// Returns some bytes from the middle of a slot.
fn part<const N: usize>(bytes: &[u8; SLOT_SIZE], at: usize) -> [u8; N] {
    std::array::from_fn(|byte| bytes[at + byte])
}

/// Returns the number if it is from 0 to `most`.
fn within(number: f32, most: f32) -> Option<f32> {
    (0.0..=most).contains(&number).then_some(number)
}

/// Returns the milliseconds since 1970; 0 for a time before.
fn to_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_millis(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// Returns a checksum against torn writes: FNV-1a of 64 bits, which has no table and no crate.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn state(rank: u32, step: u64) -> RankState {
        RankState {
            step: Some(step),
            ..RankState::new(rank, 1)
        }
    }

    fn any_state() -> impl Strategy<Value = RankState> {
        let numbers = (any::<[u32; 3]>(), proptest::option::of(any::<u64>()), any::<[u32; 2]>());
        let floats = (0.0..f32::MAX, 0.0..=1.0_f32, 0.0..=MAX_PACE);
        (numbers, floats, 0..8_u8, any::<u16>()).prop_map(
            |(([rank, attempt, pid], step, times), floats, phase, wait)| RankState {
                rank,
                attempt,
                pid,
                step,
                time: UNIX_EPOCH + Duration::from_millis(times[0].into()),
                moved: UNIX_EPOCH + Duration::from_millis(u64::from(times[1]) << 10),
                step_seconds: floats.0,
                data_share: floats.1,
                pace: floats.2,
                phase: RankPhase::from_number(phase).unwrap(),
                wait,
            },
        )
    }

    #[test]
    fn the_layout_is_the_one_that_is_documented() {
        let mut state = state(0x0403_0201, 0x0807_0605_0403_0201);
        state.attempt = 2;
        state.pid = 3;
        state.time = UNIX_EPOCH + Duration::from_millis(4);
        state.moved = UNIX_EPOCH + Duration::from_millis(5);
        (state.step_seconds, state.data_share, state.pace) = (1.0, 0.5, 2.0);
        (state.phase, state.wait) = (RankPhase::Eval, 0x0a09);
        let bytes = state.to_bytes();
        assert_eq!(&bytes[..8], b"LCS1\x01\x02\x03\x04");
        assert_eq!(bytes[8..16], [2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[16..24], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[24..40], [4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            bytes[40..56],
            [0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f, 0, 0, 0, 0x40, 3, 1, 9, 10]
        );
        // The reference value of the empty text, and of "a".
        assert_eq!(
            (fnv_1a(b""), fnv_1a(b"a")),
            (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c)
        );
    }

    #[test]
    fn numbers_that_no_reader_accepts_are_written_as_zero() {
        let mut state = state(0, 1);
        (state.step_seconds, state.data_share, state.pace) = (f32::NAN, -0.5, f32::INFINITY);
        state.moved = UNIX_EPOCH - Duration::from_secs(1);
        let read = RankState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!((read.step_seconds, read.data_share, read.pace), (0.0, 0.0, 0.0));
        assert_eq!(read.moved, UNIX_EPOCH);
    }

    #[test]
    fn a_newer_write_replaces_the_older_one_in_place() {
        let run = tempfile::tempdir().unwrap();
        let mut slots = SlotFolder::new(run.path());
        for step in [1, u64::MAX] {
            slots.write(&state(2, step)).unwrap();
            assert_eq!(slots.read_all(3, 1)[0].step, Some(step));
        }
        assert_eq!(fs::read_dir(run.path().join("ranks")).unwrap().count(), 1);
    }

    #[test]
    fn a_new_process_takes_over_the_slot_and_its_leftovers() {
        let run = tempfile::tempdir().unwrap();
        let mut killed = SlotFolder::new(run.path());
        killed.write(&state(2, 1)).unwrap();
        fs::write(run.path().join("ranks/2.tmp"), "half").unwrap();
        let mut slots = SlotFolder::new(run.path());
        slots.write(&state(2, 9)).unwrap();
        killed.write(&state(2, 2)).unwrap();
        assert_eq!(slots.read_all(3, 1)[0].step, Some(9));
        slots.remove().unwrap();
        assert!(!run.path().join("ranks").exists());
    }

    #[test]
    fn a_slot_whose_folder_was_removed_is_made_anew_after_an_error() {
        let run = tempfile::tempdir().unwrap();
        let mut slots = SlotFolder::new(&run.path().join("absent"));
        assert!(slots.write(&state(0, 1)).is_err());
        assert!(slots.read_all(1, 1).is_empty());
        fs::create_dir(run.path().join("absent")).unwrap();
        slots.write(&state(0, 2)).unwrap();
        assert_eq!(slots.read_all(1, 1).len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_slot_that_was_removed_or_replaced_is_made_anew() {
        let outside = tempfile::tempdir().unwrap();
        let run = outside.path().join("run");
        fs::create_dir(&run).unwrap();
        let (ranks, slot) = (run.join("ranks"), run.join("ranks/0"));
        let precious = outside.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let pipe = |path: &Path| {
            assert!(
                std::process::Command::new("mkfifo")
                    .arg(path)
                    .status()
                    .unwrap()
                    .success()
            )
        };
        let link = |path: &Path| std::os::unix::fs::symlink(&precious, path).unwrap();
        let old = || {
            let mut old = state(0, 1);
            old.time -= FRESH_FOR;
            old.to_bytes()
        };
        let remove: [&dyn Fn(); 6] = [
            &|| fs::remove_dir_all(&ranks).unwrap(),
            &|| fs::rename(&ranks, outside.path().join("moved")).unwrap(),
            &|| fs::remove_file(&slot).unwrap(),
            &|| {
                pipe(&{
                    fs::remove_file(&slot).unwrap();
                    slot.clone()
                })
            },
            &|| {
                link(&{
                    fs::remove_file(&slot).unwrap();
                    slot.clone()
                })
            },
            &|| {
                fs::write(
                    &{
                        fs::remove_file(&slot).unwrap();
                        slot.clone()
                    },
                    old(),
                )
                .unwrap()
            },
        ];
        let mut slots = SlotFolder::new(&run);
        let steps = |slots: &SlotFolder| slots.read_all(1, 1).first().and_then(|state| state.step);
        for (number, remove) in (1..).zip(remove) {
            slots.write(&state(0, number)).unwrap();
            remove();
            slots.write(&state(0, number + 10)).unwrap();
            assert_eq!(steps(&slots), Some(number + 10));
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");

        // A pipe or a link of this name stays, and is an error until it is gone.
        for put in [&pipe as &dyn Fn(&Path), &link] {
            fs::remove_dir_all(&ranks).unwrap();
            put(&ranks);
            assert!(slots.write(&state(0, 20)).is_err() && slots.write(&state(0, 21)).is_err());
            fs::remove_file(&ranks).unwrap();
            slots.write(&state(0, 22)).unwrap();
            assert_eq!(steps(&slots), Some(22));
        }
    }

    #[test]
    fn slots_that_are_none_are_absent() {
        let run = tempfile::tempdir().unwrap();
        let ranks = run.path().join("ranks");
        let mut slots = SlotFolder::new(run.path());
        slots.write(&state(0, 1)).unwrap();
        let good = state(0, 1).to_bytes();
        fs::write(ranks.join("1"), good).unwrap(); // of another rank
        fs::write(ranks.join("2"), &good[..63]).unwrap();
        fs::write(ranks.join("3"), [&good[..], b"x"].concat()).unwrap();
        fs::write(ranks.join("4"), [0; 64]).unwrap();
        fs::File::create(ranks.join("5")).unwrap().set_len(1 << 40).unwrap();
        fs::create_dir(ranks.join("6")).unwrap();
        fs::write(ranks.join("7"), "").unwrap();
        let mut torn = state(8, 1).to_bytes();
        torn[16..32].copy_from_slice(&state(8, 1 << 40).to_bytes()[16..32]);
        fs::write(ranks.join("8"), torn).unwrap();
        fs::write(
            ranks.join("9"),
            RankState {
                attempt: 2,
                ..state(9, 1)
            }
            .to_bytes(),
        )
        .unwrap();
        let read = slots.read_all(u32::MAX, 1);
        assert_eq!(read.iter().map(|state| state.rank).collect::<Vec<_>>(), [0]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_never_read_written_or_waited_for() {
        let outside = tempfile::tempdir().unwrap();
        let run = outside.path().join("run");
        fs::create_dir_all(run.join("ranks")).unwrap();
        let precious = outside.path().join("precious");
        let bytes = state(0, 1).to_bytes();
        fs::write(&precious, bytes).unwrap();
        std::os::unix::fs::symlink(&precious, run.join("ranks/0")).unwrap();
        fs::hard_link(&precious, run.join("ranks/1")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(run.join("ranks/2"))
            .status()
            .unwrap();
        assert!(made.success());
        assert!(SlotFolder::new(&run).read_all(3, 1).is_empty());
        for rank in 0..3 {
            SlotFolder::new(&run).write(&state(rank, 7)).unwrap();
        }
        assert_eq!(fs::read(&precious).unwrap(), bytes);
        assert_eq!(SlotFolder::new(&run).read_all(3, 1).len(), 3);

        // The folder itself may lead elsewhere.
        let linked = outside.path().join("linked");
        fs::create_dir(&linked).unwrap();
        std::os::unix::fs::symlink(run.join("ranks"), linked.join("ranks")).unwrap();
        assert!(SlotFolder::new(&linked).write(&state(5, 7)).is_err());
        assert!(SlotFolder::new(&linked).read_all(3, 1).is_empty());
        assert!(!run.join("ranks/5").exists());
    }

    /// A reader sees whole slots, whose steps never go back, while the writer writes.
    #[test]
    fn a_reader_beside_a_writer_sees_whole_slots() {
        let run = tempfile::tempdir().unwrap();
        SlotFolder::new(run.path()).write(&state(0, 0)).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut slots = SlotFolder::new(run.path());
                (0..5000).for_each(|step| slots.write(&state(0, step)).unwrap());
            });
            let (slots, mut last) = (SlotFolder::new(run.path()), Some(0));
            while !writer.is_finished() {
                for state in slots.read_all(1, 1) {
                    assert!(state.step >= last);
                    last = state.step;
                }
            }
            assert_eq!(slots.read_all(1, 1)[0].step, Some(4999));
        });
    }

    proptest! {
        #[test]
        fn a_state_is_read_back_as_it_was(state in any_state()) {
            prop_assert_eq!(RankState::from_bytes(&state.to_bytes()), Some(state));
        }

        #[test]
        fn a_slot_with_a_changed_byte_is_none(state in any_state(), at in 0..SLOT_SIZE, change in 1..=u8::MAX) {
            let mut bytes = state.to_bytes();
            bytes[at] ^= change;
            prop_assert_eq!(RankState::from_bytes(&bytes), None);
        }

        #[test]
        fn any_bytes_with_a_good_sum_are_a_possible_state_or_none(fields in any::<[u8; 32]>(), more in any::<[u8; 20]>()) {
            let mut bytes = [0; SLOT_SIZE];
            bytes[..4].copy_from_slice(&MARK);
            bytes[4..36].copy_from_slice(&fields);
            bytes[36..56].copy_from_slice(&more);
            let sum = fnv_1a(&bytes[..SUM_AT]);
            bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
            if let Some(state) = RankState::from_bytes(&bytes) {
                prop_assert!((0.0..=1.0).contains(&state.data_share));
                prop_assert!((0.0..=MAX_PACE).contains(&state.pace) && state.step_seconds >= 0.0);
            }
        }
    }
}
