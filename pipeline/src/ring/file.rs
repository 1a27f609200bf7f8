//! The file that a ring lies in, and the names under which the next process finds it.
//!
//! In the log directory, `.logcore-<pid>-<nonce>.ring` is the ring itself, or, if it lies elsewhere, lines that lead to it:
//!
//! ```text
//! at <path>
//! on <place>
//! of <nonce> <inode>
//! ```
//!
//! With `.rank3` before the ending it is that of a process whose files are those of rank 3. The process holds a lock on the
//! ring; who gets the lock knows that the process is no more. The ring knows its own inode and that of each of its names, so that a
//! copy of any of them is none: what it says is believed of the folders alone that it was made for.

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logcore::kill_point::kill_point;
use logcore::{FileRank, RingPlace, process_number};

use crate::process::fork::OwnDescriptor;
use crate::process::notice::print_notice;
use crate::ring::file_system::{Ground, shared_memory_is_of_the_machine};
use crate::ring::host_id::{Place, this_boot};
use crate::ring::queue::{Origin, Ring, Sizes};
use crate::ring::region::Region;
use crate::writer::checkpoint::NamedFolder;

/// Begins the content of a name that leads to a ring in another folder.
pub(crate) const POINTER: &str = "at ";
/// Begins its second line: several machines may share the log directory, and none of them sees another's shared memory.
pub(crate) const MACHINE: &str = "\non ";
/// Begins its last line.
pub(crate) const ORIGIN: &str = "\nof ";
const BEGINNING: &str = ".logcore-";
const ENDING: &str = ".ring";
/// While a ring is being made, nobody may take it for one.
const UNFINISHED: &str = ".new";
/// Memory that is a file: as fast as any, and gone with the machine.
const SHARED_MEMORY: &str = "/dev/shm";

/// The file of a live ring. Dropped, it is gone: its ring has been delivered.
pub(crate) struct RingFile {
    /// Its lock says that the process lives. Never closed in a child of a fork, where `fork` has closed it already.
    file: ManuallyDrop<File>,
    own: ManuallyDrop<OwnDescriptor>,
    process: u64,
    names: Arc<RingNames>,
}

/// Where the next process will look for a ring, and what it will look for.
pub(crate) struct RingNames {
    path: PathBuf,
    origin: Origin,
    /// The log directories, by their numbers in marks.
    folders: Mutex<Vec<NamedFolder>>,
    /// The first of them, if it came into being for the ring: a run that leaves no files leaves no folder either.
    fresh: Option<PathBuf>,
}

/// Where a ring is to lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) place: RingPlace,
    /// A caller never waits, whatever stands still: a disk, too, that is frozen for a snapshot.
    pub(crate) never_waits: bool,
    pub(crate) rank: FileRank,
}

impl RingFile {
    /// Makes the file of a ring for the loggers of `folder` and maps it.
    ///
    /// # Errors
    ///
    /// If neither that folder nor shared memory takes it: then it has to be plain memory.
    #[cfg(unix)]
    pub(crate) fn create(folder: &Path, sizes: Sizes, wish: Wish) -> io::Result<(Self, Region)> {
        let name = name(wish.rank);
        let fresh = !folder.exists();
        fs::create_dir_all(folder)?;
        // However it was written, and wherever the process goes: a name must never take the place of the ring itself.
        let folder = &*folder.canonicalize()?;
        let fresh = fresh.then(|| folder.to_owned());
        let here = || {
            let made = Unnamed::create(&folder.join(&name), sizes)?;
            let inode = made.origin.inode;
            Ok(made.named(folder, inode, fresh.clone()))
        };
        let there = || {
            // Its name is begun first: a ring that no name leads to would stay there until the machine is started anew.
            let path = Path::new(SHARED_MEMORY).join(&name);
            let pointer = Pointer::begin(folder, &path)?;
            let made = Unnamed::create(&path, sizes)?;
            let inode = pointer.finish(made.origin)?;
            Ok(made.named(folder, inode, fresh.clone()))
        };
        match wish.place {
            RingPlace::LogDir => here(),
            RingPlace::SharedMemory => there(),
            RingPlace::Memory => Err(io::ErrorKind::Unsupported.into()),
            _ => match order(Ground::of(folder), shared_memory_is_of_the_machine(), wish.never_waits) {
                Order::There => warned(folder, there()),
                Order::HereThenThere => here().or_else(|error| warned(folder, there()).map_err(|_: io::Error| error)),
                Order::ThereThenHere => there().or_else(|error| here().map_err(|_: io::Error| error)),
            },
        }
    }

