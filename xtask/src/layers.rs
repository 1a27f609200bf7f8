//! The layers: the crates that each crate of this workspace may depend on.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::cargo;

/// The siblings that a library may depend on, dev-dependencies left out.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("logcore", &[]),
    ("logcore-formatters", &["logcore"]),
    ("logcore-metrics", &["logcore"]),
    ("logcore-progress", &["logcore"]),
    ("logcore-gpu", &["logcore"]),
    ("logcore-health", &["logcore"]),
    ("logcore-pipeline", &["logcore"]),
    ("logcore-appender", &["logcore"]),
    ("logcore-delivery", &["logcore"]),
    ("logcore-memory", &["logcore"]),
    ("logcore-runs", &["logcore", "logcore-health", "logcore-tensorboard"]),
    ("logcore-file", &["logcore", "logcore-appender", "logcore-formatters"]),
    ("logcore-jsonl", &["logcore", "logcore-appender"]),
    (
        "logcore-console",
        &["logcore", "logcore-formatters", "logcore-progress"],
    ),
    ("logcore-kubeflow", &["logcore", "logcore-delivery"]),
    ("logcore-mlflow", &["logcore", "logcore-delivery"]),
    ("logcore-tensorboard", &["logcore"]),
    ("logcore-tracing", &["logcore"]),
    ("logcore-otlp", &["logcore", "logcore-delivery"]),
    ("logcore-wandb", &["logcore", "logcore-delivery"]),
    ("logcore-webhook", &["logcore", "logcore-delivery"]),
    ("tally-sink", &["logcore"]),
    ("eta", &["logcore-progress"]),
    ("testkit", &[]),
    ("xtask", &[]),
];
/// Packages that may depend on all others.
const TOP: &[&str] = &[
    "benches",
    "echoes",
    "examples",
    "fuzz",
    "gpu-proof",
    "hot-paths",
    "logcore-cli",
    "logcore-facade",
    "registry-check",
    "rig",
];
/// Programs, which may have errors without types.
const PROGRAMS: &[&str] = &[
    "benches",
    "examples",
    "gpu-proof",
    "hot-paths",
    "logcore-cli",
    "rig",
    "xtask",
];

pub(crate) fn check() -> Result<()> {
    let packages = cargo::packages()?;
    let ours: BTreeSet<&str> = packages.iter().map(cargo::name).collect();
    for package in &packages {
        let name = cargo::name(package);
        let empty = Vec::new();
        let dependencies = package["dependencies"].as_array().unwrap_or(&empty);
        let seen: BTreeSet<&str> = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        ensure!(
            !seen.contains("anyhow") || PROGRAMS.contains(&name),
            "{name} depends on anyhow: libraries have typed errors"
        );
        if TOP.contains(&name) {
            continue;
        }
        let rule = MAY_SEE.iter().find(|(library, _)| *library == name);
        let Some((_, may_see)) = rule else {
            anyhow::bail!(
                "{name} has no rule: write into xtask/src/layers.rs and ARCHITECTURE.md which crates it may depend on"
            );
        };
        for sibling in seen.intersection(&ours) {
            ensure!(
                may_see.contains(sibling),
                "{name} may not depend on {sibling}, only on {may_see:?}"
            );
        }
    }
    println!("layers: they hold");
    Ok(())
}
