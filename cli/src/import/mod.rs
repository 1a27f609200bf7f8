//! Makes a run of what another program has logged.
//!
//! The sinks of logcore write the files, with the times of the source. They write into
//! `.logcore/imports` in the `log_dir`, and the folder gets its name when the run is complete: an
//! import that fails or is killed leaves no run.

pub(crate) mod csv;
#[cfg(feature = "tensorboard")]
pub(crate) mod tensorboard;
#[cfg(feature = "sync")]
pub(crate) mod wandb;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
#[cfg(any(feature = "sync", feature = "tensorboard"))]
use logcore::escape::to_one_line;
use logcore::files::{EntryKind, Folder, random_suffix};
use logcore::reserved_names::is_system_metric;
use logcore::{
    BuildContext, Deadline, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricSummary, MetricValue, RunAttempt,
    RunFacts, RunInfo, RunManifest, RunState, Sink, Stats, StopFlag, redacted, registry,
};
use serde_json::{Map, Value, json};

use crate::columns::{LAST_TIME, local_time};

/// Where runs lie that are not complete.
const IMPORTS: &str = ".logcore/imports";
/// Most metrics of a run.
pub(crate) const MAX_METRICS: usize = 100_000;
/// Most loggers of a run, each of which has sinks of its own.
const MAX_LOGGERS: usize = 100;
/// The prefix of metrics in rows.
const PREFIX: &str = "metrics/";
/// Characters of an id.
const ID_LENGTH: usize = 8;
/// Most bytes of the name in a folder's name.
const MAX_NAME: usize = 64;
/// Most names in notes.
pub(crate) const MAX_NAMED: usize = 10;
/// Rows between two writes.
const BATCH: u64 = 1000;
/// Time for the last write.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A run that is being made. Dropping the value removes the files.
pub(crate) struct RunImporter {
    log_dir: PathBuf,
    folder: Folder,
    /// The folder of the run, relative to `log_dir`, until the run is complete.
    scratch: PathBuf,
    /// Tells other imports that this one lives.
    _lock: File,
    id: String,
    name: String,
    loggers: BTreeMap<String, ImportedLogger>,
    text: Option<Box<dyn Sink>>,
    times: Option<(f64, f64)>,
    rows: u64,
    lines: u64,
    metrics: usize,
}

/// The rows of one logger so far.
struct ImportedLogger {
    sink: Box<dyn Sink>,
    last_step: Option<u64>,
    places: HashMap<String, usize>,
    statistics: Vec<MetricStatistics>,
}

struct MetricStatistics {
    name: String,
    stats: Stats,
    sum: f64,
}

/// The facts of the source about the run as a whole.
#[derive(Default)]
pub(crate) struct SourceFacts {
    pub(crate) started: Option<f64>,
    pub(crate) ended: Option<f64>,
    pub(crate) end: LoggerEnd,
    pub(crate) config: Map<String, Value>,
    /// Numbers that are in no row.
    pub(crate) summary: Vec<(String, f64)>,
    pub(crate) facts: RunFacts,
}

/// A run that is complete.
pub(crate) struct ImportedRun {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) rows: u64,
    pub(crate) lines: u64,
    pub(crate) metrics: usize,
}

