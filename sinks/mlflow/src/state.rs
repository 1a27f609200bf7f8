//! `mlflow.json`: the run on the server, and what it has of our rows.

use std::io;
use std::path::Path;

use logcore::files::Folder;
use logcore_delivery::{LineMark, load_position, save_position};
use serde::{Deserialize, Serialize};

use crate::window::RateBudget;

/// The position of a delivery, beside the rows.
///
/// Everybody who can write into the folder may have changed the file, so that a delivery checks the
/// run on the server before it uses the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MlflowState {
    /// The id of our run, and the place in the rows at which the run begins: a folder may have the
    /// rows of several.
    pub(crate) local_id: String,
    pub(crate) begins_at: u64,
    /// The server of the run.
    pub(crate) uri: String,
    /// The id of the run on the server.
    pub(crate) run_id: String,
    /// The end of the rows that the server has.
    pub(crate) mark: LineMark,
    /// The points of the present minute.
    pub(crate) budget: RateBudget,
    /// `true` if the server has not all values, because there were too many.
    pub(crate) thinned: bool,
    /// The number of media files that the server has, in the order of their index.
    pub(crate) media_sent: usize,
    /// The number of attempts that the server knows the end of.
    pub(crate) attempts: usize,
    /// `true` if the server has everything of the run.
    pub(crate) complete: bool,
}

impl MlflowState {
    /// The name of the file.
    pub(crate) const FILE: &'static str = "mlflow.json";

    /// Reads the file. A damaged one is like none: the run is found on the server.
    pub(crate) fn load(folder: &Folder) -> Self {
        load_position(folder, Path::new(Self::FILE))
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    /// Returns the state of the same run without what a server has of the run.
    pub(crate) fn without_server(&self) -> Self {
        Self {
            local_id: self.local_id.clone(),
            begins_at: self.begins_at,
            ..Self::default()
        }
    }

    /// Replaces the file.
    pub(crate) fn save(&self, folder: &Folder) -> io::Result<()> {
        save_position(folder, Path::new(Self::FILE), self)
    }
}
