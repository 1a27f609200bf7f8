//! Rows as event files, which TensorBoard shows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use logcore::files::{Replacement, remove_stale_replacements};
use logcore::{RunManifest, RunState, StoredRow};
use logcore_tensorboard::{EventBuffer, EventFileName, SessionStatus, logger_folder};

use crate::{Exported, RunError, StoredRun};

impl StoredRun {
    /// Writes the rows of a rank as event files of TensorBoard into a new folder, with the
    /// hyper-parameters and the status of the run. The first logger of the run has the folder,
    /// every other one a folder within.
    ///
    /// The rows of a logger are in the order of their steps, because TensorBoard deletes what is
    /// behind the step of a later value. They are read twice, the first time for late rows: one
    /// that a live run logs meanwhile is left out. Numbers have single precision.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::write(folder.path().join("run.json"), r#"{"name":"a","state":"finished"}"#).unwrap();
    /// let row = "{\"step\":7,\"time\":1.0,\"logger\":\"a\",\"loss\":0.5}\n";
    /// fs::write(folder.path().join("metrics.jsonl"), row).unwrap();
    /// let run = StoredRun::open(folder.path())?;
    /// let exported = folder.path().join("exported");
    /// assert_eq!(run.export_event_files(0, &exported)?.rows, 1);
    /// let name = fs::read_dir(exported).unwrap().next().unwrap().unwrap().file_name();
    /// assert!(name.to_str().unwrap().starts_with("events.out.tfevents."));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a file cannot be read, the folder is not empty, or it cannot be written:
    /// [`RunError::Unwritable`].
    pub fn export_event_files(&self, rank: u32, folder: &Path) -> Result<Exported, RunError> {
        check_empty(folder).map_err(RunError::Unwritable)?;
        let mut late = LateRows::find(self.rows(rank)?)?;
        let mut files = LoggerFiles::new(&self.manifest, folder);
        let write = || -> Result<Exported, RunError> {
            files.begin(self)?;
            let mut order = StepOrder::default();
            let mut count = 0;
            let mut rows = self.rows(rank)?;
            for row in &mut rows {
                let row = row?;
                if order.is_late(&row) {
                    continue;
                }
                for earlier in late.take_before(&row) {
                    files.add(&earlier)?;
                    count += 1;
                }
                files.add(&row)?;
                count += 1;
            }
            for row in late.take_all() {
                files.add(&row)?;
                count += 1;
            }
            files.finish(self)?;
            Ok(Exported {
                rows: count,
                left_out: rows.left_out().clone(),
            })
        };
        let written = write();
        if written.is_err() {
            files.remove();
        }
        written
    }
}

/// Makes the folder; refuses one that has files, with which TensorBoard would mix the new ones.
fn check_empty(folder: &Path) -> io::Result<()> {
    let is_folder = folder.symlink_metadata().map(|metadata| metadata.is_dir());
    if !is_folder.unwrap_or(true) {
        let text = format!("{} is no folder; name a new one", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
    }
    fs::create_dir_all(folder)?;
    // A killed export has left files in the folder that the user names again.
    remove_stale_replacements(folder);
    match fs::read_dir(folder)?.next() {
        None => Ok(()),
        Some(_) => {
            let text = format!("{} is not empty; name a new folder", folder.display());
            Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, text))
        }
    }
}

/// The newest step of each logger.
#[derive(Default)]
struct StepOrder(BTreeMap<String, u64>);

impl StepOrder {
    /// Notes the step of a row; returns `true` if the logger has a later one.
    fn is_late(&mut self, row: &StoredRow) -> bool {
        match self.0.get_mut(&row.logger) {
            Some(newest) if *newest > row.step => return true,
            Some(newest) => *newest = row.step,
            None => drop(self.0.insert(row.logger.clone(), row.step)),
        }
        false
    }
}

/// The late rows of each logger, by their steps.
struct LateRows(BTreeMap<String, BTreeMap<u64, Vec<StoredRow>>>);

