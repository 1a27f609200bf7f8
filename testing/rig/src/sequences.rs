//! Checks that an output holds all calls of each thread, in order.

use std::collections::BTreeMap;

use crate::check::KilledProcess;
use crate::findings::{ComparedOutput, Findings};
use crate::plan::ProcessPlan;
use crate::receipts::{CallKind, THREADS};
use crate::scripted_call::ScriptedCall;

/// The next call that an output must hold, for each thread of each process.
pub(crate) struct SequenceCheck<'a> {
    dead: &'a [KilledProcess],
    /// `None` for the steps of the logger that all attempts of a run share.
    kind: Option<CallKind>,
    output: ComparedOutput,
    next: BTreeMap<(u64, u64), u64>,
}

impl<'a> SequenceCheck<'a> {
    pub(crate) fn new(dead: &'a [KilledProcess], kind: CallKind, output: ComparedOutput) -> Self {
        Self {
            dead,
            kind: Some(kind),
            output,
            next: BTreeMap::new(),
        }
    }

    /// Creates the check of the rows of the logger that all attempts of a run share.
    pub(crate) fn of_shared(dead: &'a [KilledProcess]) -> Self {
        Self {
            kind: None,
            ..Self::new(dead, CallKind::Values, ComparedOutput::Rows)
        }
    }

    /// Returns the first step of the shared logger in a process.
    pub(crate) fn first_step(&self, generation: u64) -> Option<u64> {
        let mut lives = self.dead.iter().map(|dead| &dead.life);
        Some(lives.find(|life| life.generation == generation)?.first_step)
    }

    /// Checks the next call of a thread.
    pub(crate) fn take(&mut self, generation: u64, thread: u64, number: u64, findings: &mut Findings) {
        let label = format!("g{generation} t{thread}");
        let next = self.next.entry((generation, thread)).or_default();
        if number < *next {
            findings.doubled(
                self.output,
                generation,
                format_args!("{label} n{number} again, or late"),
            );
            return;
        }
        if number > *next {
            let gap = format_args!("{label} n{next} to n{number} are not there");
            findings.lost(self.output, generation, number - *next, gap);
        }
        *next = number + 1;
    }

    pub(crate) fn end(&self, findings: &mut Findings) {
        for one in self.dead {
            self.end_of(one, findings);
        }
    }

    fn end_of(&self, dead: &KilledProcess, findings: &mut Findings) {
        let generation = dead.life.generation;
        for thread in 0..THREADS {
            let label = format!("g{generation} t{thread}");
            let next = self.next.get(&(generation, thread)).copied().unwrap_or_default();
            let returned = match self.kind {
                Some(kind) => dead.returned.count(thread, kind),
                None if thread == 0 => dead.returned.steps(),
                None => 0,
            };
            if next < returned {
                let words = format_args!("{label} ends before n{next}, and {returned} calls had returned");
                findings.lost(self.output, generation, returned - next, words);
            }
            // One call may be between its return and its receipt, or may not have returned yet.
            if next > returned + 1 {
                let words = format_args!("{label} has {next} calls, of which {returned} had returned");
                findings.torn(self.output, Some(generation), words);
            }
        }
    }
}

/// The lines of an output, and the end that a recovery has added to the lines of each process.
pub(crate) struct LineCheck<'a> {
    courses: SequenceCheck<'a>,
    /// Returns the form that a line has in this output.
    form: fn(String) -> String,
    ends: BTreeMap<u64, u64>,
    /// Number of lines by generation that report the end by a signal.
    interrupted: BTreeMap<u64, u64>,
}

impl<'a> LineCheck<'a> {
    pub(crate) fn new(dead: &'a [KilledProcess], output: ComparedOutput, form: fn(String) -> String) -> Self {
        Self {
            courses: SequenceCheck::new(dead, CallKind::Lines, output),
            form,
            ends: BTreeMap::new(),
            interrupted: BTreeMap::new(),
        }
    }

    /// Checks the next line of a process.
    pub(crate) fn take(&mut self, generation: u64, line: &str, findings: &mut Findings) {
        if line.starts_with("Interrupted by SIG") {
            *self.interrupted.entry(generation).or_default() += 1;
            return;
        }
        if line.starts_with("the run was killed") {
            *self.ends.entry(generation).or_default() += 1;
            return;
        }
        let mut lives = self.courses.dead.iter().map(|dead| &dead.life);
        let life = lives.find(|life| life.generation == generation);
        match life.and_then(|life| self.planned(life, line)) {
            Some((thread, number)) => self.courses.take(generation, thread, number, findings),
            None => findings.torn(
                self.courses.output,
                Some(generation),
                format_args!("never logged: {}", cut(line)),
            ),
        }
    }

    pub(crate) fn end(&self, findings: &mut Findings) {
        self.courses.end(findings);
        for one in self.courses.dead {
            let (generation, ready) = (one.life.generation, one.returned.was_ready());
            let count = self.ends.get(&generation).copied().unwrap_or_default();
            let interrupted = self.interrupted.get(&generation).copied().unwrap_or_default();
            // A process that is killed while it ends by another signal has both.
            if count.max(interrupted) > 1 || (ready && count + interrupted == 0) {
                let output = self.courses.output.name();
                findings.other(format!("g{generation} has {count} ends in {output}"));
            }
        }
    }

    /// Returns the thread and the number in a line, if the plan has this line for them.
    fn planned(&self, life: &ProcessPlan, line: &str) -> Option<(u64, u64)> {
        let mut words = line.split(' ').skip(1);
        let thread = words.next()?.strip_prefix('t')?.parse().ok()?;
        let number = words.next()?.strip_prefix('n')?.parse().ok()?;
        let planned = ScriptedCall::new(life, thread, number).line(life, thread, number);
        ((self.form)(planned) == line).then_some((thread, number))
    }
}

/// Returns the beginning of a text, for a report.
pub(crate) fn cut(text: &str) -> String {
    let shown: String = text.chars().take(160).collect();
    format!("{shown:?} ({} bytes)", text.len())
}
