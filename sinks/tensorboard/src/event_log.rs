//! The events of one logger, in the order in which TensorBoard needs them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use logcore::log::Level;
use logcore::{MediaContent, MediaItem, MetricBatch, Record, Row, RowMerger, SinkBooks, SinkError, epoch_seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{
    CONFIG_TAG, EventBuffer, HISTOGRAMS, HPARAMS_END_TAG, HPARAMS_START_TAG, IMAGES, RECORDS_TAG, SessionStatus, TEXT,
};
use crate::event_file::{EventFile, FilePosition};
use crate::record_text::RecordText;
use crate::tag_steps::TagSteps;
use crate::{earlier_ends, hyper_parameters};

/// Reason in the books for values behind the newest step of their tag.
const LATE: &str = "late";
/// The most bytes of a file that becomes a part of an event.
const MOST_MEDIA: u64 = 8 << 20;

/// Writes the events of one logger.
///
/// TensorBoard forgets what it has of a tag from the step of a new value on, and shows the first
/// hyper-parameters and the first end of a run. So a row is written when the step moves on, a late
/// value is left out, and hyper-parameters wait for the first row.
pub(crate) struct EventLog {
    file: EventFile,
    rows: RowMerger,
    /// The newest step of each tag; `None` until the files of the attempt have been looked at.
    tags: Option<TagSteps>,
    state: LogState,
    /// `true` if the killed process had ended the run: its file has all calls already.
    is_complete: bool,
    /// Events of one call, kept to reuse the memory.
    events: EventBuffer,
}

/// The memory of the log, beside the open row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogState {
    attempt: u32,
    /// Calls whose values are in the open row.
    open_calls: u64,
    /// The newest step of all tags.
    newest_step: Option<u64>,
    /// `true` once the mark of a session is written, or an earlier file of the attempt has it.
    has_session: bool,
    /// All hyper-parameters so far.
    config: Map<String, Value>,
    /// `true` if some hyper-parameters are in no event yet, of `config_calls` calls.
    config_waits: bool,
    config_calls: u64,
    /// `true` once TensorBoard has the hyper-parameters of the run.
    has_hyper_parameters: bool,
    text: RecordText,
}

impl LogState {
    /// Returns the number of calls that are in no event yet.
    fn waiting(&self) -> u64 {
        self.open_calls + self.config_calls + self.text.unwritten
    }

    /// Forgets what is in no event yet; returns the number of its calls.
    fn take_waiting(&mut self) -> u64 {
        let calls = self.waiting();
        (self.open_calls, self.config_calls, self.config_waits) = (0, 0, false);
        self.text = RecordText::default();
        calls
    }
}

/// The state from which another process continues the file.
#[derive(Serialize, Deserialize)]
pub(crate) struct EventLogResumeState<F = FilePosition, R = Row, S = LogState> {
    pub(crate) file: F,
    row: Option<R>,
    log: S,
}

impl EventLog {
    pub(crate) fn new(file: EventFile, attempt: u32, config: Value) -> Self {
        let mut all = Map::new();
        hyper_parameters::merge(&mut all, config);
        Self {
            file,
            rows: RowMerger::default(),
            tags: None,
            state: LogState {
                attempt,
                open_calls: 0,
                newest_step: None,
                has_session: false,
                config_waits: !all.is_empty(),
                config: all,
                config_calls: 0,
                has_hyper_parameters: false,
                text: RecordText::default(),
            },
            is_complete: false,
            events: EventBuffer::default(),
        }
    }

    /// Continues the file of a killed process.
    pub(crate) fn recover(folder: PathBuf, state: EventLogResumeState) -> Result<Self, SinkError> {
        let recovered = EventFile::recover(folder, state.file)?;
        let (mut file, mut tags) = (recovered.file, recovered.tags);
        let (mut row, mut log) = (state.row, state.log);
        if recovered.has_ended {
            file.settle(log.take_waiting());
            row = None;
        }
        log.has_session |= tags.add_other_files(file.folder(), file.name());
        if let Some(row) = &row {
            for (name, _) in &row.values {
                tags.advance(name, row.step);
            }
        }
        Ok(Self {
            file,
            rows: RowMerger::reopen(row),
            tags: Some(tags),
            state: log,
            is_complete: recovered.has_ended,
            events: EventBuffer::default(),
        })
    }

