//! The alarm for a run that no longer moves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logcore::text::format_duration;
use logcore::{AlertLevel, RunFacts};
use logcore_health::INCIDENTS_FOLDER;
use logcore_health::event::HealthKind;
use logcore_health::stall::{Movement, StallWatch, Verdict};
use logcore_health::stall_report::{StallReport, Surroundings, explain, write_report};
use logcore_health::threads::ThreadReader;
use logcore_pipeline::print_notice;

use super::journal::Journal;
use super::rank_watch::RankWatch;
use super::vigil::Look;
use crate::logger::inner::LoggerInner;
use crate::run::Run;

/// Watches whether a run moves, if the config wants that.
pub(super) struct StallAlarm {
    watch: Option<StallWatch>,
    /// The lengths of the text files at the last look: text is movement in a run without steps.
    text: Vec<u64>,
    /// The number of lines of the journal at the last look, and `true` if some were new.
    own_lines: (u64, bool),
    /// A stall whose report is due at the next look, which shows the CPU time since this one.
    begun: Option<BegunStall>,
}

struct BegunStall {
    reader: ThreadReader,
    ticks: u64,
}

impl StallAlarm {
    pub(super) fn new(run: &Run) -> Self {
        Self {
            watch: run.health().stall_after.map(StallWatch::new),
            text: Vec::new(),
            own_lines: (0, false),
            begun: None,
        }
    }

    pub(super) fn look(&mut self, look: &Look<'_>, ranks: &RankWatch, journal: &mut Journal) {
        if let Some(begun) = self.begun.take() {
            self.raise(look, begun, ranks, journal);
        }
        let has_text = self.has_new_text(look, journal.lines());
        let Some(watch) = &mut self.watch else { return };
        let movement = match (look.has_moved, has_text) {
            (true, _) => Movement::Step,
            (false, true) => Movement::Text,
            (false, false) => Movement::None,
        };
        match watch.tick(movement, look.reading.long.is_some()) {
            Verdict::Stalled { ticks } => {
                look.run.ledger().begin_stall();
                let mut reader = ThreadReader::of_own_process();
                let _ = reader.read_threads();
                self.begun = Some(BegunStall { reader, ticks });
            }
            Verdict::Over { ticks } => {
                let text = format!(
                    "the run moves again, after {}",
                    format_duration(Duration::from_secs(ticks))
                );
                let event = journal.event(HealthKind::Stall, AlertLevel::Info, text, look.step);
                journal.tell(look.loggers, event);
            }
            _ => {}
        }
    }

    /// Returns `true` if lines of text have come since the last look, and none of them can be one
    /// of the journal's, of which there are `own_lines` so far.
    fn has_new_text(&mut self, look: &Look<'_>, own_lines: u64) -> bool {
        if self.watch.is_none() || look.step.is_some() {
            return false;
        }
        let length = |path| std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
        let now: Vec<u64> = look.loggers.iter().map(|logger| length(logger.log_file())).collect();
        let before = std::mem::replace(&mut self.text, now);
        let (known_lines, had_own) = self.own_lines;
        let has_own = own_lines != known_lines;
        self.own_lines = (own_lines, has_own);
        // The writer may have the line in its file only at the next look.
        before != self.text && !has_own && !had_own
    }

    /// Writes the report of a stall, and tells of it.
    fn raise(&mut self, look: &Look<'_>, mut begun: BegunStall, ranks: &RankWatch, journal: &mut Journal) {
        let Some(watch) = &self.watch else { return };
        let seconds = Duration::from_secs;
        let report = StallReport {
            run: look.run.info().id().to_owned(),
            rank: look.run.rank(),
            attempt: look.run.info().attempt(),
            host: RunFacts::own_host().unwrap_or_default(),
            time: SystemTime::now(),
            quiet: seconds(begun.ticks),
            limit: seconds(watch.limit()),
            usual_gap: watch.usual_gap().map(seconds),
            last_step: look.step,
            phases: look.reading.open.clone(),
            lines: journal.last_lines(None),
            first_stopped: ranks.first_stopped(),
            gpu: gpu_values(look),
            threads: begun.reader.read_threads(),
            surroundings: Surroundings::read(&begun.reader),
        };
        let mut event = journal.event(HealthKind::Stall, AlertLevel::Warn, describe(&report), look.step);
        if let Some(name) = save(look.run, &report) {
            event.text.push_str(&format!("; see {INCIDENTS_FOLDER}/{name}"));
            event.incident = Some(name);
        }
        journal.alarm(look.loggers, "The run stalls", event);
    }
}

/// Returns one line about a stall.
fn describe(report: &StallReport) -> String {
    let mut text = format!("the run has not moved for {}", format_duration(report.quiet));
    if let Some(step) = report.last_step {
        text.push_str(&format!(", since step {step}"));
    }
    if let Some(first) = &report.first_stopped {
        text.push_str(&format!("; rank {} stopped first", first.rank));
    }
    if let Some(wait) = explain(&report.threads).first() {
        text.push_str(&format!("; {wait}"));
    }
    text
}

/// Writes a report into the folder of a run, if the run has one; returns the name of the file.
fn save(run: &Run, report: &StallReport) -> Option<String> {
    if !run.is_open() {
        return None;
    }
    let written = write_report(run.dir(), report).inspect_err(|error| {
        let dir = run.dir().display();
        print_notice(
            &format!("stall report {dir}"),
            &format!("cannot write the report of a stall in {dir}: {error}"),
        );
    });
    written.ok()
}

/// Returns the newest values of the metrics about GPUs.
fn gpu_values(look: &Look<'_>) -> Vec<(String, f64)> {
    let averages = |logger: &Arc<LoggerInner>| logger.metrics().table().averages();
    let all = look.loggers.iter().flat_map(averages);
    all.filter(|(name, _)| name.contains("gpu")).collect()
}
