//! Reading the pool while a stream is captured into a graph.

use std::thread;

use anyhow::{Result, anyhow};
use cudarc::driver::CudaContext;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::SectionRows;
use crate::cuda;
use crate::options::Options;
use crate::probed_logger::ProbedLogger;
use crate::row::{Row, bytes_or_nothing, grouped};

const BYTES: usize = 64 << 20;

pub(super) fn run(_: &Options, rows: &mut SectionRows) -> Result<()> {
    cuda::start()?;
    let context = CudaContext::new(0)?;
    let tensor = context.default_stream().alloc_zeros::<u8>(BYTES)?;
    // The legacy default stream cannot be captured.
    let stream = context.new_stream()?;
    context.synchronize()?;
    let expected = cuda::pool(0)?.used;

    for (reader, from_elsewhere) in [("the capturing thread", false), ("another thread", true)] {
        let logger = ProbedLogger::with_pools(if from_elsewhere { "elsewhere" } else { "capturing" })?;
        // In this mode the driver refuses the most, to all threads.
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
        let read = if from_elsewhere {
            thread::scope(|scope| scope.spawn(|| logger.log_memory()).join())
                .map_err(|_| anyhow!("the thread that reads panicked"))
        } else {
            logger.log_memory();
            Ok(())
        };
        let ended = stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
        read?;
        let bytes = logger.bytes("allocated_gb", 0);
        rows.add(Row::check(
            format!("2: {reader} reads the pool during a capture"),
            format!(
                "{} bytes expected, {} read; the capture {}",
                grouped(expected),
                bytes_or_nothing(bytes),
                match &ended {
                    Ok(_) => "ends well".to_owned(),
                    Err(error) => format!("fails: {error}"),
                }
            ),
            bytes == Some(expected) && ended.is_ok(),
            "exactly these bytes, and the capture ends well",
        ));
    }
    drop(tensor);
    Ok(())
}
