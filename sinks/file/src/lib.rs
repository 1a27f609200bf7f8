//! The sink `file`: the log of a run as a text file, one record per line.
//!
//! ```text
//! 2026-11-23 14:48:15.123 | INFO  | my_module | Starting process...
//! 2026-11-23 14:48:16.004 | WARN  | my_module | loss went up | step=12 loss=0.51
//! ```
//!
//! The file is `training.log` in `log_dir`; `filename` names another one. Ranks above 0 have the
//! rank in the name: `training.rank3.log`. The file is appended to, so a run that is started again
//! continues it.
//!
//! # Options
//!
//! Under `sinks.file` in the config:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `rotate_mb` | number | off | maximum size of the file in MB (1e6 bytes); then a new file is started |
//! | `rotate_daily` | bool | `false` | start a new file at midnight |
//! | `keep` | integer | 10 | number of old files that are kept: `training.log.1`, `.2`, … |
//! | `utc` | bool | `false` | write times, and take midnight, in UTC instead of local time |
//! | `formatter` | text or table | `"plain"` | format of a record: `plain`, `json`, `logfmt`, or a formatter of another crate |
//!
//! # Example
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use logcore::{BuildContext, LogConfig, Record, StopFlag, log::Level, registry, serde_json::json};
//! # use logcore_file as _;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let options = json!({"formatter": "logfmt", "rotate_mb": 100, "keep": 3});
//! let stop = StopFlag::default();
//! let mut sink = registry::build_sink("file", &options, &BuildContext::new(&config, &stop)).unwrap();
//! sink.record(&Record::new(Level::Info, "trainer", "hello")).unwrap();
//! sink.deliver().unwrap();
//! let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
//! assert!(text.ends_with(" level=info logger=trainer target=trainer msg=hello\n"));
//! ```
//!
//! For records that a program reads, use the sink `jsonl` with `records = true`.

use logcore::serde_json::Value;
use logcore::{
    BookUnit, BuildContext, ConfigError, Deadline, EventKind, Formatter, Notices, Record, ResumePoint, Sink, SinkBooks,
    SinkError, Style,
};
use logcore_appender::{Appender, FilePosition, LazyAppender, Rotation};
// Names the crate, so that its formatters are linked.
use logcore_formatters as _;
use serde::{Deserialize, Serialize};

/// The sink that appends records to a text file. It is registered as `file`, and built from a
/// config.
pub struct FileSink {
    file: LazyAppender,
    formatter: Box<dyn Formatter>,
    /// The option that the formatter was built from.
    formatter_option: Value,
    style: Style,
    line: String,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileOptions {
    rotate_mb: Option<f64>,
    rotate_daily: bool,
    keep: usize,
    utc: bool,
    formatter: Value,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            rotate_mb: None,
            rotate_daily: false,
            keep: 10,
            utc: false,
            formatter: "plain".into(),
        }
    }
}

/// State from which another process continues the file with the same format.
#[derive(Serialize, Deserialize)]
struct FileResumeState {
    #[serde(rename = "place")]
    position: FilePosition,
    formatter: Value,
    utc: bool,
}

impl FileSink {
    fn build(options: FileOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let rotation = Rotation {
            max_bytes: options.rotate_mb.map(bytes_from_mb).transpose()?,
            daily: options.rotate_daily,
            utc: options.utc,
            keep: options.keep,
        };
        let formatter = context.build_formatter(&options.formatter)?;
        std::fs::create_dir_all(context.log_dir()).map_err(|error| {
            let remedy = format!("the folder cannot be made ({error}); name one that can");
            ConfigError::new("log_dir", context.log_dir().display(), remedy)
        })?;
        let path = context.file_path(&context.config().filename);
        let mut file = LazyAppender::new(path.clone(), rotation);
        // A config may be built only to validate it, so the file is created in `start`.
        file.check().map_err(|error| {
            let remedy = format!("{} cannot be opened for appending: {error}", path.display());
            ConfigError::new("filename", &context.config().filename, remedy)
        })?;
        Ok(Self::new(file, formatter, options.formatter, options.utc))
    }

    /// Continues the file of a killed process.
    fn recover(state: FileResumeState, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let formatter = context.build_formatter(&state.formatter).map_err(SinkError::new)?;
        let path = context.resolve_beneath(state.position.path())?;
        let appender = Appender::recover(&state.position.with_path(path))?;
        Ok(Self::new(appender.into(), formatter, state.formatter, state.utc))
    }

    fn new(file: LazyAppender, formatter: Box<dyn Formatter>, formatter_option: Value, utc: bool) -> Self {
        let mut style = Style::default();
        (style.millis, style.utc) = (true, utc);
        Self {
            file,
            formatter,
            formatter_option,
            style,
            line: String::new(),
        }
    }
}

