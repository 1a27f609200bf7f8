//! Known allocations, compared with the metrics to the byte.

use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream};

use super::SectionRows;
use crate::cuda::{self, DriverPool, PlainAllocation};
use crate::options::Options;
use crate::probed_logger::ProbedLogger;
use crate::row::{Row, bytes_or_nothing, grouped};

/// Multiples of 2 MiB, the largest unit in which the driver is known to count.
const FIRST: usize = 256 << 20;
const SECOND: usize = 96 << 20;
const PLAIN: usize = 128 << 20;
/// A number of bytes that no allocator counts in.
const ODD: usize = 1_000_003;
/// Greatest number of bytes that the driver may add to an odd size.
const LARGEST_UNIT: u64 = 2 << 20;

/// More devices would take more than the time of the section.
const MOST_DEVICES: usize = 8;

/// Number of `cuda_mempool` in `memory/gpu_source`.
const POOL_SOURCE: f64 = 2.0;

pub(super) fn run(_: &Options, rows: &mut SectionRows) -> Result<()> {
    let count = cuda::start()?;
    let devices = count.min(MOST_DEVICES);
    let first = UsedDevice::new(0)?;
    if !first.context.has_async_alloc() {
        rows.add(Row::not_tried("pools", "the device has no memory pools"));
        return Ok(());
    }
    // Before the other devices have contexts, so that a new one is seen.
    rows.add(read_without_context(&first, count)?);
    prove(&first, rows)?;
    let mut used = vec![first];
    for ordinal in 1..devices {
        let device = UsedDevice::new(ordinal)?;
        prove(&device, rows)?;
        used.push(device);
    }
    rows.add(prove_together(&used)?);
    Ok(())
}

/// A device with a context of this process.
struct UsedDevice {
    ordinal: usize,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Bytes in the pool before this program has allocated any.
    base: u64,
}

impl UsedDevice {
    fn new(ordinal: usize) -> Result<Self> {
        let context = CudaContext::new(ordinal).with_context(|| format!("cannot use cuda:{ordinal}"))?;
        Ok(Self {
            ordinal,
            stream: context.default_stream(),
            base: cuda::pool(ordinal)?.used,
            context,
        })
    }

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        let allocated = self.stream.alloc_zeros(bytes);
        allocated.with_context(|| format!("cannot allocate {bytes} bytes on cuda:{}", self.ordinal))
    }

    /// Waits for the device, and logs its memory. Returns what the driver itself says.
    fn log(&self, logger: &ProbedLogger) -> Result<DriverPool> {
        self.context.synchronize()?;
        logger.log_memory();
        cuda::pool(self.ordinal)
    }

    /// A row that holds if the metric has exactly these bytes.
    fn exactly(&self, logger: &ProbedLogger, metric: &str, subject: &str, expected: u64) -> Row {
        let read = logger.bytes(metric, self.ordinal);
        Row::check(
            format!("cuda:{}: {subject}", self.ordinal),
            format!("{} bytes expected, {} read", grouped(expected), bytes_or_nothing(read)),
            read == Some(expected),
            format!("`memory/gpu_{metric}` has exactly these bytes"),
        )
    }
}

/// Reads the pool on a thread without a context.
fn read_without_context(device: &UsedDevice, count: usize) -> Result<Row> {
    let logger = ProbedLogger::with_memory("without-context")?;
    let tensor = device.allocate(FIRST)?;
    device.context.synchronize()?;
    let (before, after) = thread::scope(|scope| {
        let read = scope.spawn(|| {
            let before = cuda::thread_has_context()?;
            logger.log_memory();
            anyhow::Ok((before, cuda::thread_has_context()?))
        });
        read.join()
            .map_err(|_| anyhow!("the thread without a context panicked"))?
    })?;
    drop(tensor);
    let read = logger.bytes("allocated_gb", device.ordinal);
    let expected = device.base + FIRST as u64;
    let others: Vec<usize> = (0..count)
        .filter(|ordinal| *ordinal != device.ordinal && !matches!(cuda::has_context(*ordinal), Ok(false)))
        .collect();
    Ok(Row::check(
        "1: a thread without a context reads the pool, and gets none",
        format!(
            "{} bytes expected, {} read; the thread has {} context after it; new contexts on {others:?}",
            grouped(expected),
            bytes_or_nothing(read),
            if after { "a" } else { "no" }
        ),
        read == Some(expected) && !before && !after && others.is_empty(),
        "exactly these bytes, and no new context",
    ))
}

/// Allocates and frees on one device.
fn prove(device: &UsedDevice, rows: &mut SectionRows) -> Result<()> {
    let logger = ProbedLogger::with_memory(&format!("device-{}", device.ordinal))?;
    let first = device.allocate(FIRST)?;
    prove_pool(device, &logger, rows)?;
    prove_second(device, &logger, rows)?;
    prove_odd_size(device, &logger, rows)?;
    prove_plain_allocation(device, &logger, rows)?;
    drop(first);
    device.log(&logger)?;
    rows.add(device.exactly(&logger, "allocated_gb", "everything is freed", device.base));
    rows.add(device.exactly(
        &logger,
        "max_allocated_gb",
        "the highest value outlives the frees",
        device.base + (FIRST + SECOND) as u64,
    ));
    Ok(())
}

