//! Checks the README: its programs run as they are displayed, its commands and linked files exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{TASKS, cargo, no_arguments};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let readme = fs::read_to_string(cargo::root().join("README.md")).context("README.md")?;
    let mut commands = 0;
    for line in blocks(&readme, "sh").iter().flat_map(|block| block.lines()) {
        let command = line.split(" #").next().unwrap_or(line).trim();
        if !command.is_empty() {
            check_command(command).with_context(|| format!("README.md: `{command}`"))?;
            commands += 1;
        }
    }
    for path in links(&readme) {
        ensure!(
            cargo::root().join(path).exists(),
            "README.md points to {path}, which does not exist"
        );
    }
    ensure!(commands > 0, "README.md has no commands");
    let programs = run_programs(&readme)?;
    println!("readme: {programs} programs, {commands} commands and all links are good");
    Ok(())
}

/// Runs each program of the README as a reader would: pasted into a package outside this workspace,
/// which has the README's dependencies and no others. Returns the number of programs.
fn run_programs(readme: &str) -> Result<usize> {
    let package = cargo::root().join("target/readme");
    let (sources, scratch) = (package.join("src"), package.join("scratch"));
    for folder in [&sources, &scratch] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    fs::write(package.join("Cargo.toml"), manifest(readme, &cargo::root()))?;
    fs::copy(cargo::root().join("Cargo.lock"), package.join("Cargo.lock"))?;

    let programs = blocks(readme, "rust,no_run");
    ensure!(!programs.is_empty(), "README.md has no programs");
    let name = |index: usize| format!("program-{}", index + 1);
    for (index, program) in programs.iter().enumerate() {
        let folder = sources.join("bin").join(name(index));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("main.rs"), program)?;
    }
    let manifest = package.join("Cargo.toml").display().to_string();
    for index in 0..programs.len() {
        let mut command = cargo::command(&["run", "--quiet", "--manifest-path", &manifest, "--bin", &name(index)]);
        // The crates of others are built as in the workspace, so they need not be built again.
        command
            .current_dir(&scratch)
            .env("CARGO_TARGET_DIR", cargo::root().join("target"));
        cargo::run_command(&mut command).with_context(|| format!("README.md: program {}", index + 1))?;
    }
    Ok(programs.len())
}

/// The manifest of a package with the dependencies that the README's `toml` blocks name. A later
/// line for a crate replaces an earlier one. The published crate is replaced by the one of this
/// workspace.
fn manifest(readme: &str, root: &Path) -> String {
    let dependencies: BTreeMap<String, String> = blocks(readme, "toml")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, requirement)| (name.to_owned(), requirement.to_owned()))
        .collect();
    let dependencies: String = dependencies
        .iter()
        .map(|(name, requirement)| format!("{name} = {requirement}\n"))
        .collect();
    format!(
        "[package]\nname = \"readme\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{dependencies}\n[patch.crates-io]\nlogcore-facade = {{ path = {:?} }}\n\n\
         [profile.dev.package.\"*\"]\nopt-level = 1\n",
        root.join("facade")
    )
}

/// Checks that a task or an example exists, which have tests of their own, and runs any other
/// command.
fn check_command(command: &str) -> Result<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["cargo", "xtask", task, ..] => {
            ensure!(TASKS.iter().any(|(name, ..)| name == task), "there is no task `{task}`");
        }
        ["cargo", "run", "-p", "examples", "--bin", name, ..]
        | ["cargo", "run", "--release", "-p", "examples", "--bin", name, ..] => {
            let bins = cargo::root().join("examples/src/bin");
            ensure!(
                bins.join(format!("{name}.rs")).exists() || bins.join(name).is_dir(),
                "there is no example `{name}`"
            );
        }
        // Whether the package installs is for the packages to show.
        ["cargo", "install", ..] => {}
        ["cargo", rest @ ..] => drop(cargo::output(rest)?),
        ["logcore", task, ..] => {
            let page = fs::read_to_string(cargo::root().join("docs/program.md"))?;
            ensure!(
                page.contains(&format!("`logcore {task}")),
                "docs/program.md has no `logcore {task}`"
            );
        }
        _ => anyhow::bail!("only commands of cargo and logcore can be checked"),
    }
    Ok(())
}

/// Returns the fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            blocks.push(
                lines
                    .by_ref()
                    .take_while(|line| line.trim() != "```")
                    .collect::<Vec<_>>()
                    .join("\n"),
            );
        }
    }
    blocks
}

/// Returns the links to files of the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|link| link.split('#').next().unwrap_or(link))
        .filter(|link| !link.is_empty() && !link.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_links_of_a_page_are_found() {
        let text = "a [b](c.md#d) ![e](f.svg) [g](https://h)\n```sh\ncargo x\n```\n```rust\nlet x;\n```\n";
        assert_eq!(blocks(text, "sh"), ["cargo x"]);
        assert_eq!(links(text).collect::<Vec<_>>(), ["c.md", "f.svg"]);
    }

    #[test]
    fn manifest_keeps_the_last_requirement_of_a_crate() {
        let text =
            "```toml\n[dependencies]\na = \"1\"   # a comment\nb = \"2\"\n```\n```toml\na = { version = \"1\" }\n```\n";
        let manifest = manifest(text, Path::new("/repository"));
        assert!(
            manifest.contains("[dependencies]\na = { version = \"1\" }\nb = \"2\"\n\n"),
            "{manifest}"
        );
        assert!(
            manifest.contains("logcore-facade = { path = \"/repository/facade\" }"),
            "{manifest}"
        );
    }

    #[test]
    fn check_command_refuses_unknown_tasks_and_examples() {
        check_command("cargo xtask demo --fast").unwrap();
        assert!(check_command("cargo xtask dance").is_err());
        assert!(check_command("cargo run -p examples --bin nothing").is_err());
        assert!(check_command("rm -rf /").is_err());
    }
}
