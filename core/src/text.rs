//! Durations, counts and rates as short texts, and a check of texts.
//!
//! The texts have a fixed precision, so that a number that is redrawn in place keeps its width.
//! Bars, summaries and console lines share these forms.

use std::time::Duration;

/// Formats a duration as `00:15`, `1:02:03` or `3d 04:05:06`.
///
/// ```
/// use logcore::text::format_duration;
/// use std::time::Duration;
///
/// assert_eq!(format_duration(Duration::from_secs(15)), "00:15");
/// assert_eq!(format_duration(Duration::from_secs(3723)), "1:02:03");
/// assert_eq!(format_duration(Duration::from_secs(3 * 86_400 + 61)), "3d 00:01:01");
/// ```
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, hours) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (days, hours) => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Formats a number with three significant digits and a unit prefix: `36.2`, `1.16k`, `3.40M`.
///
/// ```
/// use logcore::text::format_count;
///
/// assert_eq!([0.5, 36.21, 1160.0, 3.4e6, 2e15].map(format_count), ["0.50", "36.2", "1.16k", "3.40M", "2000T"]);
/// ```
#[must_use]
pub fn format_count(number: f64) -> String {
    const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
    let (mut number, mut prefix) = (number, 0);
    // 999.5 would be rounded to 1000.
    while number >= 999.5 && prefix < PREFIXES.len() - 1 {
        number /= 1000.0;
        prefix += 1;
    }
    let digits = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", PREFIXES[prefix])
}

/// Formats a rate in iterations per second, or in seconds per iteration below 1: `36.2 it/s`,
/// `2.50 s/it`.
///
/// ```
/// use logcore::text::format_rate;
///
/// assert_eq!([36.21, 0.4].map(format_rate), ["36.2 it/s", "2.50 s/it"]);
/// ```
#[must_use]
pub fn format_rate(per_second: f64) -> String {
    if per_second >= 1.0 {
        format!("{} it/s", format_count(per_second))
    } else {
        format!("{} s/it", format_count(1.0 / per_second))
    }
}

/// Formats the value of a metric with four significant digits: `0.4321`, `1.000e-4`, `1200`.
///
/// ```
/// use logcore::text::format_value;
///
/// let values = [0.43214, 1e-4, 12.0, 123456.0, f64::NAN];
/// assert_eq!(values.map(format_value), ["0.4321", "1.000e-4", "12", "123456", "NaN"]);
/// ```
#[must_use]
pub fn format_value(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || value == 0.0 || (value.fract() == 0.0 && magnitude < 1e6) {
        return format!("{value}");
    }
    match magnitude {
        ..1e-3 | 1e6.. => format!("{value:.3e}"),
        ..10.0 => format!("{value:.4}"),
        ..100.0 => format!("{value:.3}"),
        ..1000.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

/// Returns `true` if all bytes are printable characters of ASCII, as in nearly every line of a log.
///
/// ```
/// use logcore::text::is_printable_ascii;
///
/// assert!(is_printable_ascii(b"step 12 loss=0.5"));
/// assert!(!is_printable_ascii("Größe".as_bytes()) && !is_printable_ascii(b"two\nlines"));
/// ```
#[inline]
#[must_use]
pub fn is_printable_ascii(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().all(|byte| matches!(byte, 0x20..0x7f));
    };
    // Without an exit, so that the compiler makes vector instructions of the loop. The last word
    // overlaps the one before.
    let (words, _) = bytes.as_chunks();
    let found = words
        .iter()
        .fold(mark_unprintable(last), |found, word| found | mark_unprintable(word));
    found & u64::from_le_bytes([0x80; 8]) == 0
}

/// Returns a word in which no byte has its highest bit, if all bytes are printable characters of
/// ASCII.
///
/// If not, the lowest other byte has the bit: 0x80 and above have it already, the difference of a
/// byte below 0x20 borrows, and the sum of 0x7f carries. The bytes beneath are printable, so
/// neither borrow nor carry comes from them.
#[inline]
fn mark_unprintable(word: &[u8; 8]) -> u64 {
    let word = u64::from_le_bytes(*word);
    word | word.wrapping_sub(u64::from_le_bytes([0x20; 8])) | word.wrapping_add(u64::from_le_bytes([1; 8]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_printable_ascii_looks_at_every_byte(
            bytes in prop::collection::vec(prop_oneof![60 => 0x20..0x7f_u8, 1 => any::<u8>()], 0..80),
        ) {
            let expected = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
            prop_assert_eq!(is_printable_ascii(&bytes), expected);
        }

        #[test]
        fn is_printable_ascii_finds_each_byte_at_each_place(other: u8, place in 0..24_usize, length in 1..24_usize) {
            let mut bytes = vec![b'~'; length];
            bytes[place % length] = other;
            prop_assert_eq!(is_printable_ascii(&bytes), (b' '..=b'~').contains(&other));
        }
    }
}
