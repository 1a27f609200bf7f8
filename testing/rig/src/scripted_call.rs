//! The calls that a process is planned to make. Each line and value follows from the seed, the
//! process, the thread and a number, so a check knows the text that a file must hold.

use std::sync::LazyLock;

use crate::plan::ProcessPlan;
use crate::random::mix;

/// The random bits that decide one call of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScriptedCall(u64);

/// Number of bytes to cut lines from; more than the longest line has.
const FILLING_BYTES: usize = 2 << 20;
const SHORTEST: u64 = 50;
const LONGEST: u64 = 1350;
/// One line in so many does not fit into a frame.
const HUGE_EVERY: u64 = 4001;

impl ScriptedCall {
    /// Makes the text that lines are cut from, so that the first line is as quick as the others.
    pub(crate) fn prepare() {
        LazyLock::force(&FILLING);
    }

    pub(crate) fn new(life: &ProcessPlan, thread: u64, number: u64) -> Self {
        let stream = mix(life.seed ^ (life.generation << 32) ^ thread);
        Self(mix(stream ^ number))
    }

    /// Returns `true` for one number in `n`; `salt` distinguishes the uses.
    pub(crate) fn one_in(self, n: u64, salt: u64) -> bool {
        mix(self.0 ^ salt).is_multiple_of(n)
    }

    /// Returns the line as it is logged.
    pub(crate) fn line(self, life: &ProcessPlan, thread: u64, number: u64) -> String {
        let mut text = format!("g{} t{thread} n{number} ", life.generation);
        let length = match self.one_in(HUGE_EVERY, 1) {
            true => life.ring_bytes / 4 + self.0 % 5000,
            false => SHORTEST + self.0 % (LONGEST - SHORTEST),
        };
        let rest = (length as usize).saturating_sub(text.len());
        let from = (self.0 >> 32) as usize % 10_000;
        let filling = &FILLING[from..from + rest];
        match self.one_in(61, 2) {
            // Files hold records of several lines in another form.
            true => {
                let (one, other) = filling.split_at(rest / 2);
                text.extend([one, "\n", other, "."]);
            }
            false => text.push_str(filling),
        }
        text
    }
}

/// Returns a line as it stands in the text file.
pub(crate) fn as_written(line: &str) -> String {
    line.replace('\n', "\n    ")
}

static FILLING: LazyLock<String> = LazyLock::new(|| {
    let letter = |at: usize| char::from(b'a' + (mix(at as u64) % 26) as u8);
    let part: String = (0..PART_BYTES).map(letter).collect();
    part.repeat(FILLING_BYTES / PART_BYTES)
});
const PART_BYTES: usize = 16 << 10;
