//! The calls whose cost is held.

use std::cell::OnceCell;
use std::hint::black_box;

use anyhow::{Context, Result};
use facade::logcore::serde_json::json;
use facade::{LogConfig, MetricHandle, UnifiedLogger, setup_logging};
use hot_paths::{Line, TARGET, TEN_METRICS, format_only, with_line};
use log::LevelFilter;
use tempfile::TempDir;
use tracing::span::EnteredSpan;
use tracing_subscriber::layer::SubscriberExt as _;

/// A way to call the logger.
pub(crate) struct Path<'a> {
    pub(crate) name: &'static str,
    /// Takes the number of the call.
    pub(crate) call: Box<dyn Fn(u64) + 'a>,
}

/// The loggers that the calls go to: each thing that can make a call dearer has one of its own.
pub(crate) struct Paths {
    text: UnifiedLogger,
    metrics: UnifiedLogger,
    progress: UnifiedLogger,
    training: UnifiedLogger,
    by_handle: UnifiedLogger,
    handles: [MetricHandle; 10],
    in_one_call: UnifiedLogger,
    handles_in_one_call: [MetricHandle; 10],
    _folder: TempDir,
}

impl Paths {
    pub(crate) fn open() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the files")?;
        let open = |name: &str| {
            setup_logging(LogConfig {
                name: name.to_owned(),
                log_dir: folder.path().join(name),
                file_level: LevelFilter::Info,
                enable_console: false,
                enable_wandb: name.starts_with("metrics"),
                sinks: [("wandb".to_owned(), json!({"mode": "offline"}))].into(),
                ..LogConfig::default()
            })
        };
        let metrics = open("metrics by name")?;
        let by_handle = open("metrics by handle")?;
        let in_one_call = open("metrics by handle, one call")?;
        let progress = open("progress")?;
        progress.start_progress(None, "updates");
        let training = open("training")?;
        training.start_progress(None, "steps");
        Ok(Self {
            text: open(TARGET)?,
            handles: TEN_METRICS.map(|name| by_handle.metric(name)),
            handles_in_one_call: TEN_METRICS.map(|name| in_one_call.metric(name)),
            metrics,
            by_handle,
            in_one_call,
            progress,
            training,
            _folder: folder,
        })
    }

    /// Waits until everything is written, so that no call finds the ring full.
    pub(crate) fn settle(&self) {
        let Self {
            text,
            metrics,
            by_handle,
            in_one_call,
            progress,
            training,
            ..
        } = self;
        for logger in [text, metrics, by_handle, in_one_call, progress, training] {
            // A failed flush has no cost for callers.
            let _ = logger.flush();
        }
    }

    /// All of them; the limit comes first.
    pub(crate) fn all(&self) -> Vec<Path<'_>> {
        let Self {
            text,
            metrics,
            progress,
            training,
            handles,
            in_one_call,
            handles_in_one_call,
            ..
        } = self;
        vec![
            path("limit: format only", move |step| format_only(&Line::at(step))),
            path("the clock alone", move |step| {
                black_box(step);
            }),
            path("log::info!(logger: …)", move |step| {
                with_line!(Line::at(step), log::info!(logger: text, target: TARGET,));
            }),
            path("logger.info(…)", move |step| {
                text.info(with_line!(Line::at(step), format_args!()))
            }),
            path("global log::info!", move |step| {
                with_line!(Line::at(step), log::info!(target: TARGET,));
            }),
            path("facade::info!, four numbers, deferred", move |step| {
                with_line!(Line::at(step), facade::info!(text,));
            }),
            path("logger.info, a literal", move |_| text.info("the validation begins")),
            path("logger.debug, which nobody wants", move |step| {
                text.debug(with_line!(Line::at(step), format_args!()));
            }),
            path("ten metrics by name", move |step| {
                metrics.log_metrics_at(step, pairs(TEN_METRICS, step));
            }),
            path("ten metrics by handle", move |step| {
                for (handle, value) in handles.iter().zip(values(step)) {
                    handle.record(step, value);
                }
            }),
            path("ten metrics by handle, one call", move |step| {
                in_one_call.log_metrics_at(step, pairs(handles_in_one_call.each_ref(), step));
            }),
            path("update_progress", move |_| progress.update_progress(1, 32)),
            path("a step: progress, ten metrics", move |step| {
                training.update_progress(1, 32);
                training.log_metrics(pairs(TEN_METRICS, step));
            }),
            // From here on the program has a layer for `tracing`.
            path("tracing::info! in a span, two fields", move |step| {
                in_span(text, || {
                    tracing::info!(target: TARGET, loss = 0.5, batch = step, "a step was made");
                });
            }),
            path("log::info! in a span, two fields", move |step| {
                in_span(text, || {
                    log::info!(target: TARGET, loss = 0.5, batch = step; "a step was made");
                });
            }),
            path("tracing::debug!, which nobody wants", move |step| {
                in_span(text, || {
                    tracing::debug!(target: TARGET, loss = 0.5, batch = step, "a step was made");
                });
            }),
        ]
    }
}

/// Calls `call` in a span with two fields, which begins at the first call.
fn in_span(logger: &UnifiedLogger, call: impl FnOnce()) {
    thread_local! {
        static SPAN: OnceCell<EnteredSpan> = const { OnceCell::new() };
    }
    SPAN.with(|span| {
        span.get_or_init(|| {
            let subscriber = tracing_subscriber::registry().with(facade::tracing::layer(logger));
            // The program has no other subscriber.
            let _ = tracing::subscriber::set_global_default(subscriber);
            tracing::info_span!(target: TARGET, "epoch", epoch = 3, worker = "loader").entered()
        });
    });
    call();
}

fn path<'a>(name: &'static str, call: impl Fn(u64) + 'a) -> Path<'a> {
    Path {
        name,
        call: Box::new(call),
    }
}

/// Ten metrics under these names. The loop is plain, so that it costs less than what it is to
/// measure.
fn pairs<K: Copy>(names: [K; 10], step: u64) -> [(K, f64); 10] {
    let values = values(step);
    let mut pairs = names.map(|name| (name, 0.0));
    for (pair, value) in pairs.iter_mut().zip(values) {
        pair.1 = value;
    }
    pairs
}

fn values(step: u64) -> [f64; 10] {
    let line = Line::at(step);
    let mut values = [line.loss; 10];
    for (at, value) in values.iter_mut().enumerate() {
        *value += at as f64 * line.lr;
    }
    values
}
