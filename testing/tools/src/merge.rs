//! Merges the files of all ranks of a run into one text and one metrics file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use facade::merge_ranks;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut folder, mut out): (Option<&Path>, Option<PathBuf>) = (None, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" => out = Some(arguments.next().context("--out needs a folder")?.into()),
            flag if flag.starts_with("--") => bail!("unknown flag `{flag}`: merge takes DIR and --out DIR"),
            name if folder.is_none() => folder = Some(Path::new(name)),
            name => bail!("`{name}` is one folder too many: the ranks of a run share theirs"),
        }
    }
    let folder = folder.context("name the log directory of the run")?;
    for file in merge_ranks(folder, &out.unwrap_or_else(|| folder.to_owned()))?.files {
        println!("{file}");
    }
    Ok(())
}
