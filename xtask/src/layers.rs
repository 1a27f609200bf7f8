//! Which of our crates may depend on which.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::cargo;

/// What a library may see of its siblings, tests left out.
const MAY_SEE: [(&str, &[&str]); 15] = [
    ("logcore", &[]),
    ("logcore-formatters", &["logcore"]),
    ("logcore-metrics", &["logcore"]),
    ("logcore-progress", &["logcore"]),
    ("logcore-gpu", &["logcore"]),
    ("logcore-pipeline", &["logcore"]),
    ("logcore-appender", &["logcore"]),
    ("logcore-memory", &["logcore"]),
    ("logcore-merge", &["logcore"]),
    ("logcore-file", &["logcore", "logcore-appender", "logcore-formatters"]),
    ("logcore-jsonl", &["logcore", "logcore-appender"]),
    (
        "logcore-console",
        &["logcore", "logcore-formatters", "logcore-progress"],
    ),
    ("logcore-wandb", &["logcore"]),
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
