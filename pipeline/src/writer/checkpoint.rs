//! The format of a checkpoint: the position in the ring, the loggers, and the resume points of
//! their sinks.
//!
//! A checkpoint is all that another process needs to deliver the frames that a killed process has
//! left.
//!
//! ```text
//! version text, folders u32 x { path, inode u64 }, position u64, chunk bytes u64, time i64,
//!     loggers u32 x { id u32, name, propagate u8, step + 1 u64, folder + 1 u32, left out u32,
//!                     sinks u32 x { name, level u8, resume point, repeated + 1 u64, frame } }
//! ```
//!
//! Texts and paths are a u32 length and bytes; times are nanoseconds since 1970. The version before
//! had one folder, a text without an inode, and its loggers had neither a folder nor a number of
//! sinks that were left out.

use std::path::{Path, PathBuf};

use log::LevelFilter;

use crate::frame::bytes::{ByteCursor, put_text, put_u32};
use crate::frame::types::LoggerId;
use crate::ring::file::NamedFolder;

/// A checkpoint that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// The version of its writer: another version may format lines differently.
    pub(crate) version: String,
    /// The log directories, each of which has a name of the ring.
    pub(crate) folders: Vec<NamedFolder>,
    /// The resume points cover the frames before this position.
    pub(crate) position: u64,
    /// Number of valid bytes in the file that keeps chunks of long frames.
    pub(crate) chunk_bytes: u64,
    pub(crate) time: i64,
    pub(crate) loggers: Vec<SavedLogger>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct SavedLogger {
    pub(crate) id: LoggerId,
    pub(crate) name: String,
    pub(crate) propagate: bool,
    /// The highest step of its metrics.
    pub(crate) step: Option<u64>,
    /// Index of the folder of its sinks; `None` if that folder has no name of the ring.
    pub(crate) folder: Option<u32>,
    /// Number of its sinks that are missing, because there was no room for their resume points.
    pub(crate) left_out: u32,
    pub(crate) sinks: Vec<SavedSink>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct SavedSink {
    pub(crate) name: String,
    pub(crate) level: LevelFilter,
    pub(crate) resume_point: String,
    /// The frame of its last record and the number of repetitions; see
    /// [`RepeatFolder`](crate::RepeatFolder).
    pub(crate) repeats: Option<(Vec<u8>, u64)>,
}

/// The version of this crate, which decides how lines are formatted.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The position of the writer; see [`Checkpoint`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriterPosition<'a> {
    pub(crate) folders: &'a [NamedFolder],
    pub(crate) position: u64,
    pub(crate) chunk_bytes: u64,
}

/// Writes the head of a checkpoint. Loggers and their sinks follow.
pub(crate) fn write_head(out: &mut Vec<u8>, writer: WriterPosition<'_>, time: i64, loggers: usize) {
    put_text(out, VERSION);
    put_u32(out, writer.folders.len());
    for folder in writer.folders {
        put_path(out, &folder.path);
        out.extend_from_slice(&folder.inode.to_le_bytes());
    }
    out.extend_from_slice(&writer.position.to_le_bytes());
    out.extend_from_slice(&writer.chunk_bytes.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    put_u32(out, loggers);
}

/// The entry of a logger without its sinks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoggerHead<'a> {
    pub(crate) id: LoggerId,
    pub(crate) name: &'a str,
    pub(crate) propagate: bool,
    pub(crate) step: Option<u64>,
    pub(crate) folder: Option<u32>,
    pub(crate) left_out: usize,
    pub(crate) sinks: usize,
}

/// Writes the head of a logger. Its sinks follow.
pub(crate) fn write_logger(out: &mut Vec<u8>, head: LoggerHead<'_>) {
    put_u32(out, head.id.0 as usize);
    put_text(out, head.name);
    out.push(u8::from(head.propagate));
    out.extend_from_slice(&head.step.map_or(0, |step| step.saturating_add(1)).to_le_bytes());
    put_u32(out, head.folder.map_or(0, |folder| folder as usize + 1));
    put_u32(out, head.left_out);
    put_u32(out, head.sinks);
}

/// Writes a sink of the last logger.
pub(crate) fn write_sink(
    out: &mut Vec<u8>,
    name: &str,
    level: LevelFilter,
    resume_point: &str,
    repeats: Option<(&[u8], u64)>,
) {
    put_text(out, name);
    out.push(level as u8);
    put_text(out, resume_point);
    let (frame, count) = repeats.unwrap_or_default();
    out.extend_from_slice(&repeats.map_or(0, |_| count.saturating_add(1)).to_le_bytes());
    put_u32(out, frame.len());
    out.extend_from_slice(frame);
}

