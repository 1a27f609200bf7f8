//! Figures of devices beside those of `nvidia-smi`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use cudarc::driver::CudaContext;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{SectionRows, driver};
use crate::cuda;
use crate::options::Options;
use crate::probed_logger::ProbedLogger;
use crate::row::{Row, Verdict, grouped};
use crate::smi;

/// A value of the logger, and the field of `nvidia-smi` for it.
struct Figure {
    /// Name of the metric, after `system/gpu.<i>.`.
    metric: &'static str,
    field: &'static str,
    unit: &'static str,
    /// Number by which the metric is divided to be in the unit of `nvidia-smi`.
    scale: f64,
    /// Difference that is allowed, in that unit. The two are read some moments apart.
    difference: f64,
    /// The same as a share of the value.
    share: f64,
}

/// Held while the figures are compared, so that the memory is not 0.
const HELD: usize = 256 << 20;

const MIB: f64 = (1 << 20) as f64;

/// The figures that each `nvidia-smi` knows.
const FIGURES: &[Figure] = &[
    Figure::new("memoryAllocatedBytes", "memory.used", "MiB", MIB, 2.0, 0.0),
    Figure::new("gpu", "utilization.gpu", "%", 1.0, 15.0, 0.0),
    Figure::new("memory", "utilization.memory", "%", 1.0, 15.0, 0.0),
    Figure::new("temp", "temperature.gpu", "°C", 1.0, 3.0, 0.0),
    Figure::new("powerWatts", "power.draw", "W", 1.0, 10.0, 0.2),
    Figure::new("enforcedPowerLimitWatts", "enforced.power.limit", "W", 1.0, 0.1, 0.0),
    Figure::new("smClock", "clocks.sm", "MHz", 1.0, 100.0, 0.1),
    Figure::new("memoryClock", "clocks.mem", "MHz", 1.0, 100.0, 0.1),
];

/// The figures whose fields newer releases may name otherwise.
const ERRORS: &[Figure] = &[
    Figure::new(
        "correctedMemoryErrors",
        "ecc.errors.corrected.volatile.device_memory",
        "errors",
        1.0,
        0.0,
        0.0,
    ),
    Figure::new(
        "uncorrectedMemoryErrors",
        "ecc.errors.uncorrected.volatile.device_memory",
        "errors",
        1.0,
        0.0,
        0.0,
    ),
];

/// Clocks and utilization change at any moment, so each figure has this many chances.
const ATTEMPTS: usize = 3;
/// A driver that has to start first was seen to take 1.5 s; a device may lack the last reading.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

impl Figure {
    const fn new(
        metric: &'static str,
        field: &'static str,
        unit: &'static str,
        scale: f64,
        difference: f64,
        share: f64,
    ) -> Self {
        Self {
            metric,
            field,
            unit,
            scale,
            difference,
            share,
        }
    }

    /// Returns `true` if the value lies between those of `nvidia-smi` before and after it, or near
    /// them.
    fn fits(&self, ours: f64, around: [f64; 2]) -> bool {
        let (low, high) = (around[0].min(around[1]), around[0].max(around[1]));
        let allowed = self.difference + self.share * high.abs();
        (low - allowed..=high + allowed).contains(&ours)
    }
}

pub(super) fn run(_: &Options, rows: &mut SectionRows) -> Result<()> {
    let nvml = match driver::open() {
        Ok(nvml) => nvml,
        Err(reason) => {
            rows.add(Row::not_tried("figures of devices", reason));
            return Ok(());
        }
    };
    cuda::start()?;
    let context = CudaContext::new(0)?;
    let tensor = context.default_stream().alloc_zeros::<u8>(HELD)?;
    context.synchronize()?;
    for index in 0..nvml.device_count()? {
        rows.add(reserved_by_driver(&nvml, index));
    }
    for figures in [FIGURES, ERRORS] {
        compare(figures, rows)?;
    }
    drop(tensor);
    Ok(())
}

/// Answers whether the driver's `used` has in it what the driver keeps for itself.
fn reserved_by_driver(nvml: &Nvml, index: u32) -> Row {
    let subject = format!("3: the driver's `used` and what the driver keeps for itself, device {index}");
    let memory = match nvml.device_by_index(index).and_then(|device| device.memory_info()) {
        Ok(memory) => memory,
        Err(error @ (NvmlError::FailedToLoadSymbol(_) | NvmlError::NotSupported | NvmlError::NoPermission)) => {
            return Row::not_tried(subject, format!("the second version of the call: {error}"));
        }
        Err(error) => return Row::failed(subject, error.to_string()),
    };
    let sum = memory.used.saturating_add(memory.free);
    let meaning = match () {
        () if sum == memory.total && memory.reserved == 0 => "nothing is kept",
        () if sum == memory.total => "`used` has it in it",
        () if sum.saturating_add(memory.reserved) == memory.total => "`used` leaves it out",
        () => "the sum is another one",
    };
    Row::check(
        subject,
        format!(
            "{meaning}: total {}, used {}, free {}, kept {}",
            grouped(memory.total),
            grouped(memory.used),
            grouped(memory.free),
            grouped(memory.reserved)
        ),
        meaning != "the sum is another one",
        "used + free, or used + free + kept, is the total",
    )
}

