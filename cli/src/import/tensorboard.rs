//! Event files of TensorBoard.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use logcore::escape::to_one_line;
use logcore::{LoggerEnd, MetricValue, epoch_seconds, files};
use logcore_tensorboard::{Event, EventContent, EventReadError, EventReader, SessionStatus, TagContent};

use super::{RowNames, RunImporter, SourceFacts};

/// A part of the name by which TensorBoard knows its files.
const FILE_NAME_PART: &str = "tfevents";
/// The folder of event files within a run of logcore.
const OWN_FOLDER: &str = "tensorboard";
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 32;
/// Most folders with event files, each of which becomes a run.
const MAX_FOLDERS: usize = 10_000;

/// A folder with event files, which TensorBoard shows as one run.
pub(crate) struct EventFolder {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    /// The files, in the order in which TensorBoard reads them.
    files: Vec<PathBuf>,
}

/// The content of event files.
pub(crate) struct ReadEvents {
    pub(crate) source: SourceFacts,
    pub(crate) notes: Vec<String>,
    /// `true` if a file could not be read to its end.
    pub(crate) is_damaged: bool,
}

/// Returns an event file, or the folders at and beneath a path that have event files. Links are not
/// followed.
pub(crate) fn find(path: &Path) -> Result<Vec<EventFolder>> {
    let name = plain_name(&path.canonicalize()?);
    if path.is_file() {
        let files = vec![path.to_owned()];
        let path = path.to_owned();
        return Ok(vec![EventFolder { path, name, files }]);
    }
    let mut found = Vec::new();
    find_in(path, &name, 0, &mut found)?;
    Ok(found)
}

fn find_in(path: &Path, name: &str, depth: usize, found: &mut Vec<EventFolder>) -> Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let kind = entry.file_type().with_context(cannot)?;
        if kind.is_dir() {
            folders.push(entry.path());
        } else if kind.is_file() && entry.file_name().to_string_lossy().contains(FILE_NAME_PART) {
            files.push(entry.path());
        }
    }
    files.sort();
    folders.sort();
    if !files.is_empty() {
        ensure!(
            found.len() < MAX_FOLDERS,
            "cannot import more than {MAX_FOLDERS} folders of event files. Name one that has fewer"
        );
        let (path, name) = (path.to_owned(), name.to_owned());
        found.push(EventFolder { path, name, files });
    }
    for folder in folders.iter().filter(|_| depth < MAX_DEPTH) {
        let own = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = match &*own {
            OWN_FOLDER => name.to_owned(),
            // The folder that was named is no part of the names beneath.
            own if depth == 0 => own.to_owned(),
            own => format!("{name}/{own}"),
        };
        find_in(folder, &name, depth + 1, found)?;
    }
    Ok(())
}

