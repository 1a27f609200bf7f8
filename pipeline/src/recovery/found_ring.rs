//! Opens rings, pointers and the files beside them, as far as they belong to this user and to
//! nobody else.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::ring::Region;
use crate::ring::dead::{CorruptRing, DeadRing, SavedCheckpoint};
use crate::ring::file::{
    NamedFolder, POINTER_HOST, POINTER_IDENTITY, POINTER_PATH, checkpoint_file, chunk_file, files_beside, inode_of,
    is_own_ring, is_ring_name, unfinished_path,
};
use crate::ring::host_id::HostId;
use crate::ring::layout::{NONCE, PID};
use crate::writer::checkpoint::path_from_bytes;

/// Length of the longest ring that a config allows, with its header, names and checkpoints.
pub(crate) const MAX_RING_BYTES: u64 = (1 << 30) + (4 << 20);
/// Length of the longest checkpoint beside a ring.
pub(crate) const MAX_CHECKPOINT_BYTES: u64 = 256 << 20;
/// Longer than any pointer.
const MAX_POINTER_BYTES: u64 = 16 << 10;

/// The reason why a ring cannot be delivered now.
pub(super) enum RingRefusal {
    /// The contents are damaged, forever.
    Corrupt(CorruptRing),
    /// A later recovery may succeed.
    Postponed(String),
    /// The ring does not belong to the folder, or leads out of it.
    Foreign(String),
}

impl From<CorruptRing> for RingRefusal {
    fn from(corrupt: CorruptRing) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// A ring behind a name in a log directory.
pub(super) struct FoundRing {
    /// The path of the name.
    pub(super) name: PathBuf,
    pub(super) name_inode: u64,
    /// The pointer, unless the name is the ring itself.
    pointer: Option<Pointer>,
    /// The path of the ring.
    pub(super) path: PathBuf,
    pub(super) file: File,
    inode: u64,
}

/// The contents of a pointer.
struct Pointer {
    path: PathBuf,
    host: HostId,
    /// Nonce and inode of the ring. The version before wrote neither, nor does an unfinished
    /// pointer contain them.
    identity: Option<(u64, u64)>,
}

impl FoundRing {
    /// Opens the ring behind a name. `None` if the ring does not exist; then a pointer of this host
    /// is removed.
    pub(super) fn open(name: &Path) -> Result<Option<Self>, String> {
        let Some(name_file) = open_own_file(name)? else {
            return Ok(None);
        };
        let inode_of = |file: &File| inode_of(file).map_err(|error| error.to_string());
        let pointer = read_pointer(&name_file)?;
        let path = pointer.as_ref().map_or(name, |pointer| &pointer.path).to_owned();
        // A ring is opened again, so that it is read from the beginning.
        let Some(file) = open_own_file(&path)? else {
            if pointer.is_some_and(|pointer| !pointer.host.may_be_hidden_from(&HostId::for_file(&path))) {
                // The process has been killed while it removed them.
                for beside in files_beside(&path) {
                    let _ = fs::remove_file(beside);
                }
                let _ = fs::remove_file(name);
            }
            return Ok(None);
        };
        Ok(Some(Self {
            name: name.to_owned(),
            name_inode: inode_of(&name_file)?,
            pointer,
            path,
            inode: inode_of(&file)?,
            file,
        }))
    }

    /// Returns the id of the process that holds the lock on the ring. `None` if this process holds
    /// it: an earlier session of it ran out of time while it ended.
    pub(super) fn owner(&self) -> Option<u64> {
        let mut header = [0; 64];
        let read = (&self.file).read_exact(&mut header);
        let word = |at: usize| header[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (read.is_err() || !is_own_ring(word(NONCE))).then(|| word(PID))
    }

    /// Reads the contents of the ring.
    pub(super) fn read(&self) -> Result<DeadRing, RingRefusal> {
        read_ring(&self.file)
    }

    /// Reads the checkpoint of a turn from its file beside the ring.
    pub(super) fn read_checkpoint(&self, turn: u64, length: u64) -> Result<Vec<u8>, RingRefusal> {
        if length > MAX_CHECKPOINT_BYTES {
            return Err(CorruptRing("its checkpoint is longer than any").into());
        }
        let mut bytes = Vec::new();
        let file = open_own_file(&checkpoint_file(&self.path, turn)).map_err(RingRefusal::Postponed)?;
        let file = file.ok_or(CorruptRing("its checkpoint is missing"))?;
        file.take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| RingRefusal::Postponed(format!("its checkpoint cannot be read: {error}")))?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(CorruptRing("its checkpoint is truncated").into()),
        }
    }

