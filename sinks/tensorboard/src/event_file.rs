//! The event file that a sink appends to: whole records, full disks, files that others remove or
//! change, and the continuation of a killed process's file.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logcore::files::{append_no_follow, identity, open_no_follow};
use logcore::{SinkBooks, SinkError};
use serde::{Deserialize, Serialize};

use crate::event::EventBuffer;
use crate::file_name::EventFileName;
use crate::reader::{EventContent, EventReader, TagContent};
use crate::tag_steps::TagSteps;

/// Bytes that are kept in memory while the file cannot be written.
const KEPT_BYTES: usize = 16 << 20;
/// Maximum age of the check that the path still leads to our file.
const PATH_CHECK: Duration = Duration::from_millis(100);
/// Number of names that are tried if others have made files under them.
const MAX_NAMES: u32 = 100;

/// An event file with the only writer that it has.
///
/// The file is made with its first record. A file that others remove, cut or append to is given up
/// for a new one: readers show the files of a folder as one.
pub(crate) struct EventFile {
    folder: PathBuf,
    position: FilePosition,
    output: Option<Output>,
    /// Records that are not completely in the file.
    queue: Vec<u8>,
    /// Bytes of the queue that are in the file.
    written: usize,
    /// For each record of the queue its end, and the number of calls in it.
    records: VecDeque<(usize, u64)>,
    books: SinkBooks,
    /// `true` since the last write failed.
    is_failing: bool,
    path_checked: Option<Instant>,
}

/// The place up to which a file is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FilePosition {
    pub(crate) name: EventFileName,
    /// Length of all whole records in bytes.
    pub(crate) length: u64,
    /// Time in the first record, in seconds since 1970.
    pub(crate) begun: f64,
}

/// The file of a killed process.
pub(crate) struct RecoveredFile {
    pub(crate) file: EventFile,
    /// The scalars up to the position.
    pub(crate) tags: TagSteps,
    /// `true` if the killed process had ended the run, so that the file is complete.
    pub(crate) has_ended: bool,
}

/// The open file. A test takes another writer.
struct Output {
    writer: Box<dyn Write + Send>,
    file: Option<File>,
}

impl EventFile {
    /// Prepares a file in a folder, without touching the disk.
    pub(crate) fn new(folder: PathBuf, position: FilePosition) -> Self {
        Self {
            folder,
            position,
            output: None,
            queue: Vec::new(),
            written: 0,
            records: VecDeque::new(),
            books: SinkBooks::default(),
            is_failing: false,
            path_checked: None,
        }
    }

