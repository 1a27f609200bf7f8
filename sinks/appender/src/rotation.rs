use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use logcore::kill_point::kill_point;
use serde::{Deserialize, Serialize};

/// When a file is put aside, and how many of those are kept.
///
/// The current name stays: `training.log` becomes `training.log.1`, what was `.1` becomes `.2`, and so on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    /// Before it would grow beyond this many bytes; a record is never split.
    pub max_bytes: Option<u64>,
    /// At midnight.
    pub daily: bool,
    /// Midnight is that of UTC, not of local time.
    pub utc: bool,
    /// How many are kept; the oldest is deleted. 0 keeps none but the current one.
    pub keep: usize,
}

impl Rotation {
    /// The day of `time`, if days matter. A clock may be far beyond the years that a calendar knows.
    pub(crate) fn day(&self, time: SystemTime) -> Option<Date> {
        if !self.daily {
            return None;
        }
        let zone = if self.utc { TimeZone::UTC } else { TimeZone::system() };
        let beyond = match time < SystemTime::UNIX_EPOCH {
            true => Timestamp::MIN,
            false => Timestamp::MAX,
        };
        let timestamp = Timestamp::try_from(time).unwrap_or(beyond);
        Some(ZonedDateTime::new(timestamp, zone).date())
    }

    /// Moves the file out of the way. The caller holds the lock of the file, so that nobody else moves anything meanwhile.
    ///
    /// # Errors
    ///
    /// If it could not be renamed; it is then still in its place.
    pub(crate) fn put_aside(&self, path: &Path) -> io::Result<()> {
        let keep = self.keep.max(1);
        // A number that is free is filled, so that of processes killed amid this at most one gap is ever left.
        let free = (1..=keep).find(|number| is_free(&numbered(path, *number)));
        // One more than is kept, and any that an earlier, larger `keep` has left.
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

    /// Deletes the file that was put aside, if none is kept.
    pub(crate) fn drop_aside(&self, path: &Path) {
        if self.keep == 0 {
            let _ = remove_if_there(&numbered(path, 1));
        }
    }

    /// Undoes [`put_aside`](Self::put_aside), where nobody has taken the place.
    pub(crate) fn put_back(&self, path: &Path) {
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

/// Renames onto nothing: whatever has the name already stays.
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

/// Only a file is deleted: what else has the name was put there by somebody.
fn remove_if_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Ok(metadata) if !metadata.is_file() => {
            let why = format!(
                "{} is {} and no rotated file",
                path.display(),
                logcore_files::describe_file_type(metadata.file_type())
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        _ => {}
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
