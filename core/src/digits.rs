//! The digits of doubles, kept for the next sink that writes the same numbers.
//!
//! `metrics.jsonl` and the log of W&B have the same values and times. Measured: the digits of a
//! double take 220 instructions, a fifth of the writer's time, and kept digits take 50.

use std::cell::RefCell;

use zmij::Buffer;

/// Calls `work` with the kept digits of this thread. Within `work`, no other call may ask for them.
#[inline]
pub fn with_kept_digits<T>(work: impl FnOnce(&mut DigitTable) -> T) -> T {
    KEPT.with_borrow_mut(work)
}

/// The digits that a thread keeps.
#[derive(Debug)]
pub struct DigitTable([KeptDigits; PLACES]);

impl DigitTable {
    /// Appends the shortest digits of a finite double, as `serde_json` writes them. NaN and the
    /// infinities have no digits that a reader of JSON knows.
    #[inline]
    pub fn append(&self, value: f64, line: &mut Vec<u8>) {
        match &self.0[place_of(value)] {
            kept if kept.is_of(value) => kept.append_to(line),
            _ => line.extend_from_slice(Buffer::new().format_finite(value).as_bytes()),
        }
    }

    /// As [`append`](Self::append), and keeps the digits for a sink that writes the same row later.
    #[inline]
    pub fn append_and_keep(&mut self, value: f64, line: &mut Vec<u8>) {
        let mut buffer = Buffer::new();
        let kept = &mut self.0[place_of(value)];
        kept.keep(value, buffer.format_finite(value));
        kept.append_to(line);
    }
}

/// Number of doubles that a thread keeps: a row and the next one, of a hundred metrics.
const PLACES: usize = 256;

/// Bytes of the longest text, such as `-2.2250738585072014e-308`.
const LONGEST: usize = 24;

thread_local! {
    static KEPT: RefCell<DigitTable> = const { RefCell::new(DigitTable([KeptDigits::NONE; PLACES])) };
}

fn place_of(value: f64) -> usize {
    // The product spreads numbers that differ in few bits.
    (value.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACES.ilog2())) as usize
}

/// The digits of one double.
#[derive(Debug, Clone, Copy)]
struct KeptDigits {
    bits: u64,
    text: [u8; LONGEST],
    /// 0 if there is no double.
    length: u8,
}

impl KeptDigits {
    const NONE: Self = Self {
        bits: 0,
        text: [0; LONGEST],
        length: 0,
    };

    fn is_of(&self, value: f64) -> bool {
        self.bits == value.to_bits() && self.length > 0
    }

    #[inline]
    fn append_to(&self, line: &mut Vec<u8>) {
        let end = line.len() + usize::from(self.length);
        // The whole array is two moves, and the digits alone are a call of `memcpy`.
        line.extend_from_slice(&self.text);
        line.truncate(end);
    }

    fn keep(&mut self, value: f64, digits: &str) {
        self.bits = value.to_bits();
        self.text[..digits.len()].copy_from_slice(digits.as_bytes());
        self.length = digits.len() as u8;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Appends a value that may be kept, keeps the value, and appends the kept value.
    fn appended(value: f64) -> [String; 3] {
        let mut lines = [const { Vec::new() }; 3];
        with_kept_digits(|digits| {
            digits.append(value, &mut lines[0]);
            digits.append_and_keep(value, &mut lines[1]);
            digits.append(value, &mut lines[2]);
        });
        lines.map(|line| String::from_utf8(line).unwrap())
    }

    #[test]
    fn the_longest_digits_have_room() {
        for value in [-f64::MIN_POSITIVE, f64::MIN, -1.234_567_890_123_456_7e-300, 0.0, -0.0] {
            let expected = serde_json::to_string(&value).unwrap();
            assert_eq!(appended(value), [(); 3].map(|()| expected.clone()));
        }
    }

    proptest! {
        #[test]
        fn digits_are_those_of_serde_json(
            values in prop::collection::vec(prop_oneof![any::<f64>(), (0..9_u32).prop_map(f64::from)], 0..600),
        ) {
            for value in values.iter().chain(&values).filter(|value| value.is_finite()) {
                let expected = serde_json::to_string(value).unwrap();
                prop_assert_eq!(appended(*value), [(); 3].map(|()| expected.clone()));
            }
        }
    }
}