impl LateRows {
    fn find(rows: impl Iterator<Item = Result<StoredRow, RunError>>) -> Result<Self, RunError> {
        let mut late: BTreeMap<String, BTreeMap<u64, Vec<StoredRow>>> = BTreeMap::new();
        let mut order = StepOrder::default();
        for row in rows {
            let row = row?;
            if order.is_late(&row) {
                let of_logger = late.entry(row.logger.clone()).or_default();
                of_logger.entry(row.step).or_default().push(row);
            }
        }
        Ok(Self(late))
    }

    /// Takes the rows of the logger that have a lower step than `row`.
    fn take_before(&mut self, row: &StoredRow) -> Vec<StoredRow> {
        let Some(of_logger) = self.0.get_mut(&row.logger) else {
            return Vec::new();
        };
        let later = of_logger.split_off(&row.step);
        std::mem::replace(of_logger, later).into_values().flatten().collect()
    }

    fn take_all(self) -> impl Iterator<Item = StoredRow> {
        self.0.into_values().flat_map(BTreeMap::into_values).flatten()
    }
}

/// The files that are being written, one for each logger. They get their names when all are
/// complete.
struct LoggerFiles {
    folder: PathBuf,
    run_name: String,
    file_name: String,
    begun: f64,
    files: BTreeMap<Option<String>, BufWriter<Replacement>>,
    events: EventBuffer,
    last_time: f64,
}

impl LoggerFiles {
    fn new(manifest: &RunManifest, folder: &Path) -> Self {
        let begun = manifest.started;
        #[expect(clippy::cast_sign_loss, reason = "a negative time becomes 0")]
        let file_name = EventFileName::new(&manifest.id, 1, begun as u64).to_string();
        Self {
            folder: folder.to_owned(),
            run_name: manifest.name.clone(),
            file_name,
            begun,
            files: BTreeMap::new(),
            events: EventBuffer::default(),
            last_time: begun,
        }
    }

    /// Writes the hyper-parameters.
    fn begin(&mut self, run: &StoredRun) -> Result<(), RunError> {
        let config = run.config()?;
        self.events.clear();
        if !config.is_empty() {
            self.events.hyper_parameters(self.begun, &config);
            self.events.config_table(self.begun, &config);
        }
        self.write(None)
    }

    fn add(&mut self, row: &StoredRow) -> Result<(), RunError> {
        let values = row.values.iter().map(|(name, value)| (name, *value));
        self.events.clear();
        self.events.scalars(row.time, row.step, values);
        self.last_time = self.last_time.max(row.time);
        self.write(logger_folder(&self.run_name, &row.logger))
    }

