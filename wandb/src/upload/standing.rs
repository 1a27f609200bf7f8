use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How far the delivery of a log has come: a file beside the log, so that a later delivery of the same log neither
/// doubles nor omits anything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Standing {
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run_id: String,
    /// The server's own id of the run.
    pub(crate) storage_id: String,
    /// Where each file of the stream began and stands, in lines.
    pub(crate) history: Extent,
    pub(crate) events: Extent,
    pub(crate) output: Extent,
    /// The first step that the server did not have when the delivery began.
    pub(crate) first_step: i64,
    pub(crate) earlier_runtime: f64,
    /// Alerts that were sent.
    pub(crate) alerts: usize,
    /// Everything was delivered, the end of the run included.
    pub(crate) complete: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// The number of the log's first line.
    pub(crate) start: u64,
    /// The number of the first line that the server has not.
    pub(crate) sent: u64,
}

impl Extent {
    pub(crate) fn at(start: u64) -> Self {
        Self { start, sent: start }
    }
}

impl Standing {
    /// Of the log at this path; `None` if its delivery has not begun.
    pub(crate) fn load(log: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path_of(log)).ok()?).ok()
    }

    /// Replaces what was kept. It is small, and it is kept before what it stands for is relied on.
    pub(crate) fn save(&self, log: &Path) -> io::Result<()> {
        let path = path_of(log);
        let fresh = path.with_extension("upload.new");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(fresh, &path)?;
        // What the official client looks for when it syncs the same log.
        let own_state = format!(
            "{{\"starting_step\":{},\"starting_runtime\":{}}}",
            self.first_step,
            // In milliseconds.
            (self.earlier_runtime * 1e3) as i64
        );
        fs::write(with_suffix(log, "syncstate"), own_state)?;
        if self.complete {
            fs::write(with_suffix(log, "synced"), "")?;
        }
        Ok(())
    }

    pub(crate) fn is_known(&self) -> bool {
        !self.storage_id.is_empty()
    }
}

/// Whether the official client has delivered this log.
pub(crate) fn synced_by_other(log: &Path) -> bool {
    with_suffix(log, "synced").exists()
}

fn path_of(log: &Path) -> PathBuf {
    with_suffix(log, "upload")
}

pub(crate) fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