/// Adds a row for each figure of each device.
fn compare(figures: &[Figure], rows: &mut SectionRows) -> Result<()> {
    let fields: Vec<&str> = figures.iter().map(|figure| figure.field).collect();
    let mut found: Vec<Vec<Row>> = Vec::new();
    for _ in 0..ATTEMPTS {
        let before = match smi::query(&fields) {
            Ok(before) => before,
            Err(error) => {
                let not_tried = |figure: &Figure| Row::not_tried(figure.field, format!("{error:#}"));
                figures.iter().map(not_tried).for_each(|row| rows.add(row));
                return Ok(());
            }
        };
        // A new logger reads everything at its start; a running one reads some values every 10 s.
        let logger = ProbedLogger::with_machine("machine")?;
        wait_for_readings(&logger, before.len());
        let after = smi::query(&fields)?;
        let newest = before
            .iter()
            .zip(&after)
            .enumerate()
            .map(|(index, (before, after))| rows_of(&logger, figures, index, before, after));
        found = match found.is_empty() {
            true => newest.collect(),
            false => found.into_iter().zip(newest).map(keep_better).collect(),
        };
        let fails = |row: &Row| matches!(row.verdict, Verdict::Fails(_));
        if !found.iter().flatten().any(fails) {
            break;
        }
    }
    found.into_iter().flatten().for_each(|row| rows.add(row));
    Ok(())
}

/// Takes from two attempts the rows that do not fail.
fn keep_better((old, new): (Vec<Row>, Vec<Row>)) -> Vec<Row> {
    let better = |(old, new): (Row, Row)| match old.verdict {
        Verdict::Fails(_) => new,
        _ => old,
    };
    old.into_iter().zip(new).map(better).collect()
}

/// Waits until each device has the reading that comes last.
fn wait_for_readings(logger: &ProbedLogger, devices: usize) {
    let start = Instant::now();
    let is_read = |index| logger.count(&metric(index, "throttleReasons")) > 0;
    while start.elapsed() < LONGEST_WAIT && !(0..devices).all(is_read) {
        thread::sleep(POLL);
    }
}

fn rows_of(
    logger: &ProbedLogger,
    figures: &[Figure],
    index: usize,
    before: &[Option<f64>],
    after: &[Option<f64>],
) -> Vec<Row> {
    let row = |(figure, (before, after)): (&Figure, (&Option<f64>, &Option<f64>))| {
        let name = metric(index, figure.metric);
        let ours = logger.value(&name).map(|value| value / figure.scale);
        let subject = format!("`{name}` beside `{}`", figure.field);
        let (Some(before), Some(after)) = (*before, *after) else {
            return Row::not_tried(subject, "nvidia-smi has no value for this device");
        };
        let unit = figure.unit;
        Row::check(
            subject,
            match ours {
                Some(ours) => format!("{ours:.1} {unit}, between {before:.1} and {after:.1} of `nvidia-smi`"),
                None => format!("no value, and {before:.1} to {after:.1} {unit} of `nvidia-smi`"),
            },
            ours.is_some_and(|ours| figure.fits(ours, [before, after])),
            format!(
                "differs by at most {} {unit} and {:.0} %",
                figure.difference,
                figure.share * 100.0
            ),
        )
    };
    figures.iter().zip(before.iter().zip(after)).map(row).collect()
}

fn metric(index: usize, name: &str) -> String {
    format!("system/gpu.{index}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_fits_between_the_two_others_and_near_them() {
        let power = Figure::new("powerWatts", "power.draw", "W", 1.0, 10.0, 0.2);
        for (ours, fits) in [
            (150.0, true),
            (70.0, true),
            (240.0, true),
            (49.0, false),
            (261.0, false),
        ] {
            assert_eq!(power.fits(ours, [200.0, 100.0]), fits, "{ours}");
        }
    }

    #[test]
    fn row_that_does_not_fail_is_kept() {
        let row = |answer: &str, holds| Row::check("power", answer, holds, "near");
        let kept = keep_better((
            vec![row("old", false), row("old", true)],
            vec![row("new", true), row("new", false)],
        ));
        assert_eq!(kept, [row("new", true), row("old", true)]);
    }
}
