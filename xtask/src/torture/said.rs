//! What a child says: every line and value follows from the seed, the life, the thread and a number, so that whoever finds
//! one in a file knows what it has to be.

use std::sync::LazyLock;

use super::plan::Life;
use crate::random::mix;

/// What a thread does for its call with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said(u64);

/// Longer than the longest line.
const FILLING_BYTES: usize = 2 << 20;
const SHORTEST: u64 = 50;
const LONGEST: u64 = 1350;
/// Once in so many lines comes one that does not fit into a frame.
const HUGE_EVERY: u64 = 4001;

impl Said {
    /// Prepares what lines are made of, so that the first is as quick as the others.
    pub(crate) fn prepare() {
        LazyLock::force(&FILLING);
    }

    pub(crate) fn new(life: &Life, thread: u64, number: u64) -> Self {
        let whose = mix(life.seed ^ (life.generation << 32) ^ thread);
        Self(mix(whose ^ number))
    }

    /// True once in `n` numbers; `salt` tells the questions apart.
    pub(crate) fn one_in(self, n: u64, salt: u64) -> bool {
        mix(self.0 ^ salt).is_multiple_of(n)
    }

    /// The line, as it was logged.
    pub(crate) fn line(self, life: &Life, thread: u64, number: u64) -> String {
        let mut text = format!("g{} t{thread} n{number} ", life.generation);
        let length = match self.one_in(HUGE_EVERY, 1) {
            true => life.ring_bytes / 4 + self.0 % 5000,
            false => SHORTEST + self.0 % (LONGEST - SHORTEST),
        };
        let rest = (length as usize).saturating_sub(text.len());
        let from = (self.0 >> 32) as usize % 10_000;
        let filling = &FILLING[from..from + rest];
        match self.one_in(61, 2) {
            // Records of more than one line are looked for differently.
            true => {
                let (one, other) = filling.split_at(rest / 2);
                text.extend([one, "\n", other, "."]);
            }
            false => text.push_str(filling),
        }
        text
    }
}

/// A line as it stands in the file.
pub(crate) fn as_written(line: &str) -> String {
    line.replace('\n', "\n    ")
}

static FILLING: LazyLock<String> = LazyLock::new(|| {
    let letter = |at: usize| char::from(b'a' + (mix(at as u64) % 26) as u8);
    let part: String = (0..PART_BYTES).map(letter).collect();
    part.repeat(FILLING_BYTES / PART_BYTES)
});
const PART_BYTES: usize = 16 << 10;