    /// Lets the next process that logs into `folder` find the ring from there; returns the folder's number.
    pub(crate) fn point_from(&self, folder: &Path) -> io::Result<u32> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let mut folders = self.names.folders();
        let known = folders.iter().position(|known| known.path == folder);
        let number = match known {
            Some(number) => number,
            None => {
                let inode = Pointer::begin(&folder, &self.names.path)?.finish(self.names.origin)?;
                folders.push(NamedFolder { path: folder, inode });
                folders.len() - 1
            }
        };
        u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// The names of the ring, for the writer.
    pub(crate) fn names(&self) -> &Arc<RingNames> {
        &self.names
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        if self.process != process_number() {
            return;
        }
        self.names.remove();
        // SAFETY: dropped once, here, and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.own);
            ManuallyDrop::drop(&mut self.file);
        }
    }
}

impl RingNames {
    /// Where the ring itself is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The log directories that hold a name.
    pub(crate) fn folders(&self) -> MutexGuard<'_, Vec<NamedFolder>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where pieces of long frames are kept.
    pub(crate) fn pieces(&self) -> PathBuf {
        pieces_of(&self.path)
    }

    /// Where the checkpoint of a turn is kept that is too long for the ring.
    pub(crate) fn marks(&self, turn: u64) -> PathBuf {
        marks_of(&self.path, turn)
    }

    /// Takes the ring away, so that nobody finds it.
    pub(crate) fn remove(&self) {
        if let Some(name) = self.path.file_name() {
            for folder in &*self.folders() {
                let _ = fs::remove_file(folder.path.join(name));
            }
        }
        for path in beside(&self.path) {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.fresh {
            // Only if it is empty.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// In which order places are tried.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    HereThenThere,
    ThereThenHere,
    There,
}

/// The memory of a container is gone when it is started anew, with what was in it; that of a machine is gone with the machine, as is
/// what a ring in a file is worth.
fn order(ground: Ground, memory_is_of_the_machine: bool, never_waits: bool) -> Order {
    match ground {
        Ground::Remote => Order::There,
        Ground::Firm if !(never_waits && memory_is_of_the_machine) => Order::HereThenThere,
        _ if memory_is_of_the_machine => Order::ThereThenHere,
        _ => Order::HereThenThere,
    }
}

/// Says what it means that a container has the ring in memory of its own.
fn warned<T>(folder: &Path, made: io::Result<T>) -> io::Result<T> {
    if made.is_ok() && !shared_memory_is_of_the_machine() {
        print_notice(
            "ring in a container",
            &format!(
                "the ring lies in {SHARED_MEMORY}, since {} does not take it: should the process be killed and its container be \
                 started anew, its last moments are lost",
                folder.display()
            ),
        );
    }
    made
}

/// A ring that has been made, and its lock.
struct Unnamed {
    file: File,
    path: PathBuf,
    origin: Origin,
    region: Region,
}

#[cfg(unix)]
impl Unnamed {
    fn create(path: &Path, sizes: Sizes) -> io::Result<Self> {
        let unfinished = unfinished(path);
        let file = private_file(&unfinished)?;
        kill_point("ring begun");
        let made = Self::fill(&file, &unfinished, sizes);
        kill_point("ring made");
        let renamed = made.and_then(|made| fs::rename(&unfinished, path).map(|()| made));
        if renamed.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        let (origin, region) = renamed?;
        kill_point("ring named");
        let ours = (process_number(), origin.nonce);
        OURS.lock().unwrap_or_else(PoisonError::into_inner).push(ours);
        Ok(Self {
            file,
            path: path.to_owned(),
            origin,
            region,
        })
    }

    fn fill(file: &File, path: &Path, sizes: Sizes) -> io::Result<(Origin, Region)> {
        file.try_lock()?;
        take_room(file, sizes.total())?;
        let origin = Origin::new(inode_of(file)?, this_boot());
        // A child of a fork keeps the mapping, and with it whatever it was made of: not what is locked.
        let mapped = open_again(file, path)?;
        let region = Region::map(&mapped, file, sizes.total(), sizes.front())?;
        Ring::begin(&region, sizes, origin);
        Ok((origin, region))
    }

    fn named(self, folder: &Path, inode: u64, fresh: Option<PathBuf>) -> (RingFile, Region) {
        let path = folder.to_owned();
        let names = RingNames {
            path: self.path,
            origin: self.origin,
            folders: Mutex::new(vec![NamedFolder { path, inode }]),
            fresh,
        };
        let file = RingFile {
            own: ManuallyDrop::new(OwnDescriptor::of(&self.file)),
            file: ManuallyDrop::new(self.file),
            process: process_number(),
            names: Arc::new(names),
        };
        (file, self.region)
    }
}

/// The rings that this process has made, and those from which it was forked.
static OURS: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Whether this process has made the ring of this nonce. Numbers of processes are no answer: each container counts its own.
pub(crate) fn is_ours(nonce: u64) -> bool {
    let ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    ours.contains(&(process_number(), nonce))
}

#[cfg(unix)]
pub(crate) fn inode_of(file: &File) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&file.metadata()?))
}

