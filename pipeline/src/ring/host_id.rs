//! The identity of the machine, of its boot, and of the container that sees a file.

use std::fmt;
use std::path::Path;

/// Returns a number that all processes between two boots of the machine share; 0 if the system has
/// none.
pub(crate) fn boot_number() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // The id has 128 random bits in hexadecimal digits, of which half suffice.
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

/// The group of processes that see the files of a folder such as shared memory: the processes of
/// one machine, in one boot, and of the containers of the machine those that share the file system.
/// Containers may share the name of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostId {
    name: String,
    boot: u64,
    device: u64,
}

impl HostId {
    /// Returns the identity of this process with respect to files in `folder`.
    pub(crate) fn for_folder(folder: &Path) -> Self {
        #[cfg(unix)]
        let device = std::fs::metadata(folder).map_or(0, |metadata| std::os::unix::fs::MetadataExt::dev(&metadata));
        #[cfg(not(unix))]
        let device = 0;
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            name: name.trim_end().to_owned(),
            boot: boot_number(),
            device,
        }
    }

    /// Returns the identity of this process with respect to a file.
    pub(crate) fn for_file(path: &Path) -> Self {
        Self::for_folder(path.parent().unwrap_or(path))
    }

    /// Parses the text of [`Display`](fmt::Display).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_end().rsplitn(3, ' ');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (device, boot) = (number()?, number()?);
        let name = parts.next()?.to_owned();
        Some(Self { name, boot, device })
    }

    /// Returns `true` if a file that `other` cannot see may exist for `self`.
    pub(crate) fn may_be_hidden_from(&self, other: &Self) -> bool {
        let is_same_machine = !self.name.is_empty() && self.name == other.name;
        // The memory of an earlier boot is gone.
        !(is_same_machine && (self.boot != other.boot || self.device == other.device))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, boot, device } = self;
        write!(f, "{name} {boot:x} {device:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_number_does_not_change() {
        assert_eq!(boot_number(), boot_number());
        if cfg!(target_os = "linux") {
            assert_ne!(boot_number(), 0);
        }
    }

    #[test]
    fn files_of_other_hosts_may_be_hidden() {
        let here = HostId::for_folder(Path::new("/"));
        assert_eq!(HostId::parse(&format!("{here}\n")), Some(here.clone()));
        for invalid in ["", "x", "x 1", "x y 1", "x 1 z"] {
            assert_eq!(HostId::parse(invalid), None, "{invalid}");
        }
        let host = |name: &str, boot, device| HostId {
            name: name.to_owned(),
            boot,
            device,
        };
        let ours = host("node 1", 7, 23);
        assert_eq!(HostId::parse(&ours.to_string()), Some(ours.clone()));
        assert!(!ours.may_be_hidden_from(&ours));
        assert!(!host("node 1", 6, 23).may_be_hidden_from(&ours), "before a reboot");
        assert!(host("node 2", 7, 23).may_be_hidden_from(&ours));
        assert!(
            host("node 1", 7, 24).may_be_hidden_from(&ours),
            "memory of another container"
        );
        assert!(host("", 7, 23).may_be_hidden_from(&host("", 7, 23)), "without a name");
    }
}
