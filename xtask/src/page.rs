//! The scripts of the page, made smaller.
//!
//! The page is embedded in a library, so what makes its scripts smaller is no part of a build:
//! their smaller form is kept beside them. This task makes that form, or checks it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Classic scripts in one order, because a browser loads no modules from `file://`.
const REPORT: &[&str] = &[
    "dom",
    "data",
    "state",
    "charts",
    "runs-table",
    "log-lines",
    "sections",
    "main",
];
/// What the page of a server has in addition.
const LIVE: &[&str] = &["live"];

/// The program from npm that makes a script smaller.
const TERSER: &str = "terser@5.51.4";

/// Names that the checks in a browser ask for, beside those of the page itself.
const RESERVED: &str = "reserved=[live,log,runs,select,setZoom,view]";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_check = match arguments {
        [] => false,
        [check] if check == "--check" => true,
        _ => bail!("unexpected arguments `{}`: the task takes --check", arguments.join(" ")),
    };
    let folder = Path::new("runs/page");
    for (name, scripts) in [("report", REPORT.to_vec()), ("live", [REPORT, LIVE].concat())] {
        let path = folder.join("built").join(name).with_extension("js");
        let sources = scripts.iter().map(|script| {
            let source = folder.join(script).with_extension("js");
            fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))
        });
        let built = make_smaller(&sources.collect::<Result<Vec<_>>>()?.join("\n"))?;
        if !is_check {
            fs::write(&path, &built).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        ensure!(
            kept == built,
            "{} is not made of its sources: run `cargo xtask page`",
            path.display()
        );
        println!("{}: {} bytes", path.display(), built.len());
    }
    Ok(())
}

fn make_smaller(script: &str) -> Result<String> {
    let mut terser = Command::new("npx")
        .args(["--yes", TERSER, "--compress", "--toplevel", "--mangle", RESERVED])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start npx: install Node.js with npm")?;
    // The program reads all before it writes, so no pipe is full.
    terser
        .stdin
        .take()
        .context("terser has no input")?
        .write_all(script.as_bytes())?;
    let output = terser.wait_with_output()?;
    ensure!(
        output.status.success(),
        "cannot make a script smaller: terser ended with {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
