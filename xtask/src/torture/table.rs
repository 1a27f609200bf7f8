//! What has come of all kills.

use std::collections::BTreeMap;

use super::chain::Fate;
use super::findings::{Damage, Findings, Output};

/// The sums, by kind of death and by output.
#[derive(Default)]
pub(crate) struct Table {
    kinds: BTreeMap<String, Sums>,
    all: Sums,
    outputs: BTreeMap<Output, Damage>,
    killed_recoveries: u64,
    other: u64,
    pub(crate) failures: u64,
}

#[derive(Default)]
struct Sums {
    kills: u64,
    lines: u64,
    values: u64,
    recovered: u64,
    damage: Damage,
}

impl Table {
    /// Takes in a chain. What cannot be told to be of one process is only in the sums.
    pub(crate) fn add(&mut self, fates: &[Fate], killed_recoveries: u64, findings: &Findings) {
        for fate in fates {
            self.kinds.entry(fate.kind.clone()).or_default().add(fate);
            self.all.add(fate);
        }
        for ((output, generation), damage) in &findings.damage {
            self.outputs.entry(*output).or_default().add(*damage);
            self.all.damage.add(*damage);
            let fate = generation.and_then(|generation| fates.get(generation as usize));
            if let Some(sums) = fate.and_then(|fate| self.kinds.get_mut(&fate.kind)) {
                sums.damage.add(*damage);
            }
        }
        self.killed_recoveries += killed_recoveries;
        self.other += findings.other;
        self.failures += u64::from(findings.any());
    }

    pub(crate) fn kills(&self) -> u64 {
        self.all.kills + self.killed_recoveries
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "| killed | processes | lines | values | recovered from rings | lost | doubled | torn |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for (kind, sums) in &self.kinds {
            text.push_str(&sums.row(kind));
        }
        text.push_str(&self.all.row("**all**"));
        text.push_str("\n| what was compared | lost | doubled | torn |\n|---|---:|---:|---:|\n");
        for output in Output::ALL {
            let damage = self.outputs.get(&output).copied().unwrap_or_default();
            text.push_str(&format!("| {} |{}\n", output.name(), cells(damage)));
        }
        text.push_str(&format!(
            "\n{} recoveries were killed, too. Other trouble: {}.\n",
            self.killed_recoveries, self.other
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
            "| {kind} | {} | {} | {} | {} |{}\n",
            self.kills,
            self.lines,
            self.values,
            self.recovered,
            cells(self.damage)
        )
    }
}

fn cells(damage: Damage) -> String {
    format!(" {} | {} | {} |", damage.lost, damage.doubled, damage.torn)
}