#[cfg(not(unix))]
pub(crate) fn inode_of(_: &File) -> io::Result<u64> {
    Ok(0)
}

/// Opens a file once more that nobody else may have exchanged.
#[cfg(unix)]
fn open_again(file: &File, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

    let again = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let (one, other) = (file.metadata()?, again.metadata()?);
    match (one.dev(), one.ino()) == (other.dev(), other.ino()) {
        true => Ok(again),
        false => Err(io::Error::other("somebody has put another file in its place")),
    }
}

/// A name that will lead to a ring in another folder. Dropped unfinished, it is gone.
struct Pointer {
    /// Its lock says that somebody is at it.
    file: File,
    path: PathBuf,
}

impl Pointer {
    fn begin(folder: &Path, ring: &Path) -> io::Result<Self> {
        let name = ring.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let path = folder.join(name);
        let mut file = private_file(&unfinished(&path))?;
        let written = file.try_lock().map_err(io::Error::from).and_then(|()| {
            let place = Place::of(ring.parent().unwrap_or(ring)).to_string();
            let text = [
                POINTER.as_bytes(),
                ring.as_os_str().as_encoded_bytes(),
                MACHINE.as_bytes(),
                place.as_bytes(),
            ];
            io::Write::write_all(&mut file, &text.concat())
        });
        let pointer = Self { file, path };
        written.map(|()| pointer)
    }

    /// Gives it its name; returns its inode.
    fn finish(mut self, origin: Origin) -> io::Result<u64> {
        let text = format!("{ORIGIN}{:x} {:x}\n", origin.nonce, origin.inode);
        io::Write::write_all(&mut self.file, text.as_bytes())?;
        kill_point("pointer");
        fs::rename(unfinished(&self.path), &self.path)?;
        inode_of(&self.file)
    }
}

impl Drop for Pointer {
    fn drop(&mut self) {
        // After `finish` there is none.
        let _ = fs::remove_file(unfinished(&self.path));
    }
}

/// Beside a ring, where pieces of long frames are kept.
pub(crate) fn pieces_of(ring: &Path) -> PathBuf {
    let mut name = ring.as_os_str().to_owned();
    name.push(".pieces");
    name.into()
}

/// Beside a ring, where a checkpoint is kept that is too long for it; the one before stays meanwhile.
pub(crate) fn marks_of(ring: &Path, turn: u64) -> PathBuf {
    let mut name = ring.as_os_str().to_owned();
    name.push(if turn & 1 == 0 { ".marks0" } else { ".marks1" });
    name.into()
}

/// All files that may be beside a ring.
pub(crate) fn beside(ring: &Path) -> [PathBuf; 3] {
    [pieces_of(ring), marks_of(ring, 0), marks_of(ring, 1)]
}

/// Whether a file's name is that of a ring or of a pointer to one.
pub(crate) fn is_ring_name(name: &str) -> bool {
    name.starts_with(BEGINNING) && name.ends_with(ENDING)
}

/// Whether it is that of one which was never finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(is_ring_name)
}

/// The rank in the name of a ring, finished or not.
pub(crate) fn rank_of(name: &str) -> FileRank {
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    FileRank(FileRank::parse(name).map(|(_, rank)| rank))
}

fn name(rank: FileRank) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let nonce = RandomState::new().hash_one(std::process::id()) as u32;
    rank.file_name(&format!("{BEGINNING}{}-{nonce:08x}{ENDING}", std::process::id()))
}

