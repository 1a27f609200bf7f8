//! The pictures in the README, from real runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo;

/// Most bytes of the picture of the page, because every clone of the repository has it.
const MOST_BYTES: u64 = 250_000;

/// Learning rates of the runs on the page: too low, good, too high.
const RATES: [&str; 3] = ["0.02", "0.25", "1"];

/// Programs that draw a page, in the order in which they are tried.
const BROWSERS: [&str; 3] = ["chromium", "google-chrome", "chromium-browser"];

/// Draws the pictures with these names, or all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match names[..] {
        [] => draw_terminal().and_then(|()| draw_page()),
        ["terminal"] => draw_terminal(),
        ["page"] => draw_page(),
        _ => bail!(
            "cannot draw `{}`: the pictures are `terminal` and `page`",
            names.join(" ")
        ),
    }
}

fn build_training() -> Result<PathBuf> {
    cargo::build(&["build", "--release", "--quiet", "-p", "examples", "--bin", "train"])
}

/// Draws a run on the terminal.
fn draw_terminal() -> Result<()> {
    let training = build_training()?;
    let draw = ["-p", "testkit", "--features", "terminal", "--example", "picture"];
    let program = cargo::build(&[&["build", "--quiet"], &draw[..]].concat())?;
    let mut command = Command::new(program);
    command
        .arg(training)
        .arg("docs/terminal.svg")
        .current_dir(cargo::root());
    cargo::run_command(&mut command)
}

/// Draws the page of a report, with runs that differ in their learning rate.
fn draw_page() -> Result<()> {
    let training = build_training()?;
    let program = ["-p", "logcore-cli", "--no-default-features"];
    let program = cargo::build(&[&["build", "--release", "--quiet"], &program[..]].concat())?;
    let folder = cargo::root().join("target/picture");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("clean {}", folder.display()))?;
    }
    for rate in RATES {
        let mut train = Command::new(&training);
        train.args(["--fast", "--steps", "900", "--learning-rate", rate]);
        train.args(["--run", &format!("lr-{rate}"), "--log-dir"]).arg(&folder);
        cargo::run_command(train.current_dir(cargo::root()))?;
    }
    let page = folder.join("report.html");
    let mut report = Command::new(program);
    cargo::run_command(report.arg("report").arg("--log-dir").arg(&folder).arg("-o").arg(&page))?;

    let picture = cargo::root().join("docs/page.png");
    let browser = BROWSERS
        .into_iter()
        .find(|browser| Command::new(browser).arg("--version").output().is_ok())
        .with_context(|| {
            format!(
                "cannot draw the page: there is none of {}; install one",
                BROWSERS.join(", ")
            )
        })?;
    let mut draw = Command::new(browser);
    draw.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--window-size=1400,860", "--force-device-scale-factor=1"])
        // Time for all charts, which does not pass in reality.
        .arg("--virtual-time-budget=4000")
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()));
    // A browser without a desktop complains about much that a picture needs not.
    let output = draw.output().with_context(|| format!("cannot start {draw:?}"))?;
    ensure!(
        output.status.success(),
        "{draw:?} failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes = fs::metadata(&picture)?.len();
    ensure!(
        bytes <= MOST_BYTES,
        "{} has {bytes} bytes, more than {MOST_BYTES}",
        picture.display()
    );
    println!("{}: {bytes} bytes", picture.display());
    Ok(())
}
