//! How the cost of a call grows with threads, loggers, metric names and steps.

use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use facade::{LogConfig, UnifiedLogger, setup_logging};
use hot_paths::{Line, TARGET, TEN_METRICS, median, with_line};

use super::alone::in_own_process;
use crate::amounts::Amounts;
use crate::peers::config;
use crate::picture::{Panel, draw};
use crate::table::{ReportTable, figure};
use crate::usage::{cpu_seconds, resident_mb};

/// Before the name of a thing that grows and its number: a point of the table.
pub(crate) const POINT: &str = "scale/";

/// Calls between two flushes when the callers are timed: few enough for the ring, so that nobody
/// waits for the writer.
const BURST: u64 = 10_000;
const BURSTS: u64 = 10;

/// The most rounds: the largest points take seconds.
const ROUNDS: usize = 3;

/// A thing that grows, its numbers, and the figures of a number.
struct Growth {
    name: &'static str,
    numbers: &'static [u64],
    point: fn(&Amounts, u64) -> Result<ScalePoint>,
}

const GROWTHS: [Growth; 4] = [
    Growth {
        name: "threads",
        numbers: &[1, 2, 4, 8, 16, 32, 64],
        point: with_threads,
    },
    Growth {
        name: "loggers",
        numbers: &[1, 10, 100, 1_000, 5_000],
        point: with_loggers,
    },
    Growth {
        name: "metric names",
        numbers: &[10, 100, 1_000, 10_000],
        point: with_names,
    },
    Growth {
        name: "steps",
        numbers: &[1_000, 10_000, 100_000, 1_000_000],
        point: with_steps,
    },
];

#[derive(Clone, Copy)]
struct ScalePoint {
    /// Nanoseconds of the callers, by the number of calls.
    call: f64,
    /// Nanoseconds of all threads until the last call is in the file, by the number of calls.
    cpu: f64,
    /// Milliseconds of the set-up.
    start: f64,
    /// Milliseconds of the end, which follows the last flush.
    end: f64,
    /// Processor milliseconds of the end.
    end_cpu: f64,
    /// Resident memory beyond that of the empty process, in MB, before the end.
    memory: f64,
}

pub(crate) fn measure(amounts: &Amounts) -> Result<Vec<ReportTable>> {
    let rounds = amounts.rounds.min(ROUNDS);
    let note = format!(
        "Each point in a process of its own, medians of {rounds} rounds. Threads and loggers: {} lines in all, spread \
         evenly. Names: {} calls of ten metrics, each with the next ten of so many names, after each name was logged \
         once. Steps: so many calls of ten metrics, each a step. CPU is that of all threads from the first call until \
         the last is in the file, without a pause. A call is the time of the callers in {BURSTS} bursts of {BURST} \
         calls that follow, by the number of calls. `×` is the ratio to the row with the smallest number.",
        amounts.lines, amounts.calls
    );
    let columns = [
        "what grows",
        "number",
        "call, ns",
        "×",
        "CPU, ns a call",
        "×",
        "start, ms",
        "end, ms",
        "CPU, ms",
        "memory, MB",
    ];
    let mut table = ReportTable::new("Scale", note, &columns);
    let mut panels = Vec::new();
    for growth in &GROWTHS {
        let mut points: Vec<Vec<ScalePoint>> = growth.numbers.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (number, points) in growth.numbers.iter().zip(&mut points) {
                points.push(ScalePoint::of(amounts, growth.name, *number)?);
            }
        }
        let of = |at: usize, value: fn(&ScalePoint) -> f64| median(points[at].iter().map(value));
        let to_first = |at: usize, value: fn(&ScalePoint) -> f64| of(at, value) / of(0, value);
        for (at, number) in growth.numbers.iter().enumerate() {
            table.row([
                growth.name.to_owned(),
                number.to_string(),
                figure(of(at, |point| point.call)),
                figure(to_first(at, |point| point.call)),
                figure(of(at, |point| point.cpu)),
                figure(to_first(at, |point| point.cpu)),
                figure(of(at, |point| point.start)),
                figure(of(at, |point| point.end)),
                figure(of(at, |point| point.end_cpu)),
                figure(of(at, |point| point.memory)),
            ]);
        }
        let line = |value: fn(&ScalePoint) -> f64| {
            let numbers = growth.numbers.iter().enumerate();
            numbers
                .map(|(at, number)| (*number as f64, to_first(at, value)))
                .collect()
        };
        panels.push(Panel {
            title: growth.name,
            lines: [line(|point| point.call), line(|point| point.cpu)],
        });
    }
    let about = "Cost of a call by number, as the ratio to the smallest";
    let svg = draw(about, ["time of the caller", "CPU of all threads"], &panels);
    Ok(vec![table.with_picture("benchmarks-scale.svg", about, svg)])
}

impl ScalePoint {
    fn of(amounts: &Amounts, growth: &str, number: u64) -> Result<Self> {
        let figures = in_own_process(amounts, &format!("{POINT}{growth}/{number}"))?;
        let [call, cpu, start, end, end_cpu, memory] = figures[..] else {
            bail!("{number} {growth} have {} figures", figures.len());
        };
        Ok(Self {
            call,
            cpu,
            start,
            end,
            end_cpu,
            memory,
        })
    }
}

