//! Checks that each feature links its plugins, that the layers hold, and that picks of features
//! stay small.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{cargo, layers};

const FACADE: &str = "logcore-facade";
/// The package with the facade's features and its test of linked plugins, without its other
/// dev-dependencies.
const CHECK: &str = "registry-check";

/// The greatest number of crates that a pick of features builds, the package itself included.
struct CrateLimit {
    package: &'static str,
    /// The features, without those that are on by default.
    features: &'static str,
    most: usize,
}

const LIMITS: [CrateLimit; 3] = [
    CrateLimit {
        package: FACADE,
        features: "file",
        most: 30,
    },
    CrateLimit {
        package: FACADE,
        features: "default,wandb",
        most: 145,
    },
    CrateLimit {
        package: "logcore-cli",
        features: "",
        most: 69,
    },
];

/// The features that a short check links and tests; it compiles the others alone.
const LINKED: [&str; 2] = ["default", "full"];

/// Checks all features; with `--short`, a few of them by their linked plugins.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_short = match arguments {
        [] => false,
        [only] if only == "--short" => true,
        _ => bail!("features takes --short or nothing"),
    };
    layers::check()?;
    for limit in &LIMITS {
        limit.check()?;
    }
    let packages = cargo::packages()?;
    let features = features_of(&packages, FACADE)?;
    ensure!(
        features == features_of(&packages, CHECK)?,
        "testing/registry/Cargo.toml has other features than facade/Cargo.toml"
    );
    check_registry("", &[])?;
    for feature in features {
        match is_short && !LINKED.contains(&feature) {
            true => check_build(feature)?,
            false => check_registry(feature, &[])?,
        }
    }
    // Link-time optimization is the one step that could drop a registration.
    println!("features: link-time optimization");
    let optimized = if is_short { "default" } else { "full" };
    check_registry(optimized, &["--release", "--config", "profile.release.lto=true"])
}

fn features_of<'a>(packages: &'a [Value], name: &str) -> Result<Vec<&'a str>> {
    let package = packages.iter().find(|package| cargo::name(package) == name);
    let features = package.and_then(|package| package["features"].as_object());
    let features = features.with_context(|| format!("there is no package {name}"))?;
    Ok(features.keys().map(String::as_str).collect())
}

/// Builds the facade with these features and tests which plugins are linked.
fn check_registry(features: &str, options: &[&str]) -> Result<()> {
    println!("features: {}", if features.is_empty() { "none" } else { features });
    let test = ["test", "--quiet", "-p", CHECK, "--no-default-features", "--features"];
    cargo::output(&[&test[..], &[features], options].concat()).map(drop)
}

/// Compiles the facade with these features.
fn check_build(features: &str) -> Result<()> {
    println!("features: {features}, compiled alone");
    let check = ["check", "--quiet", "-p", CHECK, "--tests", "--no-default-features"];
    cargo::output(&[&check[..], &["--features", features]].concat()).map(drop)
}

impl CrateLimit {
    fn check(&self) -> Result<()> {
        let Self {
            package,
            features,
            most,
        } = self;
        let tree = cargo::output(&[
            "tree",
            "-p",
            package,
            "--no-default-features",
            "--features",
            features,
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
        let pick = if features.is_empty() { "no feature" } else { features };
        println!("features: {package} with {pick} builds {} crates", crates.len());
        ensure!(crates.len() <= *most, "more than {most} crates:\n{tree}");
        Ok(())
    }
}
