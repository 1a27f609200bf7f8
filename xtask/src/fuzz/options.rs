//! The arguments of `cargo xtask fuzz`.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};

use super::{SHORT, TARGETS};

/// The arguments, parsed.
pub(super) struct FuzzOptions {
    pub(super) seconds: u64,
    pub(super) seed: u32,
    pub(super) replay: Option<PathBuf>,
    pub(super) targets: Vec<(&'static str, u32)>,
}

impl FuzzOptions {
    pub(super) fn read(arguments: &[String]) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut options = Self {
            seconds: SHORT,
            seed: now.unwrap_or_default().as_secs() as u32,
            replay: None,
            targets: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} takes a value"));
            match argument.as_str() {
                "--seconds" => options.seconds = value()?.parse().context("--seconds takes a number")?,
                "--seed" => options.seed = value()?.parse().context("--seed takes a number of 32 bits")?,
                "--replay" => options.replay = Some(value()?.into()),
                name => options.targets.push(target(name)?),
            }
        }
        let one = options.targets.len() == 1;
        ensure!(options.replay.is_none() || one, "--replay takes a file and one target");
        if options.targets.is_empty() {
            options.targets = TARGETS.to_vec();
        }
        Ok(options)
    }
}

fn target(name: &str) -> Result<(&'static str, u32)> {
    let Some(target) = TARGETS.iter().find(|(target, _)| *target == name) else {
        let known: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
        bail!(
            "unknown argument `{name}`: fuzz takes --seconds S, --seed N, --replay FILE and the targets {}",
            known.join(", ")
        );
    };
    Ok(*target)
}
