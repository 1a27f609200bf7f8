//! This process in the driver's list.

use anyhow::Result;
use cudarc::driver::CudaContext;

use super::SectionRows;
use super::driver::{self, ListedProcess};
use crate::cuda;
use crate::options::Options;
use crate::probed_logger::{ProbedLogger, memory_metric};
use crate::row::{Row, bytes_or_nothing, grouped};

const BYTES: usize = 256 << 20;

/// The list is read on the sampler's thread, 2 s apart at most.
const MOST_READS: usize = 100;

pub(super) fn run(_: &Options, rows: &mut SectionRows) -> Result<()> {
    let subject = "7: the pid of this process, and `memory/gpu_process_gb`";
    let nvml = match driver::open() {
        Ok(nvml) => nvml,
        Err(reason) => {
            rows.add(Row::not_tried(subject, reason));
            return Ok(());
        }
    };
    cuda::start()?;
    let context = CudaContext::new(0)?;
    let tensor = context.default_stream().alloc_zeros::<u8>(BYTES)?;
    context.synchronize()?;
    let (device, _) = driver::device_of(&nvml, 0)?;
    let listed = match driver::processes_of(&device, 0) {
        Ok(listed) => listed,
        Err(error) => {
            rows.add(Row::not_tried(subject, format!("no process list: {error}")));
            return Ok(());
        }
    };
    let own = listed.iter().find(|one| one.is_ours()).and_then(|one| one.bytes);
    let logger = ProbedLogger::with_memory("process")?;
    // The first readings of NVML may take a while; without an entry there is no value to wait for.
    for _ in 0..MOST_READS {
        logger.log_memory();
        if own.is_none() || logger.count(&memory_metric("process_gb", 0)) > 0 {
            break;
        }
    }
    let read = logger.bytes("process_gb", 0);
    let pool = cuda::pool(0)?;
    drop(tensor);
    let pids: Vec<u32> = listed.iter().map(|one| one.pid).collect();
    let seen = match (own, listed.iter().any(ListedProcess::is_ours)) {
        (Some(bytes), _) => format!("it is listed as {}, with {} bytes", std::process::id(), grouped(bytes)),
        (None, true) => format!("it is listed as {}, without its bytes", std::process::id()),
        (None, false) => format!("it is {}, and {pids:?} are listed", std::process::id()),
    };
    let holds = match own.filter(|bytes| *bytes > 0) {
        Some(bytes) => read == Some(bytes) && bytes >= pool.reserved,
        None => read.is_none(),
    };
    rows.add(Row::check(
        subject,
        format!("{seen}; the metric has {}", bytes_or_nothing(read)),
        holds,
        format!(
            "the metric has the listed bytes, which are at least the {} of the pool, or nothing",
            grouped(pool.reserved)
        ),
    ));
    Ok(())
}