    /// Adds the values of a call. Values behind the newest step of their tag are left out.
    pub(crate) fn metrics(&mut self, batch: &MetricBatch<'_>) {
        if self.is_complete || batch.iter().len() == 0 {
            return self.file.settle(1);
        }
        let step = batch.step();
        let tags = self.tags();
        let tagged = batch.iter().map(|(name, value)| (tag_of(name), value));
        let values: Vec<_> = tagged.filter(|(tag, _)| tags.advance(tag, step)).collect();
        let is_late = values.len() < batch.iter().len();
        if !values.is_empty() {
            let is_of_row = |row: &Row| row.step == step && row.logger == batch.logger();
            let merges = self.rows.open().is_some_and(is_of_row);
            let in_time = MetricBatch::at(batch.time(), batch.logger(), step, &values);
            let complete = self.rows.push(&in_time);
            // A tag has one value for each step: the last one, which is in the open row.
            for row in complete.iter().filter(|_| !merges) {
                self.write_row(row);
            }
        }
        self.state.newest_step = self.state.newest_step.max(Some(step));
        match is_late {
            true => self.file.reject(1, LATE),
            false => self.state.open_calls += 1,
        }
    }

    /// Adds an image, a histogram or a text. Others, and values behind the newest step of their
    /// tag, are left out.
    pub(crate) fn media(&mut self, item: &MediaItem<'_>, run: &Path) -> Result<(), SinkError> {
        if self.is_complete {
            self.file.settle(1);
            return Ok(());
        }
        let (time, step) = (epoch_seconds(item.time()), item.step());
        let mut events = EventBuffer::default();
        match item.content() {
            MediaContent::Image { width, height, .. } => {
                let file = self.read(item, run)?;
                let tag = format!("{IMAGES}/{}", item.key());
                events.image(time, step, &tag, [*width, *height], &file);
                self.append_media(&tag, time, step, &events);
            }
            MediaContent::Histogram { counts, edges } => {
                let tag = format!("{HISTOGRAMS}/{}", item.key());
                events.histogram(time, step, &tag, counts, edges);
                self.append_media(&tag, time, step, &events);
            }
            MediaContent::Text => {
                let file = self.read(item, run)?;
                let tag = format!("{TEXT}/{}", item.key());
                let tag = tag_of(&tag);
                events.text(time, step, tag, &String::from_utf8_lossy(&file));
                self.append_media(tag, time, step, &events);
            }
            // TensorBoard has no page for others. They are whole in the folder of the run.
            _ => self.file.settle(1),
        }
        Ok(())
    }

    /// Reads the file of a media value. Counts the value if that fails.
    fn read(&mut self, item: &MediaItem<'_>, run: &Path) -> Result<Vec<u8>, SinkError> {
        item.read(run, MOST_MEDIA).map_err(|error| {
            let error = SinkError::from(error).doing(format!("read the file of `{}`", item.key()));
            self.file.reject(1, error.reason());
            error
        })
    }

    fn append_media(&mut self, tag: &str, time: f64, step: u64, events: &EventBuffer) {
        if !self.tags().advance(tag, step) {
            return self.file.reject(1, LATE);
        }
        // The first step of a later attempt has TensorBoard forget what earlier ones have behind
        // it, and only a row tells this step.
        let first = match self.state.attempt {
            1 => Some(step),
            _ => self.state.newest_step.filter(|_| !self.state.has_session),
        };
        match first {
            Some(first) => self.begin_session(time, first),
            None if self.state.has_session => {}
            None => return self.file.reject(1, "before the first row"),
        }
        self.file.append(events, 1);
    }

    /// Returns the newest step of each tag, from the other files of the attempt if this is the
    /// first value.
    fn tags(&mut self) -> &mut TagSteps {
        self.tags.get_or_insert_with(|| {
            let mut tags = TagSteps::default();
            self.state.has_session |= tags.add_other_files(self.file.folder(), self.file.name());
            tags
        })
    }

    /// Adds hyper-parameters.
    pub(crate) fn config(&mut self, config: Value) {
        if self.is_complete {
            return self.file.settle(1);
        }
        hyper_parameters::merge(&mut self.state.config, config);
        self.state.config_waits = true;
        self.state.config_calls += 1;
    }

