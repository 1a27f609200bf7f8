//! The JSON documents of a run: hyper-parameters, environment, and the ends of its loggers.

use std::io;
use std::path::Path;

use logcore::files;
use serde_json::{Map, Value};

use crate::{RunError, StoredRun};

impl StoredRun {
    /// Reads the hyper-parameters in `config.json`. A run without the file has none.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::write(folder.path().join("run.json"), r#"{"state":"finished"}"#).unwrap();
    /// fs::write(folder.path().join("config.json"), r#"{"config":{"lr":0.1},"environment":{"host":"a"}}"#).unwrap();
    /// let run = StoredRun::open(folder.path())?;
    /// assert_eq!(run.config()?["lr"], 0.1);
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read, or is a link.
    pub fn config(&self) -> Result<Map<String, Value>, RunError> {
        let mut document = read(&self.dir.join("config.json"))?;
        Ok(match document.remove("config") {
            Some(Value::Object(config)) => config,
            Some(other) if !other.is_null() => Map::from_iter([("value".to_owned(), other)]),
            _ => Map::new(),
        })
    }

    /// Reads `summary.json`: for each logger that has ended, how it ended, and the statistics of
    /// its metrics. A run without the file has none.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::write(folder.path().join("run.json"), r#"{"state":"finished"}"#).unwrap();
    /// let run = StoredRun::open(folder.path())?;
    /// assert!(run.summary()?.is_empty());
    /// fs::write(folder.path().join("summary.json"), r#"{"trainer":{"last_step":900}}"#).unwrap();
    /// assert_eq!(run.summary()?["trainer"]["last_step"], 900);
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read, or is a link.
    pub fn summary(&self) -> Result<Map<String, Value>, RunError> {
        read(&self.dir.join("summary.json"))
    }
}

/// Most bytes of a document.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a document; none is empty.
fn read(path: &Path) -> Result<Map<String, Value>, RunError> {
    let bytes = match files::read_no_follow(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(RunError::unreadable(path, error)),
    };
    serde_json::from_slice(&bytes).map_err(|error| RunError::unreadable(path, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("run.json", "{}");
        write("config.json", "[1]");
        let run = StoredRun::open(folder.path()).unwrap();
        let error = run.config().unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        write("config.json", r#"{"config":[1,2]}"#);
        assert_eq!(run.config().unwrap()["value"], serde_json::json!([1, 2]));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/hostname", folder.path().join("summary.json")).unwrap();
            assert!(run.summary().is_err(), "a link leads elsewhere");
        }
    }
}
