//! What the README tells people to do is done here. Its Rust is compiled and run by the doctests of the facade.

use std::fs;

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
            "README.md points to {path}, which is not there"
        );
    }
    ensure!(commands > 0, "README.md has no commands");
    println!("readme: {commands} commands and all links are good");
    Ok(())
}

/// Tasks and examples are known by name; their own tests run them. Anything else is run.
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
        ["cargo", rest @ ..] => drop(cargo::output(rest)?),
        _ => anyhow::bail!("only cargo commands can be checked"),
    }
    Ok(())
}

/// The fenced blocks of a language.
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

/// What is linked to within the repository.
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
    fn blocks_and_links_are_found() {
        let text = "a [b](c.md#d) ![e](f.svg) [g](https://h)\n```sh\ncargo x\n```\n```rust\nlet x;\n```\n";
        assert_eq!(blocks(text, "sh"), ["cargo x"]);
        assert_eq!(links(text).collect::<Vec<_>>(), ["c.md", "f.svg"]);
    }

    #[test]
    fn commands_that_are_not_there_are_refused() {
        check_command("cargo xtask demo --fast").unwrap();
        assert!(check_command("cargo xtask dance").is_err());
        assert!(check_command("cargo run -p examples --bin nothing").is_err());
        assert!(check_command("rm -rf /").is_err());
    }
}