impl RunImporter {
    /// Begins a run of this name in `log_dir`, which is made if it is missing.
    pub(crate) fn begin(log_dir: &Path, name: &str) -> Result<Self> {
        let cannot = || format!("cannot make a run in {}", log_dir.display());
        fs::create_dir_all(log_dir).with_context(cannot)?;
        let log_dir = log_dir.canonicalize().with_context(cannot)?;
        let folder = Folder::open(&log_dir).with_context(cannot)?;
        remove_killed(&folder);
        let (scratch, lock) = create_scratch(&folder).with_context(cannot)?;
        Ok(Self {
            log_dir,
            folder,
            scratch,
            _lock: lock,
            id: random_suffix()[..ID_LENGTH].to_owned(),
            name: name.to_owned(),
            loggers: BTreeMap::new(),
            text: None,
            times: None,
            rows: 0,
            lines: 0,
            metrics: 0,
        })
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a row of a logger, or else of the one that names the run. The names are those of
    /// [`row_name`].
    pub(crate) fn row(
        &mut self,
        logger: Option<&str>,
        step: u64,
        time: f64,
        values: &[(&str, MetricValue)],
    ) -> Result<()> {
        let logger = logger.unwrap_or(&self.name).to_owned();
        if !self.loggers.contains_key(&logger) {
            ensure!(
                self.loggers.len() < MAX_LOGGERS,
                "cannot import more than {MAX_LOGGERS} loggers. Leave the column `logger` out"
            );
            let sink = self.build("jsonl", &logger)?;
            self.loggers.insert(logger.clone(), ImportedLogger::new(sink));
        }
        let Some(part) = self.loggers.get_mut(&logger) else {
            return Ok(());
        };
        let known = part.statistics.len();
        part.add(step, values);
        self.metrics += part.statistics.len() - known;
        ensure!(
            self.metrics <= MAX_METRICS,
            "cannot import more than {MAX_METRICS} metrics. Leave some out"
        );
        let batch = MetricBatch::at(system_time(time)?, &logger, step, values);
        part.sink.metrics(&batch).context("cannot write the rows")?;
        self.rows += 1;
        if self.rows.is_multiple_of(BATCH) {
            part.sink.deliver().context("cannot write the rows")?;
        }
        self.note_time(time);
        Ok(())
    }

    /// Adds a line of text, which a table does not have.
    #[cfg(feature = "sync")]
    pub(crate) fn line(&mut self, level: logcore::log::Level, time: f64, text: &str) -> Result<()> {
        if self.text.is_none() {
            self.text = Some(self.build("file", &self.name)?);
        }
        if let Some(sink) = &mut self.text {
            let record = logcore::Record::at(system_time(time)?, level, &self.name, text);
            sink.record(&record).context("cannot write the text")?;
            self.lines += 1;
            if self.lines.is_multiple_of(BATCH) {
                sink.deliver().context("cannot write the text")?;
            }
        }
        self.note_time(time);
        Ok(())
    }

    /// Completes the run, and gives its folder a name.
    pub(crate) fn finish(mut self, source: SourceFacts) -> Result<ImportedRun> {
        let (first, last) = self.times.unwrap_or_default();
        let started = source.started.filter(|time| *time > 0.0).unwrap_or(first);
        let ended = source.ended.unwrap_or(last).max(started);
        system_time(ended)?;
        let mut names: Vec<String> = self
            .loggers
            .keys()
            .filter(|name| **name != self.name)
            .cloned()
            .collect();
        names.insert(0, self.name.clone());
        let mut last_step = None;
        let mut extra = source.summary;
        for (name, part) in std::mem::take(&mut self.loggers) {
            last_step = last_step.max(part.last_step);
            let extra = if name == names[0] {
                std::mem::take(&mut extra)
            } else {
                Vec::new()
            };
            part.end(
                &source.end,
                Duration::try_from_secs_f64(ended - started).unwrap_or_default(),
                extra,
            )?;
        }
        if let Some(text) = self.text.take() {
            end_sink(text, "the text")?;
        }
        let dir = self.log_dir.join(&self.scratch);
        let config = json!({
            "config": redacted(&Value::Object(source.config)),
            "end": {"exit_code": source.end.exit_code, "time": ended},
            "environment": source.facts,
        });
        self.replace("config.json", &config)?;
        let mut manifest = RunManifest::default();
        (manifest.id, manifest.name, manifest.loggers) = (self.id.clone(), self.name.clone(), names);
        manifest.started = started;
        manifest.facts = source.facts;
        let mut attempt = RunAttempt::default();
        (attempt.started, attempt.last_step) = (started, last_step);
        manifest.attempts.push(attempt);
        manifest.end(RunState::after(&source.end), source.end.exit_code, ended);
        manifest.write(&dir).context("cannot write run.json")?;
        let dir = self.publish(started)?;
        Ok(ImportedRun {
            id: std::mem::take(&mut self.id),
            name: self.name.clone(),
            dir,
            rows: self.rows,
            lines: self.lines,
            metrics: self.metrics,
        })
    }

    /// Builds a sink of logcore for the files of the run.
    fn build(&self, sink: &str, logger: &str) -> Result<Box<dyn Sink>> {
        let dir = self.log_dir.join(&self.scratch);
        let config = LogConfig {
            name: logger.to_owned(),
            log_dir: dir.clone(),
            rank: Some(0),
            world_size: Some(1),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let run = RunInfo::new(&self.id, &self.name, dir, 1);
        let context = BuildContext::new(&config, &stop).with_run(&run);
        Ok(registry::build_sink(sink, &Value::Bool(true), &context)?)
    }

    fn note_time(&mut self, time: f64) {
        let (first, last) = self.times.get_or_insert((time, time));
        (*first, *last) = (first.min(time), last.max(time));
    }

    fn replace(&self, name: &str, value: &Value) -> Result<()> {
        let text = serde_json::to_vec_pretty(value)?;
        let written = self.folder.replace(&self.scratch.join(name), &text);
        written.with_context(|| format!("cannot write {name}"))
    }

    /// Moves the complete run to a name that is free.
    fn publish(&mut self, started: f64) -> Result<PathBuf> {
        let name = folder_name(&self.name, started, &self.id);
        let dir = self.log_dir.join(&name);
        if dir.symlink_metadata().is_ok() {
            bail!(
                "cannot make the folder {}: something of this name is there",
                dir.display()
            );
        }
        let moved = self.folder.rename(&self.scratch, Path::new(&name));
        moved.with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let _ = self.folder.remove_dir(Path::new(IMPORTS));
        Ok(dir)
    }
}

impl Drop for RunImporter {
    fn drop(&mut self) {
        // A sink that is dropped writes once more, and makes a file that is gone again.
        self.loggers.clear();
        self.text = None;
        // A complete run is not there any more.
        if remove_all(&self.folder, &self.scratch).is_ok() {
            let _ = self.folder.remove_dir(Path::new(IMPORTS));
        }
    }
}

/// Most folders that other imports take away before this one has locked its own.
const ATTEMPTS: u32 = 5;

/// Creates a folder for an import, and locks it.
fn create_scratch(log_dir: &Folder) -> io::Result<(PathBuf, File)> {
    let mut attempts = 1..=ATTEMPTS;
    loop {
        let scratch = Path::new(IMPORTS).join(random_suffix());
        let path = scratch.join(RunManifest::LOCK);
        let create = || {
            log_dir.create_dir_all(&scratch)?;
            let lock = log_dir.append(&path)?;
            let _ = lock.try_lock();
            // Until the lock, another import may have taken the folder for that of a killed one.
            log_dir.open_file(&path).map(|_| lock)
        };
        match create() {
            Ok(lock) => return Ok((scratch, lock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts.next().is_some() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes what killed imports have left.
fn remove_killed(log_dir: &Folder) {
    let imports = log_dir.folder(Path::new(IMPORTS));
    for entry in imports.and_then(|imports| imports.entries()).unwrap_or_default() {
        let scratch = Path::new(IMPORTS).join(&entry.name);
        if entry.kind != EntryKind::Folder {
            continue;
        }
        match log_dir.open_file(&scratch.join(RunManifest::LOCK)) {
            Ok(lock) if lock.try_lock().is_ok() => drop(remove_all(log_dir, &scratch)),
            Ok(_) => {}
            // Killed before it had a lock. Only an empty folder goes.
            Err(_) => drop(log_dir.remove_dir(&scratch)),
        }
    }
}

/// Removes a folder of files, and no folder within.
fn remove_all(log_dir: &Folder, path: &Path) -> io::Result<()> {
    for entry in log_dir.folder(path)?.entries()? {
        log_dir.remove_file(&path.join(entry.name))?;
    }
    log_dir.remove_dir(path)
}

impl ImportedLogger {
    fn new(sink: Box<dyn Sink>) -> Self {
        Self {
            sink,
            last_step: None,
            places: HashMap::new(),
            statistics: Vec::new(),
        }
    }

    fn add(&mut self, step: u64, values: &[(&str, MetricValue)]) {
        self.last_step = self.last_step.max(Some(step));
        for (name, value) in values {
            let place = match self.places.get(*name) {
                Some(place) => *place,
                None => {
                    self.places.insert((*name).to_owned(), self.statistics.len());
                    self.statistics.push(MetricStatistics::new(name));
                    self.statistics.len() - 1
                }
            };
            self.statistics[place].add(value.as_f64());
        }
    }

    /// Writes the end of the logger. `extra` are numbers that are in no row.
    fn end(mut self, end: &LoggerEnd, duration: Duration, extra: Vec<(String, f64)>) -> Result<()> {
        let mut summary = LoggerSummary::default();
        (summary.duration, summary.last_step) = (duration, self.last_step);
        for (name, value) in extra {
            if !self.places.contains_key(&*row_name(&name)) {
                let mut only = MetricStatistics::new(&row_name(&name));
                only.add(value);
                self.statistics.push(only);
            }
        }
        for MetricStatistics { name, stats, .. } in self.statistics {
            match is_system_metric(&name) {
                true => summary.system_metrics.push(MetricSummary::new(name, stats)),
                false => {
                    let name = name.strip_prefix(PREFIX).unwrap_or(&name);
                    summary.metrics.push(MetricSummary::new(name, stats));
                }
            }
        }
        self.sink.logger_ended(end, &summary);
        end_sink(self.sink, "the rows")
    }
}

impl MetricStatistics {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            stats: Stats::empty(),
            sum: 0.0,
        }
    }

    fn add(&mut self, value: f64) {
        let stats = &mut self.stats;
        (stats.last, stats.count) = (value, stats.count + 1);
        if value.is_nan() {
            stats.nan_count += 1;
        } else if value.is_infinite() {
            stats.infinite_count += 1;
        } else {
            self.sum += value;
            // The first value is less and greater than NaN.
            (stats.min, stats.max) = (stats.min.min(value), stats.max.max(value));
            #[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 takes centuries")]
            let finite = (stats.count - stats.nan_count - stats.infinite_count) as f64;
            stats.mean = self.sum / finite;
        }
    }
}

/// Ends a sink, and makes sure that all of its calls are in the files.
fn end_sink(mut sink: Box<dyn Sink>, what: &str) -> Result<()> {
    let cannot = || format!("cannot write {what}");
    sink.finish(Deadline::after(TIMEOUT)).with_context(cannot)?;
    match sink.books() {
        Some(books) if books.delivered < books.accepted => Err(anyhow!(
            "{}: {} of {} calls are missing",
            cannot(),
            books.accepted - books.delivered,
            books.accepted
        )),
        _ => Ok(()),
    }
}

/// Returns the name of a metric in rows.
pub(crate) fn row_name(name: &str) -> std::borrow::Cow<'_, str> {
    match name.starts_with(PREFIX) || is_system_metric(name) {
        true => name.into(),
        false => format!("{PREFIX}{name}").into(),
    }
}

/// The names of metrics in rows that are taken.
#[derive(Default)]
pub(crate) struct TakenNames {
    names: HashSet<String>,
    /// The next number for a name that is taken, so that no number is tried twice.
    next: HashMap<String, u64>,
}

impl TakenNames {
    /// Takes a name, with a number behind if it is taken already.
    pub(crate) fn take(&mut self, wanted: &str) -> String {
        if self.names.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let next = self.next.entry(wanted.to_owned()).or_insert(2);
        loop {
            let name = format!("{wanted}_{next}");
            *next += 1;
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// The names in rows for those of the source, of which two never become one.
#[cfg(any(feature = "sync", feature = "tensorboard"))]
#[derive(Default)]
pub(crate) struct RowNames {
    by_source: HashMap<String, String>,
    taken: TakenNames,
}

#[cfg(any(feature = "sync", feature = "tensorboard"))]
impl RowNames {
    /// Returns the name in rows: [`row_name`], with a number behind if another name has that
    /// already.
    pub(crate) fn name_of(&mut self, source: &str) -> &str {
        let taken = &mut self.taken;
        if !self.by_source.contains_key(source) {
            self.by_source.insert(source.to_owned(), taken.take(&row_name(source)));
        }
        &self.by_source[source]
    }

    /// Returns notes about the names that have a number.
    pub(crate) fn notes(&self) -> Vec<String> {
        let renamed = self.by_source.iter().filter(|(source, own)| row_name(source) != **own);
        let notes = renamed.map(|(source, own)| {
            let (source, own) = (to_one_line(source), to_one_line(own));
            format!("{source} is {own} in the rows")
        });
        let mut notes: Vec<String> = notes.collect();
        notes.sort();
        notes.truncate(MAX_NAMED);
        notes
    }
}

/// Returns the name of the folder, as runs of logcore have it. Nothing of the name leads elsewhere.
fn folder_name(name: &str, started: f64, id: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let name: String = name.chars().map(plain).take(MAX_NAME).collect();
    let name = match name.trim_start_matches('.') {
        "" => "run",
        name => name,
    };
    let digits = local_time(started.max(0.0)).replace(['-', ':'], "").replace(' ', "-");
    format!("{name}-{digits}-{}", &id[..ID_LENGTH / 2])
}

/// Converts seconds since 1970. A time before that becomes 1970; one without a date is an error.
fn system_time(seconds: f64) -> Result<SystemTime> {
    let is_known = seconds.is_nan() || seconds <= LAST_TIME;
    ensure!(
        is_known,
        "cannot take over the time {seconds:e}, in seconds since 1970: it is after the year 9999. Correct it in the \
         source"
    );
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_date_is_refused() {
        assert_eq!(system_time(1.5).unwrap(), UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!(system_time(-1.0).unwrap(), UNIX_EPOCH);
        for seconds in [1e12, 1e19, f64::INFINITY] {
            let error = system_time(seconds).unwrap_err().to_string();
            assert!(error.contains("after the year 9999. Correct it"), "{error}");
        }
    }

    #[test]
    fn names_are_plain() {
        let at = |name: &str| folder_name(name, 0.0, "0123abcd");
        assert!(at("../../etc").starts_with("_.._etc-19") || at("../../etc").starts_with("_.._etc-"));
        assert!(!at("a/b\0c").contains(['/', '\0']) && at("...").starts_with("run-"));
        assert!(at(&"x".repeat(999)).len() < 100);
        assert_eq!(
            (&*row_name("loss"), &*row_name("metrics/loss")),
            ("metrics/loss", "metrics/loss")
        );
        assert_eq!(
            (&*row_name("system/cpu"), &*row_name("step")),
            ("system/cpu", "metrics/step")
        );
    }
}
