//! The file of a ring, and the names by which the next process finds it.
//!
//! In the log directory, `.logcore-<pid>-<nonce>.ring` is the ring itself, or a *pointer*: lines
//! that lead to a ring in another folder.
//!
//! ```text
//! at <path>
//! on <host id>
//! of <nonce> <inode>
//! ```
//!
//! The name ends in `.rank3.ring` if the process writes the files of rank 3. The process holds a
//! lock on the ring; a process that gets the lock knows that the owner is dead. The ring contains
//! its own inode and that of each of its names, so recovery recognizes copies. Recovery delivers a
//! ring only into the folders that it was made for.
//!
//! A name in a run folder beneath the user's `log_dir` has an [entry](super::entry) there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use logcore::kill_point::kill_point;
use logcore::sync::lock;
use logcore::{FileRank, RingPlace, process_number};

use super::Region;
use super::entry::UnsettledEntry;
use super::file_system::{FileSystem, is_shared_memory_of_machine};
use super::host_id::{HostId, boot_number};
use super::layout::RingSizes;
use super::queue::{Ring, RingIdentity};
use crate::process::notice::print_notice;
use crate::process::sys::ExclusiveDescriptor;

/// Begins a pointer, before the path of the ring.
pub(crate) const POINTER_PATH: &str = "at ";
/// Begins the second line of a pointer: machines that share the log directory do not share their
/// memory.
pub(crate) const POINTER_HOST: &str = "\non ";
/// Begins the last line of a pointer.
pub(crate) const POINTER_IDENTITY: &str = "\nof ";
pub(super) const PREFIX: &str = ".logcore-";
pub(super) const SUFFIX: &str = ".ring";
/// Added to the name of a ring that is not complete, so that no process takes it for one.
const UNFINISHED: &str = ".new";
/// Memory that is a file: fast, and lost at a reboot.
const SHARED_MEMORY: &str = "/dev/shm";

/// One of the log directories that have a name of the ring; see
/// [`Pipeline::link_from`](crate::Pipeline::link_from).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderNumber(pub(crate) u32);

/// A log directory that has a name of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFolder {
    pub(crate) path: PathBuf,
    /// The inode of the name's file: of the ring itself, or of a pointer to it.
    pub(crate) inode: u64,
}

/// The file of a live ring. Its drop removes the file, because the ring has been delivered.
pub(crate) struct RingFile {
    /// The lock on the file proves that the process lives. A child of a fork never closes it,
    /// because the fork has closed its copy.
    file: Option<File>,
    descriptor: Option<ExclusiveDescriptor>,
    process: u64,
    names: Arc<RingNames>,
}

/// The names of a ring, and the files beside it.
pub(crate) struct RingNames {
    path: PathBuf,
    identity: RingIdentity,
    /// The log directories, by their [`FolderNumber`].
    folders: Mutex<Vec<NamedFolder>>,
    /// The paths of the entries that lead to the names.
    entries: Mutex<Vec<PathBuf>>,
    /// The first log directory, if it was created for the ring: a run without files leaves no
    /// folder.
    created_folder: Option<PathBuf>,
}

/// The ring options of a config.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingRequest {
    pub(crate) place: RingPlace,
    /// `true` if a caller never waits, not even for a disk that is frozen for a snapshot.
    pub(crate) never_waits: bool,
    pub(crate) rank: FileRank,
}