/// Returns the name of a run for a path: that of the folder, or of the run above.
fn plain_name(path: &Path) -> String {
    let path = match path.file_name() {
        Some(name) if name == OWN_FOLDER => path.parent().unwrap_or(path),
        _ => path,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.is_empty() {
        OWN_FOLDER.to_owned()
    } else {
        name.into_owned()
    }
}

/// Reads the event files of a folder into a run.
pub(crate) fn read(folder: &EventFolder, importer: &mut RunImporter) -> Result<ReadEvents> {
    let starts = find_starts(folder)?;
    let mut rows = OpenRow::default();
    let mut read = ReadEvents {
        source: SourceFacts::default(),
        notes: Vec::new(),
        is_damaged: false,
    };
    let (mut order, mut left_out) = (0, 0_u64);
    let mut first_time = None;
    for path in &folder.files {
        let changed = path.metadata().and_then(|metadata| metadata.modified())?;
        let mut time = epoch_seconds(changed);
        let damage = for_each_event(path, &mut |event| {
            order += 1;
            let EventContent::Values(values) = event.content else {
                return Ok(());
            };
            if event.time.is_finite() && event.time > 0.0 {
                time = event.time;
                first_time = first_time.or(Some(time));
            }
            for tagged in values {
                let number = match tagged.value {
                    TagContent::Scalar(number) => number,
                    TagContent::HyperParameters(config) => {
                        read.source.config.extend(config);
                        continue;
                    }
                    TagContent::End { status, time } => {
                        read.source.end = end_of(status);
                        read.source.ended = Some(time).filter(|time| time.is_finite() && *time > 0.0);
                        continue;
                    }
                    _ => {
                        left_out += 1;
                        continue;
                    }
                };
                match u64::try_from(event.step) {
                    Ok(_) if is_superseded(&starts, order, event.step) => {}
                    Ok(step) => rows.add(importer, step, time, &tagged.tag, number)?,
                    Err(_) => left_out += 1,
                }
            }
            Ok(())
        })?;
        if let Some(damage) = damage {
            read.is_damaged = true;
            let path = path.to_string_lossy();
            read.notes.push(format!("{}: {damage}", to_one_line(&path)));
        }
    }
    rows.write(importer)?;
    if importer.rows() == 0 {
        read.source.started = first_time;
    }
    read.notes.append(&mut rows.names.notes());
    if left_out > 0 {
        read.notes.push(format!(
            "{left_out} values are no numbers at a step, such as texts and images, and are left out"
        ));
    }
    Ok(read)
}

fn end_of(status: Option<SessionStatus>) -> LoggerEnd {
    match status {
        Some(SessionStatus::Failure) => LoggerEnd::from_exit_code(1),
        _ => LoggerEnd::default(),
    }
}

/// The mark that a process has begun at a step: values before the mark, from the step on, do not
/// count any more.
struct SessionStart {
    order: u64,
    step: i64,
}

/// Returns the marks that matter, whose steps rise: a later one with a lower step has the effect of
/// those before it.
fn find_starts(folder: &EventFolder) -> Result<Vec<SessionStart>> {
    let mut starts: Vec<SessionStart> = Vec::new();
    let mut order = 0;
    for path in &folder.files {
        for_each_event(path, &mut |Event { step, content, .. }| {
            order += 1;
            if content == EventContent::SessionStart {
                while starts.last().is_some_and(|last| last.step >= step) {
                    starts.pop();
                }
                starts.push(SessionStart { order, step });
            }
            Ok(())
        })?;
    }
    Ok(starts)
}

/// Returns `true` if a later process has begun at the step or before.
fn is_superseded(starts: &[SessionStart], order: u64, step: i64) -> bool {
    let next = starts.partition_point(|start| start.order <= order);
    starts.get(next).is_some_and(|start| step >= start.step)
}

/// Reads a file; returns the reason why the rest of the file could not be read.
fn for_each_event(path: &Path, take: &mut dyn FnMut(Event) -> Result<()>) -> Result<Option<String>> {
    let cannot = || format!("cannot read {}", path.display());
    let file: File = files::open(path).with_context(cannot)?;
    let mut reader = EventReader::new(BufReader::new(file));
    loop {
        match reader.next_event() {
            Ok(Some(event)) => take(event)?,
            Ok(None) => return Ok(None),
            Err(error @ (EventReadError::Damaged { .. } | EventReadError::TooLong { .. })) => {
                return Ok(Some(format!("{error}; the rest of it is left out")));
            }
            Err(error) => return Err(error).with_context(cannot),
        }
    }
}

/// The values of one step so far: other programs write an event for each value.
#[derive(Default)]
struct OpenRow {
    step: u64,
    time: f64,
    tags: HashSet<String>,
    values: Vec<(String, MetricValue)>,
    names: RowNames,
}

impl OpenRow {
    fn add(&mut self, importer: &mut RunImporter, step: u64, time: f64, tag: &str, number: MetricValue) -> Result<()> {
        if self.step != step || self.tags.contains(tag) {
            self.write(importer)?;
        }
        (self.step, self.time) = (step, time);
        self.tags.insert(tag.to_owned());
        self.values.push((self.names.name_of(tag).to_owned(), number));
        Ok(())
    }

    fn write(&mut self, importer: &mut RunImporter) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let values: Vec<_> = self.values.iter().map(|(name, value)| (&**name, *value)).collect();
        importer.row(None, self.step, self.time, &values)?;
        self.tags.clear();
        self.values.clear();
        Ok(())
    }
}
