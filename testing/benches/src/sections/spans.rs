//! The time of an event of `tracing` with two fields, in a span with two fields: our layer beside
//! the formatter of `tracing-subscriber` on a lossless appender.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;
use facade::{LogConfig, setup_logging};
use hot_paths::{TARGET, Timing, median, pause};
use tracing::Dispatch;
use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::amounts::Amounts;
use crate::table::{ReportTable, figure};

/// Measures one peer in a folder of its own.
type Turn = fn(&Amounts, &Path) -> Result<Timing>;

const ROWS: [(&str, Turn); 4] = [
    ("tracing-subscriber's fmt, lossless appender", time_fmt),
    ("**logcore**, the layer", |amounts, dir| time_ours(amounts, dir, event)),
    ("**logcore**, `log::info!` in the span", |amounts, dir| {
        time_ours(amounts, dir, record)
    }),
    ("**logcore**, a span as a metric", |amounts, dir| {
        time_ours(amounts, dir, span)
    }),
];

pub(crate) fn measure(amounts: &Amounts) -> Result<Vec<ReportTable>> {
    let mut turns = ROWS.map(|_| Vec::new());
    for round in 0..amounts.rounds {
        for offset in 0..ROWS.len() {
            let index = (round + offset) % ROWS.len();
            let folder = tempfile::tempdir()?;
            turns[index].push(ROWS[index].1(amounts, folder.path())?);
        }
    }
    let note = format!(
        "Nanoseconds; {} rounds of {} calls, back to back, medians over the rounds. Two fields, in a span with two \
         fields; all lines are in the file.",
        amounts.rounds, amounts.calls
    );
    let mut table = ReportTable::new("Events of tracing", note, &["call", "× p50", "p50", "p99", "mean"]);
    let p50 = |timings: &[Timing]| median(timings.iter().map(|timing| timing.p50));
    let of_fmt = p50(&turns[0]);
    for ((name, _), timings) in ROWS.iter().zip(&turns) {
        let of = |value: fn(&Timing) -> f64| figure(median(timings.iter().map(value)));
        let ratio = figure(p50(timings) / of_fmt);
        table.row([(*name).to_owned(), ratio, of(|t| t.p50), of(|t| t.p99), of(|t| t.mean)]);
    }
    Ok(vec![table])
}

fn time_fmt(amounts: &Amounts, dir: &Path) -> Result<Timing> {
    let file = OpenOptions::new().create(true).append(true).open(dir.join("fmt.log"))?;
    let (writer, _guard) = NonBlockingBuilder::default().lossy(false).finish(BufWriter::new(file));
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    Ok(time(amounts, &Dispatch::new(subscriber), event))
}

fn time_ours(amounts: &Amounts, dir: &Path, call: fn(u64)) -> Result<Timing> {
    let logger = setup_logging(LogConfig {
        name: TARGET.into(),
        log_dir: dir.into(),
        enable_console: false,
        span_metrics: vec!["forward".into()],
        ..LogConfig::default()
    })?;
    let subscriber = tracing_subscriber::registry().with(facade::tracing::layer(&logger));
    let timing = time(amounts, &Dispatch::new(subscriber), call);
    logger.finish();
    Ok(timing)
}

fn time(amounts: &Amounts, dispatch: &Dispatch, call: fn(u64)) -> Timing {
    let mut samples = Vec::with_capacity(amounts.calls as usize);
    tracing::dispatcher::with_default(dispatch, || {
        let _span = tracing::info_span!(target: TARGET, "epoch", epoch = 3, worker = "loader").entered();
        (0..amounts.warm_up).for_each(call);
        for step in 0..amounts.calls {
            let started = pause(std::time::Duration::ZERO);
            call(step);
            samples.push(started.elapsed().as_nanos() as u32);
        }
    });
    Timing::of(&mut samples)
}

fn event(step: u64) {
    tracing::info!(target: TARGET, loss = 0.5 + step as f64, batch = step, "a step was made");
}

fn record(step: u64) {
    log::info!(target: TARGET, loss = 0.5 + step as f64, batch = step; "a step was made");
}

fn span(_: u64) {
    drop(tracing::info_span!(target: TARGET, "forward", micro_batch = 3).entered());
}
