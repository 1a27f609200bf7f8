//! `log_memory` starts nothing and creates no context.

use std::fs;

use anyhow::Result;

use super::driver::ListedProcess;
use super::{SectionRows, driver};
use crate::cuda;
use crate::options::Options;
use crate::probed_logger::ProbedLogger;
use crate::row::Row;

pub(super) fn run(_: &Options, rows: &mut SectionRows) -> Result<()> {
    let nvml = driver::open();
    // A list that cannot be read now cannot be read later.
    let listed = nvml.as_ref().map(|nvml| driver::processes(nvml).map(|all| all.len()));
    let logger = ProbedLogger::with_memory("before-cuda")?;
    logger.log_memory();
    rows.add(libraries());
    let subject = "`log_memory` before CUDA leaves this process out of the driver's lists";
    rows.add(match (&nvml, listed) {
        (Ok(nvml), Ok(Ok(before))) => {
            let after = driver::processes(nvml)?;
            let is_listed = after.iter().any(ListedProcess::is_ours);
            let answer = format!("{before} processes before, {} after", after.len());
            Row::check(subject, answer, !is_listed, "this process is not listed")
        }
        (_, Ok(Err(error))) => Row::not_tried(subject, format!("no process list: {error}")),
        (_, Err(reason)) => Row::not_tried(subject, reason.as_str()),
        (Err(reason), _) => Row::not_tried(subject, reason.as_str()),
    });
    drop(logger);

    let devices = cuda::start()?;
    let logger = ProbedLogger::with_memory("after-start")?;
    logger.log_memory();
    let contexts: Vec<usize> = (0..devices)
        .filter(|ordinal| !matches!(cuda::has_context(*ordinal), Ok(false)))
        .collect();
    rows.add(Row::check(
        "`log_memory` after CUDA's start creates no context",
        format!("contexts on {contexts:?} of {devices} devices"),
        contexts.is_empty(),
        "no device has a context",
    ));
    Ok(())
}

/// Looks for libcuda among the libraries of this process.
fn libraries() -> Row {
    let subject = "`log_memory` before CUDA does not load libcuda";
    match fs::read_to_string("/proc/self/maps") {
        Ok(maps) => {
            let is_loaded = maps.lines().any(|line| line.contains("libcuda.so"));
            let answer = if is_loaded {
                "libcuda is mapped"
            } else {
                "libcuda is not mapped"
            };
            Row::check(subject, answer, !is_loaded, "libcuda is not mapped")
        }
        Err(error) => Row::not_tried(subject, format!("no list of mapped files: {error}")),
    }
}
