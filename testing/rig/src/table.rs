//! The table of all kills and their damage.

use std::collections::BTreeMap;

use crate::chain::ProcessOutcome;
use crate::findings::{ComparedOutput, Findings, OutputDamage};

/// The sums, by kind of death and by output.
#[derive(Default)]
pub(crate) struct KillTable {
    kinds: BTreeMap<String, KillTotals>,
    all: KillTotals,
    outputs: BTreeMap<ComparedOutput, OutputDamage>,
    killed_recoveries: u64,
    other: u64,
    pub(crate) failures: u64,
    /// Number of times that a `run.json` was read while processes lived and died.
    pub(crate) manifests_read: u64,
}

#[derive(Default)]
struct KillTotals {
    kills: u64,
    lines: u64,
    values: u64,
    recovered: u64,
    damage: OutputDamage,
}

impl KillTable {
    /// Adds a chain. Damage that belongs to no particular process counts only in the sums.
    pub(crate) fn add(&mut self, outcomes: &[ProcessOutcome], killed_recoveries: u64, findings: &Findings) {
        for outcome in outcomes {
            self.kinds.entry(outcome.kind.clone()).or_default().add(outcome);
            self.all.add(outcome);
        }
        for ((output, generation), damage) in &findings.damage {
            self.outputs.entry(*output).or_default().add(*damage);
            self.all.damage.add(*damage);
            let outcome = generation.and_then(|generation| outcomes.get(generation as usize));
            if let Some(sums) = outcome.and_then(|outcome| self.kinds.get_mut(&outcome.kind)) {
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

    /// Returns the table as Markdown.
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
        for output in ComparedOutput::ALL {
            let damage = self.outputs.get(&output).copied().unwrap_or_default();
            text.push_str(&format!("| {} |{}\n", output.name(), cells(damage)));
        }
        text.push_str(&format!(
            "\n{} recoveries were killed, too. `run.json` was read {} times meanwhile. Other trouble: {}.\n",
            self.killed_recoveries, self.manifests_read, self.other
        ));
        text
    }
}

impl KillTotals {
    fn add(&mut self, outcome: &ProcessOutcome) {
        self.kills += 1;
        self.lines += outcome.lines;
        self.values += outcome.values;
        self.recovered += outcome.recovered;
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

fn cells(damage: OutputDamage) -> String {
    format!(" {} | {} | {} |", damage.lost, damage.doubled, damage.torn)
}