/// The figures of a point, in the order of the fields of [`ScalePoint`]. `name` has what stands
/// behind [`POINT`]. This process should have done nothing before.
pub(crate) fn point(amounts: &Amounts, name: &str) -> Result<Vec<f64>> {
    let (name, number) = name.split_once('/').context("the point has no number")?;
    let number = number.parse().context("the number")?;
    let growth = GROWTHS.iter().find(|growth| growth.name == name);
    let growth = growth.with_context(|| format!("nothing grows under the name {name}"))?;
    let ScalePoint {
        call,
        cpu,
        start,
        end,
        end_cpu,
        memory,
    } = (growth.point)(amounts, number)?;
    Ok(vec![call, cpu, start, end, end_cpu, memory])
}

fn with_threads(amounts: &Amounts, threads: u64) -> Result<ScalePoint> {
    measured(&[TARGET.to_owned()], amounts.lines, 0, |loggers, steps| {
        let per_thread = (steps.end - steps.start) / threads;
        let (there, go) = (Barrier::new(threads as usize + 1), Barrier::new(threads as usize + 1));
        let begun = thread::scope(|scope| {
            for thread in 0..threads {
                let (there, go) = (&there, &go);
                let first = steps.start + thread * per_thread;
                scope.spawn(move || {
                    there.wait();
                    go.wait();
                    (first..first + per_thread).for_each(|step| say_line(&loggers[0], step));
                });
            }
            // As in `lines`: no thread begins before the clock is read.
            there.wait();
            let begun = Instant::now();
            go.wait();
            begun
        });
        begun.elapsed()
    })
}

fn with_loggers(amounts: &Amounts, number: u64) -> Result<ScalePoint> {
    let names: Vec<String> = (0..number).map(|at| format!("logger{at}")).collect();
    measured(&names, amounts.lines, number, |loggers, steps| {
        timed(steps, |step| say_line(&loggers[step as usize % loggers.len()], step))
    })
}

fn with_names(amounts: &Amounts, number: u64) -> Result<ScalePoint> {
    let names: Vec<String> = (0..number).map(|at| format!("layers/{at}/norm")).collect();
    let tens: Vec<&[String; 10]> = names.as_chunks().0.iter().collect();
    measured(
        &[TARGET.to_owned()],
        amounts.calls,
        number.div_ceil(10),
        |loggers, steps| {
            timed(steps, |step| {
                let names = tens[step as usize % tens.len()];
                log_row(&loggers[0], step, names.each_ref().map(String::as_str));
            })
        },
    )
}

fn with_steps(_: &Amounts, steps: u64) -> Result<ScalePoint> {
    measured(&[TARGET.to_owned()], steps, 0, |loggers, steps| {
        timed(steps, |step| log_row(&loggers[0], step, TEN_METRICS))
    })
}

fn timed(steps: Range<u64>, call: impl FnMut(u64)) -> Duration {
    let started = Instant::now();
    steps.for_each(call);
    started.elapsed()
}

/// Sets up loggers of these names, makes the first calls, which nobody counts, then those whose
/// processor time counts, then the timed bursts, and ends the loggers. `log` makes the calls of the
/// steps that it gets, and returns their time.
fn measured(
    names: &[String],
    calls: u64,
    first_calls: u64,
    log: impl Fn(&[UnifiedLogger], Range<u64>) -> Duration,
) -> Result<ScalePoint> {
    let folder = tempfile::tempdir().context("make a folder for a log")?;
    let empty = resident_mb();
    let starting = Instant::now();
    let open = |name: &String| {
        setup_logging(LogConfig {
            name: name.clone(),
            ..config(folder.path())
        })
    };
    let loggers = names.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let start = milliseconds(starting);
    log(&loggers, 0..first_calls);
    flush(&loggers)?;

    let cpu_before = cpu_seconds();
    let bursts = first_calls + calls;
    log(&loggers, first_calls..bursts);
    flush(&loggers)?;
    let cpu = cpu_seconds() - cpu_before;
    let memory = resident_mb() - empty;
    let mut call = Duration::ZERO;
    for burst in 0..BURSTS {
        let first = bursts + burst * BURST;
        call += log(&loggers, first..first + BURST);
        flush(&loggers)?;
    }
    let cpu_before_end = cpu_seconds();
    let ending = Instant::now();
    for logger in &loggers {
        let report = logger.finish();
        if !report.all_delivered() {
            bail!("not everything was delivered: {report:?}");
        }
    }
    Ok(ScalePoint {
        call: call.as_secs_f64() * 1e9 / (BURSTS * BURST) as f64,
        cpu: cpu * 1e9 / calls as f64,
        start,
        end: milliseconds(ending),
        end_cpu: (cpu_seconds() - cpu_before_end) * 1e3,
        memory,
    })
}

/// Waits until everything is written: the loggers of a process share one writer, so that the flush
/// of one is that of all.
fn flush(loggers: &[UnifiedLogger]) -> Result<()> {
    let first = loggers.first().context("there is no logger")?;
    first.flush().context("flush the loggers")
}

fn say_line(logger: &UnifiedLogger, step: u64) {
    with_line!(Line::at(step), log::info!(logger: logger, target: TARGET,));
}

fn log_row(logger: &UnifiedLogger, step: u64, names: [&str; 10]) {
    let line = Line::at(step);
    let mut pairs = names.map(|name| (name, line.loss));
    for (at, pair) in pairs.iter_mut().enumerate() {
        pair.1 += at as f64 * line.lr;
    }
    logger.log_metrics_at(step, pairs);
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
