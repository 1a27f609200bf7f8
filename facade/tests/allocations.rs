//! A loop that logs allocates nothing on its own thread after its first round.
#![cfg(all(feature = "file", feature = "jsonl", feature = "metrics", feature = "progress"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;
use std::time::Duration;

use facade::logcore::log;
use facade::{LogConfig, UnifiedLogger, setup_logging};

/// The system's allocator with a counter of allocations for each thread.
struct CountingAllocator;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is past its thread-locals is not measured here.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged, and its result is returned
// unchanged. Counting allocates nothing: the counter has no destructor and is initialised at
// compile time.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the freed memory came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How often this thread allocates while `call` is made a thousand times, after it was made as
/// often before.
fn allocations(logger: &UnifiedLogger, call: impl Fn(u64)) -> u64 {
    (0..1000).for_each(&call);
    // With a full ring, callers would wait and print a notice.
    logger.flush().unwrap();
    let before = TAKEN.get();
    (1000..2000).for_each(&call);
    let taken = TAKEN.get() - before;
    logger.flush().unwrap();
    taken
}

/// A call of the logger, with a name for messages.
type Call<'a> = (&'a str, &'a dyn Fn(u64));

fn open(name: &str, history: bool, folder: &tempfile::TempDir) -> UnifiedLogger {
    setup_logging(LogConfig {
        name: name.into(),
        log_dir: folder.path().join(name),
        enable_console: false,
        metrics_history: history,
        ..LogConfig::default()
    })
    .unwrap()
}

#[test]
fn the_counter_counts() {
    let before = TAKEN.get();
    drop(Box::new(1));
    assert_eq!(TAKEN.get() - before, 1);
}

#[test]
fn text_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let logger = open("text", true, &folder);
    let calls: [Call<'_>; 7] = [
        ("info", &|step| logger.info(format_args!("step {step}: {:.4}", 0.5))),
        ("a literal", &|_| logger.info("the validation begins")),
        (
            "addressed",
            &|step| log::info!(logger: logger, "step {step}: {:.4}", 0.5),
        ),
        ("deferred", &|step| facade::info!(logger, "step {}: {:.4}", step, 0.5)),
        ("global", &|step| log::info!(target: "text", "step {step}: {:.4}", 0.5)),
        (
            "fields",
            &|step| log::info!(target: "text", step, loss = 0.5, phase = "train"; "with fields"),
        ),
        ("nobody wants it", &|step| log::trace!(logger: logger, "step {step}")),
    ];
    for (name, call) in calls {
        assert_eq!(allocations(&logger, call), 0, "{name}");
    }
}

#[test]
fn metrics_allocate_nothing() {
    const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let folder = tempfile::tempdir().unwrap();
    // The history grows by a chunk now and then, each longer than the last.
    for (name, chunks) in [("without history", 0), ("with history", 1)] {
        let logger = open(name, chunks > 0, &folder);
        let loss = logger.metric("a");
        let owned: Vec<(String, f64)> = NAMES.map(|name| (name.to_owned(), 0.5)).into();
        let another_order = |step| {
            let mut names = NAMES;
            names.rotate_left(step as usize % 10);
            logger.log_metrics(names.map(|name| (name, 0.5)));
        };
        let calls: [(Call<'_>, u64); 5] = [
            (
                ("ten by name", &|step| {
                    logger.log_metrics(NAMES.map(|name| (name, step as f64)));
                }),
                10,
            ),
            (
                ("at a step", &|step| {
                    logger.log_metrics_at(step, NAMES.map(|name| (name, step)));
                }),
                10,
            ),
            (
                ("by reference", &|_| {
                    logger.log_metrics(&owned);
                }),
                10,
            ),
            (("by handle", &|step| loss.record(step, 0.5)), 1),
            (("another order", &another_order), 10),
        ];
        for ((name, call), metrics) in calls {
            let taken = allocations(&logger, call);
            // A chunk holds as many values as all before it, and its list grows as rarely; so do
            // the runs of steps.
            assert!(taken <= 4 * chunks * metrics, "{name}: {taken}");
        }
    }
}

#[test]
fn progress_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let logger = open("progress", false, &folder);
    logger.start_progress(None, "updates");
    assert_eq!(allocations(&logger, |_| logger.update_progress(1, 32)), 0);
    // Its figures go with every row of metrics.
    let a_step = |_| {
        logger.update_progress(1, 32);
        logger.log_metrics([("loss", 0.5)]);
    };
    assert_eq!(allocations(&logger, a_step), 0);
    // And now and then to the sinks by themselves.
    let told = allocations(&logger, |step| {
        if step % 250 == 0 {
            thread::sleep(Duration::from_millis(110));
        }
        logger.update_progress(1, 32);
    });
    assert_eq!(told, 0);
}