    /// Adds the end of the run, if it has ended, and gives the files their names.
    fn finish(&mut self, run: &StoredRun) -> Result<(), RunError> {
        let status = match run.state {
            RunState::Running | RunState::Unknown => None,
            RunState::Finished => Some(SessionStatus::Success),
            _ => Some(SessionStatus::Failure),
        };
        self.events.clear();
        if let Some(status) = status {
            let ended = run.manifest.ended.unwrap_or(self.last_time);
            self.events.end_session(ended, status);
        }
        self.write(None)?;
        for (_, file) in std::mem::take(&mut self.files) {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error);
            file.and_then(Replacement::finish).map_err(RunError::Unwritable)?;
        }
        Ok(())
    }

    /// Removes what a failure has left, so that the folder is empty for another try. Files that
    /// have their names already stay.
    fn remove(&mut self) {
        for (folder, file) in std::mem::take(&mut self.files) {
            drop(file);
            if let Some(name) = folder {
                let _ = fs::remove_dir(self.folder.join(name));
            }
        }
    }

    /// Writes the events into the file in a folder; `None` is the folder of all.
    fn write(&mut self, folder: Option<String>) -> Result<(), RunError> {
        if !self.files.contains_key(&folder) {
            let file = self.create(folder.as_deref()).map_err(RunError::Unwritable)?;
            self.files.insert(folder.clone(), file);
        }
        match self.files.get_mut(&folder) {
            Some(file) => file.write_all(self.events.bytes()).map_err(RunError::Unwritable),
            None => Ok(()),
        }
    }

    fn create(&self, folder: Option<&str>) -> io::Result<BufWriter<Replacement>> {
        let is_own = folder.is_some();
        let folder = folder.map_or_else(|| self.folder.clone(), |name| self.folder.join(name));
        fs::create_dir_all(&folder)?;
        let begun = Replacement::begin(&folder.join(&self.file_name)).inspect_err(|_| {
            if is_own {
                let _ = fs::remove_dir(&folder);
            }
        });
        let mut file = BufWriter::new(begun?);
        let mut first = EventBuffer::default();
        first.begin_file(self.begun);
        file.write_all(first.bytes())?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use logcore_tensorboard::{EventContent, EventReader, TagContent};

    use super::*;

    fn scalars(folder: &Path) -> Vec<(i64, String)> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let path = files.into_iter().find(|path| path.is_file()).unwrap();
        let bytes = fs::read(path).unwrap();
        let mut reader = EventReader::new(&*bytes);
        let mut found = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            let EventContent::Values(values) = event.content else {
                continue;
            };
            for value in values {
                if let TagContent::Scalar(number) = value.value {
                    found.push((event.step, format!("{} {}", value.tag, number.as_f64())));
                }
            }
        }
        found
    }

    #[test]
    fn late_rows_go_where_their_steps_are_and_each_logger_has_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let row = |logger, step: u64, value: u64| {
            format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"{logger}\",\"loss\":{value}}}\n")
        };
        let rows = [
            row("a", 1, 10),
            row("b", 9, 90),
            row("a", 5, 50),
            row("a", 3, 30),
            row("a", 5, 51),
            row("b", 8, 80),
            row("a", 2, 20),
            row("a", 7, 70),
        ];
        fs::write(folder.path().join("metrics.jsonl"), rows.concat()).unwrap();
        fs::write(folder.path().join("run.json"), r#"{"name":"a","state":"finished"}"#).unwrap();
        let run = StoredRun::open(folder.path()).unwrap();
        let exported = folder.path().join("exported");
        assert_eq!(run.export_event_files(0, &exported).unwrap().rows, 8);
        let values: Vec<_> = scalars(&exported).into_iter().map(|(_, value)| value).collect();
        assert_eq!(
            values,
            ["loss 10", "loss 20", "loss 30", "loss 50", "loss 51", "loss 70"]
        );
        assert_eq!(
            scalars(&exported.join("b")),
            [(8, "loss 80".into()), (9, "loss 90".into())]
        );

        let refused = |folder: &Path| run.export_event_files(0, folder).unwrap_err().to_string();
        assert!(refused(&exported).contains("is not empty; name a new folder"));
        assert!(refused(&folder.path().join("run.json")).contains("is no folder; name a new one"));
    }

    #[test]
    fn an_export_that_fails_leaves_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let row = |logger: &str| format!("{{\"step\":1,\"time\":1.0,\"logger\":\"{logger}\",\"loss\":1}}\n");
        let rows = row("a") + &row("b");
        fs::write(folder.path().join("metrics.jsonl"), rows).unwrap();
        fs::write(folder.path().join("run.json"), r#"{"name":"a","state":"finished"}"#).unwrap();
        fs::write(folder.path().join("config.json"), "[1]").unwrap();
        let run = StoredRun::open(folder.path()).unwrap();
        let exported = folder.path().join("exported");
        run.export_event_files(0, &exported).unwrap_err();
        assert_eq!(fs::read_dir(&exported).unwrap().count(), 0);
        fs::remove_file(folder.path().join("config.json")).unwrap();
        assert_eq!(run.export_event_files(0, &exported).unwrap().rows, 2);
    }
}
