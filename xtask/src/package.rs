//! Checks that every library is ready to publish.

use anyhow::{Result, ensure};

use crate::{cargo, no_arguments};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let packages = cargo::packages()?;
    let mut command = vec!["package", "--workspace", "--no-verify", "--allow-dirty", "--quiet"];
    for package in &packages {
        if !cargo::is_published(package) {
            command.extend(["--exclude", cargo::name(package)]);
            continue;
        }
        for field in ["description", "license", "repository", "readme", "rust_version"] {
            ensure!(package[field].is_string(), "{} has no {field}", cargo::name(package));
        }
        for field in ["keywords", "categories"] {
            let filled = package[field].as_array().is_some_and(|list| !list.is_empty());
            ensure!(filled, "{} has no {field}", cargo::name(package));
        }
        let docs = &package["metadata"]["docs"]["rs"];
        ensure!(docs.is_object(), "{} has no settings for docs.rs", cargo::name(package));
    }
    cargo::run(&command)?;
    println!(
        "package: {} libraries",
        packages.iter().filter(|package| cargo::is_published(package)).count()
    );
    Ok(())
}