impl RingFile {
    /// Fails, because this system has no mapped files: the ring has to be plain memory.
    ///
    /// # Errors
    ///
    /// Always, with [`io::ErrorKind::Unsupported`].
    #[cfg(not(unix))]
    pub(crate) fn create(_: &Path, _: &Path, _: RingSizes, _: RingRequest) -> io::Result<(Self, Region)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Creates the file of a ring for the loggers of `folder`, which is `root` or lies in it, and
    /// maps the file.
    ///
    /// # Errors
    ///
    /// If neither the folder nor shared memory has room for the ring. Then plain memory has to do.
    #[cfg(unix)]
    pub(crate) fn create(
        root: &Path,
        folder: &Path,
        sizes: RingSizes,
        request: RingRequest,
    ) -> io::Result<(Self, Region)> {
        let name = new_name(request.rank);
        let is_new = !folder.exists();
        fs::create_dir_all(folder)?;
        // Independent of its spelling and of the current directory: a name must never replace the
        // ring itself.
        let folder = &*folder.canonicalize()?;
        let created_folder = is_new.then(|| folder.to_owned());
        let entry = create_entry(root, folder, name.as_ref(), 0);
        let in_log_dir = || {
            let ring = NewRing::create(&folder.join(&name), sizes)?;
            let inode = ring.identity.inode;
            Ok(ring.with_name_in(folder, inode, created_folder.clone()))
        };
        let in_shared_memory = || {
            // The pointer comes first: without a pointer the ring would stay in memory until the
            // next reboot.
            let path = Path::new(SHARED_MEMORY).join(&name);
            let pointer = RingPointer::begin(folder, &path)?;
            let ring = NewRing::create(&path, sizes)?;
            let inode = pointer.finish(ring.identity)?;
            Ok(ring.with_name_in(folder, inode, created_folder.clone()))
        };
        let (ring, region) = match request.place {
            RingPlace::LogDir => in_log_dir(),
            RingPlace::SharedMemory => in_shared_memory(),
            RingPlace::Memory => Err(io::ErrorKind::Unsupported.into()),
            _ => {
                let is_machine_memory = is_shared_memory_of_machine();
                match placement(FileSystem::of(folder), is_machine_memory, request.never_waits) {
                    Placement::SharedMemory => warn_in_container(folder, in_shared_memory()),
                    Placement::LogDirFirst => in_log_dir()
                        .or_else(|error| warn_in_container(folder, in_shared_memory()).map_err(|_: io::Error| error)),
                    Placement::SharedMemoryFirst => {
                        in_shared_memory().or_else(|error| in_log_dir().map_err(|_: io::Error| error))
                    }
                }
            }
        }?;
        ring.names.keep(entry);
        Ok((ring, region))
    }

    /// Lets the next process that logs into `root` find the ring from `folder`, which is the root
    /// or lies in it. Returns the number of the folder.
    pub(crate) fn link_from(&self, root: &Path, folder: &Path) -> io::Result<u32> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let mut folders = self.names.folders();
        let number = match folders.iter().position(|named| named.path == folder) {
            Some(number) => number,
            None => {
                let name = self.names.path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
                let entry = create_entry(root, &folder, name, folders.len());
                let inode = RingPointer::begin(&folder, &self.names.path)?.finish(self.names.identity)?;
                self.names.keep(entry);
                folders.push(NamedFolder { path: folder, inode });
                folders.len() - 1
            }
        };
        u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// Returns the names of the ring, for the writer.
    pub(crate) fn names(&self) -> &Arc<RingNames> {
        &self.names
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        if self.process != process_number() {
            std::mem::forget((self.file.take(), self.descriptor.take()));
            return;
        }
        self.names.remove();
        if let (Some(descriptor), Some(file)) = (self.descriptor.take(), self.file.take()) {
            descriptor.close(file);
        }
    }
}

