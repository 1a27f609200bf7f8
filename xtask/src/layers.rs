//! Which of our crates may depend on which.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::cargo;

/// What a library may see of its siblings, tests left out.
const MAY_SEE: [(&str, &[&str]); 16] = [
    ("logcore-files", &[]),
    ("logcore", &["logcore-files"]),
    ("logcore-formatters", &["logcore", "logcore-files"]),
    ("logcore-metrics", &["logcore", "logcore-files"]),
    ("logcore-progress", &["logcore", "logcore-files"]),
    ("logcore-gpu", &["logcore", "logcore-files"]),
    ("logcore-pipeline", &["logcore", "logcore-files"]),
    ("logcore-appender", &["logcore", "logcore-files"]),
    ("logcore-memory", &["logcore", "logcore-files"]),
    ("logcore-runs", &["logcore", "logcore-files"]),
    (
        "logcore-file",
        &["logcore", "logcore-appender", "logcore-files", "logcore-formatters"],
    ),
    ("logcore-jsonl", &["logcore", "logcore-appender", "logcore-files"]),
    (
        "logcore-console",
        &["logcore", "logcore-formatters", "logcore-progress"],
    ),
    ("logcore-wandb", &["logcore", "logcore-files"]),
    ("tally-sink", &["logcore"]),
    ("eta", &["logcore-progress"]),
];
/// May see all.
const TOP: [&str; 6] = ["logcore-facade", "examples", "xtask", "benches", "hot-paths", "fuzz"];

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
            !seen.contains("anyhow") || matches!(name, "examples" | "xtask" | "benches" | "hot-paths"),
            "{name} depends on anyhow: libraries have typed errors"
        );
        if TOP.contains(&name) {
            continue;
        }
        let rule = MAY_SEE.iter().find(|(library, _)| *library == name);
        let Some((_, may_see)) = rule else {
            anyhow::bail!("{name} has no rule: say in xtask/src/layers.rs and in ARCHITECTURE.md what it may see");
        };
        for sibling in seen.intersection(&ours) {
            ensure!(
                may_see.contains(sibling),
                "{name} may not depend on {sibling}; it may see {may_see:?}"
            );
        }
    }
    println!("layers: they hold");
    Ok(())
}
