//! The official Python client: it reads our logs, and what it leaves on a server is what we leave.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use testkit::wandb_server::{KEY, WandbServer};

const VERSION: &str = "wandb==0.31.0";

/// A program of the official client's own environment, which is made at first use.
pub(crate) fn program(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("official-wandb-0.31.0");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.join("ready").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")));
        run(Command::new(folder.join("venv/bin/pip")).args(["install", "--quiet", VERSION]));
        fs::write(folder.join("ready"), VERSION).unwrap();
    }
    Command::new(folder.join("venv/bin").join(name))
}

pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Its `wandb sync`.
pub(crate) fn sync(server: &WandbServer, run_folder: &Path) {
    let home = TempDir::new().unwrap();
    run(program("wandb")
        .arg("sync")
        .arg(run_folder)
        .env("WANDB_BASE_URL", server.url())
        .env("WANDB_API_KEY", KEY)
        .env("WANDB_ERROR_REPORTING", "false")
        .env("HOME", home.path())
        .current_dir(home.path()));
}

/// A script of its Python package, online or not as the environment says.
pub(crate) fn script(text: &str, folder: &Path, environment: &[(&str, &str)]) {
    let home = TempDir::new().unwrap();
    run(program("python")
        .args(["-c", text])
        .envs(environment.iter().copied())
        .env("WANDB_ERROR_REPORTING", "false")
        .env("HOME", home.path())
        .env("WANDB_DIR", folder)
        .current_dir(folder));
}

/// All records of a log, as its `wandb leet inspect` reads them.
pub(crate) fn records(log: &Path) -> Vec<Value> {
    let output = run(program("wandb").args(["leet", "inspect", "--json"]).arg(log));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The folder of the newest W&B run of our newest run.
pub(crate) fn latest(log_dir: &Path) -> PathBuf {
    fs::canonicalize(log_dir.join("latest/wandb/latest-run")).unwrap()
}
