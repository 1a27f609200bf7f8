//! Which machine this is, and which of its starts.

use std::fmt;
use std::path::Path;

/// A number that is the same for all processes between two starts of the machine; 0 where the system does not say.
pub(crate) fn this_boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // 128 random bits in hexadecimal digits, of which half are enough.
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

/// Who sees the files of a folder that is no machine's own, such as shared memory: a machine by its name, in one of its starts, and of
/// its containers, which may share that name, those that have this file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    name: String,
    boot: u64,
    device: u64,
}

impl Place {
    /// Of this process, for a file in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        #[cfg(unix)]
        let device = std::fs::metadata(folder).map_or(0, |metadata| std::os::unix::fs::MetadataExt::dev(&metadata));
        #[cfg(not(unix))]
        let device = 0;
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            name: name.trim_end().to_owned(),
            boot: this_boot(),
            device,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_end().rsplitn(3, ' ');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (device, boot) = (number()?, number()?);
        let name = parts.next()?.to_owned();
        Some(Self { name, boot, device })
    }

    /// Whether a file that `self` cannot see may be there for `other`.
    pub(crate) fn may_be_hidden_from(&self, other: &Self) -> bool {
        let is_same_machine = !self.name.is_empty() && self.name == other.name;
        // What was in the memory of an earlier start is nowhere.
        !(is_same_machine && (self.boot != other.boot || self.device == other.device))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, boot, device } = self;
        write!(f, "{name} {boot:x} {device:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_change() {
        assert_eq!(this_boot(), this_boot());
        if cfg!(target_os = "linux") {
            assert_ne!(this_boot(), 0);
        }
    }

    #[test]
    fn what_is_not_seen_may_be_there_for_others() {
        let here = Place::of(Path::new("/"));
        assert_eq!(Place::parse(&format!("{here}\n")), Some(here.clone()));
        for none in ["", "x", "x 1", "x y 1", "x 1 z"] {
            assert_eq!(Place::parse(none), None, "{none}");
        }
        let place = |name: &str, boot, device| Place {
            name: name.to_owned(),
            boot,
            device,
        };
        let ours = place("node 1", 7, 23);
        assert_eq!(Place::parse(&ours.to_string()), Some(ours.clone()));
        assert!(!ours.may_be_hidden_from(&ours));
        assert!(!place("node 1", 6, 23).may_be_hidden_from(&ours), "before a restart");
        assert!(place("node 2", 7, 23).may_be_hidden_from(&ours));
        assert!(
            place("node 1", 7, 24).may_be_hidden_from(&ours),
            "another container's memory"
        );
        assert!(place("", 7, 23).may_be_hidden_from(&place("", 7, 23)), "of no name");
    }
}