    /// Opens the file that keeps chunks of long frames, if it exists.
    pub(super) fn open_chunks(&self) -> Option<File> {
        open_own_file(&chunk_file(&self.path)).ok().flatten()
    }

    /// Checks that the file is a ring, and not a copy of one.
    pub(super) fn check_original(&self, dead: &DeadRing) -> Result<(), RingRefusal> {
        let identity = (dead.identity.nonce, dead.identity.inode);
        if self.inode != dead.identity.inode {
            return Err(RingRefusal::Foreign("it is a copy of a ring".to_owned()));
        }
        match &self.pointer {
            Some(pointer) if pointer.identity != Some(identity) => Err(RingRefusal::Foreign(
                "it points to another ring than the one it was created for".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Returns the folder if it still has its path, and the name that was created there for this
    /// ring.
    pub(super) fn named_folder(&self, folder: &NamedFolder, dead: &DeadRing) -> Option<PathBuf> {
        let name = open_own_file(&folder.path.join(self.name.file_name()?))
            .ok()
            .flatten()?;
        let identity = (dead.identity.nonce, dead.identity.inode);
        let leads_here = || match read_pointer(&name).ok()? {
            Some(pointer) => Some(pointer.identity == Some(identity)),
            None => Some(folder.inode == self.inode),
        };
        let is_its_name = self.inode == dead.identity.inode
            && inode_of(&name).is_ok_and(|inode| inode == folder.inode)
            && leads_here() == Some(true);
        is_its_name.then(|| folder.path.canonicalize().ok()).flatten()
    }

    /// Renames the ring and the files beside it. Returns the new path of the ring.
    pub(super) fn put_aside(&self, extension: &str) -> PathBuf {
        let aside = self.path.with_extension(extension);
        for (path, aside) in files_beside(&self.path).iter().zip(files_beside(&aside)) {
            let _ = fs::rename(path, aside);
        }
        let _ = fs::rename(&self.path, &aside);
        if self.pointer.is_some() {
            let _ = fs::remove_file(&self.name);
        }
        aside
    }
}

fn read_ring(mut file: &File) -> Result<DeadRing, RingRefusal> {
    let failed = |error: io::Error| RingRefusal::Postponed(format!("it cannot be read: {error}"));
    let length = file.metadata().map_err(failed)?.len();
    if length > MAX_RING_BYTES {
        return Err(CorruptRing("it is longer than any ring").into());
    }
    let length = length as usize;
    let mut region = Region::plain(length).map_err(failed)?;
    match file.read_exact(&mut region.all_bytes()[..length]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(CorruptRing("it became shorter while it was read").into())
        }
        read => {
            read.map_err(failed)?;
            Ok(DeadRing::parse(region, length)?)
        }
    }
}

/// Removes an unfinished ring or pointer whose process died while it created the file: there is
/// nothing in it.
pub(super) fn remove_unfinished(path: &Path) {
    let Ok(Some(file)) = open_own_file(path) else { return };
    if file.try_lock().is_err() {
        return;
    }
    if let Ok(Some(pointer)) = read_pointer(&file) {
        // Another machine may work on it, and not every file system shares its locks.
        if pointer.host.may_be_hidden_from(&HostId::for_file(&pointer.path)) {
            return;
        }
        // Without the pointer, nobody would find a ring that stays.
        if !remove_if_dead(&unfinished_path(&pointer.path), |_| true) || !remove_if_dead(&pointer.path, is_unused) {
            return;
        }
    }
    let _ = fs::remove_file(path);
}

/// Removes a ring if its process is dead and `is_nameless` holds. Returns `false` if the lock is
/// held: between a fork and its program, a child of the dead process has the lock, too.
fn remove_if_dead(path: &Path, is_nameless: impl FnOnce(&File) -> bool) -> bool {
    let Ok(Some(file)) = open_own_file(path) else {
        return true;
    };
    if file.try_lock().is_err() {
        return false;
    }
    if is_nameless(&file) {
        let _ = fs::remove_file(path);
    }
    true
}

/// Returns `true` if no logger was ever open in a ring. Any other ring has a name in the folder of
/// its first logger, and the unfinished pointer was a further one.
fn is_unused(ring: &File) -> bool {
    let is_empty = |dead: DeadRing| matches!(&dead.checkpoint, SavedCheckpoint::Inside(saved) if saved.is_empty());
    read_ring(ring).is_ok_and(is_empty)
}

/// Reads a pointer; `None` if the file is not one.
fn read_pointer(mut file: &File) -> Result<Option<Pointer>, String> {
    let mut start = [0; POINTER_PATH.len()];
    if file.read_exact(&mut start).is_err() || start != *POINTER_PATH.as_bytes() {
        return Ok(None);
    }
    let mut text = Vec::new();
    let read = file.take(MAX_POINTER_BYTES).read_to_end(&mut text);
    let pointer = read.ok().and_then(|_| parse_pointer(&text));
    pointer.map(Some).ok_or_else(|| "it points to no ring".to_owned())
}

fn parse_pointer(text: &[u8]) -> Option<Pointer> {
    let (text, identity) = match split_last(text, POINTER_IDENTITY) {
        Some((text, identity)) => (text, Some(parse_identity(identity)?)),
        None => (text, None),
    };
    let (path, host) = split_last(text, POINTER_HOST)?;
    let path = path_from_bytes(path)?;
    let name = path.file_name()?.to_str()?;
    let host = HostId::parse(std::str::from_utf8(host).ok()?)?;
    (path.is_absolute() && is_ring_name(name)).then_some(Pointer { path, host, identity })
}

fn parse_identity(text: &[u8]) -> Option<(u64, u64)> {
    let (nonce, inode) = std::str::from_utf8(text).ok()?.trim_end().split_once(' ')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(nonce)?, number(inode)?))
}

/// Returns the parts of a text before and after the last separator.
fn split_last<'a>(text: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let at = text
        .windows(separator.len())
        .rposition(|part| part == separator.as_bytes())?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// A ring for somebody who only reads.
pub(crate) struct ReadableRing {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Nonce and inode that the ring must have, if a pointer leads there.
    pub(crate) expected: Option<(u64, u64)>,
}

/// Opens the ring behind a name. Unlike [`FoundRing::open`], removes and locks nothing, and takes
/// the ring of any user whose files this one may read.
pub(crate) fn open_to_read(name: &Path) -> Result<ReadableRing, String> {
    let open = |path: &Path| open_regular_file(path)?.ok_or_else(|| "it is not there".to_owned());
    let Some(pointer) = read_pointer(&open(name)?)? else {
        return Ok(ReadableRing {
            path: name.to_owned(),
            file: open(name)?,
            expected: None,
        });
    };
    let host = HostId::for_file(&pointer.path);
    let file = open_regular_file(&pointer.path)?.ok_or_else(|| match pointer.host.may_be_hidden_from(&host) {
        true => "it lies in the memory of another machine or container: look there".to_owned(),
        false => format!("it points to {}, which is not there", pointer.path.display()),
    })?;
    let identity = pointer.identity.ok_or("it points to a ring that is not complete")?;
    Ok(ReadableRing {
        path: pointer.path,
        file,
        expected: Some(identity),
    })
}

/// Opens a file if it is regular, has one name, and belongs to this user.
pub(super) fn open_own_file(path: &Path) -> Result<Option<File>, String> {
    let Some(file) = open_regular_file(path)? else {
        return Ok(None);
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if metadata.uid() != crate::process::sys::calls::effective_user() {
            return Err("it belongs to another user".to_owned());
        }
        if metadata.nlink() > 1 {
            return Err("it has more than one name".to_owned());
        }
    }
    Ok(Some(file))
}

/// Opens a regular file, without waiting and through no link.
pub(crate) fn open_regular_file(path: &Path) -> Result<Option<File>, String> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, crate::ring::file::cautious_flags());
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| format!("it cannot be opened: {error}"))?,
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    match metadata.is_file() {
        true => Ok(Some(file)),
        false => Err("it is not a file".to_owned()),
    }
}
