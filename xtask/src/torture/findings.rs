//! What is wrong with the files of a chain.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// What is compared with what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Output {
    Text,
    Rows,
    Records,
    RunRows,
    RunLines,
}

impl Output {
    pub(crate) const ALL: [Self; 5] = [Self::Text, Self::Records, Self::Rows, Self::RunLines, Self::RunRows];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "training.log",
            Self::Rows => "metrics.jsonl",
            Self::Records => "records.jsonl",
            Self::RunRows => "rows of W&B logs",
            Self::RunLines => "console lines of W&B logs",
        }
    }
}

/// How much of an output is not as it was said.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Damage {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) torn: u64,
}

impl Damage {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.torn += other.torn;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By output, and by the process that had said it, where that can be told.
    pub(crate) damage: BTreeMap<(Output, Option<u64>), Damage>,
    /// Rings that are left, ends that are missing, things said on stderr.
    pub(crate) other: u64,
    /// The first of them, in words.
    pub(crate) words: Vec<String>,
}

/// More of them are only counted.
const MOST_WORDS: usize = 12;

impl Findings {
    pub(crate) fn any(&self) -> bool {
        !self.damage.is_empty() || self.other > 0
    }

    pub(crate) fn any_in(&self, output: Output) -> bool {
        self.damage.keys().any(|(damaged, _)| *damaged == output)
    }

    pub(crate) fn lost(&mut self, output: Output, generation: u64, count: u64, words: impl Display) {
        self.damage_of(output, Some(generation), words).lost += count;
    }

    pub(crate) fn doubled(&mut self, output: Output, generation: u64, words: impl Display) {
        self.damage_of(output, Some(generation), words).doubled += 1;
    }

    pub(crate) fn torn(&mut self, output: Output, generation: Option<u64>, words: impl Display) {
        self.damage_of(output, generation, words).torn += 1;
    }

    pub(crate) fn other(&mut self, words: String) {
        self.other += 1;
        self.say(words);
    }

    fn damage_of(&mut self, output: Output, generation: Option<u64>, words: impl Display) -> &mut Damage {
        self.say(format!("{}: {words}", output.name()));
        self.damage.entry((output, generation)).or_default()
    }

    fn say(&mut self, words: String) {
        if self.words.len() < MOST_WORDS {
            self.words.push(words);
        }
    }
}

impl Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Damage::default();
        self.damage.values().for_each(|damage| all.add(*damage));
        let Damage { lost, doubled, torn } = all;
        write!(f, "{lost} lost, {doubled} doubled, {torn} torn, {} other", self.other)
    }
}