/// What it is called until it is finished.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// A new file that nobody else may read: what is said in it may be for some eyes only.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Has the disk set aside all of the file: a page that it has no room for later would be a fatal signal.
#[cfg(unix)]
fn take_room(file: &File, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    if bytes as u64 > longest_file() {
        // The system would not only refuse, but end the process by SIGXFSZ.
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // SAFETY: the descriptor is open for the length of the call, which touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// How long a file of this process may become (`ulimit -f`).
#[cfg(unix)]
fn longest_file() -> u64 {
    let mut limit = std::mem::MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the struct lives through the call, which fills it if it succeeds.
    unsafe {
        match libc::getrlimit(libc::RLIMIT_FSIZE, limit.as_mut_ptr()) {
            0 => limit.assume_init().rlim_cur,
            _ => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(place: RingPlace) -> Wish {
        Wish {
            place,
            never_waits: false,
            rank: FileRank(None),
        }
    }

    #[test]
    fn names_are_known_again() {
        for rank in [FileRank(None), FileRank(Some(3))] {
            let name = name(rank);
            assert!(is_ring_name(&name));
            assert_eq!((rank_of(&name), rank_of(&format!("{name}.new"))), (rank, rank));
            assert!(!is_ring_name("training.log") && !is_ring_name(&format!("{name}.new")));
            assert!(is_unfinished(&format!("{name}.new")));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_ring_is_private_locked_and_gone_with_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (ring, region) = RingFile::create(folder.path(), Sizes::of(4096), wish(RingPlace::LogDir)).unwrap();
        assert!(region.outlives());
        // The same folder in another form: a name there would take the place of the ring.
        for same in [
            folder.path().to_owned(),
            folder.path().join("."),
            folder.path().join("x/.."),
        ] {
            fs::create_dir_all(folder.path().join("x")).unwrap();
            ring.point_from(&same).unwrap();
        }
        fs::remove_dir(folder.path().join("x")).unwrap();
        ring.point_from(other.path()).unwrap();
        let metadata = fs::metadata(&ring.names.path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(metadata.len() as usize, Sizes::of(4096).total());
        assert!(fs::read(&ring.names.path).unwrap().starts_with(b"LOGRING2"));
        assert!(File::open(&ring.names.path).unwrap().try_lock().is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
        drop(ring);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn shared_memory_is_found_from_the_log_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (ring, _region) = RingFile::create(folder.path(), Sizes::of(4096), wish(RingPlace::SharedMemory)).unwrap();
        let pointer = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(pointer).unwrap();
        let (path, machine) = text.strip_prefix(POINTER).unwrap().split_once(MACHINE).unwrap();
        assert_eq!(path, ring.names.path.to_str().unwrap());
        let (machine, origin) = machine.split_once(ORIGIN).unwrap();
        assert_eq!(Place::parse(machine), Some(Place::of(Path::new(SHARED_MEMORY))));
        let known = ring.names.origin;
        assert_eq!(origin, format!("{:x} {:x}\n", known.nonce, known.inode));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_leads_to_the_memory_of_another_machine_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let to_nowhere = "/dev/shm/.logcore-1-nowhere.ring";
        let begun = |name: &str, machine: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("{POINTER}{to_nowhere}{MACHINE}{machine}\n")).unwrap();
            path
        };
        let ours = Place::of(Path::new(SHARED_MEMORY)).to_string();
        let of_another = begun(".logcore-1-a.ring", &format!("another-{ours}"));
        let ours = begun(".logcore-1-b.ring", &ours);
        assert!(crate::recover(folder.path()).is_empty());
        assert!(of_another.exists() && !ours.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_begun_by_a_process_that_died_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        // The process died before its first logger was open.
        let (ring, _region) = RingFile::create(folder.path(), Sizes::of(4096), wish(RingPlace::LogDir)).unwrap();
        let copy = elsewhere.path().join(".logcore-1-copy.ring");
        fs::copy(&ring.names.path, &copy).unwrap();
        assert!(crate::recover(elsewhere.path()).is_empty());
        assert!(!copy.exists());
        // It died before the name was whole that leads to its ring.
        let far = elsewhere.path().join(".logcore-2-far.ring");
        for far in [far.clone(), unfinished(&far)] {
            fs::copy(&ring.names.path, &far).unwrap();
        }
        drop(ring);
        let begun = Pointer::begin(folder.path(), &far).unwrap();
        assert!(crate::recover(folder.path()).is_empty());
        assert!(far.exists(), "somebody is at it");
        begun.file.unlock().unwrap();
        assert!(crate::recover(folder.path()).is_empty());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
