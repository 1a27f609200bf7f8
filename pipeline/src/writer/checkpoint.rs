//! What another process needs to deliver what a killed one has left: where in the ring to begin, which loggers there were,
//! and where the output of each of their sinks stood then.
//!
//! ```text
//! version text, folders u32 x { path, inode u64 }, at u64, pieces u64, time i64,
//!     loggers u32 x { id u32, name, propagate u8, step + 1 u64, folder + 1 u32, left out u32,
//!                     sinks u32 x { name, level u8, mark, repeated u64, frame } }
//! ```
//!
//! Texts and paths are a u32 length and bytes; times are nanoseconds since 1970. In the version before, there was one folder, a
//! text without inode, and loggers had neither a folder nor a number of what was left out.

use std::path::{Path, PathBuf};

use log::LevelFilter;

use crate::frame::body::{Cursor, LoggerId, put_text, put_u32};

/// The newest state of everything that outlives the process.
#[derive(Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// Who wrote it: another version may write lines of another look.
    pub(crate) version: String,
    /// The log directories, each of which holds a name of the ring.
    pub(crate) folders: Vec<NamedFolder>,
    /// Frames before this position are in the marks.
    pub(crate) at: u64,
    /// How much counts of the file in which pieces of long frames are.
    pub(crate) pieces: u64,
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
    /// Which of the folders its sinks write to; `None` if that one has no name of the ring.
    pub(crate) folder: Option<u32>,
    /// So many of its sinks are not here, because there was no room for their marks.
    pub(crate) left_out: u32,
    pub(crate) sinks: Vec<SavedSink>,
}

/// A log directory that the ring has a name in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFolder {
    pub(crate) path: PathBuf,
    /// Of the name's file there: of the ring itself, or of what leads to it.
    pub(crate) inode: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) struct SavedSink {
    pub(crate) name: String,
    pub(crate) level: LevelFilter,
    pub(crate) mark: String,
    /// The frame of the record that it was given last, and how often that had come again; see [`RepeatFolder`](crate::RepeatFolder).
    pub(crate) fold: Option<(Vec<u8>, u64)>,
}

/// The version of this crate, which decides how lines look.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the writer stands; see [`Checkpoint`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) folders: &'a [NamedFolder],
    pub(crate) at: u64,
    pub(crate) pieces: u64,
}

