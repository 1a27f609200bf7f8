//! What comes from outside, as hostile as a fuzzer can make it: the targets of `cargo xtask fuzz`.
//!
//! A target is a function of bytes that panics if a promise is broken. It works in the current folder, which has to be empty at
//! first and is empty after each input.

mod call;
mod config;
mod console;
mod folder;
mod jsonl;
mod killed;
mod planted;
#[cfg(fuzzing)]
mod replies;
mod ring;
mod sections;
mod text;
#[cfg(fuzzing)]
mod wandb_log;

/// Something that takes what it is given.
pub struct Target {
    /// How it is asked for.
    pub name: &'static str,
    /// Takes an input; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them; those that are planted are wrong on purpose, so that one knows that the fuzzer would say so.
pub const TARGETS: &[Target] = &[
    Target {
        name: "config",
        run: config::run,
        seeds: config::seeds,
    },
    Target {
        name: "ring",
        run: ring::run,
        seeds: ring::seeds,
    },
    #[cfg(fuzzing)]
    Target {
        name: "wandb-log",
        run: wandb_log::run,
        seeds: wandb_log::seeds,
    },
    #[cfg(fuzzing)]
    Target {
        name: "replies",
        run: replies::run,
        seeds: replies::seeds,
    },
    Target {
        name: "jsonl",
        run: jsonl::run,
        seeds: Vec::new,
    },
    Target {
        name: "text",
        run: text::run,
        seeds: Vec::new,
    },
    Target {
        name: "console",
        run: console::run,
        seeds: Vec::new,
    },
    Target {
        name: "planted-panic",
        run: planted::panic,
        seeds: Vec::new,
    },
    Target {
        name: "planted-hang",
        run: planted::hang,
        seeds: Vec::new,
    },
    Target {
        name: "planted-memory",
        run: planted::memory,
        seeds: Vec::new,
    },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
