//! The file that a ring lies in, and the names under which the next process finds it.
//!
//! In the log directory, `.logcore-<pid>-<nonce>.ring` is the ring itself, or two lines `at <path>` and `on <place>` if it lies
//! elsewhere; with `.rank3` before the ending it is that of a process whose files are those of rank 3. Its process holds a lock on the
//! ring; who gets the lock knows that the process is no more.

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use logcore::kill_point::kill_point;
use logcore::{FileRank, RingPlace, process_number};

use crate::fork::OwnDescriptor;
use crate::machine::{Place, this_boot};
use crate::region::Region;
use crate::ring::{Ring, Sizes};

/// Begins the content of a name that leads to a ring in another folder.
pub(crate) const POINTER: &str = "at ";
/// Begins its second line: several machines may share the log directory, and none of them sees another's shared memory.
pub(crate) const MACHINE: &str = "\non ";
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
    path: PathBuf,
    /// Where the next process will look.
    names: Mutex<Vec<PathBuf>>,
    /// The log directory, if it came into being for the ring: a run that leaves no files leaves no folder either.
    folder: Option<PathBuf>,
}

impl RingFile {
    /// Makes the file of a ring for the loggers of `folder`, whose files are those of `rank`, and maps it.
    ///
    /// # Errors
    ///
    /// If neither that folder nor shared memory takes it: then it has to be plain memory.
    #[cfg(unix)]
    pub(crate) fn create(folder: &Path, sizes: Sizes, place: RingPlace, rank: FileRank) -> io::Result<(Self, Region)> {
        let name = name(rank);
        let fresh = !folder.exists();
        fs::create_dir_all(folder)?;
        // However it was written, and wherever the process goes: a name must never take the place of the ring itself.
        let folder = &folder.canonicalize()?;
        let here = || Self::create_at(&folder.join(&name), sizes);
        let there = || {
            // Its name is begun first: a ring that no name leads to would stay there until the machine is started anew.
            let path = Path::new(SHARED_MEMORY).join(&name);
            let pointer = Pointer::begin(folder, &path)?;
            let made = Self::create_at(&path, sizes)?;
            made.0.names().push(pointer.finish()?);
            Ok(made)
        };
        let made = match place {
            RingPlace::LogDir => here(),
            RingPlace::SharedMemory => there(),
            // On a network file system a mapping is slow, or does not hold what others have written.
            RingPlace::Auto if !is_local(folder) => there(),
            RingPlace::Auto => here().or_else(|error| there().map_err(|_| error)),
            RingPlace::Memory => Err(io::ErrorKind::Unsupported.into()),
        };
        made.map(|(mut file, region)| {
            file.folder = fresh.then(|| folder.clone());
            (file, region)
        })
    }

    /// Lets the next process that logs into `folder` find the ring from there.
    pub(crate) fn point_from(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let folder = &*folder.canonicalize()?;
        if self.path.parent() == Some(folder) {
            return Ok(());
        }
        let mut names = self.names();
        if !names.iter().any(|name| name.parent() == Some(folder)) {
            names.push(Pointer::begin(folder, &self.path)?.finish()?);
        }
        Ok(())
    }

    fn names(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where pieces of long frames are kept.
    pub(crate) fn pieces(&self) -> PathBuf {
        pieces_of(&self.path)
    }

    #[cfg(unix)]
    fn create_at(path: &Path, sizes: Sizes) -> io::Result<(Self, Region)> {
        let unfinished = unfinished(path);
        let file = private_file(&unfinished)?;
        kill_point("ring begun");
        let made = file
            .try_lock()
            .map_err(io::Error::from)
            .and_then(|()| take_room(&file, sizes.total()))
            // A child of a fork keeps the mapping, and with it whatever it was made of: not what is locked.
            .and_then(|()| File::options().read(true).write(true).open(&unfinished))
            .and_then(|mapped| Region::map(&mapped, sizes.total()))
            .inspect(|region| Ring::begin(region, sizes, this_boot()));
        kill_point("ring made");
        let renamed = made.and_then(|region| fs::rename(&unfinished, path).map(|()| region));
        if renamed.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        let region = renamed?;
        kill_point("ring named");
        let made = Self {
            own: ManuallyDrop::new(OwnDescriptor::of(&file)),
            file: ManuallyDrop::new(file),
            process: process_number(),
            path: path.to_owned(),
            names: Mutex::default(),
            folder: None,
        };
        Ok((made, region))
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        if self.process != process_number() {
            return;
        }
        for name in self.names.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = fs::remove_file(name);
        }
        for path in [self.pieces(), self.path.clone()] {
            let _ = fs::remove_file(path);
        }
        if let Some(folder) = &self.folder {
            // Only if it is empty.
            let _ = fs::remove_dir(folder);
        }
        // SAFETY: dropped once, here, and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.own);
            ManuallyDrop::drop(&mut self.file);
        }
    }
}