impl RingNames {
    /// Returns the path of the ring itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the log directories that have a name.
    pub(crate) fn folders(&self) -> MutexGuard<'_, Vec<NamedFolder>> {
        lock(&self.folders)
    }

    /// Returns the path of the file that keeps chunks of long frames.
    pub(crate) fn chunk_file(&self) -> PathBuf {
        chunk_file(&self.path)
    }

    /// Returns the path of the file for the checkpoint of a turn that is too long for the ring.
    pub(crate) fn checkpoint_file(&self, turn: u64) -> PathBuf {
        checkpoint_file(&self.path, turn)
    }

    /// Keeps an entry until the ring is removed.
    fn keep(&self, entry: Option<UnsettledEntry>) {
        lock(&self.entries).extend(entry.map(UnsettledEntry::settle));
    }

    /// Removes the ring and everything that leads to it.
    pub(crate) fn remove(&self) {
        // The pointers come last: nobody else knows of a ring in shared memory.
        for path in [&self.path].into_iter().chain(&files_beside(&self.path)) {
            let _ = fs::remove_file(path);
            kill_point("ring left");
        }
        if let Some(name) = self.path.file_name() {
            for folder in &*self.folders() {
                let _ = fs::remove_file(folder.path.join(name));
            }
        }
        for entry in &*lock(&self.entries) {
            kill_point("entry left");
            let _ = fs::remove_file(entry);
        }
        if let Some(folder) = &self.created_folder {
            // Succeeds only if the folder is empty.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Creates the entry of a name that is about to be made; `None` if the name needs none, or a notice
/// has said why there is none.
fn create_entry(root: &Path, folder: &Path, ring: &OsStr, number: usize) -> Option<UnsettledEntry> {
    let created = UnsettledEntry::create(root, folder, ring, number).inspect_err(|error| {
        print_notice(
            "ring without an entry",
            &format!(
                "cannot write an entry for the ring into {}: {error}. If this process is killed, `logcore repair \
                 {}` delivers its last moments, but the next start does not",
                root.display(),
                folder.display()
            ),
        );
    });
    created.ok().flatten()
}

/// The order in which places are tried.
#[derive(Debug, PartialEq, Eq)]
enum Placement {
    LogDirFirst,
    SharedMemoryFirst,
    SharedMemory,
}

/// The memory of a container is lost when the container restarts. The memory of a machine is lost
/// when the machine reboots, and then a ring in a file is worth nothing, either.
fn placement(file_system: FileSystem, is_machine_memory: bool, never_waits: bool) -> Placement {
    match file_system {
        FileSystem::Remote => Placement::SharedMemory,
        FileSystem::InPlace if !(never_waits && is_machine_memory) => Placement::LogDirFirst,
        _ if is_machine_memory => Placement::SharedMemoryFirst,
        _ => Placement::LogDirFirst,
    }
}

/// Prints a notice if the ring is in the memory of a container.
fn warn_in_container<T>(folder: &Path, created: io::Result<T>) -> io::Result<T> {
    if created.is_ok() && !is_shared_memory_of_machine() {
        print_notice(
            "ring in a container",
            &format!(
                "the ring is in {SHARED_MEMORY}, because {} cannot hold it: if the process is killed and its \
                 container restarts, its last moments are lost",
                folder.display()
            ),
        );
    }
    created
}

/// A ring that is created and locked.
struct NewRing {
    file: File,
    path: PathBuf,
    identity: RingIdentity,
    region: Region,
}

#[cfg(unix)]
impl NewRing {
    fn create(path: &Path, sizes: RingSizes) -> io::Result<Self> {
        let unfinished = unfinished_path(path);
        let file = create_private_file(&unfinished)?;
        kill_point("ring begun");
        let filled = Self::fill(&file, &unfinished, sizes);
        kill_point("ring made");
        let renamed = filled.and_then(|filled| fs::rename(&unfinished, path).map(|()| filled));
        if renamed.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        let (identity, region) = renamed?;
        kill_point("ring named");
        lock(&OWN_RINGS).push((process_number(), identity.nonce));
        Ok(Self {
            file,
            path: path.to_owned(),
            identity,
            region,
        })
    }

    fn fill(file: &File, path: &Path, sizes: RingSizes) -> io::Result<(RingIdentity, Region)> {
        file.try_lock()?;
        allocate(file, sizes.total())?;
        let identity = RingIdentity::new(inode_of(file)?, boot_number());
        // A child of a fork keeps the mapping, and with the mapping the open file behind it: that
        // must not be the locked one.
        let mapped = reopen(file, path)?;
        let region = Region::map(&mapped, file, sizes.total(), sizes.front())?;
        Ring::initialize(&region, sizes, identity);
        Ok((identity, region))
    }

    fn with_name_in(self, folder: &Path, inode: u64, created_folder: Option<PathBuf>) -> (RingFile, Region) {
        let path = folder.to_owned();
        let names = RingNames {
            path: self.path,
            identity: self.identity,
            folders: Mutex::new(vec![NamedFolder { path, inode }]),
            entries: Mutex::default(),
            created_folder,
        };
        let file = RingFile {
            descriptor: Some(ExclusiveDescriptor::register(&self.file)),
            file: Some(self.file),
            process: process_number(),
            names: Arc::new(names),
        };
        (file, self.region)
    }
}

/// The processes and nonces of the rings that this process has created, or that its ancestors had
/// created before the fork.
static OWN_RINGS: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Returns `true` if this process has created the ring of this nonce. Process ids do not answer
/// that, because each container counts its own.
pub(crate) fn is_own_ring(nonce: u64) -> bool {
    lock(&OWN_RINGS).contains(&(process_number(), nonce))
}

#[cfg(unix)]
pub(crate) fn inode_of(file: &File) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&file.metadata()?))
}

#[cfg(not(unix))]
pub(crate) fn inode_of(_: &File) -> io::Result<u64> {
    Ok(0)
}

/// Flags of files whose path another user could have replaced.
#[cfg(unix)]
pub(crate) fn cautious_flags() -> i32 {
    libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC
}

