//! `cargo xtask repair`: what killed runs have left in their rings is delivered, without starting anything new.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use facade::logcore::escape::one_line;
use facade::recover;

/// Fails if something was left as it is.
pub(crate) fn run(folders: &[String]) -> Result<()> {
    ensure!(!folders.is_empty(), "name the log directory of a run that was killed");
    if let Some(flag) = folders.iter().find(|folder| folder.starts_with("--")) {
        bail!("`{flag}` is not known; the task takes folders");
    }
    let mut left = 0;
    for folder in folders {
        ensure!(Path::new(folder).is_dir(), "{folder} is no folder");
        let outcomes = recover(Path::new(folder));
        if outcomes.is_empty() {
            println!("{}: there is nothing to do", one_line(folder));
        }
        for outcome in outcomes {
            match outcome {
                Ok(recovered) => println!("{}: {recovered}", one_line(folder)),
                Err(error) => {
                    left += 1;
                    println!("{}: {error}", one_line(folder));
                }
            }
        }
    }
    ensure!(left == 0, "{left} rings were left as they are");
    Ok(())
}
