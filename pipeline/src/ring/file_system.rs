//! The file systems that a ring may lie on.

use std::path::Path;

/// The kind of a folder's file system, as far as a mapped ring is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// Local, and allocated space stays allocated: each page of a mapping has its place on the
    /// disk.
    InPlace,
    /// Local, but a written page may need a new place, for which a full disk has no room.
    CopyOnWrite,
    /// Remote or unknown: a mapping may be slow, or may not hold what other processes have written.
    Remote,
}

/// Magic numbers of statfs(2).
#[cfg(target_os = "linux")]
const LOCAL: [(u32, FileSystem); 9] = [
    (0xef53, FileSystem::InPlace),         // ext2, 3, 4
    (0x01021994, FileSystem::InPlace),     // tmpfs
    (0x858458f6, FileSystem::InPlace),     // ramfs
    (0x58465342, FileSystem::CopyOnWrite), // xfs: with reflinks
    (0x9123683e, FileSystem::CopyOnWrite), // btrfs
    (0xf2f52010, FileSystem::CopyOnWrite), // f2fs
    (0x2fc12fc1, FileSystem::CopyOnWrite), // zfs
    (0xca451a4e, FileSystem::CopyOnWrite), // bcachefs
    (0x794c7630, FileSystem::CopyOnWrite), // overlayfs: anything may be below
];

impl FileSystem {
    /// Returns the kind of the file system of `folder`.
    #[cfg(target_os = "linux")]
    pub(crate) fn of(folder: &Path) -> Self {
        let Ok(magic) = crate::process::sys::calls::file_system_type(folder) else {
            return Self::Remote;
        };
        let local = LOCAL.iter().find(|(number, _)| *number == magic);
        local.map_or(Self::Remote, |(_, file_system)| *file_system)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_: &Path) -> Self {
        Self::InPlace
    }
}

/// Returns `true` if shared memory belongs to the whole machine. A container has its own, unless it
/// shares the IPC namespace of the machine.
#[cfg(target_os = "linux")]
pub(crate) fn is_shared_memory_of_machine() -> bool {
    // The kernel defines the number of the first namespace of each kind (`PROC_IPC_INIT_INO`).
    const FIRST: &str = "ipc:[4026531839]";
    std::fs::read_link("/proc/self/ns/ipc").is_ok_and(|namespace| namespace == Path::new(FIRST))
}

/// Returns `false`: other systems have no such folder.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_shared_memory_of_machine() -> bool {
    false
}