/// A name that will lead to a ring in another folder. Dropped unfinished, it is gone.
struct Pointer {
    /// Its lock says that somebody is at it.
    _file: File,
    path: PathBuf,
}

impl Pointer {
    fn begin(folder: &Path, ring: &Path) -> io::Result<Self> {
        let (Some(name), Some(target)) = (ring.file_name(), ring.to_str()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let path = folder.join(name);
        let mut file = private_file(&unfinished(&path))?;
        let written = file.try_lock().map_err(io::Error::from).and_then(|()| {
            let text = format!(
                "{POINTER}{target}{MACHINE}{}\n",
                Place::of(ring.parent().unwrap_or(ring))
            );
            io::Write::write_all(&mut file, text.as_bytes())
        });
        let pointer = Self { _file: file, path };
        written.map(|()| pointer)
    }

    fn finish(self) -> io::Result<PathBuf> {
        kill_point("pointer");
        fs::rename(unfinished(&self.path), &self.path)?;
        Ok(self.path.clone())
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
    rank.name(&format!("{BEGINNING}{}-{nonce:08x}{ENDING}", std::process::id()))
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
    // SAFETY: the descriptor is open for the length of the call, which touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether the folder is on a file system of this machine, by the numbers of statfs(2).
#[cfg(target_os = "linux")]
fn is_local(folder: &Path) -> bool {
    use std::os::fd::AsRawFd as _;

    const LOCAL: [u32; 9] = [
        0xef53,     // ext2, 3, 4
        0x58465342, // xfs
        0x9123683e, // btrfs
        0x01021994, // tmpfs
        0x858458f6, // ramfs
        0xf2f52010, // f2fs
        0x2fc12fc1, // zfs
        0xca451a4e, // bcachefs
        0x794c7630, // overlayfs
    ];
    let Ok(folder) = File::open(folder) else { return false };
    // SAFETY: an all-zero value is a valid one of this plain struct of numbers.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and the struct is ours for the length of the call.
    let failed = unsafe { libc::fstatfs(folder.as_raw_fd(), &raw mut about) } != 0;
    // The field's type differs between systems; the numbers have 32 bits.
    !failed && LOCAL.contains(&(about.f_type as u32))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_local(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (ring, region) =
            RingFile::create(folder.path(), Sizes::of(4096), RingPlace::LogDir, FileRank(None)).unwrap();
        assert!(region.is_mapped());
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
        let metadata = fs::metadata(&ring.path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(metadata.len() as usize, Sizes::of(4096).total());
        assert!(fs::read(&ring.path).unwrap().starts_with(b"LOGRING1"));
        assert!(File::open(&ring.path).unwrap().try_lock().is_err());
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
        let (ring, _region) =
            RingFile::create(folder.path(), Sizes::of(4096), RingPlace::SharedMemory, FileRank(None)).unwrap();
        let pointer = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(pointer).unwrap();
        let (path, machine) = text.strip_prefix(POINTER).unwrap().split_once(MACHINE).unwrap();
        assert_eq!(path, ring.path.to_str().unwrap());
        assert_eq!(Place::parse(machine), Some(Place::of(Path::new(SHARED_MEMORY))));
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
        let (ring, _region) =
            RingFile::create(folder.path(), Sizes::of(4096), RingPlace::LogDir, FileRank(None)).unwrap();
        let copy = elsewhere.path().join(".logcore-1-copy.ring");
        fs::copy(&ring.path, &copy).unwrap();
        assert!(crate::recover(elsewhere.path()).is_empty());
        assert!(!copy.exists());
        // It died before the name was whole that leads to its ring.
        let far = elsewhere.path().join(".logcore-2-far.ring");
        for far in [far.clone(), unfinished(&far)] {
            fs::copy(&ring.path, &far).unwrap();
        }
        drop(ring);
        let begun = Pointer::begin(folder.path(), &far).unwrap();
        assert!(crate::recover(folder.path()).is_empty());
        assert!(far.exists(), "somebody is at it");
        begun._file.unlock().unwrap();
        assert!(crate::recover(folder.path()).is_empty());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
