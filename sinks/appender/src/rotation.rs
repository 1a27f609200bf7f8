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
    /// The day of `time`, if days matter.
    pub(crate) fn day(&self, time: SystemTime) -> Option<Date> {
        if !self.daily {
            return None;
        }
        let zone = if self.utc { TimeZone::UTC } else { TimeZone::system() };
        let timestamp = Timestamp::try_from(time).unwrap_or_default();
        Some(ZonedDateTime::new(timestamp, zone).date())
    }

    /// Moves the file out of the way.
    ///
    /// # Errors
    ///
    /// If it could not be renamed; it is then still in its place.
    pub(crate) fn put_aside(&self, path: &Path) -> io::Result<()> {
        let keep = self.keep.max(1);
        // A number that is free is filled, so that of processes killed amid this at most one gap is ever left.
        let free = (1..=keep).find(|number| !numbered(path, *number).exists());
        // One more than is kept, and any that an earlier, larger `keep` has left.
        let mut beyond = if free.is_some() { keep + 1 } else { keep };
        while remove_if_there(&numbered(path, beyond))? {
            beyond += 1;
        }
        for number in (1..free.unwrap_or(keep)).rev() {
            rename_if_there(&numbered(path, number), &numbered(path, number + 1))?;
        }
        rename_if_there(path, &numbered(path, 1))?;
        kill_point("put aside");
        if self.keep == 0 {
            remove_if_there(&numbered(path, 1))?;
        }
        Ok(())
    }
}

pub(crate) fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => {
            kill_point("renamed");
            other
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
