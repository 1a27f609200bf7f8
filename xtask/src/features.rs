//! Every choice of features builds and links what it should; the layers hold; a small pick stays small.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

use crate::{cargo, layers, no_arguments};

const FACADE: &str = "logcore-facade";
/// Crates in the tree of a program that picks only `file`, itself left out.
const SMALL_PICK: usize = 30;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    layers::check()?;
    small_pick()?;
    let packages = cargo::packages()?;
    let facade = packages
        .iter()
        .find(|package| cargo::name(package) == FACADE)
        .context("the facade is gone")?;
    let features = facade["features"].as_object().context("the facade has no features")?;
    registry(&["--no-default-features"], "no feature")?;
    for feature in features.keys() {
        registry(&["--no-default-features", "--features", feature], feature)?;
    }
    // A linker that works across crates is the one that could drop a registration.
    let mut optimised = cargo::command(&[
        "nextest",
        "run",
        "--release",
        "-p",
        FACADE,
        "--all-features",
        "--test",
        "registry",
    ]);
    println!("features: all, released with link-time optimisation");
    cargo::run_command(
        optimised
            .env("CARGO_PROFILE_RELEASE_LTO", "true")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    )
}

/// Builds the facade with these features and looks at what is linked.
fn registry(choice: &[&str], name: &str) -> Result<()> {
    println!("features: {name}");
    let quiet = [
        "--cargo-quiet",
        "--status-level",
        "fail",
        "--final-status-level",
        "fail",
    ];
    cargo::run(
        &[
            &["nextest", "run", "-p", FACADE, "--test", "registry"][..],
            &quiet,
            choice,
        ]
        .concat(),
    )
}

fn small_pick() -> Result<()> {
    let tree = cargo::output(&[
        "tree",
        "-p",
        FACADE,
        "--no-default-features",
        "--features",
        "file",
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ])?;
    let crates: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    println!(
        "features: a program that picks only `file` builds {} crates",
        crates.len()
    );
    ensure!(crates.len() <= SMALL_PICK, "more than {SMALL_PICK} crates:\n{tree}");
    Ok(())
}
