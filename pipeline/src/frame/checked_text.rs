//! The check of the texts of frames.

use logcore::text::is_printable_ascii;

/// A text of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckedText<'a> {
    pub(crate) text: &'a str,
    /// `true` if the text has printable characters of ASCII only, as nearly every line has.
    pub(crate) is_plain: bool,
}

/// Returns bytes as a text, if they are one.
#[inline]
pub(crate) fn checked_text(bytes: &[u8]) -> Option<&str> {
    CheckedText::split(bytes, 0).map(|(_, checked)| checked.text)
}

impl<'a> CheckedText<'a> {
    /// Splits bytes into two texts, if they are texts. The ring that another process left may hold
    /// anything.
    ///
    /// Measured: two calls of `from_utf8` take 150 instructions a line more.
    #[inline(always)]
    pub(super) fn split(bytes: &'a [u8], first_length: usize) -> Option<(&'a str, Self)> {
        if is_printable_ascii(bytes) {
            // SAFETY: all bytes are ASCII, as just checked, and ASCII is UTF-8.
            let (first, text) = unsafe { std::str::from_utf8_unchecked(bytes) }.split_at_checked(first_length)?;
            return Some((first, Self { text, is_plain: true }));
        }
        let (first, second) = bytes.split_at_checked(first_length)?;
        let text = std::str::from_utf8(second).ok()?;
        let second = Self {
            text,
            is_plain: is_printable_ascii(second),
        };
        Some((std::str::from_utf8(first).ok()?, second))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn split_agrees_with_the_standard_library(
            bytes in prop::collection::vec(prop_oneof![60 => 0x20..0x7f_u8, 1 => any::<u8>()], 0..80),
            length in 0..81_usize,
        ) {
            let expected = bytes.split_at_checked(length).and_then(|(first, second)| {
                let is_plain = second.iter().all(|byte| (b' '..=b'~').contains(byte));
                let text = std::str::from_utf8(second).ok()?;
                Some((std::str::from_utf8(first).ok()?, CheckedText { text, is_plain }))
            });
            prop_assert_eq!(CheckedText::split(&bytes, length), expected);
        }
    }
}