/// Opens a file again, and checks that its path still leads to it.
#[cfg(unix)]
fn reopen(file: &File, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

    let again = File::options()
        .read(true)
        .write(true)
        .custom_flags(cautious_flags())
        .open(path)?;
    let (first, second) = (file.metadata()?, again.metadata()?);
    match (first.dev(), first.ino()) == (second.dev(), second.ino()) {
        true => Ok(again),
        false => Err(io::Error::other("another file has replaced it")),
    }
}

/// A name that will lead to a ring in another folder. Its drop removes an unfinished pointer.
struct RingPointer {
    /// The lock on the file shows that a process is writing the pointer.
    file: File,
    path: PathBuf,
}

impl RingPointer {
    fn begin(folder: &Path, ring: &Path) -> io::Result<Self> {
        let name = ring.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let path = folder.join(name);
        let mut file = create_private_file(&unfinished_path(&path))?;
        let written = file.try_lock().map_err(io::Error::from).and_then(|()| {
            let host = HostId::for_file(ring).to_string();
            let text = [
                POINTER_PATH.as_bytes(),
                ring.as_os_str().as_encoded_bytes(),
                POINTER_HOST.as_bytes(),
                host.as_bytes(),
            ];
            io::Write::write_all(&mut file, &text.concat())
        });
        let pointer = Self { file, path };
        written.map(|()| pointer)
    }

    /// Completes the pointer, and returns its inode.
    fn finish(mut self, identity: RingIdentity) -> io::Result<u64> {
        let text = format!("{POINTER_IDENTITY}{:x} {:x}\n", identity.nonce, identity.inode);
        io::Write::write_all(&mut self.file, text.as_bytes())?;
        kill_point("pointer");
        fs::rename(unfinished_path(&self.path), &self.path)?;
        inode_of(&self.file)
    }
}

impl Drop for RingPointer {
    fn drop(&mut self) {
        // After `finish` there is no such file.
        let _ = fs::remove_file(unfinished_path(&self.path));
    }
}

/// Returns the path of the file that keeps chunks of long frames.
pub(crate) fn chunk_file(ring: &Path) -> PathBuf {
    with_suffix(ring, ".pieces")
}

/// Returns the path of the file for the checkpoint of a turn that is too long for the ring. The
/// file of the turn before stays meanwhile.
pub(crate) fn checkpoint_file(ring: &Path, turn: u64) -> PathBuf {
    with_suffix(ring, if turn & 1 == 0 { ".marks0" } else { ".marks1" })
}

/// Returns the paths of all files that may be beside a ring.
pub(crate) fn files_beside(ring: &Path) -> [PathBuf; 3] {
    [chunk_file(ring), checkpoint_file(ring, 0), checkpoint_file(ring, 1)]
}

