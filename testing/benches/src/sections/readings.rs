//! The time of GPU and machine readings, with fake drivers.

use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use facade::logcore::serde_json::json;
use facade::{LogConfig, setup_logging};
use hot_paths::median;

use crate::amounts::Amounts;
use crate::peers::{PeerEntry, config};
use crate::sections::alone::in_process_with;
use crate::table::{ReportTable, figure};
use crate::usage::{cpu_seconds, seconds_of_threads};

#[path = "../../../../gpu/tests/support/stand_in.rs"]
mod stand_in;

/// The names under which this program measures them in a process of its own.
pub(crate) const MEMORY: &str = "readings of memory";
pub(crate) const SYSTEM: &str = "readings of the machine";

/// The pools are read at most so often.
const BETWEEN_READS: Duration = Duration::from_millis(55);

const MOST_DEVICES: u32 = 8;

pub(crate) fn measure(amounts: &Amounts, _: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let folder = tempfile::tempdir().context("make a folder for the stand-ins")?;
    for (of, name) in [("nvml", "libnvidia-ml.so.1"), ("cuda", "libcuda.so.1")] {
        stand_in::compile(of, &[], &folder.path().join(name));
    }
    Ok(vec![memory(amounts, folder.path())?, system(amounts, folder.path())?])
}

fn memory(amounts: &Amounts, stand_ins: &Path) -> Result<ReportTable> {
    let note = format!(
        "`log_memory` with `metrics.jsonl`, in microseconds, in a process of its own: {} calls back to back, and {} \
         that are {} ms apart, between which the caller works; each of these reads the pools. The drivers are \
         stand-ins, whose own part is in the times.",
        amounts.calls,
        reads(amounts),
        BETWEEN_READS.as_millis()
    );
    let columns = ["what there is", "p50", "p99", "apart, p50", "apart, worst"];
    let mut table = ReportTable::new("Readings of GPU memory", note, &columns);
    for (what, variables) in [
        ("no driver", Vec::new()),
        ("NVML, 1 device", drivers(stand_ins, "nvml", 1)),
        ("CUDA's pool and NVML, 1 device", drivers(stand_ins, "all", 1)),
        ("NVML, 8 devices", drivers(stand_ins, "nvml", MOST_DEVICES)),
        (
            "CUDA's pools and NVML, 8 devices",
            drivers(stand_ins, "all", MOST_DEVICES),
        ),
    ] {
        let figures = in_process_with(amounts, MEMORY, &variables)?;
        table.row([what.to_owned()].into_iter().chain(figures.into_iter().map(figure)));
    }
    Ok(table)
}

fn system(amounts: &Amounts, stand_ins: &Path) -> Result<ReportTable> {
    let note = format!(
        "Processor time of a process that says nothing for {} s, in percent of a core: of the threads that read the \
         machine, and of all, the writer of the rows included. The driver is a stand-in with {MOST_DEVICES} devices.",
        watched_for(amounts).as_secs()
    );
    let mut table = ReportTable::new(
        "Readings of the machine",
        note,
        &["what there is", "readers, %", "all, %"],
    );
    for (what, variables) in [
        ("the host", vec![("GPU_PROBE", "off".to_owned())]),
        ("the host and NVML", drivers(stand_ins, "nvml", MOST_DEVICES)),
    ] {
        let figures = in_process_with(amounts, SYSTEM, &variables)?;
        table.row([what.to_owned()].into_iter().chain(figures.into_iter().map(figure)));
    }
    Ok(table)
}

/// An environment in which the stand-ins are found, and a program that has started CUDA.
fn drivers(stand_ins: &Path, switch: &str, devices: u32) -> Vec<(&'static str, String)> {
    let device = |device| {
        format!(
            ",{device}.nvml={device},{device}.active=1,{device}.used=3000000000,{device}.reserved=4000000000,\
             {device}.highest=5000000000,{device}.total=80000000000"
        )
    };
    let state: String = (0..devices).map(device).collect();
    vec![
        ("GPU_PROBE", switch.to_owned()),
        ("LD_LIBRARY_PATH", stand_ins.display().to_string()),
        ("LD_PRELOAD", stand_ins.join("libcuda.so.1").display().to_string()),
        ("FAKE_STATE", format!("started=1,devices={devices}{state}")),
    ]
}

/// The figures of a row of the memory table. This process should have done nothing before.
pub(crate) fn memory_calls(amounts: &Amounts) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir().context("make a folder for a log")?;
    // The stand-in lists no processes.
    let logger = setup_logging(LogConfig {
        probes: [("gpu".into(), json!({"fallback": "device"}))].into(),
        ..config(folder.path())
    })?;
    let call = || {
        let started = Instant::now();
        logger.log_memory();
        started.elapsed().as_secs_f64() * 1e6
    };
    // The first waits for the driver, and tells the names.
    for _ in 0..10 {
        call();
    }
    let mut times: Vec<f64> = (0..amounts.calls).map(|_| call()).collect();
    times.sort_unstable_by(f64::total_cmp);
    let _ = logger.flush();
    let apart: Vec<f64> = (0..reads(amounts))
        .map(|_| {
            work(BETWEEN_READS);
            call()
        })
        .collect();
    let worst = apart.iter().copied().fold(f64::NAN, f64::max);
    let percentile = |percent: usize| times[times.len() * percent / 100];
    Ok(vec![percentile(50), percentile(99), median(apart), worst])
}

/// The figure of a row of the table of the machine.
pub(crate) fn system_share(amounts: &Amounts) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir().context("make a folder for a log")?;
    let before = cpu_seconds();
    let _logger = setup_logging(LogConfig {
        probes: [("system".into(), json!(true))].into(),
        ..config(folder.path())
    })?;
    thread::sleep(watched_for(amounts));
    let used = [
        seconds_of_threads(&["logcore-sampling", "gpu-sampler"]),
        cpu_seconds() - before,
    ];
    let percent = used.map(|seconds| seconds / watched_for(amounts).as_secs_f64() * 100.0);
    Ok(percent.to_vec())
}

/// Something to do that is neither a sleep, which lets the core go cold, nor a loop of pauses, at
/// which a hypervisor takes it away.
fn work(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        black_box((0..1000_u64).map(black_box).sum::<u64>());
    }
}

fn reads(amounts: &Amounts) -> usize {
    amounts.lone_lines * 10
}

/// A minute has each reading at least once.
fn watched_for(amounts: &Amounts) -> Duration {
    amounts.idle * 20
}
