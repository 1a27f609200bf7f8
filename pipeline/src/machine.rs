//! Which machine this is, and which of its starts.

/// A number that is the same for all processes between two starts of the machine; 0 where the system does not say.
pub(crate) fn this_boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // 128 random bits in hexadecimal digits, of which half are enough.
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

/// The machine's name, by which those that share a folder are told apart; empty where the system does not say.
pub(crate) fn this_machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_change() {
        assert_eq!(this_boot(), this_boot());
        if cfg!(target_os = "linux") {
            assert_ne!(this_boot(), 0);
            assert_ne!(this_machine(), "");
        }
    }
}
