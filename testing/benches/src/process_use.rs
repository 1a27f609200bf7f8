//! The resources that a program takes from its start to its end, with all processes that it starts.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};

use crate::usage::{cpu_seconds_of_children, memory_mb};

/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Clone, Copy)]
pub(crate) struct ProcessUse {
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// Processor seconds, user and system, of all its processes.
    pub(crate) cpu: f64,
    /// The largest sum of the resident memory of all its processes that was seen, in MB (1e6
    /// bytes). Memory that several of them share counts for each.
    pub(crate) peak_mb: f64,
}

/// Runs a program. This process must have no other children.
///
/// # Errors
///
/// If it fails; with what it says on stderr.
pub(crate) fn measure_process(command: &mut Command) -> Result<ProcessUse> {
    // A process that outlives its parent becomes ours, so that it is seen and waited for.
    set_child_subreaper(Some(getpid())).context("become the parent of orphans")?;
    let before = cpu_seconds_of_children();
    let started = Instant::now();
    let child = command
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let is_over = AtomicBool::new(false);
    let (output, wall, peak_mb) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_memory(&is_over));
        let output = child.wait_with_output();
        let wall = started.elapsed().as_secs_f64();
        // An error says that there are no more.
        while let Ok(Some(_)) = wait(WaitOptions::empty()) {}
        is_over.store(true, Ordering::Relaxed);
        (output, wall, watcher.join().unwrap_or(f64::NAN))
    });
    let output = output.context("wait for the program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the program ended with {}: {}",
        output.status,
        said.trim()
    );
    Ok(ProcessUse {
        wall,
        cpu: cpu_seconds_of_children() - before,
        peak_mb,
    })
}

fn watch_memory(is_over: &AtomicBool) -> f64 {
    let mut peak: f64 = 0.0;
    while !is_over.load(Ordering::Relaxed) {
        let all = descendants("self");
        let sum: f64 = all
            .iter()
            .map(|process| memory_mb(process, "VmRSS:"))
            // A process that is ending has none.
            .filter(|size| !size.is_nan())
            .sum();
        // The kernel keeps the peak of each, which may have been between two looks.
        let highest = all.iter().map(|process| memory_mb(process, "VmHWM:"));
        peak = highest.fold(peak.max(sum), f64::max);
        thread::sleep(LOOK);
    }
    peak
}

/// The ids of the children of a process and of theirs.
fn descendants(process: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let children = threads.flat_map(|thread| {
        let ids = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    let children: Vec<String> = children.collect();
    let deeper: Vec<String> = children.iter().flat_map(|child| descendants(child)).collect();
    [children, deeper].concat()
}
