//! What another process needs to deliver what a killed one has left: where in the ring to begin, which loggers there were,
//! and where the output of each of their sinks stood then.
//!
//! ```text
//! version text, folder text, at u64, pieces u64, time i64, loggers u32 x { id u32, name, propagate u8, step + 1 u64,
//!                                                 sinks u32 x { name, level u8, mark, repeated u64, frame } }
//! ```
//!
//! Texts are a u32 length and bytes; times are nanoseconds since 1970.

use log::LevelFilter;

use crate::frame::{Cursor, LoggerId, put_text, put_u32};

/// The newest state of everything that outlives the process.
#[derive(Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// Who wrote it: another version may write lines of another look.
    pub(crate) version: String,
    /// The log directory that the ring lies in.
    pub(crate) folder: String,
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
    pub(crate) sinks: Vec<SavedSink>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct SavedSink {
    pub(crate) name: String,
    pub(crate) level: LevelFilter,
    pub(crate) mark: String,
    /// The frame of the record that it was given last, and how often that had come again; see [`Fold`](crate::Fold).
    pub(crate) fold: Option<(Vec<u8>, u64)>,
}

/// The version of this crate, which decides how lines look.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the writer stands; see [`Checkpoint`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) folder: &'a str,
    pub(crate) at: u64,
    pub(crate) pieces: u64,
}

/// Begins a checkpoint at a position; loggers and their sinks follow.
pub(crate) fn begin(out: &mut Vec<u8>, here: Here<'_>, time: i64, loggers: usize) {
    put_text(out, VERSION);
    put_text(out, here.folder);
    out.extend_from_slice(&here.at.to_le_bytes());
    out.extend_from_slice(&here.pieces.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    put_u32(out, loggers);
}

pub(crate) fn put_logger(
    out: &mut Vec<u8>,
    id: LoggerId,
    name: &str,
    propagate: bool,
    step: Option<u64>,
    sinks: usize,
) {
    put_u32(out, id.0 as usize);
    put_text(out, name);
    out.push(u8::from(propagate));
    out.extend_from_slice(&step.map_or(0, |step| step.saturating_add(1)).to_le_bytes());
    put_u32(out, sinks);
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

/// Reads what the functions above wrote; `None` if it is not that.
pub(crate) fn read(bytes: &[u8]) -> Option<Checkpoint> {
    let mut cursor = Cursor::over(bytes);
    let (version, folder) = (cursor.long_text()?.to_owned(), cursor.long_text()?.to_owned());
    let (at, pieces, time) = (cursor.u64()?, cursor.u64()?, cursor.u64()? as i64);
    let loggers = (0..cursor.u32()?)
        .map(|_| read_logger(&mut cursor))
        .collect::<Option<_>>()?;
    Some(Checkpoint {
        version,
        folder,
        at,
        pieces,
        time,
        loggers,
    })
}

fn read_logger(cursor: &mut Cursor<'_>) -> Option<SavedLogger> {
    Some(SavedLogger {
        id: LoggerId(cursor.u32()?),
        name: cursor.long_text()?.to_owned(),
        propagate: cursor.u8()? != 0,
        step: cursor.u64()?.checked_sub(1),
        sinks: (0..cursor.u32()?).map(|_| read_sink(cursor)).collect::<Option<_>>()?,
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
            at: u64,
            time: i64,
        ) {
            let mut bytes = Vec::new();
            begin(&mut bytes, Here { folder: "/run", at, pieces: 9 }, time, names.len());
            let (version, folder) = (VERSION.to_owned(), "/run".to_owned());
            let mut expected = Checkpoint { version, folder, at, pieces: 9, time, loggers: Vec::new() };
            for (number, (name, propagate, step, mark, fold)) in names.into_iter().enumerate() {
                let (id, step, level) = (LoggerId(number as u32), step.map(u64::from), LevelFilter::Debug);
                put_logger(&mut bytes, id, &name, propagate, step, 1);
                let fold = fold.map(|(frame, count)| (frame, u64::from(count)));
                put_sink(&mut bytes, "file", level, &mark, fold.as_ref().map(|(frame, count)| (frame.as_slice(), *count)));
                let sinks = vec![SavedSink { name: "file".to_owned(), level, mark, fold }];
                expected.loggers.push(SavedLogger { id, name, propagate, step, sinks });
            }
            prop_assert_eq!(read(&bytes), Some(expected));
        }

        #[test]
        fn damage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
