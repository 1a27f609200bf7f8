//! The lines of programs that use `tracing`, under each of its ways to also feed `log`.

use anyhow::Result;

use crate::{cargo, no_arguments};

/// The features of the package `echoes`, one set after the other.
const SETS: [&str; 3] = ["", "log", "log-always"];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    for features in SETS {
        println!(
            "echoes: tracing with {}",
            if features.is_empty() { "no feature" } else { features }
        );
        cargo::run(&["test", "--quiet", "-p", "echoes", "--tests", "--features", features])?;
    }
    Ok(())
}
