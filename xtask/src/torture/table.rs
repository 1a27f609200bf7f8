//! What has come of all kills.

use std::collections::BTreeMap;

use super::chain::Fate;
use super::check::Findings;

/// The sums, by kind of death.
#[derive(Default)]
pub(crate) struct Table {
    kinds: BTreeMap<String, Sums>,
    all: Sums,
    killed_recoveries: u64,
    pub(crate) failures: u64,
}

#[derive(Default)]
struct Sums {
    kills: u64,
    lines: u64,
    values: u64,
    recovered: u64,
    lost: u64,
    doubled: u64,
    torn: u64,
    other: u64,
}

impl Table {
    /// Takes in a chain. What is wrong in it cannot be told apart by kind.
    pub(crate) fn add(&mut self, fates: &[Fate], killed_recoveries: u64, findings: &Findings) {
        for fate in fates {
            self.kinds.entry(fate.kind.clone()).or_default().add(fate);
            self.all.add(fate);
        }
        self.killed_recoveries += killed_recoveries;
        self.failures += u64::from(findings.any());
        self.all.lost += findings.lost;
        self.all.doubled += findings.doubled;
        self.all.torn += findings.torn;
        self.all.other += findings.other;
    }

    pub(crate) fn kills(&self) -> u64 {
        self.all.kills + self.killed_recoveries
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text =
            String::from("| killed | processes | lines | values | recovered from rings |\n|---|---:|---:|---:|---:|\n");
        for (kind, sums) in &self.kinds {
            text.push_str(&sums.row(kind));
        }
        text.push_str(&self.all.row("**all**"));
        let all = &self.all;
        text.push_str(&format!(
            "\n{} recoveries were killed, too. Lost: {}, doubled: {}, torn: {}, other trouble: {}.\n",
            self.killed_recoveries, all.lost, all.doubled, all.torn, all.other
        ));
        text
    }
}

impl Sums {
    fn add(&mut self, fate: &Fate) {
        self.kills += 1;
        self.lines += fate.lines;
        self.values += fate.values;
        self.recovered += fate.recovered;
    }

    fn row(&self, kind: &str) -> String {
        format!(
            "| {kind} | {} | {} | {} | {} |\n",
            self.kills, self.lines, self.values, self.recovered
        )
    }
}
