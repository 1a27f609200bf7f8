//! Threads that come and go. The only test of its program, because it counts what the whole process
//! holds.
#![cfg(all(feature = "file", feature = "jsonl", feature = "metrics"))]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread;

use facade::{LogConfig, setup_logging};

/// The system's allocator, with a count of the bytes that are taken and not given back.
struct HeapCounter;

static HELD: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged, and its result is returned
// unchanged.
unsafe impl GlobalAlloc for HeapCounter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above; the freed memory came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: HeapCounter = HeapCounter;

#[test]
fn short_lived_threads_lose_no_lines_and_leave_no_memory() {
    const THREADS: u64 = 1000;
    const BURST: u64 = 50_000;
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        name: "run".into(),
        log_dir: folder.path().into(),
        enable_console: false,
        // The history is meant to grow.
        metrics_history: false,
        ..LogConfig::default()
    })
    .unwrap();
    let come_and_go = |numbers: Range<u64>| {
        for number in numbers {
            let logger = &logger;
            thread::scope(|scope| {
                scope.spawn(move || {
                    logger.info(number);
                    logger.log_metrics_at(number, [("value", number), ("other", number)]);
                    logger.metric("by handle").record(number, number);
                });
            });
        }
        logger.flush().unwrap();
        HELD.load(Ordering::Relaxed)
    };
    // Lets every buffer grow to the size that a full ring needs.
    (0..BURST).for_each(|number| {
        logger.info("in a burst");
        logger.log_metrics_at(number, [("value", number), ("other", number)]);
    });
    let before = come_and_go(BURST..BURST + THREADS);
    let after = come_and_go(BURST + THREADS..BURST + 2 * THREADS);
    // The cache of three names in each thread alone would be a hundred times as much.
    assert!(after - before < 16 * THREADS as isize, "{} bytes more", after - before);
    logger.finish();
    let text = fs::read_to_string(folder.path().join("training.log")).unwrap();
    let messages = text.lines().map(|line| line.rsplit(" | ").next().unwrap().to_owned());
    let of_threads = messages.skip(BURST as usize);
    assert!(of_threads.eq((BURST..BURST + 2 * THREADS).map(|number| number.to_string())));
    let rows = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!(rows.lines().count() as u64, BURST + 2 * THREADS);
}