    /// Adds a record, if it is a warning or an error.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        if record.level() > Level::Warn {
            return;
        }
        if self.is_complete {
            return self.file.settle(1);
        }
        // Step 0 of a later attempt would delete the text of earlier ones.
        let first = (self.state.attempt == 1).then_some(0);
        let step = self.state.newest_step.or(first);
        if self.state.text.step.is_some_and(|open| Some(open) != step) {
            self.write_records();
            self.state.text = RecordText::default();
        }
        self.state.text.step = step;
        if !self.state.text.add(record) {
            self.file.reject(1, "too much text for one step");
        }
    }

    /// Writes everything that is complete to the file.
    pub(crate) fn write_out(&mut self) -> Result<(), SinkError> {
        self.file.write_out()
    }

    /// Writes everything to the file.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        match self.rows.take() {
            Some(row) => self.write_row(&row),
            None => {
                self.write_config();
                self.write_records();
            }
        }
        self.file.write_out()
    }

    /// Writes everything and the end of the run, and counts what cannot be written.
    pub(crate) fn finish(&mut self, end: Option<SessionStatus>) -> Result<(), SinkError> {
        // An error comes again below.
        let _ = self.flush();
        let without_step = std::mem::take(&mut self.state.text.unwritten);
        self.file.reject(without_step, "no step");
        let has_parameters = self.state.has_hyper_parameters || self.state.attempt > 1;
        if let Some(status) = end.filter(|_| has_parameters && !self.is_complete) {
            earlier_ends::remove(self.file.folder(), self.file.name());
            self.events.clear();
            self.events.end_session(epoch_seconds(SystemTime::now()), status);
            self.file.append(&self.events, 0);
        }
        self.file.finish()
    }

    /// Returns the state for a resume point, and `true` if no event waits.
    pub(crate) fn resume_state(&self) -> (EventLogResumeState<&FilePosition, &Row, &LogState>, bool) {
        let (file, is_written) = self.file.position();
        let state = EventLogResumeState {
            file,
            row: self.rows.open(),
            log: &self.state,
        };
        (state, is_written)
    }

    pub(crate) fn books(&self) -> SinkBooks {
        let mut books = self.file.books().clone();
        books.accepted += self.state.waiting();
        books
    }

    pub(crate) fn folder(&self) -> &Path {
        self.file.folder()
    }

    fn write_row(&mut self, row: &Row) {
        let time = epoch_seconds(row.time);
        self.begin_session(time, row.step);
        self.write_config();
        self.write_records();
        let values = row.values.iter().map(|(tag, value)| (tag, *value));
        self.events.clear();
        self.events.scalars(time, row.step, values);
        self.file
            .append(&self.events, std::mem::take(&mut self.state.open_calls));
    }

    /// Marks the step at which the process begins, before its first value.
    fn begin_session(&mut self, time: f64, step: u64) {
        if !std::mem::replace(&mut self.state.has_session, true) {
            earlier_ends::remove(self.file.folder(), self.file.name());
            self.events.clear();
            self.events.begin_session(time, step);
            self.file.append(&self.events, 0);
        }
    }

    /// Writes hyper-parameters: as such the first time, and as a text each time. The text stays at
    /// step 0, so that it is replaced.
    fn write_config(&mut self) {
        if !std::mem::take(&mut self.state.config_waits) {
            return;
        }
        let begun = self.file.position().0.begun;
        self.events.clear();
        if !std::mem::replace(&mut self.state.has_hyper_parameters, true) {
            self.events.hyper_parameters(begun, &self.state.config);
        }
        self.events.config_table(begun, &self.state.config);
        let calls = std::mem::take(&mut self.state.config_calls);
        self.file.append(&self.events, calls);
    }

    /// Writes the records of the step, those again that are in an event already. Records of a later
    /// attempt wait for its first step.
    fn write_records(&mut self) {
        let text = &mut self.state.text;
        text.step = text.step.or(self.state.newest_step);
        let Some(step) = text.step.filter(|_| text.unwritten > 0) else {
            return;
        };
        let calls = std::mem::take(&mut text.unwritten);
        self.events.clear();
        self.events.text(text.time, step, RECORDS_TAG, &text.lines);
        self.file.append(&self.events, calls);
    }
}

/// Returns the tag of a metric. The tags of the other data are taken.
fn tag_of(name: &str) -> &str {
    match name {
        CONFIG_TAG => "text/config_",
        RECORDS_TAG => "text/log_",
        HPARAMS_START_TAG => "_hparams_/session_start_info_",
        HPARAMS_END_TAG => "_hparams_/session_end_info_",
        name => name,
    }
}