    /// Continues the file of a killed process behind a position. The records behind are cut off:
    /// the same calls make the same bytes again. If the file is not the same any more, a new one is
    /// begun.
    pub(crate) fn recover(folder: PathBuf, position: FilePosition) -> Result<RecoveredFile, SinkError> {
        let path = folder.join(position.name.to_string());
        let cannot = |error: io::Error| SinkError::from(error).doing(format!("continue {}", path.display()));
        let mut recovered = RecoveredFile {
            file: Self::new(folder, position),
            tags: TagSteps::default(),
            has_ended: false,
        };
        let length = recovered.file.position.length;
        let opened = append_no_follow(&path).and_then(|file| Ok((file, open_no_follow(&path)?)));
        let (file, content) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound && length == 0 => return Ok(recovered),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                recovered.file.begin_new();
                return Ok(recovered);
            }
            Err(error) => return Err(cannot(error)),
        };
        let mut beginning = Vec::new();
        let first = recovered.file.first_event();
        let begun = (&content).take(first.bytes().len() as u64).read_to_end(&mut beginning);
        (&content).rewind().map_err(cannot)?;
        let is_ours = begun.is_ok() && first.bytes().starts_with(&beginning);
        let mut is_same = is_ours && length == 0;
        let mut reader = EventReader::new(BufReader::new(content));
        // A record that is damaged or cut off ends the loop.
        while is_ours && let Ok(Some(event)) = reader.next_event() {
            is_same |= reader.position() == length;
            if reader.position() <= length {
                recovered.tags.add(event);
            } else if let EventContent::Values(values) = event.content {
                recovered.has_ended |= values.iter().any(|value| matches!(value.value, TagContent::End { .. }));
            }
        }
        if !is_same {
            recovered.tags = TagSteps::default();
            recovered.has_ended = false;
            recovered.file.begin_new();
            return Ok(recovered);
        }
        if !recovered.has_ended {
            file.set_len(length).map_err(cannot)?;
            recovered.file.output = Some(Output::new(file).map_err(cannot)?);
        }
        Ok(recovered)
    }

    /// Returns the position behind the last whole record, and `true` if no record waits.
    pub(crate) fn position(&self) -> (&FilePosition, bool) {
        (&self.position, self.queue.is_empty())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn name(&self) -> &EventFileName {
        &self.position.name
    }

    pub(crate) fn books(&self) -> &SinkBooks {
        &self.books
    }

    /// Counts calls that are in no record.
    pub(crate) fn reject(&mut self, calls: u64, reason: &str) {
        self.books.accepted += calls;
        self.books.drop_for(reason, calls);
    }

    /// Counts calls that the killed process had written.
    pub(crate) fn settle(&mut self, calls: u64) {
        self.books.accepted += calls;
        self.books.delivered += calls;
    }

    /// Queues events, which count as a number of calls.
    pub(crate) fn append(&mut self, events: &EventBuffer, calls: u64) {
        self.books.accepted += calls;
        if self.is_failing && self.queue.len() + events.bytes().len() > KEPT_BYTES {
            self.books.drop_for("disk error", calls);
            return;
        }
        if !self.is_failing && self.queue.len() > KEPT_BYTES {
            // Many images in one batch of calls. An error is met again, and reported, at the end of
            // the batch.
            let _ = self.write_out();
        }
        if self.position.length == 0 && self.queue.is_empty() {
            self.queue.extend_from_slice(self.first_event().bytes());
            self.records.push_back((self.queue.len(), 0));
        }
        self.queue.extend_from_slice(events.bytes());
        self.records.push_back((self.queue.len(), calls));
    }

    /// Writes the queue to the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written. The rest of the queue is kept, and the call may be repeated.
    pub(crate) fn write_out(&mut self) -> Result<(), SinkError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let result = self.try_write_out();
        self.is_failing = result.is_err();
        result.map_err(|error| {
            let waiting = self.queue.len() - self.written;
            let path = self.path();
            let action = format!("append to {} ({waiting} bytes wait in memory)", path.display());
            SinkError::from(error).doing(action)
        })
    }

    /// Writes the queue, and drops and counts what cannot be written.
    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let written = self.write_out();
        if let Err(error) = &written {
            let lost = self.records.drain(..).map(|(_, calls)| calls).sum();
            self.books.drop_for(error.reason(), lost);
            self.queue.clear();
            self.written = 0;
            // Readers would wait for the rest of a record that is cut off.
            if let Some(file) = self.output.take().and_then(|output| output.file) {
                let _ = file.set_len(self.position.length);
            }
        }
        written
    }

    fn path(&self) -> PathBuf {
        self.folder.join(self.position.name.to_string())
    }

    fn first_event(&self) -> EventBuffer {
        let mut first = EventBuffer::default();
        first.begin_file(self.position.begun);
        first
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        if self.is_lost() {
            self.begin_new();
        }
        while self.written < self.queue.len() {
            let mut output = self.open()?;
            let result = output.writer.write(&self.queue[self.written..]);
            self.output = Some(output);
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.count_written();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the records that are completely in the file out of the queue.
    fn count_written(&mut self) {
        let mut whole = 0;
        while let Some((end, calls)) = self.records.front().copied().filter(|(end, _)| *end <= self.written) {
            self.books.delivered += calls;
            self.records.pop_front();
            whole = end;
        }
        self.queue.drain(..whole);
        self.written -= whole;
        self.records.iter_mut().for_each(|(end, _)| *end -= whole);
        self.position.length += whole as u64;
        if self.queue.is_empty() {
            self.queue.shrink_to(KEPT_BYTES / 16);
        }
    }

    /// Takes the open file; makes it, with its folder, if that is due.
    fn open(&mut self) -> io::Result<Output> {
        self.output.take().map_or_else(|| self.create(), Ok)
    }

    fn create(&mut self) -> io::Result<Output> {
        fs::create_dir_all(&self.folder)?;
        for _ in 0..MAX_NAMES {
            match OpenOptions::new().append(true).create_new(true).open(self.path()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.position.name = self.position.name.next();
                }
                created => return Output::new(created?),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Returns `true` if others have removed the file, or have changed its length.
    fn is_lost(&mut self) -> bool {
        let Some(file) = self.output.as_ref().and_then(|output| output.file.as_ref()) else {
            return false;
        };
        let Ok(there) = file.metadata() else { return true };
        if there.len() != self.position.length + self.written as u64 {
            return true;
        }
        if self.path_checked.is_some_and(|checked| checked.elapsed() < PATH_CHECK) {
            return false;
        }
        self.path_checked = Some(Instant::now());
        match fs::symlink_metadata(self.path()) {
            Ok(at_path) => identity(&at_path) != identity(&there),
            // A folder that was moved has taken the file along.
            Err(error) => error.kind() == io::ErrorKind::NotFound && self.folder.is_dir(),
        }
    }

    /// Begins a new file with all records that are not completely in the old one.
    fn begin_new(&mut self) {
        self.position.name = self.position.name.newer_in(&self.folder);
        self.position.length = 0;
        self.output = None;
        self.written = 0;
        if !self.queue.is_empty() {
            let first = self.first_event();
            let length = first.bytes().len();
            self.queue.splice(..0, first.bytes().iter().copied());
            self.records.iter_mut().for_each(|(end, _)| *end += length);
            self.records.push_front((length, 0));
        }
    }
}

impl Output {
    fn new(file: File) -> io::Result<Self> {
        let writer = Box::new(file.try_clone()?);
        let file = Some(file);
        Ok(Self { writer, file })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// The content of a file, and the results of its next writes: a number of bytes, or an error.
    #[derive(Default)]
    struct Script {
        bytes: Vec<u8>,
        acts: VecDeque<Result<usize, io::ErrorKind>>,
    }

    struct ScriptedWriter(Arc<Mutex<Script>>);

    impl Write for ScriptedWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut script = self.0.lock().unwrap();
            let count = script.acts.pop_front().unwrap_or(Ok(bytes.len()))?;
            let count = count.min(bytes.len());
            script.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn new_file(folder: &Path) -> EventFile {
        let position = FilePosition {
            name: EventFileName::new("a", 1, 7),
            length: 0,
            begun: 7.5,
        };
        EventFile::new(folder.to_owned(), position)
    }

    fn scripted(acts: impl IntoIterator<Item = Result<usize, io::ErrorKind>>) -> (EventFile, Arc<Mutex<Script>>) {
        let script = Arc::<Mutex<Script>>::default();
        script.lock().unwrap().acts.extend(acts);
        let mut file = new_file(Path::new("unused"));
        let writer = Box::new(ScriptedWriter(Arc::clone(&script)));
        file.output = Some(Output { writer, file: None });
        (file, script)
    }

    fn row(step: u64) -> EventBuffer {
        let mut events = EventBuffer::default();
        events.scalars(1.0, step, [("loss", logcore::MetricValue::Int(1))]);
        events
    }

    fn steps(bytes: &[u8]) -> Vec<i64> {
        let mut reader = EventReader::new(bytes);
        let events = std::iter::from_fn(|| reader.next_event().unwrap());
        events
            .filter(|event| matches!(event.content, EventContent::Values(_)))
            .map(|event| event.step)
            .collect()
    }

    #[test]
    fn the_queue_of_a_full_disk_is_bounded_and_counts_what_it_drops() {
        let (mut file, _script) = scripted([Err(io::ErrorKind::StorageFull), Err(io::ErrorKind::StorageFull)]);
        file.append(&row(0), 1);
        assert_eq!(file.write_out().unwrap_err().reason(), "disk full");
        let mut events = EventBuffer::default();
        events.text(1.0, 0, "text", &"x".repeat(1 << 20));
        for _ in 0..40 {
            file.append(&events, 1);
        }
        assert_eq!(file.books().dropped["disk error"], 25);
        assert!(!file.position().1, "the rows wait");
        file.finish().unwrap_err();
        assert_eq!(file.books().dropped["disk full"], 16);
        assert!(file.books().balanced());
    }

    #[test]
    fn a_file_that_others_remove_cut_or_replace_is_followed_by_a_new_one() {
        let changes: [fn(&Path); 4] = [
            |path| fs::remove_file(path).unwrap(),
            |path| OpenOptions::new().write(true).open(path).unwrap().set_len(20).unwrap(),
            |path| fs::rename(path, path.with_extension("away")).unwrap(),
            |path| {
                OpenOptions::new()
                    .append(true)
                    .open(path)
                    .unwrap()
                    .write_all(b"more")
                    .unwrap()
            },
        ];
        for change in changes {
            let folder = tempfile::tempdir().unwrap();
            let mut file = new_file(folder.path());
            file.append(&row(0), 1);
            file.write_out().unwrap();
            let first = file.path();
            change(&first);
            // The path is looked at from time to time.
            file.path_checked = None;
            file.append(&row(1), 1);
            file.write_out().unwrap();
            assert_eq!(steps(&fs::read(file.path()).unwrap()), [1]);
            assert!(file.path() == first || first.exists() || file.path().to_string_lossy() > first.to_string_lossy());
            assert!(file.books().balanced());
        }
    }

    #[test]
    fn a_folder_that_is_renamed_takes_the_file_along() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = new_file(&folder.path().join("run"));
        file.append(&row(0), 1);
        file.write_out().unwrap();
        fs::rename(folder.path().join("run"), folder.path().join("renamed")).unwrap();
        file.path_checked = None;
        file.append(&row(1), 1);
        file.write_out().unwrap();
        let path = folder.path().join("renamed").join(file.name().to_string());
        assert_eq!(steps(&fs::read(path).unwrap()), [0, 1]);
        assert!(!folder.path().join("run").exists());
    }

    proptest! {
        #[test]
        fn each_record_is_written_once_and_whole_whatever_write_returns(
            acts in prop::collection::vec(prop_oneof![
                (1_usize..90).prop_map(Ok),
                Just(Err(io::ErrorKind::Interrupted)),
                Just(Err(io::ErrorKind::StorageFull)),
            ], 0..40),
            count in 1_u64..20,
        ) {
            let (mut file, script) = scripted(acts);
            for step in 0..count {
                file.append(&row(step), 1);
                let _ = file.write_out();
                let written = script.lock().unwrap().bytes.clone();
                prop_assert_eq!(steps(&written).len() as u64, file.books().delivered);
            }
            while file.write_out().is_err() {}
            prop_assert_eq!(steps(&script.lock().unwrap().bytes), (0..count as i64).collect::<Vec<_>>());
            prop_assert!(file.books().balanced() && file.position().1);
        }
    }
}
