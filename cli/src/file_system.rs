//! The file system of a folder: its name, and whether several machines may share it.

use std::path::Path;

/// Returns the name of the file system of a folder, as far as it is known.
#[cfg(target_os = "linux")]
pub(crate) fn describe(folder: &Path) -> String {
    match (magic_of(folder), known(folder)) {
        (_, Some((_, name, _))) => name.to_owned(),
        (Some(magic), None) => format!("file system {magic:#x}"),
        (None, None) => "unknown file system".to_owned(),
    }
}

/// Returns the name of the file system of a folder, as far as it is known.
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn describe(_: &Path) -> String {
    "file system".to_owned()
}

/// Returns `true` if all processes that write to the folder are on this machine, so that their
/// locks are seen here; `false` if this is not known.
#[cfg(target_os = "linux")]
pub(crate) fn is_of_this_machine(folder: &Path) -> bool {
    matches!(known(folder), Some((_, _, Reach::Machine)))
}

/// Returns `false`, because only Linux tells the kind of a file system by a number.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_of_this_machine(_: &Path) -> bool {
    false
}

/// The machines that may write to a file system.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Machine,
    Network,
}

/// Magic numbers of statfs(2), by the name of the file system.
#[cfg(target_os = "linux")]
const FILE_SYSTEMS: [(u32, &str, Reach); 17] = [
    (0xef53, "ext4", Reach::Machine),
    (0x01021994, "tmpfs", Reach::Machine),
    (0x858458f6, "ramfs", Reach::Machine),
    (0x58465342, "xfs", Reach::Machine),
    (0x9123683e, "btrfs", Reach::Machine),
    (0xf2f52010, "f2fs", Reach::Machine),
    (0x2fc12fc1, "zfs", Reach::Machine),
    (0xca451a4e, "bcachefs", Reach::Machine),
    (0x794c7630, "overlayfs", Reach::Machine),
    (0x6969, "NFS", Reach::Network),
    (0xff534d42, "SMB", Reach::Network),
    (0xfe534d42, "SMB", Reach::Network),
    (0x0bd00bd0, "Lustre", Reach::Network),
    (0x00c36400, "CephFS", Reach::Network),
    (0x47504653, "GPFS", Reach::Network),
    // A virtual machine shares a folder with its host.
    (0x01021997, "9P", Reach::Network),
    (0x65735546, "FUSE", Reach::Network),
];

#[cfg(target_os = "linux")]
fn magic_of(folder: &Path) -> Option<u32> {
    rustix::fs::statfs(folder).ok().map(|stat| stat.f_type as u32)
}

#[cfg(target_os = "linux")]
fn known(folder: &Path) -> Option<(u32, &'static str, Reach)> {
    let magic = magic_of(folder)?;
    FILE_SYSTEMS.into_iter().find(|(number, ..)| *number == magic)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_by_their_numbers() {
        assert_eq!(describe(Path::new("/nonexistent")), "unknown file system");
        assert!(!is_of_this_machine(Path::new("/nonexistent")));
        assert!(describe(Path::new("/proc")).starts_with("file system 0x"));
        assert!(!is_of_this_machine(Path::new("/proc")));
    }
}
