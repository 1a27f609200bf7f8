//! Recovers the rings that killed runs have left, without starting a run.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use facade::logcore::escape::to_one_line;
use facade::{recover, recover_trusted};

/// Recovers all rings in the folders; fails if one is left. With `--trust`, copies of rings are
/// recovered, too.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (flags, folders): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|word| word.starts_with("--"));
    if let Some(flag) = flags.iter().find(|flag| **flag != "--trust") {
        bail!("unknown flag `{flag}`: repair takes `--trust` and folders");
    }
    ensure!(!folders.is_empty(), "name the log directory of a run that was killed");
    let recover = if flags.is_empty() { recover } else { recover_trusted };
    let mut left = 0;
    for folder in folders {
        ensure!(Path::new(folder).is_dir(), "{folder} is not a folder");
        let outcomes = recover(Path::new(folder));
        if outcomes.is_empty() {
            println!("{}: there is nothing to do", to_one_line(folder));
        }
        for outcome in outcomes {
            match outcome {
                Ok(recovered) => println!("{}: {recovered}", to_one_line(folder)),
                Err(error) => {
                    left += 1;
                    println!("{}: {error}", to_one_line(folder));
                }
            }
        }
    }
    ensure!(left == 0, "{left} rings are left");
    Ok(())
}
