//! The text file of a run, as the sink `file`.
//!
//! `training.log`, or what `filename` says; for ranks above 0 with the rank in it: `training.rank3.log`.
//!
//! Options, under `sinks.file`:
//!
//! | option | default | |
//! |---|---|---|
//! | `rotate_mb` | off | a new file before this size is passed, in MB (1e6 bytes) |
//! | `rotate_daily` | off | a new file at midnight |
//! | `keep` | 10 | how many old files are kept: `training.log.1`, `.2`, … |
//! | `utc` | off | times in UTC |
//! | `formatter` | `plain` | how a record becomes text |

use logcore::serde_json::Value;
use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, Formatter, Notices, Record, ResumePoint, Sink, SinkBooks,
    SinkError, Style,
};
use logcore_appender::{Appender, FilePosition, Rotation};
// Names the crate, so that its formatters are linked.
use logcore_formatters as _;
use serde::{Deserialize, Serialize};

/// Appends records to a file.
pub struct FileSink {
    appender: Appender,
    formatter: Box<dyn Formatter>,
    /// The option that the formatter was built from.
    choice: Value,
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

/// What another process needs to write the same lines behind them.
#[derive(Serialize, Deserialize)]
struct FileResumeState {
    place: FilePosition,
    formatter: Value,
    utc: bool,
}

impl FileSink {
    fn build(options: FileOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let rotation = Rotation {
            max_bytes: options.rotate_mb.map(bytes).transpose()?,
            daily: options.rotate_daily,
            utc: options.utc,
            keep: options.keep,
        };
        let formatter = context.build_formatter(&options.formatter)?;
        std::fs::create_dir_all(context.log_dir()).map_err(|error| {
            let remedy = format!("the folder cannot be made ({error}); name one that can");
            ConfigError::new("log_dir", context.log_dir().display(), remedy)
        })?;
        let path = context.config().log_file();
        let appender = Appender::open(&path, rotation).map_err(|error| {
            let remedy = format!("{} cannot be opened for appending: {error}", path.display());
            ConfigError::new("filename", &context.config().filename, remedy)
        })?;
        Ok(Self::over(appender, formatter, options.formatter, options.utc))
    }

    /// Goes on where a killed process stood.
    fn recover(state: FileResumeState, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let formatter = context.build_formatter(&state.formatter).map_err(SinkError::new)?;
        let path = context.resolve_beneath(state.place.path())?;
        let appender = Appender::recover(&state.place.at(path))?;
        Ok(Self::over(appender, formatter, state.formatter, state.utc))
    }

    fn over(appender: Appender, formatter: Box<dyn Formatter>, choice: Value, utc: bool) -> Self {
        let mut style = Style::default();
        (style.millis, style.utc) = (true, utc);
        Self {
            appender,
            formatter,
            choice,
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
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.line.clear();
        self.formatter.format(record, &self.style, &mut self.line);
        self.appender.append(self.line.as_bytes(), 1);
        // One huge message must not hold its memory for ever.
        if self.line.capacity() > 1 << 20 {
            self.line = String::new();
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.appender.deliver(false)
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let (place, complete) = self.appender.position();
        let mark = ResumePoint::new(&FileResumeState {
            place: place.named(),
            formatter: self.choice.clone(),
            utc: self.style.utc,
        })?;
        Some(if complete { mark } else { mark.incomplete() })
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.appender.deliver(true)
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.appender.finish()
    }

    fn folds_repeats(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.appender.books())
    }

    fn destination(&self) -> Option<String> {
        Some(self.appender.path().to_string_lossy().into_owned())
    }
}

logcore::register_sink!("file", FileSink::build, FileSink::recover);

fn bytes(megabytes: f64) -> Result<u64, ConfigError> {
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
    fn records_are_lines_in_the_chosen_format() {
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
    fn another_process_goes_on_behind_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let line = |text: &'static str| Record::at(std::time::UNIX_EPOCH, Level::Info, "trainer", text);
        let mut killed = build(folder.path(), json!({"formatter": "logfmt", "utc": true})).unwrap();
        killed.record(&line("one")).unwrap();
        assert!(!killed.resume_point().unwrap().is_complete());
        killed.deliver().unwrap();
        let mark = killed.resume_point().unwrap();
        assert!(mark.is_complete());
        killed.record(&line("two")).unwrap();
        drop(killed);
        let config = LogConfig {
            log_dir: folder.path().into(),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop);
        let mut next = registry::recover_sink("file", mark.text(), &context).unwrap();
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
    fn options_that_cannot_work_are_named() {
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
}
