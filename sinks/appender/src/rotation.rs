//! Rotation: renaming a full file, and deleting the oldest ones.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use logcore::kill_point::kill_point;
use logcore::local_time_zone;
use serde::{Deserialize, Serialize};

/// Conditions for starting a new file, and the number of old files that are kept.
///
/// The name of the current file stays: `training.log` is renamed to `training.log.1`, the former
/// `.1` to `.2`, and so on. The default never rotates. Files behind a link, pipes and devices are
/// not rotated.
///
/// ```
/// use logcore_appender::Rotation;
///
/// let daily = Rotation { daily: true, keep: 7, ..Rotation::default() };
/// assert_eq!(daily.max_bytes, None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    /// Maximum size of a file in bytes. A record is never split, so one larger record makes a
    /// larger file.
    pub max_bytes: Option<u64>,
    /// `true` starts a new file at midnight.
    pub daily: bool,
    /// `true` takes midnight in UTC instead of local time.
    pub utc: bool,
    /// Number of old files that are kept. 0 keeps none.
    pub keep: usize,
}

impl Rotation {
    /// Returns the day of `time` for a daily rotation. A time outside the calendar's years is
    /// clamped.
    pub(crate) fn day(&self, time: SystemTime) -> Option<Date> {
        if !self.daily {
            return None;
        }
        let zone = if self.utc { TimeZone::UTC } else { local_time_zone() };
        let nearest = match time < SystemTime::UNIX_EPOCH {
            true => Timestamp::MIN,
            false => Timestamp::MAX,
        };
        let timestamp = Timestamp::try_from(time).unwrap_or(nearest);
        Some(ZonedDateTime::new(timestamp, zone).date())
    }

    /// Renames the file to the name of the newest old file. The caller holds the lock of the file,
    /// so no other process moves anything meanwhile.
    ///
    /// # Errors
    ///
    /// If the file could not be renamed; then it still has its name.
    pub(crate) fn rename_old(&self, path: &Path) -> io::Result<()> {
        let keep = self.keep.max(1);
        // A free number is filled first: however many processes were killed while they rotated, at
        // most one gap remains.
        let free = (1..=keep).find(|number| is_free(&numbered(path, *number)));
        // One file more than is kept, and all that an earlier, larger `keep` has left.
        let mut beyond = if free.is_some() { keep.saturating_add(1) } else { keep };
        while remove_if_there(&numbered(path, beyond))? {
            beyond = beyond.saturating_add(1);
        }
        for number in (1..free.unwrap_or(keep)).rev() {
            rename_if_there(&numbered(path, number), &numbered(path, number + 1))?;
        }
        rename_if_there(path, &numbered(path, 1))?;
        kill_point("put aside");
        Ok(())
    }

    /// Deletes the file that [`rename_old`](Self::rename_old) has renamed, if none is kept.
    pub(crate) fn delete_old(&self, path: &Path) {
        if self.keep == 0 {
            let _ = remove_if_there(&numbered(path, 1));
        }
    }

    /// Reverts [`rename_old`](Self::rename_old), unless another process has created the file again.
    pub(crate) fn undo_rename(&self, path: &Path) {
        let _ = rename_if_there(&numbered(path, 1), path);
    }
}

pub(crate) fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn is_free(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Renames a file, but never over another one.
fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    if !is_free(to) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => {
            kill_point("renamed");
            other
        }
    }
}

/// Deletes a regular file; returns `true` if there was one. Anything else under that name was put
/// there by a user.
fn remove_if_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Ok(metadata) if !metadata.is_file() => {
            let text = format!(
                "{} is {}, not a rotated file",
                path.display(),
                logcore::files::describe_file_type(metadata.file_type())
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        _ => {}
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
