//! The log of a process that was killed, opened to go on with it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use logcore::SinkError;
use logcore_files::Replacement;

use crate::log_format::proto::RecordKind;
use crate::log_format::{LogEnd, LogEntry, LogReadError, LogReader, LogWriter};
use crate::run_log::row::RowColumns;

/// Opens the log at `path` behind its records up to `end`, which are all that is believed: what stands behind them is cut
/// off. Returns what they come to, too; `None`, with the file as it is, if the end of the run stands behind them.
///
/// # Errors
///
/// If it is not the file that had these records, or somebody writes to it.
pub(crate) fn reopen(path: &Path, end: LogEnd) -> Result<Option<(LogWriter, RowColumns)>, SinkError> {
    let file = open(path)?;
    let mut reader = LogReader::of(file.try_clone()?).map_err(unreadable)?;
    // To cut it at a place behind its end would fill it up with zeros.
    if file.metadata()?.len() < end.length {
        return Err(foreign("it has become shorter"));
    }
    let columns = read_until(end, &mut reader)?;
    if has_end(&mut reader) {
        return Ok(None);
    }
    Ok(Some((LogWriter::go_on(path, file, end)?, columns)))
}

/// Puts a copy in the place of a log whose process is dead and whose lock is held still: a child that it forked has inherited the lock, and
/// may live for days, in which nobody could deliver the run.
pub(crate) fn free_from_children(path: &Path) -> Result<(), SinkError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(foreign("it is not a regular file"));
    }
    let mut file = File::open(path)?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        let mut copy = Replacement::begin(path)?;
        io::copy(&mut file, &mut copy)?;
        copy.finish()?;
    }
    Ok(())
}

/// The items that close a row and are no values of the user's.
const OWN_ITEMS: usize = 3;

fn open(path: &Path) -> Result<File, SinkError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(foreign("it is not a regular file"));
    }
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    // Where there are no locks, nobody can tell.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(SinkError::new("the process that writes it is still running").with_reason("still running"));
    }
    Ok(file)
}

fn read_until(end: LogEnd, reader: &mut LogReader) -> Result<RowColumns, SinkError> {
    let mut columns = RowColumns::default();
    let mut num = 0;
    while reader.position() < end.length {
        let record = match reader.next().map_err(unreadable)? {
            LogEntry::Record(record) => record,
            LogEntry::End => return Err(foreign("it has become shorter")),
        };
        num = record.num;
        match record.kind {
            Some(RecordKind::Metric(metric)) => columns.define(metric),
            Some(RecordKind::History(history)) => {
                let values = history.item.len().saturating_sub(OWN_ITEMS);
                columns.take_in(&history.item[..values]);
            }
            Some(RecordKind::Summary(items)) => match items.update.as_slice() {
                // What a program has set comes alone.
                [one] => columns.say(&one.key),
                all => columns.in_summary(all),
            },
            _ => {}
        }
    }
    match (reader.position(), num) == (end.length, end.num) {
        true => Ok(columns),
        false => Err(foreign("it is another log than the one that was written there")),
    }
}

/// Whether the end of the run is among the records that come next.
fn has_end(reader: &mut LogReader) -> bool {
    while let Ok(LogEntry::Record(record)) = reader.next() {
        if matches!(record.kind, Some(RecordKind::Exit(_))) {
            return true;
        }
    }
    false
}

fn foreign(what: &str) -> SinkError {
    SinkError::new(what).with_reason("not the same file")
}

fn unreadable(error: LogReadError) -> SinkError {
    SinkError::new(error).with_reason("damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_format::proto::OutputLine;

    #[test]
    fn a_log_that_has_become_shorter_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-x.wandb");
        let mut log = LogWriter::create(&path, [RecordKind::OutputLine(OutputLine::default())]).unwrap();
        let ends = [LogEnd { length: 7, num: 0 }, log.end()];
        log.write_out().unwrap();
        drop(log);
        let whole = fs::read(&path).unwrap();
        // Within the header, behind it, and within the record.
        for (length, end) in [(0, 0), (6, 0), (7, 1), (whole.len() - 1, 1)] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(reopen(&path, ends[end]).is_err(), "{length}");
            assert_eq!(fs::read(&path).unwrap(), whole[..length]);
        }
        fs::write(&path, &whole).unwrap();
        assert!(reopen(&path, ends[1]).unwrap().is_some());
    }
}