/// Reads the pool, which has the first allocation.
fn prove_pool(device: &UsedDevice, logger: &ProbedLogger, rows: &mut SectionRows) -> Result<()> {
    let (ordinal, expected) = (device.ordinal, device.base + FIRST as u64);
    let pool = device.log(logger)?;
    rows.add(device.exactly(logger, "allocated_gb", "an allocation from the pool", expected));
    let suffix = if ordinal == 0 {
        String::new()
    } else {
        format!("/cuda:{ordinal}")
    };
    let source = logger.value(&format!("memory/gpu_source{suffix}"));
    rows.add(Row::check(
        format!("cuda:{ordinal}: the source is the pool"),
        source.map_or_else(|| "no source".to_owned(), |source| format!("source {source}")),
        source == Some(POOL_SOURCE),
        format!("source {POOL_SOURCE}"),
    ));
    let reserved = logger.bytes("reserved_gb", ordinal);
    rows.add(Row::check(
        format!("cuda:{ordinal}: the pool's reserved bytes"),
        format!(
            "the driver has {}, {} read",
            grouped(pool.reserved),
            bytes_or_nothing(reserved)
        ),
        reserved == Some(pool.reserved) && pool.reserved >= expected,
        "the driver's number, and no less than is allocated",
    ));
    Ok(())
}

/// Allocates beside the first allocation, and frees that again.
fn prove_second(device: &UsedDevice, logger: &ProbedLogger, rows: &mut SectionRows) -> Result<()> {
    let before = device.base + FIRST as u64;
    let second = device.allocate(SECOND)?;
    device.log(logger)?;
    rows.add(device.exactly(logger, "allocated_gb", "a second allocation", before + SECOND as u64));
    drop(second);
    device.log(logger)?;
    rows.add(device.exactly(logger, "allocated_gb", "a free", before));
    Ok(())
}

/// Allocates a size that the driver rounds up.
fn prove_odd_size(device: &UsedDevice, logger: &ProbedLogger, rows: &mut SectionRows) -> Result<()> {
    let ordinal = device.ordinal;
    let odd = device.allocate(ODD)?;
    let pool = device.log(logger)?;
    let counted = pool.used.saturating_sub(device.base + FIRST as u64);
    let read = logger.bytes("allocated_gb", ordinal);
    rows.add(Row::check(
        format!(
            "cuda:{ordinal}: {} bytes, which no allocator counts in",
            grouped(ODD as u64)
        ),
        format!("the driver counts {} of them", grouped(counted)),
        read == Some(pool.used) && (ODD as u64..ODD as u64 + LARGEST_UNIT).contains(&counted),
        "the metric has the driver's count, which is at most 2 MiB larger than the size",
    ));
    drop(odd);
    device.log(logger)?;
    Ok(())
}

fn prove_plain_allocation(device: &UsedDevice, logger: &ProbedLogger, rows: &mut SectionRows) -> Result<()> {
    let ordinal = device.ordinal;
    let (free, _) = device.context.mem_get_info()?;
    let plain = PlainAllocation::new(&device.context, PLAIN)?;
    device.log(logger)?;
    let taken = free.saturating_sub(device.context.mem_get_info()?.0);
    let read = logger.bytes("allocated_gb", ordinal);
    let expected = device.base + FIRST as u64;
    rows.add(Row::check(
        format!("cuda:{ordinal}: a plain allocation is outside of the pool"),
        format!(
            "the device has {} bytes less; {} bytes expected in the pool, {} read",
            grouped(taken as u64),
            grouped(expected),
            bytes_or_nothing(read)
        ),
        read == Some(expected) && taken >= PLAIN,
        format!(
            "the device has {} bytes less, and the pool as many as before",
            grouped(PLAIN as u64)
        ),
    ));
    drop(plain);
    Ok(())
}

/// Allocates on all devices at once.
fn prove_together(devices: &[UsedDevice]) -> Result<Row> {
    let subject = "several devices at once, each with its own bytes";
    if devices.len() < 2 {
        return Ok(Row::not_tried(subject, "CUDA shows one device"));
    }
    let logger = ProbedLogger::with_memory("together")?;
    let size = |ordinal: usize| (32 << 20) * (ordinal + 1);
    let tensors: Vec<_> = devices
        .iter()
        .map(|device| device.allocate(size(device.ordinal)))
        .collect::<Result<_>>()?;
    for device in devices {
        device.context.synchronize()?;
    }
    logger.log_memory();
    let figures = devices.iter().map(|device| {
        let expected = device.base + size(device.ordinal) as u64;
        (expected, logger.bytes("allocated_gb", device.ordinal))
    });
    let figures: Vec<_> = figures.collect();
    drop(tensors);
    let of_device = |(expected, read): &(u64, Option<u64>)| {
        format!("{} expected, {} read", grouped(*expected), bytes_or_nothing(*read))
    };
    Ok(Row::check(
        subject,
        figures.iter().map(of_device).collect::<Vec<_>>().join("; "),
        figures.iter().all(|(expected, read)| *read == Some(*expected)),
        "exactly these bytes",
    ))
}