/// Returns the path of a ring or a pointer that is not complete.
pub(crate) fn unfinished_path(path: &Path) -> PathBuf {
    with_suffix(path, UNFINISHED)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns `true` if a file name is that of a ring or of a pointer.
pub(crate) fn is_ring_name(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Returns `true` if a file name is that of an unfinished ring or pointer.
pub(crate) fn is_unfinished_name(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(is_ring_name)
}

/// Returns the rank in the name of a ring, finished or not.
pub(crate) fn rank_of(name: &str) -> FileRank {
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    FileRank(FileRank::parse(name).map(|(_, rank)| rank))
}

fn new_name(rank: FileRank) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let nonce = RandomState::new().hash_one(std::process::id()) as u32;
    rank.file_name(&format!("{PREFIX}{}-{nonce:08x}{SUFFIX}", std::process::id()))
}

/// Creates a file that only its user may read, because logs may be confidential.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the disk allocate all of the file: a later page without room would be a fatal signal.
#[cfg(unix)]
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    use crate::process::sys::calls::{file_size_limit, reserve_room};

    if file_size_limit().is_some_and(|limit| bytes as u64 > limit) {
        // The system would not only refuse, but end the process by SIGXFSZ.
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    match reserve_room(file, bytes) {
        // Old file systems allocate only when they are written to.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            io::copy(&mut io::Read::take(io::repeat(0), bytes as u64), &mut &*file).map(drop)
        }
        reserved => reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a ring whose folder is the root.
    #[cfg(target_os = "linux")]
    fn create(folder: &Path, place: RingPlace) -> (RingFile, Region) {
        create_in(folder, folder, place)
    }

    #[cfg(target_os = "linux")]
    fn create_in(root: &Path, folder: &Path, place: RingPlace) -> (RingFile, Region) {
        let request = RingRequest {
            place,
            never_waits: false,
            rank: FileRank(None),
        };
        RingFile::create(root, folder, RingSizes::for_capacity(4096), request).unwrap()
    }

    #[test]
    fn ring_names_are_recognized() {
        for rank in [FileRank(None), FileRank(Some(3))] {
            let name = new_name(rank);
            assert!(is_ring_name(&name));
            assert_eq!((rank_of(&name), rank_of(&format!("{name}.new"))), (rank, rank));
            assert!(!is_ring_name("training.log") && !is_ring_name(&format!("{name}.new")));
            assert!(is_unfinished_name(&format!("{name}.new")));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_ring_is_private_locked_and_gone_with_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (ring, region) = create(folder.path(), RingPlace::LogDir);
        assert!(region.outlives_process());
        // The same folder in another spelling: a name there would replace the ring.
        for same in [
            folder.path().to_owned(),
            folder.path().join("."),
            folder.path().join("x/.."),
        ] {
            fs::create_dir_all(folder.path().join("x")).unwrap();
            ring.link_from(&same, &same).unwrap();
        }
        fs::remove_dir(folder.path().join("x")).unwrap();
        ring.link_from(other.path(), other.path()).unwrap();
        let metadata = fs::metadata(&ring.names.path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(metadata.len() as usize, RingSizes::for_capacity(4096).total());
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
    fn a_ring_in_shared_memory_has_a_pointer_in_the_log_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (ring, _region) = create(folder.path(), RingPlace::SharedMemory);
        let pointer = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(pointer).unwrap();
        let (path, machine) = text
            .strip_prefix(POINTER_PATH)
            .unwrap()
            .split_once(POINTER_HOST)
            .unwrap();
        assert_eq!(path, ring.names.path.to_str().unwrap());
        let (machine, origin) = machine.split_once(POINTER_IDENTITY).unwrap();
        assert_eq!(
            HostId::parse(machine),
            Some(HostId::for_folder(Path::new(SHARED_MEMORY)))
        );
        let identity = ring.names.identity;
        assert_eq!(origin, format!("{:x} {:x}\n", identity.nonce, identity.inode));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_ring_in_a_run_folder_has_an_entry_in_the_root() {
        for place in [RingPlace::LogDir, RingPlace::SharedMemory] {
            let root = tempfile::tempdir().unwrap();
            let [run, other] = ["run", "other"].map(|name| root.path().join(name));
            fs::create_dir(&run).unwrap();
            let (ring, _region) = create_in(root.path(), &run, place);
            ring.link_from(root.path(), &other).unwrap();
            ring.link_from(root.path(), &other).unwrap();
            let entries = root.path().join(".logcore/rings");
            let texts = || {
                let paths = fs::read_dir(&entries).unwrap().map(|entry| entry.unwrap().path());
                let mut texts: Vec<_> = paths.map(|path| fs::read_to_string(path).unwrap()).collect();
                texts.sort();
                texts
            };
            assert_eq!(texts(), ["other\n", "run\n"]);
            assert!(crate::recover(root.path(), &|_| {}).is_empty());
            assert_eq!(texts().len(), 2, "the entries of a live process stay");
            drop(ring);
            assert!(texts().is_empty());
            for folder in [run, other] {
                assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
            }
        }
    }

    /// A start that was killed leaves one of these.
    #[cfg(target_os = "linux")]
    #[test]
    fn recovery_removes_entries_without_a_ring() {
        let root = tempfile::tempdir().unwrap();
        let (run, entries) = (root.path().join("run"), root.path().join(".logcore/rings"));
        for folder in [&run, &entries] {
            fs::create_dir_all(folder).unwrap();
        }
        let far = tempfile::tempdir().unwrap();
        let far = far.path().join(".logcore-5-a.ring");
        fs::write(entries.join("1-a"), "").unwrap();
        fs::write(entries.join("2-a"), "run").unwrap();
        for (entry, left) in [("3-a", None), ("4-a", Some(".logcore-4-a.ring.new")), ("5-a", None)] {
            fs::write(entries.join(entry), "run\n").unwrap();
            if let Some(left) = left {
                fs::write(run.join(left), "LOGRING2").unwrap();
            }
        }
        let pointer = RingPointer::begin(&run, &far).unwrap();
        pointer.file.unlock().unwrap();
        let live = create_private_file(&entries.join("6-a")).unwrap();
        live.try_lock().unwrap();
        fs::write(entries.join("7-a"), "gone\n").unwrap();
        // They lead out of the root.
        std::os::unix::fs::symlink(far.parent().unwrap(), root.path().join("link")).unwrap();
        fs::write(entries.join("8-a"), "link\n").unwrap();
        fs::write(entries.join("9-a"), "../x\n").unwrap();
        let notes = Mutex::new(Vec::new());
        let note = |killed: &crate::KilledRun<'_>| lock(&notes).push(killed.pid);
        assert!(crate::recover(root.path(), &note).is_empty());
        let left = fs::read_dir(&entries).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["6-a", "8-a"]);
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
        let mut noted = notes.into_inner().unwrap();
        noted.sort_unstable();
        assert_eq!(noted, [3, 4, 5, 7]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn recovery_keeps_pointers_of_other_machines() {
        let folder = tempfile::tempdir().unwrap();
        let to_nowhere = "/dev/shm/.logcore-1-nowhere.ring";
        let begun = |name: &str, machine: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("{POINTER_PATH}{to_nowhere}{POINTER_HOST}{machine}\n")).unwrap();
            path
        };
        let ours = HostId::for_folder(Path::new(SHARED_MEMORY)).to_string();
        let of_another = begun(".logcore-1-a.ring", &format!("another-{ours}"));
        let ours = begun(".logcore-1-b.ring", &ours);
        assert!(crate::recover(folder.path(), &|_| {}).is_empty());
        assert!(of_another.exists() && !ours.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn recovery_removes_unfinished_rings_of_dead_processes() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        // The process died before its first logger was open.
        let (ring, _region) = create(folder.path(), RingPlace::LogDir);
        let copy = elsewhere.path().join(".logcore-1-copy.ring");
        fs::copy(&ring.names.path, &copy).unwrap();
        assert!(crate::recover(elsewhere.path(), &|_| {}).is_empty());
        assert!(!copy.exists());
        // The process died before the pointer to its ring was complete.
        let far = elsewhere.path().join(".logcore-2-far.ring");
        for far in [far.clone(), unfinished_path(&far)] {
            fs::copy(&ring.names.path, &far).unwrap();
        }
        drop(ring);
        let begun = RingPointer::begin(folder.path(), &far).unwrap();
        assert!(crate::recover(folder.path(), &|_| {}).is_empty());
        assert!(far.exists(), "another process works on the pointer");
        begun.file.unlock().unwrap();
        assert!(crate::recover(folder.path(), &|_| {}).is_empty());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_unfinished_pointer_to_a_locked_ring_stays() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ring, _region) = create(elsewhere.path(), RingPlace::LogDir);
        let far = elsewhere.path().join(".logcore-2-far.ring");
        fs::copy(&ring.names.path, &far).unwrap();
        drop(ring);
        // A child of the dead process has not yet run another program.
        let child = File::open(&far).unwrap();
        child.try_lock().unwrap();
        let begun = RingPointer::begin(folder.path(), &far).unwrap();
        begun.file.unlock().unwrap();
        assert!(crate::recover(folder.path(), &|_| {}).is_empty());
        assert!(far.exists() && unfinished_path(&begun.path).exists());
        drop(child);
        assert!(crate::recover(folder.path(), &|_| {}).is_empty());
        assert!(!far.exists() && !unfinished_path(&begun.path).exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_unfinished_pointer_of_a_further_folder_leaves_the_ring() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = logcore::LogConfig {
            ring_place: RingPlace::LogDir,
            ..logcore::LogConfig::default()
        };
        let pipeline = crate::Pipeline::start_in(elsewhere.path(), &config).unwrap();
        let producer = pipeline.producer("trainer");
        let (_, sink) = logcore::testing::recording();
        let sink = crate::NamedSink::new("recording", log::LevelFilter::Info, Box::new(sink));
        let soon = logcore::Deadline::after(std::time::Duration::from_secs(30));
        let folder_number = pipeline.link_from(elsewhere.path(), elsewhere.path());
        producer
            .open(crate::Propagation::None, folder_number, vec![sink], soon)
            .unwrap();
        let is_ring = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "ring");
        let files = fs::read_dir(elsewhere.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let ring = files.into_iter().find(is_ring).unwrap();
        let far = elsewhere.path().join(".logcore-2-far.ring");
        fs::copy(ring, &far).unwrap();
        let begun = RingPointer::begin(folder.path(), &far).unwrap();
        begun.file.unlock().unwrap();
        assert!(crate::recover(folder.path(), &|_| {}).is_empty());
        assert!(far.exists() && !unfinished_path(&begun.path).exists());
    }
}
