//! The fuzz targets of `cargo xtask fuzz`: every parser of untrusted input.
//!
//! A target is a function of bytes that panics if a promise is broken. It works in the current
//! folder, which must be empty at first and is empty after each input.

mod arbitrary_call;
mod config;
mod console;
mod event_file;
mod folder;
mod jsonl;
mod killed;
mod planted;
#[cfg(fuzzing)]
mod replies;
mod ring;
mod rows;
mod sections;
mod text;
#[cfg(fuzzing)]
mod wandb_log;

/// A function that must accept any input.
pub struct FuzzTarget {
    /// Name on the command line.
    pub name: &'static str,
    /// Runs the target on an input; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Returns inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets. The planted ones have a fault on purpose, which the fuzzer must find.
pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "config",
        run: config::run,
        seeds: config::seeds,
    },
    FuzzTarget {
        name: "ring",
        run: ring::run,
        seeds: ring::seeds,
    },
    #[cfg(fuzzing)]
    FuzzTarget {
        name: "wandb-log",
        run: wandb_log::run,
        seeds: wandb_log::seeds,
    },
    #[cfg(fuzzing)]
    FuzzTarget {
        name: "replies",
        run: replies::run,
        seeds: replies::seeds,
    },
    FuzzTarget {
        name: "event-file",
        run: event_file::run,
        seeds: event_file::seeds,
    },
    FuzzTarget {
        name: "rows",
        run: rows::run,
        seeds: rows::seeds,
    },
    FuzzTarget {
        name: "jsonl",
        run: jsonl::run,
        seeds: Vec::new,
    },
    FuzzTarget {
        name: "text",
        run: text::run,
        seeds: Vec::new,
    },
    FuzzTarget {
        name: "console",
        run: console::run,
        seeds: Vec::new,
    },
    FuzzTarget {
        name: "planted-panic",
        run: planted::panic,
        seeds: Vec::new,
    },
    FuzzTarget {
        name: "planted-hang",
        run: planted::hang,
        seeds: Vec::new,
    },
    FuzzTarget {
        name: "planted-memory",
        run: planted::memory,
        seeds: Vec::new,
    },
];

/// Returns the target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static FuzzTarget> {
    TARGETS.iter().find(|target| target.name == name)
}