/// Begins a checkpoint at a position; loggers and their sinks follow.
pub(crate) fn begin(out: &mut Vec<u8>, here: Here<'_>, time: i64, loggers: usize) {
    put_text(out, VERSION);
    put_u32(out, here.folders.len());
    for folder in here.folders {
        put_path(out, &folder.path);
        out.extend_from_slice(&folder.inode.to_le_bytes());
    }
    out.extend_from_slice(&here.at.to_le_bytes());
    out.extend_from_slice(&here.pieces.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    put_u32(out, loggers);
}

/// The head of a logger: its entry in a checkpoint up to its sinks.
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

pub(crate) fn put_logger(out: &mut Vec<u8>, head: LoggerHead<'_>) {
    put_u32(out, head.id.0 as usize);
    put_text(out, head.name);
    out.push(u8::from(head.propagate));
    out.extend_from_slice(&head.step.map_or(0, |step| step.saturating_add(1)).to_le_bytes());
    put_u32(out, head.folder.map_or(0, |folder| folder as usize + 1));
    put_u32(out, head.left_out);
    put_u32(out, head.sinks);
}

pub(crate) fn put_sink(out: &mut Vec<u8>, name: &str, level: LevelFilter, mark: &str, fold: Option<(&[u8], u64)>) {
    put_text(out, name);
    out.push(level as u8);
    put_text(out, mark);
    // Whether there is a fold at all is in the place of the number.
    let (frame, count) = fold.unwrap_or_default();
    out.extend_from_slice(&fold.map_or(0, |_| count.saturating_add(1)).to_le_bytes());
    put_u32(out, frame.len());
    out.extend_from_slice(frame);
}

/// A path is bytes, which need be no text.
fn put_path(out: &mut Vec<u8>, path: &Path) {
    let bytes = path.as_os_str().as_encoded_bytes();
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn read_path(cursor: &mut Cursor<'_>) -> Option<PathBuf> {
    let length = cursor.u32()? as usize;
    path_of(cursor.take(length)?)
}

/// The path of these bytes.
#[cfg(unix)]
pub(crate) fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    Some(std::os::unix::ffi::OsStrExt::from_bytes(bytes)).map(|path: &std::ffi::OsStr| path.into())
}

#[cfg(not(unix))]
pub(crate) fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Reads what the functions above wrote, or, if it is of the `older` version, what theirs did; `None` if it is not that.
pub(crate) fn read(bytes: &[u8], older: bool) -> Option<Checkpoint> {
    let mut cursor = Cursor::over(bytes);
    let version = cursor.long_text()?.to_owned();
    let folders = match older {
        true => 1,
        false => cursor.u32()?,
    };
    let mut read_folder = || {
        Some(NamedFolder {
            path: read_path(&mut cursor)?,
            inode: if older { 0 } else { cursor.u64()? },
        })
    };
    let folders = (0..folders).map(|_| read_folder()).collect::<Option<_>>()?;
    let (at, pieces, time) = (cursor.u64()?, cursor.u64()?, cursor.u64()? as i64);
    let loggers = (0..cursor.u32()?)
        .map(|_| read_logger(&mut cursor, older))
        .collect::<Option<_>>()?;
    Some(Checkpoint {
        version,
        folders,
        at,
        pieces,
        time,
        loggers,
    })
}

/// Reads the entry of one logger.
pub(crate) fn read_entry(bytes: &[u8]) -> Option<SavedLogger> {
    read_logger(&mut Cursor::over(bytes), false)
}

fn read_logger(cursor: &mut Cursor<'_>, older: bool) -> Option<SavedLogger> {
    let id = LoggerId(cursor.u32()?);
    let name = cursor.long_text()?.to_owned();
    let propagate = cursor.u8()? != 0;
    let step = cursor.u64()?.checked_sub(1);
    let (folder, left_out) = match older {
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

fn read_sink(cursor: &mut Cursor<'_>) -> Option<SavedSink> {
    let name = cursor.long_text()?.to_owned();
    let level = cursor.u8()?;
    Some(SavedSink {
        name,
        level: LevelFilter::iter().find(|filter| *filter as u8 == level)?,
        mark: cursor.long_text()?.to_owned(),
        fold: {
            let count = cursor.u64()?.checked_sub(1);
            let length = cursor.u32()? as usize;
            let frame = cursor.take(length)?;
            count.map(|count| (frame.to_owned(), count))
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_back(
            names in prop::collection::vec(("\\PC{0,9}", any::<bool>(), any::<Option<u32>>(), "\\PC{0,30}", any::<Option<(Vec<u8>, u32)>>()), 0..5),
            folders in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), any::<u64>()), 0..3),
            at: u64,
            time: i64,
        ) {
            let mut bytes = Vec::new();
            let folders: Vec<_> = folders
                .into_iter()
                .map(|(path, inode)| NamedFolder { path: path_of(&path).unwrap_or_default(), inode })
                .collect();
            begin(&mut bytes, Here { folders: &folders, at, pieces: 9 }, time, names.len());
            let version = VERSION.to_owned();
            let mut expected = Checkpoint { version, folders, at, pieces: 9, time, loggers: Vec::new() };
            for (number, (name, propagate, step, mark, fold)) in names.into_iter().enumerate() {
                let (id, step, level) = (LoggerId(number as u32), step.map(u64::from), LevelFilter::Debug);
                let (folder, left_out) = ((number as u32).checked_sub(1), number as u32);
                let head = LoggerHead { id, name: &name, propagate, step, folder, left_out: number, sinks: 1 };
                put_logger(&mut bytes, head);
                let fold = fold.map(|(frame, count)| (frame, u64::from(count)));
                put_sink(&mut bytes, "file", level, &mark, fold.as_ref().map(|(frame, count)| (frame.as_slice(), *count)));
                let sinks = vec![SavedSink { name: "file".to_owned(), level, mark, fold }];
                expected.loggers.push(SavedLogger { id, name, propagate, step, folder, left_out, sinks });
            }
            prop_assert_eq!(read(&bytes, false), Some(expected));
        }

        #[test]
        fn damage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read(&bytes, false), read(&bytes, true));
        }
    }
}
