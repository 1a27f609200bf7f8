//! The time of a metrics call, the number of calls written in a second, and their memory.

use std::fs;
use std::hint::black_box;
use std::ops::RangeFrom;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use facade::logcore::serde_json::json;
use facade::{LogConfig, UnifiedLogger, setup_logging};
use hot_paths::{Line, TEN_METRICS, Timing, median, pause};
use tempfile::TempDir;

use super::alone::in_own_process;
use crate::amounts::Amounts;
use crate::peers::{PeerEntry, config};
use crate::python::wandb_log;
use crate::table::{ReportTable, figure};
use crate::usage::{cpu_seconds, resident_mb};

/// The name under which a process measures the memory of many metric points.
pub(crate) const POINTS: &str = "metric points";

/// Calls between two flushes: few enough for any ring, since rendering rows takes longer than
/// handing them over.
const BURST: u64 = 2000;

pub(crate) fn measure(amounts: &Amounts, _: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    Ok(vec![calls(amounts)?, sustained(amounts)?, memory(amounts)?])
}

/// A way to log ten metrics.
type Log<'a> = &'a dyn Fn(u64, [f64; 10]);

fn calls(amounts: &Amounts) -> Result<ReportTable> {
    let gaps = [Duration::ZERO, Duration::from_micros(2)];
    let mut clock = Vec::new();
    // By gap, each without and with W&B.
    let mut by_name = [const { [const { Vec::new() }; 2] }; 2];
    let mut by_handle = [const { [const { Vec::new() }; 2] }; 2];
    let mut in_one_call = [const { [const { Vec::new() }; 2] }; 2];
    let mut samples = Vec::with_capacity(amounts.calls as usize);
    for _ in 0..amounts.rounds {
        for (index, gap) in gaps.into_iter().enumerate() {
            for wandb in [false, true] {
                let run = Run::open(wandb)?;
                let logger = &run.logger;
                let mut steps = 0..;
                let mut turn = |log: Log<'_>| turn(amounts, gap, &mut samples, logger, &mut steps, log);
                clock.push(turn(&|_, values| {
                    black_box(values);
                }));
                by_name[index][usize::from(wandb)].push(turn(&named(logger)));
                let handles = TEN_METRICS.map(|name| logger.metric(name));
                let record = |step, values: [f64; 10]| {
                    for (handle, value) in handles.iter().zip(values) {
                        handle.record(step, value);
                    }
                };
                by_handle[index][usize::from(wandb)].push(turn(&record));
                let at_once = |step, values: [f64; 10]| {
                    let mut pairs = handles.each_ref().map(|handle| (handle, 0.0));
                    for (pair, value) in pairs.iter_mut().zip(values) {
                        pair.1 = value;
                    }
                    logger.log_metrics_at(step, pairs);
                };
                in_one_call[index][usize::from(wandb)].push(turn(&at_once));
            }
        }
    }

    let of_python = wandb_log(amounts.calls / 10);
    let python_note = match &of_python {
        Ok(_) => "Python's call is the official client's, in one round of a tenth of the calls.".to_owned(),
        Err(reason) => format!("Python's `wandb.log` has no row here: {reason:#}."),
    };
    let note = format!(
        "Nanoseconds for ten metrics, with averages, history and `metrics.jsonl`; {} rounds of {} calls in bursts of \
         {BURST}, medians over the rounds. Each time includes one reading of the clock. {python_note}",
        amounts.rounds, amounts.calls
    );
    let mut table = ReportTable::new("Ten metrics", note, &["call", "p50", "p90", "p99", "p99.9", "mean"]);
    let mut row = |name: &str, timings: &[Timing]| {
        let of = |value: fn(&Timing) -> f64| figure(median(timings.iter().map(value)));
        table.row([
            name.to_owned(),
            of(|t| t.p50),
            of(|t| t.p90),
            of(|t| t.p99),
            of(|t| t.p999),
            of(|t| t.mean),
        ]);
    };
    row("the clock alone", &clock);
    for (call, timings) in [
        ("log_metrics", &by_name),
        ("ten handles", &by_handle),
        ("log_metrics of ten handles", &in_one_call),
    ] {
        for (gap, timings) in ["back to back", "2 µs apart"].into_iter().zip(timings) {
            row(&format!("{call}, {gap}"), &timings[0]);
            row(&format!("{call}, {gap}, W&B offline"), &timings[1]);
        }
    }
    if let Ok(timing) = of_python {
        row("Python's wandb.log, back to back, W&B offline", &[timing]);
    }
    Ok(table)
}

