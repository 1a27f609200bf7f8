//! Media: the values of a step besides numbers.

use std::path::Path;

use logcore::{Histogram, Html, Image, Table, Text};

use crate::api::logger::UnifiedLogger;
use crate::logger::media::{log_media, save_file};

/// # Media
///
/// The methods encode a value and write its file on the calling thread, beneath `media/` in the
/// folder of the run. Each sink of the logger then gets a description of the value, and takes what
/// it understands; see the guide `docs/media.md`. `None` for the step is the current step.
///
/// A value that cannot be logged, because it is malformed or the disk is full, costs a warning in
/// the log and nothing else. Without the feature `media` each call is such a warning.
impl UnifiedLogger {
    /// Logs an image.
    ///
    /// The file is `media/images/<key>_<step>_<hash>.png` or `.jpg`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::Image;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_image("sample", Image::rgb(1, 1, [255, 0, 0]).caption("red"), 12);
    /// let images = logger.run_dir().join("media/images");
    /// logger.finish();
    /// # #[cfg(feature = "media")]
    /// assert_eq!(std::fs::read_dir(images).unwrap().count(), 1);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_image(&self, key: &str, image: Image, step: impl Into<Option<u64>>) {
        log_media(self.inner(), "log_image", key, image, step.into());
    }

    /// Logs a histogram. It has no file: its ranges and counts are in the description.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::Histogram;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_histogram("gradients", Histogram::of([0.1, 0.2, 0.2], 64), 12);
    /// let index = logger.run_dir().join("media.jsonl");
    /// logger.finish();
    /// # #[cfg(all(feature = "media", feature = "jsonl"))]
    /// assert!(std::fs::read_to_string(index).unwrap().contains(r#""key":"gradients","step":12"#));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_histogram(&self, key: &str, histogram: Histogram, step: impl Into<Option<u64>>) {
        log_media(self.inner(), "log_histogram", key, histogram, step.into());
    }

    /// Logs a table.
    ///
    /// The file is `media/table/<key>_<step>_<hash>.table.json`, `{"columns": […], "data": [[…],
    /// …]}`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::Table;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_table("errors", Table::new(["label", "count"]).row(["cat", "3"]), None);
    /// let tables = logger.run_dir().join("media/table");
    /// logger.finish();
    /// # #[cfg(feature = "media")]
    /// assert_eq!(std::fs::read_dir(tables).unwrap().count(), 1);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_table(&self, key: &str, table: Table, step: impl Into<Option<u64>>) {
        log_media(self.inner(), "log_table", key, table, step.into());
    }

    /// Logs an HTML page. The patterns in `redact` of the config are hidden.
    ///
    /// The file is `media/html/<key>_<step>_<hash>.html`. Pages of logcore show it without scripts.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_html("attention", "<b>bold</b>", None);
    /// let pages = logger.run_dir().join("media/html");
    /// logger.finish();
    /// # #[cfg(feature = "media")]
    /// assert_eq!(std::fs::read_dir(pages).unwrap().count(), 1);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_html(&self, key: &str, html: impl Into<String>, step: impl Into<Option<u64>>) {
        let html = Html::new(self.inner().redact(&html.into()));
        log_media(self.inner(), "log_html", key, html, step.into());
    }

    /// Logs a text, such as a sample of a language model. The patterns in `redact` of the config
    /// are hidden.
    ///
    /// The file is `media/text/<key>_<step>_<hash>.txt`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_text("val/sample", "Once upon a time", 100);
    /// let texts = logger.run_dir().join("media/text/val");
    /// logger.finish();
    /// # #[cfg(feature = "media")] {
    /// let file = std::fs::read_dir(texts).unwrap().next().unwrap().unwrap();
    /// assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "Once upon a time");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_text(&self, key: &str, text: impl Into<String>, step: impl Into<Option<u64>>) {
        let text = Text::new(self.inner().redact(&text.into()));
        log_media(self.inner(), "log_text", key, text, step.into());
    }

    /// Saves a copy of a file, as it is now, at the current step.
    ///
    /// The copy is `media/files/<name>_<step>_<hash>.<extension>`. It shares no storage that a
    /// later change of the file would show in. A W&B run gets a copy of its own under the file's
    /// name.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let notes = folder.path().join("notes.txt");
    /// std::fs::write(&notes, "to remember").unwrap();
    /// logger.save_file(&notes);
    /// let files = logger.run_dir().join("media/files");
    /// logger.finish();
    /// # #[cfg(feature = "media")] {
    /// let copy = std::fs::read_dir(files).unwrap().next().unwrap().unwrap();
    /// assert_eq!(std::fs::read_to_string(copy.path()).unwrap(), "to remember");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn save_file(&self, path: impl AsRef<Path>) {
        let is_saved = save_file(self.inner(), path.as_ref());
        #[cfg(feature = "wandb")]
        if is_saved {
            self.wandb().save_file(path);
        }
        #[cfg(not(feature = "wandb"))]
        let _ = is_saved;
    }
}
