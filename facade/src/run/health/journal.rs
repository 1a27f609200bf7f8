//! All that the health of a run has to say: events in `events.jsonl`, lines in the log, alerts.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logcore::escape::to_short_line;
use logcore::log::Level;
use logcore::text::format_duration;
use logcore::{AlertLevel, RunState, files};
use logcore_health::event::{Event, HealthKind};
use logcore_health::rules::Episode;

use super::event_writer::EventWriter;
use crate::logger::inner::LoggerInner;
use crate::run::Run;
use crate::run::ledger::LongPhase;

/// Most bytes of the text file that are read for the lines around an incident.
const MOST_TEXT: u64 = 64 << 10;

/// Characters of the name of a phase in a line.
const MOST_NAME: usize = 200;

/// Lines of the text file that an incident and a stall report have.
pub(super) const LINES: usize = 40;

/// Writes down and sends what the health of a run has to say.
pub(super) struct Journal {
    pub(super) run: Arc<Run>,
    events: EventWriter,
    /// The loggers of the run, also those that have ended, with their text files.
    text_files: Vec<(String, PathBuf)>,
    /// Number of lines that went to the log, which are no movement of the program.
    lines: u64,
}

impl Journal {
    pub(super) fn new(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            events: EventWriter::new(run.dir(), run.health().file_rank),
            text_files: Vec::new(),
            lines: 0,
        }
    }

    /// Returns the number of lines that went to the log so far.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) fn add_logger(&mut self, logger: &LoggerInner) {
        self.text_files.push((logger.name().to_owned(), logger.log_file()));
    }

    /// Returns the last lines of the text file of a logger, or of the run's first one; none if
    /// there is no file.
    pub(super) fn last_lines(&self, logger: Option<&str>) -> Vec<String> {
        let of_logger = self
            .text_files
            .iter()
            .rev()
            .find(|(name, _)| Some(name.as_str()) == logger);
        let file = of_logger.or(self.text_files.first());
        file.and_then(|(_, path)| read_tail(path).ok()).unwrap_or_default()
    }

    /// Returns an event of this process and moment.
    pub(super) fn event(
        &self,
        kind: HealthKind,
        level: AlertLevel,
        text: impl Into<String>,
        step: Option<u64>,
    ) -> Event {
        let mut event = Event::new(kind, level, text);
        (event.rank, event.attempt, event.step) = (self.run.rank(), self.run.info().attempt(), step);
        event
    }

    /// Logs an event by the run's first logger, and appends the event to its file.
    pub(super) fn tell(&mut self, loggers: &[Arc<LoggerInner>], event: Event) {
        self.log(loggers.first(), &event);
        self.append(event, None);
    }

    /// Tells an event, and sends an alert about it.
    pub(super) fn alarm(&mut self, loggers: &[Arc<LoggerInner>], title: &str, event: Event) {
        if let Some(logger) = loggers.first() {
            send_alert(logger, title, &event);
        }
        self.tell(loggers, event);
    }

    /// Tells of a phase that took long.
    pub(super) fn tell_phase(&mut self, loggers: &[Arc<LoggerInner>], phase: &LongPhase, step: Option<u64>) {
        let name = to_short_line(&phase.name, MOST_NAME);
        let mut text = format!("the phase {name} took {}", format_duration(phase.time));
        if let Some(usual) = phase.usual {
            text.push_str(&format!(", usually {}", format_duration(usual)));
        }
        let mut event = self.event(HealthKind::Phase, AlertLevel::Info, text, step);
        event.time -= phase.ended.elapsed().as_secs_f64();
        event.phase = Some(phase.name.clone());
        event.value = Some(phase.time.as_secs_f64().into());
        event.usual = phase.usual.map(|usual| usual.as_secs_f64());
        self.tell(loggers, event);
    }

    /// Logs the line of an event.
    pub(super) fn log(&mut self, logger: Option<&Arc<LoggerInner>>, event: &Event) {
        if let Some(logger) = logger {
            self.lines += 1;
            log_line(logger, event.level, &event.text);
        }
    }

    /// Appends an event to its file. Of an `episode`, the event names the incident once that has a
    /// file.
    pub(super) fn append(&mut self, event: Event, episode: Option<Episode>) {
        if self.run.is_open() {
            self.events.write(event, episode);
        }
    }

    /// Tries again to write the events that the disk has not taken.
    pub(super) fn write_waiting(&mut self) {
        self.events.write_waiting();
    }

    /// Notes the end of a later attempt, and writes what waits for the last time.
    pub(super) fn end(&mut self, state: RunState, step: Option<u64>) {
        let attempt = self.run.info().attempt();
        if attempt > 1 || self.run.stop().reason().is_some() {
            let text = format!("attempt {attempt} has ended: {}", state.as_str());
            let event = self.event(HealthKind::Attempt, AlertLevel::Info, text, step);
            self.append(event, None);
        }
        self.events.end();
    }
}

/// Sends an alert about an event, if a sink takes alerts, without waiting.
pub(super) fn send_alert(logger: &LoggerInner, title: &str, event: &Event) {
    if logger.takes_alerts() && !logger.producer().is_congested() {
        logger.alert(title, &event.text, event.level);
    }
}

/// Logs a line without waiting: a full ring would hold up the thread that tells so.
fn log_line(logger: &LoggerInner, level: AlertLevel, text: &str) {
    let level = match level {
        AlertLevel::Error => Level::Error,
        AlertLevel::Warn => Level::Warn,
        _ => Level::Info,
    };
    logger.log_without_waiting(level, text);
}

fn read_tail(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file: File = files::open_no_follow(path)?;
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(MOST_TEXT);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(MOST_TEXT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if begin > 0 && !lines.is_empty() {
        // The first one may be cut.
        lines.remove(0);
    }
    Ok(lines.split_off(lines.len().saturating_sub(LINES)))
}
