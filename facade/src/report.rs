use std::collections::BTreeMap;

use logcore::{RunEnd, SinkBooks};
use logcore_pipeline::OVER_LIMIT;
use serde::Serialize;

/// What became of everything that a logger was told.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FinishReport {
    /// The logger's name.
    pub logger: String,
    /// How the run ended.
    pub end: RunEnd,
    /// The same as a number: what `set_exit_code` was given, else what the process ends with as far as that is known. 0 is
    /// well.
    pub exit_code: i32,
    /// The account of each sink, by its name in the config.
    pub sinks: BTreeMap<String, SinkBooks>,
    /// Where each sink has put it: a file, a folder, `stdout`. Those that have no place to name are not in it.
    pub places: BTreeMap<String, String>,
    /// Why the accounts are not complete, if the deadline passed before every sink had ended.
    pub problem: Option<String>,
}

impl FinishReport {
    /// The account of one sink.
    pub fn sink(&self, name: &str) -> Option<&SinkBooks> {
        self.sinks.get(name)
    }

    /// Whether everything was delivered.
    pub fn all_delivered(&self) -> bool {
        self.problem.is_none() && self.sinks.values().all(|books| books.accepted == books.delivered)
    }

    /// Of a `finish` that was called from within a sink, where nothing can be waited for.
    pub(crate) fn from_within(logger: &str) -> Self {
        Self {
            logger: logger.to_owned(),
            problem: Some("finish was called from within a sink; the logger is still open".to_owned()),
            ..Self::default()
        }
    }

    /// What was not delivered, in words; empty if all was.
    pub(crate) fn losses(&self) -> String {
        let mut parts: Vec<String> = self.problem.iter().cloned().collect();
        for (name, books) in &self.sinks {
            // What is spooled is not lost, and its sink has said how to send it; what a limit leaves out was told in its place.
            for (reason, count) in books.dropped.iter().filter(|(reason, _)| *reason != OVER_LIMIT) {
                parts.push(format!("sink `{name}` lost {count} ({reason})"));
            }
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_be_left_out_is_no_loss() {
        let mut books = SinkBooks::default();
        books.drop_for(OVER_LIMIT, 7);
        books.drop_for("disk full", 12);
        let report = FinishReport {
            sinks: [("file".to_owned(), books)].into(),
            ..FinishReport::default()
        };
        assert_eq!(report.losses(), "sink `file` lost 12 (disk full)");
    }
}