fn turn(
    amounts: &Amounts,
    gap: Duration,
    samples: &mut Vec<u32>,
    logger: &UnifiedLogger,
    steps: &mut RangeFrom<u64>,
    log: Log<'_>,
) -> Timing {
    samples.clear();
    for step in steps.by_ref().take(BURST as usize) {
        log(step, values(step));
    }
    for (index, step) in steps.by_ref().take(amounts.calls as usize).enumerate() {
        if (index as u64).is_multiple_of(BURST) {
            // A failed flush shows in the next table.
            let _ = logger.flush();
        }
        let values = values(step);
        let started = pause(gap);
        log(step, values);
        samples.push(started.elapsed().as_nanos() as u32);
    }
    Timing::of(samples)
}

fn sustained(amounts: &Amounts) -> Result<ReportTable> {
    let (mut rates, mut cpu, mut lost) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2], [0; 2]);
    for _ in 0..amounts.rounds {
        for wandb in [false, true] {
            let at = usize::from(wandb);
            let run = Run::open(wandb)?;
            let log = named(&run.logger);
            let cpu_before = cpu_seconds();
            let started = Instant::now();
            for step in 0..amounts.calls {
                log(step, values(step));
            }
            let _ = run.logger.flush();
            rates[at].push(amounts.calls as f64 / started.elapsed().as_secs_f64());
            cpu[at].push((cpu_seconds() - cpu_before) * 1e6 / amounts.calls as f64);
            drop(log);
            lost[at] += amounts.calls as i64 - run.close()? as i64;
        }
    }
    let note = format!(
        "{} calls of ten metrics, one step each, without a pause, until `metrics.jsonl` has them.",
        amounts.calls
    );
    let mut table = ReportTable::new(
        "Metrics until they are in the file",
        note,
        &["call", "calls/s", "CPU s/M", "rows lost"],
    );
    for (at, (rates, cpu)) in rates.into_iter().zip(cpu).enumerate() {
        table.row([
            ["log_metrics", "log_metrics, W&B offline"][at].to_owned(),
            figure(median(rates)),
            figure(median(cpu)),
            lost[at].to_string(),
        ]);
    }
    Ok(table)
}

fn memory(amounts: &Amounts) -> Result<ReportTable> {
    let note = format!(
        "Resident memory that {} points in ten metrics leave, in a process of their own.",
        amounts.points
    );
    let mut table = ReportTable::new("Memory of metric points", note, &["what", "MB"]);
    let figures = in_own_process(amounts, POINTS)?;
    for (what, figure_of) in ["logger alone", "with the points"].into_iter().zip(figures) {
        table.row([what.to_owned(), figure(figure_of)]);
    }
    Ok(table)
}

/// The figures of the memory table, in the order of its rows.
pub(crate) fn points_in_memory(amounts: &Amounts) -> Result<Vec<f64>> {
    let before = resident_mb();
    let run = Run::open(false)?;
    let log = named(&run.logger);
    (0..100).for_each(|step| log(step, values(step)));
    let _ = run.logger.flush();
    let base = resident_mb() - before;
    for step in 100..amounts.points / 10 {
        log(step, values(step));
    }
    let _ = run.logger.flush();
    Ok(vec![base, resident_mb() - before])
}

fn named(logger: &UnifiedLogger) -> impl Fn(u64, [f64; 10]) {
    move |step, values| {
        let mut pairs = [("", 0.0); 10];
        for (pair, (name, value)) in pairs.iter_mut().zip(TEN_METRICS.into_iter().zip(values)) {
            *pair = (name, value);
        }
        logger.log_metrics_at(step, pairs);
    }
}

fn values(step: u64) -> [f64; 10] {
    let line = Line::at(step);
    let mut values = [line.loss; 10];
    for (index, value) in values.iter_mut().enumerate() {
        *value += index as f64 * line.lr;
    }
    values
}

struct Run {
    logger: UnifiedLogger,
    folder: TempDir,
}

impl Run {
    /// With a W&B run that stays on disk, or without one.
    fn open(wandb: bool) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for metrics")?;
        let logger = setup_logging(LogConfig {
            enable_wandb: wandb,
            sinks: [("wandb".to_owned(), json!({"mode": "offline"}))].into(),
            ..config(folder.path())
        })?;
        Ok(Self { logger, folder })
    }

    /// Ends it and returns how many rows its file has.
    fn close(self) -> Result<usize> {
        let report = self.logger.finish();
        let rows = rows(self.folder.path());
        rows.with_context(|| format!("read metrics.jsonl; what the logger says of it: {report:?}"))
    }
}

fn rows(folder: &Path) -> std::io::Result<usize> {
    let text = fs::read(folder.join("metrics.jsonl"))?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter(|line| line.ends_with(b"}"))
        .count())
}
