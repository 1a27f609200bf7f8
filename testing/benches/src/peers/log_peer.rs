use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use flexi_logger::{FileSpec, WriteMode};
use hot_paths::{Line, TARGET, with_line};
use log::{LevelFilter, Log};

use super::{FILE, LARGE_BUFFER, Peer};

/// The line's time, level and target, as close to the same text as each peer's own means allow.
const CHRONO_TIME: &str = "%Y-%m-%d %H:%M:%S%.3f";

pub(super) fn simplelog_64(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(peer(simplelog(BufWriter::with_capacity(LARGE_BUFFER, file(dir)?))))
}

pub(super) fn simplelog_8(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(peer(simplelog(BufWriter::new(file(dir)?))))
}

pub(super) fn simplelog_direct(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(peer(simplelog(file(dir)?)))
}

pub(super) fn fern(dir: &Path) -> Result<Box<dyn Peer>> {
    let (_, logger) = fern::Dispatch::new()
        .level(LevelFilter::Info)
        .format(|out, message, record| {
            let now = jiff::Timestamp::now();
            out.finish(format_args!(
                "{now:.3} | {:<5} | {} | {message}",
                record.level(),
                record.target()
            ));
        })
        .chain(file(dir)?)
        .into_log();
    Ok(peer(logger))
}

pub(super) fn env_logger(dir: &Path) -> Result<Box<dyn Peer>> {
    let logger = env_logger::Builder::new()
        .filter_level(LevelFilter::Info)
        .format_timestamp_millis()
        .target(env_logger::Target::Pipe(Box::new(file(dir)?)))
        .build();
    Ok(peer(Box::new(logger)))
}

pub(super) fn flexi_direct(dir: &Path) -> Result<Box<dyn Peer>> {
    flexi(dir, WriteMode::Direct)
}

pub(super) fn flexi_buffered(dir: &Path) -> Result<Box<dyn Peer>> {
    flexi(dir, WriteMode::BufferAndFlush)
}

pub(super) fn log4rs(dir: &Path) -> Result<Box<dyn Peer>> {
    use log4rs::append::file::FileAppender;
    use log4rs::config::{Appender, Config, Root};
    use log4rs::encode::pattern::PatternEncoder;

    let pattern = format!("{{d({CHRONO_TIME})}} | {{l:<5}} | {{t}} | {{m}}{{n}}");
    let appender = FileAppender::builder()
        .encoder(Box::new(PatternEncoder::new(&pattern)))
        .build(dir.join(FILE))?;
    let config = Config::builder()
        .appender(Appender::builder().build("file", Box::new(appender)))
        .build(Root::builder().appender("file").build(LevelFilter::Info))?;
    Ok(peer(Box::new(log4rs::Logger::new(config))))
}

fn simplelog(writer: impl Write + Send + 'static) -> Box<dyn Log> {
    let config = simplelog::ConfigBuilder::new()
        .set_time_format_custom(time::macros::format_description!(
            "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]"
        ))
        .set_target_level(LevelFilter::Error)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    simplelog::WriteLogger::new(LevelFilter::Info, config, writer)
}

fn flexi(dir: &Path, mode: WriteMode) -> Result<Box<dyn Peer>> {
    let (logger, handle) = flexi_logger::Logger::with(LevelFilter::Info)
        .log_to_file(FileSpec::try_from(dir.join(FILE))?)
        .append()
        .write_mode(mode)
        .format(|out, now, record| {
            let time = now.format(CHRONO_TIME);
            write!(
                out,
                "{time} | {:<5} | {} | {}",
                record.level(),
                record.target(),
                record.args()
            )
        })
        .build()?;
    Ok(Box::new(LogPeer {
        logger,
        _alive: Some(Box::new(handle)),
    }))
}

fn file(dir: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(dir.join(FILE))?)
}

pub(super) fn peer(logger: Box<dyn Log>) -> Box<dyn Peer> {
    Box::new(LogPeer { logger, _alive: None })
}

struct LogPeer {
    logger: Box<dyn Log>,
    /// A guard that must be dropped after the logger.
    _alive: Option<Box<dyn Any + Send + Sync>>,
}

impl Peer for LogPeer {
    fn log_line(&self, line: &Line) {
        with_line!(line, log::info!(logger: self.logger, target: TARGET,));
    }

    fn log_disabled(&self, line: &Line) {
        with_line!(line, log::trace!(logger: self.logger, target: TARGET,));
    }

    fn flush(&self) {
        self.logger.flush();
    }
}
