//! The cost of readings.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cudarc::driver::CudaContext;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::{SectionRows, driver};
use crate::cuda;
use crate::options::Options;
use crate::probed_logger::{BETWEEN_READS, ProbedLogger, memory_metric};
use crate::row::Row;
use crate::times::{CallTimes, SLACK, work};

const BYTES: usize = 64 << 20;

/// Calls back to back, calls of the driver, and calls that are a reading apart.
const CALLS: usize = 20_000;
const DRIVER_CALLS: usize = 200;
const APART: usize = 25;
const NVML_CALLS: usize = 8;

/// Microseconds. The budget of a call that logs.
const CALL_LIMIT: f64 = 20.0;
/// Microseconds. With cold caches, at most a two-hundredth of the time between two such calls.
const APART_LIMIT: f64 = 250.0;
/// Percent of a core.
const READERS_LIMIT: f64 = 0.1;
/// Microseconds in the driver for a second of logging and one device.
const NVML_LIMIT: f64 = 1_000.0;

pub(super) fn run(options: &Options, rows: &mut SectionRows) -> Result<()> {
    cuda::start()?;
    let context = CudaContext::new(0)?;
    let tensor = context.default_stream().alloc_zeros::<u8>(BYTES)?;
    context.synchronize()?;
    let logger = ProbedLogger::with_memory("costs")?;
    logger.log_memory();
    log_memory(&logger, rows);
    rows.add(pool_reading()?);
    drop(logger);
    match driver::open() {
        Ok(nvml) => rows.add(nvml_calls(&nvml)?),
        Err(reason) => rows.add(Row::not_tried("4: NVML's calls", reason)),
    }
    rows.add(readers(options.watched)?);
    drop(tensor);
    Ok(())
}

fn log_memory(logger: &ProbedLogger, rows: &mut SectionRows) {
    let back_to_back = CallTimes::measure(CALLS, || (), || logger.log_memory_at_once());
    logger.flush();
    rows.add(within("`log_memory`, back to back", &back_to_back, CALL_LIMIT));
    let apart = CallTimes::measure(APART, || work(BETWEEN_READS), || logger.log_memory_at_once());
    rows.add(within(
        "2: `log_memory`, each call with a reading of the pools",
        &apart,
        APART_LIMIT,
    ));
}

/// Measures the calls of the driver alone, on a thread without a context.
fn pool_reading() -> Result<Row> {
    let times = thread::scope(|scope| {
        let measured = scope.spawn(|| {
            cuda::pool(0)?;
            anyhow::Ok(CallTimes::measure(DRIVER_CALLS, || (), || drop(cuda::pool(0))))
        });
        measured
            .join()
            .map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
    })?;
    Ok(within(
        "2: the pool and three of its values, in the driver",
        &times,
        CALL_LIMIT,
    ))
}

/// Returns a row that holds if the median is not above the limit, in microseconds.
fn within(subject: &str, times: &CallTimes, limit: f64) -> Row {
    let limit = limit * SLACK;
    Row::check(
        subject,
        times.text(),
        times.median() <= limit,
        format!("p50 at most {limit:.0} µs"),
    )
}

/// A call of NVML: its name, the seconds between two of them, and the call.
type NvmlCall = (&'static str, f64, fn(&Device<'_>) -> Result<(), NvmlError>);

/// The calls of the sampler of memory and of the one of the machine, with their intervals.
const NVML: &[NvmlCall] = &[
    // Both samplers read it every 2 s.
    ("memory", 1.0, |device| device.memory_info().map(drop)),
    ("utilization", 2.0, |device| device.utilization_rates().map(drop)),
    ("temperature", 10.0, |device| {
        device.temperature(TemperatureSensor::Gpu).map(drop)
    }),
    ("power", 10.0, |device| device.power_usage().map(drop)),
    ("SM clock", 10.0, |device| device.clock_info(Clock::SM).map(drop)),
    ("memory clock", 10.0, |device| {
        device.clock_info(Clock::Memory).map(drop)
    }),
    ("energy", 10.0, |device| device.total_energy_consumption().map(drop)),
    ("throttle reasons", 10.0, |device| {
        device.current_throttle_reasons().map(drop)
    }),
    ("process list", 15.0, |device| {
        device.running_compute_processes().map(drop)
    }),
    ("power limit", 60.0, |device| device.enforced_power_limit().map(drop)),
];

/// Measures each call, and adds up what the samplers spend in a second.
fn nvml_calls(nvml: &Nvml) -> Result<Row> {
    let device = nvml.device_by_index(0)?;
    let (mut texts, mut a_second) = (Vec::new(), 0.0);
    for (name, seconds, call) in NVML {
        if call(&device).is_err() {
            texts.push(format!("{name} not supported"));
            continue;
        }
        let times = CallTimes::measure(NVML_CALLS, || (), || drop(call(&device)));
        a_second += times.median() / seconds;
        texts.push(format!("{name} {:.1}", times.median()));
    }
    let limit = NVML_LIMIT * SLACK;
    Ok(Row::check(
        "4: NVML's calls, p50 in µs, and what the samplers spend in a second",
        format!("{}; {a_second:.1} µs a second", texts.join(", ")),
        a_second <= limit,
        format!("at most {limit:.0} µs a second"),
    ))
}

/// Watches the threads that read the machine and the memory, while nothing else is done.
fn readers(watched: Duration) -> Result<Row> {
    let subject = "the threads that read the machine and the GPUs";
    let machine = ProbedLogger::with_machine("watched-machine")?;
    let memory = ProbedLogger::with_memory("watched-memory")?;
    memory.log_memory();
    // The start of NVML is not part of it.
    for _ in 0..100 {
        if machine.count("system/gpu.0.temp") > 0 && memory.count(&memory_metric("source", 0)) > 0 {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let Some(before) = seconds_of_readers() else {
        return Ok(Row::not_tried(
            subject,
            "this system does not tell the time of a thread",
        ));
    };
    thread::sleep(watched);
    let used = seconds_of_readers().unwrap_or(f64::NAN) - before;
    let percent = used / watched.as_secs_f64() * 100.0;
    let limit = READERS_LIMIT * SLACK;
    Ok(Row::check(
        subject,
        format!("{percent:.3} % of a core over {} s", watched.as_secs()),
        percent <= limit,
        format!("at most {limit} % of a core"),
    ))
}

/// Returns the processor time of the readers so far, in seconds; `None` where `/proc` does not
/// tell.
fn seconds_of_readers() -> Option<f64> {
    let mut seconds = None;
    for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        // The kernel keeps fifteen bytes of a name.
        let is_reader = |reader: &str| name.trim_end() == &reader[..reader.len().min(15)];
        if !["logcore-sampling", "gpu-sampler"].into_iter().any(is_reader) {
            continue;
        }
        let statistics = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanoseconds: f64 = statistics.split_whitespace().next()?.parse().ok()?;
        seconds = Some(seconds.unwrap_or(0.0) + nanoseconds * 1e-9);
    }
    seconds
}
