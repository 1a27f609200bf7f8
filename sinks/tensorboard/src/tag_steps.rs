//! The newest step of each tag: a lower one deletes what TensorBoard has of the tag.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;

use crate::file_name::{EventFileName, files_in};
use crate::reader::{Event, EventContent, EventReader};

/// The newest step of each tag in one attempt of a run.
#[derive(Debug, Default)]
pub(crate) struct TagSteps(HashMap<String, u64>);

impl TagSteps {
    /// Takes a value at a step; returns `false` if the tag has a later one.
    pub(crate) fn advance(&mut self, tag: &str, step: u64) -> bool {
        match self.0.get_mut(tag) {
            Some(newest) if *newest > step => false,
            Some(newest) => {
                *newest = step;
                true
            }
            None => {
                self.0.insert(tag.to_owned(), step);
                true
            }
        }
    }

    /// Adds the values of an event.
    pub(crate) fn add(&mut self, event: Event) {
        let EventContent::Values(values) = event.content else {
            return;
        };
        let step = u64::try_from(event.step).unwrap_or_default();
        for value in values {
            self.advance(&value.tag, step);
        }
    }

    /// Adds what other files of the attempt have; returns `true` if there are any. An attempt has
    /// several files if a logger is set up again, or if others have removed or changed a file.
    pub(crate) fn add_other_files(&mut self, folder: &Path, own: &EventFileName) -> bool {
        let is_sibling = |name: &EventFileName| name != own && name.is_of_run(own) && name.attempt() == own.attempt();
        let others: Vec<_> = files_in(folder).into_iter().filter(is_sibling).collect();
        for name in &others {
            let Ok(file) = logcore::files::open_no_follow(&folder.join(name.to_string())) else {
                continue;
            };
            let mut reader = EventReader::new(BufReader::new(file));
            // Readers see nothing behind a damage, either.
            while let Ok(Some(event)) = reader.next_event() {
                self.add(event);
            }
        }
        !others.is_empty()
    }
}
