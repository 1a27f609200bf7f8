//! The faults in the files of a chain.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// An output that is compared with the calls of the killed processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ComparedOutput {
    Text,
    Rows,
    Records,
    RunRows,
    RunLines,
    Events,
}

impl ComparedOutput {
    pub(crate) const ALL: [Self; 6] = [
        Self::Text,
        Self::Records,
        Self::Rows,
        Self::RunLines,
        Self::RunRows,
        Self::Events,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "training.log",
            Self::Rows => "metrics.jsonl",
            Self::Records => "records.jsonl",
            Self::RunRows => "rows of W&B logs",
            Self::RunLines => "console lines of W&B logs",
            Self::Events => "event files",
        }
    }
}

/// The faults of one output: numbers of calls.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct OutputDamage {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) torn: u64,
}

impl OutputDamage {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.torn += other.torn;
    }
}

/// All faults that a check has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Damage by output and, where it is known, by the generation of the process that had made the
    /// calls.
    pub(crate) damage: BTreeMap<(ComparedOutput, Option<u64>), OutputDamage>,
    /// Number of other faults: rings that are left, missing ends, unexpected lines on stderr.
    pub(crate) other: u64,
    /// Descriptions of the first faults.
    pub(crate) words: Vec<String>,
}

/// Number of faults that are described; later ones are only counted.
const MOST_WORDS: usize = 12;

impl Findings {
    pub(crate) fn any(&self) -> bool {
        !self.damage.is_empty() || self.other > 0
    }

    pub(crate) fn any_in(&self, output: ComparedOutput) -> bool {
        self.damage.keys().any(|(damaged, _)| *damaged == output)
    }

    pub(crate) fn lost(&mut self, output: ComparedOutput, generation: u64, count: u64, words: impl Display) {
        self.damage_of(output, Some(generation), words).lost += count;
    }

    pub(crate) fn doubled(&mut self, output: ComparedOutput, generation: u64, words: impl Display) {
        self.damage_of(output, Some(generation), words).doubled += 1;
    }

    pub(crate) fn torn(&mut self, output: ComparedOutput, generation: Option<u64>, words: impl Display) {
        self.damage_of(output, generation, words).torn += 1;
    }

    pub(crate) fn other(&mut self, words: String) {
        self.other += 1;
        self.describe(words);
    }

    fn damage_of(&mut self, output: ComparedOutput, generation: Option<u64>, words: impl Display) -> &mut OutputDamage {
        self.describe(format!("{}: {words}", output.name()));
        self.damage.entry((output, generation)).or_default()
    }

    fn describe(&mut self, words: String) {
        if self.words.len() < MOST_WORDS {
            self.words.push(words);
        }
    }
}

impl Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = OutputDamage::default();
        self.damage.values().for_each(|damage| all.add(*damage));
        let OutputDamage { lost, doubled, torn } = all;
        write!(f, "{lost} lost, {doubled} doubled, {torn} torn, {} other", self.other)
    }
}