/// Reads a checkpoint, of the version before if `is_older`; `None` if the bytes are damaged.
pub(crate) fn read(bytes: &[u8], is_older: bool) -> Option<Checkpoint> {
    let mut cursor = ByteCursor::new(bytes);
    let version = cursor.long_text()?.to_owned();
    let folders = match is_older {
        true => 1,
        false => cursor.u32()?,
    };
    let mut read_folder = || {
        Some(NamedFolder {
            path: read_path(&mut cursor)?,
            inode: if is_older { 0 } else { cursor.u64()? },
        })
    };
    let folders = (0..folders).map(|_| read_folder()).collect::<Option<_>>()?;
    let (position, chunk_bytes, time) = (cursor.u64()?, cursor.u64()?, cursor.u64()? as i64);
    let loggers = (0..cursor.u32()?)
        .map(|_| read_logger(&mut cursor, is_older))
        .collect::<Option<_>>()?;
    Some(Checkpoint {
        version,
        folders,
        position,
        chunk_bytes,
        time,
        loggers,
    })
}

/// Reads the entry of one logger.
pub(crate) fn read_entry(bytes: &[u8]) -> Option<SavedLogger> {
    read_logger(&mut ByteCursor::new(bytes), false)
}

fn read_logger(cursor: &mut ByteCursor<'_>, is_older: bool) -> Option<SavedLogger> {
    let id = LoggerId(cursor.u32()?);
    let name = cursor.long_text()?.to_owned();
    let propagate = cursor.u8()? != 0;
    let step = cursor.u64()?.checked_sub(1);
    let (folder, left_out) = match is_older {
        true => (Some(0), 0),
        false => (cursor.u32()?.checked_sub(1), cursor.u32()?),
    };
    let sinks = (0..cursor.u32()?).map(|_| read_sink(cursor)).collect::<Option<_>>()?;
    Some(SavedLogger {
        id,
        name,
        propagate,
        step,
        folder,
        left_out,
        sinks,
    })
}

fn read_sink(cursor: &mut ByteCursor<'_>) -> Option<SavedSink> {
    let name = cursor.long_text()?.to_owned();
    let level = cursor.u8()?;
    Some(SavedSink {
        name,
        level: LevelFilter::iter().find(|filter| *filter as u8 == level)?,
        resume_point: cursor.long_text()?.to_owned(),
        repeats: {
            let count = cursor.u64()?.checked_sub(1);
            let length = cursor.u32()? as usize;
            let frame = cursor.take(length)?;
            count.map(|count| (frame.to_owned(), count))
        },
    })
}

/// Writes a path as bytes, which need not be a text.
fn put_path(out: &mut Vec<u8>, path: &Path) {
    let bytes = path.as_os_str().as_encoded_bytes();
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn read_path(cursor: &mut ByteCursor<'_>) -> Option<PathBuf> {
    let length = cursor.u32()? as usize;
    path_from_bytes(cursor.take(length)?)
}

/// Returns the path of these bytes.
#[cfg(unix)]
pub(crate) fn path_from_bytes(bytes: &[u8]) -> Option<PathBuf> {
    Some(std::os::unix::ffi::OsStrExt::from_bytes(bytes)).map(|path: &std::ffi::OsStr| path.into())
}

#[cfg(not(unix))]
pub(crate) fn path_from_bytes(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn checkpoint_is_read_as_written(
            names in prop::collection::vec(
                ("\\PC{0,9}", any::<bool>(), any::<Option<u32>>(), "\\PC{0,30}", any::<Option<(Vec<u8>, u32)>>()),
                0..5,
            ),
            folders in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), any::<u64>()), 0..3),
            position: u64,
            time: i64,
        ) {
            let mut bytes = Vec::new();
            let folders: Vec<_> = folders
                .into_iter()
                .map(|(path, inode)| NamedFolder { path: path_from_bytes(&path).unwrap_or_default(), inode })
                .collect();
            write_head(&mut bytes, WriterPosition { folders: &folders, position, chunk_bytes: 9 }, time, names.len());
            let version = VERSION.to_owned();
            let mut expected = Checkpoint { version, folders, position, chunk_bytes: 9, time, loggers: Vec::new() };
            for (number, (name, propagate, step, resume_point, repeats)) in names.into_iter().enumerate() {
                let (id, step, level) = (LoggerId(number as u32), step.map(u64::from), LevelFilter::Debug);
                let (folder, left_out) = ((number as u32).checked_sub(1), number as u32);
                let head = LoggerHead { id, name: &name, propagate, step, folder, left_out: number, sinks: 1 };
                write_logger(&mut bytes, head);
                let repeats = repeats.map(|(frame, count)| (frame, u64::from(count)));
                let borrowed = repeats.as_ref().map(|(frame, count)| (frame.as_slice(), *count));
                write_sink(&mut bytes, "file", level, &resume_point, borrowed);
                let sinks = vec![SavedSink { name: "file".to_owned(), level, resume_point, repeats }];
                expected.loggers.push(SavedLogger { id, name, propagate, step, folder, left_out, sinks });
            }
            prop_assert_eq!(read(&bytes, false), Some(expected));
        }

        #[test]
        fn reading_damaged_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read(&bytes, false), read(&bytes, true));
        }
    }
}
