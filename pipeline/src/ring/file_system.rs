//! The file systems that a ring may lie on.

use std::path::Path;

/// The kind of a folder's file system, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Of this machine, and what was set aside for a file stays there: each page of a mapping has its place.
    Firm,
    /// Of this machine, but a page may need a new place when it is written, for which a full disk has no room.
    Shifting,
    /// Of another machine: a mapping is slow, or does not hold what others have written.
    Remote,
}

/// By the numbers of statfs(2).
#[cfg(target_os = "linux")]
const KNOWN: [(u32, Ground); 9] = [
    (0xef53, Ground::Firm),         // ext2, 3, 4
    (0x01021994, Ground::Firm),     // tmpfs
    (0x858458f6, Ground::Firm),     // ramfs
    (0x58465342, Ground::Shifting), // xfs: with reflinks
    (0x9123683e, Ground::Shifting), // btrfs
    (0xf2f52010, Ground::Shifting), // f2fs
    (0x2fc12fc1, Ground::Shifting), // zfs
    (0xca451a4e, Ground::Shifting), // bcachefs
    (0x794c7630, Ground::Shifting), // overlayfs: whatever is below
];

impl Ground {
    #[cfg(target_os = "linux")]
    pub(crate) fn of(folder: &Path) -> Self {
        use std::os::fd::AsRawFd as _;

        let Ok(folder) = std::fs::File::open(folder) else {
            return Self::Remote;
        };
        // SAFETY: an all-zero value is a valid one of this plain struct of numbers.
        let mut about: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open and the struct is ours for the length of the call.
        let failed = unsafe { libc::fstatfs(folder.as_raw_fd(), &raw mut about) } != 0;
        // The field's type differs between systems; the numbers have 32 bits.
        let known = KNOWN.iter().find(|(number, _)| *number == about.f_type as u32);
        known.filter(|_| !failed).map_or(Self::Remote, |(_, ground)| *ground)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_: &Path) -> Self {
        Self::Firm
    }
}

/// Whether shared memory is that of the machine: containers have theirs with their own names for processes' communication, unless
/// they were told to use the machine's.
#[cfg(target_os = "linux")]
pub(crate) fn shared_memory_is_of_the_machine() -> bool {
    // The first namespace of each kind has a number that the kernel defines (`PROC_IPC_INIT_INO`).
    const FIRST: &str = "ipc:[4026531839]";
    std::fs::read_link("/proc/self/ns/ipc").is_ok_and(|namespace| namespace == Path::new(FIRST))
}

/// Elsewhere there is none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn shared_memory_is_of_the_machine() -> bool {
    false
}
