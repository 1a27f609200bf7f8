//! Whether a stream of what threads have said has all of it, in order.

use std::collections::BTreeMap;

use super::check::Dead;
use super::findings::{Findings, Output};
use super::plan::Life;
use super::receipts::{THREADS, What};
use super::said::Said;

/// Where an output stands, for each thread of each process.
pub(crate) struct Courses<'a> {
    dead: &'a [Dead],
    what: What,
    output: Output,
    next: BTreeMap<(u64, u64), u64>,
}

impl<'a> Courses<'a> {
    pub(crate) fn new(dead: &'a [Dead], what: What, output: Output) -> Self {
        Self {
            dead,
            what,
            output,
            next: BTreeMap::new(),
        }
    }

    pub(crate) fn take(&mut self, generation: u64, thread: u64, number: u64, findings: &mut Findings) {
        let whose = format!("g{generation} t{thread}");
        let next = self.next.entry((generation, thread)).or_default();
        if number < *next {
            findings.doubled(
                self.output,
                generation,
                format_args!("{whose} n{number} again, or late"),
            );
            return;
        }
        if number > *next {
            let gap = format_args!("{whose} n{next} to n{number} are not there");
            findings.lost(self.output, generation, number - *next, gap);
        }
        *next = number + 1;
    }

    pub(crate) fn end(&self, findings: &mut Findings) {
        for one in self.dead {
            self.end_of(one, findings);
        }
    }

    fn end_of(&self, dead: &Dead, findings: &mut Findings) {
        let generation = dead.life.generation;
        for thread in 0..THREADS {
            let whose = format!("g{generation} t{thread}");
            let next = self.next.get(&(generation, thread)).copied().unwrap_or_default();
            let returned = dead.returned.count(thread, self.what);
            if next < returned {
                let words = format_args!("{whose} ends before n{next}, and {returned} calls had returned");
                findings.lost(self.output, generation, returned - next, words);
            }
            // One may be between its return and the receipt, or not returned yet.
            if next > returned + 1 {
                let words = format_args!("{whose} has {next} calls, of which {returned} had returned");
                findings.torn(self.output, Some(generation), words);
            }
        }
    }
}

/// The lines of an output, and the end that whoever recovered a process has added to them.
pub(crate) struct Lines<'a> {
    courses: Courses<'a>,
    /// How a line looks in this output.
    form: fn(String) -> String,
    ends: BTreeMap<u64, u64>,
    /// How often each said that a signal ended it.
    interrupted: BTreeMap<u64, u64>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(dead: &'a [Dead], output: Output, form: fn(String) -> String) -> Self {
        Self {
            courses: Courses::new(dead, What::Lines, output),
            form,
            ends: BTreeMap::new(),
            interrupted: BTreeMap::new(),
        }
    }

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
        match life.and_then(|life| self.said(life, line)) {
            Some((thread, number)) => self.courses.take(generation, thread, number, findings),
            None => findings.torn(
                self.courses.output,
                Some(generation),
                format_args!("never said: {}", cut(line)),
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

    /// The thread and the number, if the line is what they say.
    fn said(&self, life: &Life, line: &str) -> Option<(u64, u64)> {
        let mut words = line.split(' ').skip(1);
        let thread = words.next()?.strip_prefix('t')?.parse().ok()?;
        let number = words.next()?.strip_prefix('n')?.parse().ok()?;
        let said = Said::new(life, thread, number).line(life, thread, number);
        ((self.form)(said) == line).then_some((thread, number))
    }
}

/// What is shown of a text.
pub(crate) fn cut(text: &str) -> String {
    let shown: String = text.chars().take(160).collect();
    format!("{shown:?} ({} bytes)", text.len())
}
