//! Reopens the log of a killed process.
//!
//! A recovery trusts the log only up to the resume point, and repeats the calls after it. All that
//! it writes follows from the resume point and these calls, so that a recovery can be repeated.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use logcore::SinkError;
use logcore::files::Replacement;

use crate::log_format::proto::RecordKind;
use crate::log_format::{LogEnd, LogEntry, LogReadError, LogReader, LogWriter};
use crate::run_log::row::RowColumns;

/// Opens a log behind the records up to `end`, and cuts off the records behind them. Returns the
/// columns of the kept records, too. Returns `None` and leaves the file unchanged if the process
/// had ended the run.
///
/// # Errors
///
/// If the file does not have these records, or another process writes to it.
pub(crate) fn reopen(path: &Path, end: LogEnd) -> Result<Option<(LogWriter, RowColumns)>, SinkError> {
    let file = open(path)?;
    let mut reader = LogReader::new(file.try_clone()?).map_err(unreadable)?;
    // `set_len` would fill a shorter file up with zeros.
    if file.metadata()?.len() < end.length {
        return Err(foreign("the file has become shorter"));
    }
    let columns = read_until(end, &mut reader)?;
    if has_exit(&mut reader) {
        return Ok(None);
    }
    Ok(Some((LogWriter::continue_at(path, file, end)?, columns)))
}

/// Replaces the log of a dead process by a copy if the log is still locked. A child of that process
/// has inherited the lock and may live for days, and meanwhile nobody could deliver the run.
pub(crate) fn free_from_children(path: &Path) -> Result<(), SinkError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(foreign("the path is not a regular file"));
    }
    let mut file = File::open(path)?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        let mut copy = Replacement::begin(path)?;
        io::copy(&mut file, &mut copy)?;
        copy.finish()?;
    }
    Ok(())
}

/// Number of internal items at the end of a row.
const OWN_ITEMS: usize = 3;

/// Opens and locks a regular file.
fn open(path: &Path) -> Result<File, SinkError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(foreign("the path is not a regular file"));
    }
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    // Without file locks, a running writer cannot be detected.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(SinkError::new("the process that writes the file is still running").with_reason("still running"));
    }
    Ok(file)
}

/// Reads the records up to `end`, and returns their columns.
fn read_until(end: LogEnd, reader: &mut LogReader) -> Result<RowColumns, SinkError> {
    let mut columns = RowColumns::default();
    let mut num = 0;
    while reader.position() < end.length {
        let record = match reader.next().map_err(unreadable)? {
            LogEntry::Record(record) => record,
            LogEntry::End => return Err(foreign("the file has become shorter")),
        };
        num = record.num;
        match record.kind {
            Some(RecordKind::Metric(metric)) => columns.define(metric),
            Some(RecordKind::History(history)) => {
                let values = history.item.len().saturating_sub(OWN_ITEMS);
                columns.add_closed_row(&history.item[..values]);
            }
            Some(RecordKind::Summary(items)) => match items.update.as_slice() {
                // A summary that the program has set is a record of its own.
                [one] => columns.set_summary(&one.key),
                all => columns.mark_written(all),
            },
            _ => {}
        }
    }
    match (reader.position(), num) == (end.length, end.num) {
        true => Ok(columns),
        false => Err(foreign("the file is another log")),
    }
}

/// Returns `true` if an exit record is among the next records.
fn has_exit(reader: &mut LogReader) -> bool {
    while let Ok(LogEntry::Record(record)) = reader.next() {
        if matches!(record.kind, Some(RecordKind::Exit(_))) {
            return true;
        }
    }
    false
}

/// Returns the error of a file that does not fit the resume point.
fn foreign(text: &str) -> SinkError {
    SinkError::new(text).with_reason("not the same file")
}

/// Returns the error of a damaged log.
fn unreadable(error: LogReadError) -> SinkError {
    SinkError::new(error).with_reason("damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_format::proto::OutputLine;

    #[test]
    fn a_truncated_log_is_refused_unchanged() {
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