impl Sink for FileSink {
    fn wants(&self, what: EventKind) -> bool {
        what == EventKind::Record
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        if !self.style.utc
            && let Some(problem) = logcore_formatters::take_zone_problem()
        {
            notices.print("time zone", &problem);
        }
        self.file.open()?;
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.line.clear();
        self.formatter.format(record, &self.style, &mut self.line);
        let appended = self.file.append(self.line.as_bytes(), 1);
        // The memory of one huge message is not kept for the rest of the run.
        if self.line.capacity() > 1 << 20 {
            self.line = String::new();
        }
        appended
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.file.deliver()
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let (position, complete) = self.file.position();
        let point = ResumePoint::new(&FileResumeState {
            position: position.file_name_only(),
            formatter: self.formatter_option.clone(),
            utc: self.style.utc,
        })?;
        Some(if complete { point } else { point.incomplete() })
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.file.deliver_now()
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.file.finish()
    }

    fn folds_repeats(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.file.books().in_unit(BookUnit::Lines))
    }

    fn destination(&self) -> Option<String> {
        Some(self.file.path().to_string_lossy().into_owned())
    }
}

impl std::fmt::Debug for FileSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSink")
            .field("path", &self.file.path())
            .finish_non_exhaustive()
    }
}

logcore::register_sink!("file", FileSink::build, FileSink::recover);

fn bytes_from_mb(megabytes: f64) -> Result<u64, ConfigError> {
    if megabytes.is_finite() && megabytes > 0.0 {
        Ok((megabytes * 1e6).ceil() as u64)
    } else {
        Err(ConfigError::new(
            "rotate_mb",
            megabytes,
            "use a number of megabytes above 0",
        ))
    }
}

#[cfg(test)]
mod tests {
    use logcore::log::Level;
    use logcore::serde_json::json;
    use logcore::{LogConfig, StopFlag, registry};

    use super::*;

    fn build(folder: &std::path::Path, options: Value) -> Result<Box<dyn Sink>, ConfigError> {
        let config = LogConfig {
            log_dir: folder.into(),
            ..LogConfig::default()
        };
        registry::build_sink("file", &options, &BuildContext::new(&config, &StopFlag::default()))
    }

    #[test]
    fn record_writes_a_line_in_the_chosen_format() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = build(folder.path(), json!({"formatter": "logfmt", "utc": true})).unwrap();
        let record = Record::at(std::time::UNIX_EPOCH, Level::Info, "trainer", "hello");
        sink.record(&record).unwrap();
        sink.deliver().unwrap();
        let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
        assert_eq!(
            text,
            "time=1970-01-01T00:00:00.000+00:00 level=info logger=trainer target=trainer msg=hello\n"
        );
        assert_eq!(sink.books().unwrap().delivered, 1);
    }

    #[test]
    fn recover_continues_at_the_resume_point_of_a_killed_process() {
        let folder = tempfile::tempdir().unwrap();
        let line = |text: &'static str| Record::at(std::time::UNIX_EPOCH, Level::Info, "trainer", text);
        let mut killed = build(folder.path(), json!({"formatter": "logfmt", "utc": true})).unwrap();
        killed.record(&line("one")).unwrap();
        assert!(!killed.resume_point().unwrap().is_complete());
        killed.deliver().unwrap();
        let point = killed.resume_point().unwrap();
        assert!(point.is_complete());
        killed.record(&line("two")).unwrap();
        drop(killed);
        let config = LogConfig {
            log_dir: folder.path().into(),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop);
        let mut next = registry::recover_sink("file", point.text(), &context).unwrap();
        next.record(&line("two")).unwrap();
        next.record(&line("three")).unwrap();
        next.finish(Deadline::after(std::time::Duration::from_secs(5))).unwrap();
        let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
        let messages: Vec<_> = text.lines().filter_map(|line| line.split_once("msg=")).collect();
        assert_eq!(
            messages.iter().map(|(_, message)| *message).collect::<Vec<_>>(),
            ["one", "two", "three"]
        );
        assert!(
            text.lines()
                .all(|line| line.starts_with("time=1970-01-01T00:00:00.000+00:00 "))
        );
    }

    #[test]
    fn build_names_the_option_that_is_invalid() {
        let folder = tempfile::tempdir().unwrap();
        for (options, field) in [
            (json!({"rotate_mb": 0}), "sinks.file.rotate_mb"),
            (json!({"rotate_mb": -1.5}), "sinks.file.rotate_mb"),
            (json!({"formatter": "plane"}), "sinks.file.formatter"),
            (json!({"rotate": 1}), "sinks.file.rotate"),
        ] {
            assert_eq!(build(folder.path(), options).err().unwrap().field, field);
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(
            build(&folder.path().join("file"), json!(true)).err().unwrap().field,
            "log_dir"
        );
        std::fs::create_dir(folder.path().join("training.log")).unwrap();
        assert_eq!(build(folder.path(), json!(true)).err().unwrap().field, "filename");
    }

    #[test]
    fn build_leaves_no_file_and_start_creates_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = build(folder.path(), json!(true)).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        sink.start(&Notices::new(|_, _| {})).unwrap();
        assert!(folder.path().join("training.log").exists());
    }
}
