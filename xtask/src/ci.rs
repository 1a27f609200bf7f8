//! All checks, with the time that each takes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{cargo, demo, echoes, features, frameworks, fuzz, instructions, model, package, programs, test, tools};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let after_test = match arguments {
        [] => false,
        [only] if only == "--after-test" => true,
        _ => bail!("ci takes --after-test or nothing"),
    };
    let mut steps = CiSteps::default();
    steps.run("format", || cargo::run(&["fmt", "--all", "--check"]))?;
    steps.run("spelling", || tools::typos(&[]))?;
    steps.run("licenses", || tools::deny(&[]))?;
    steps.run("lints", || {
        let clippy = [&["clippy", "--quiet", "--all-targets"], &cargo::EVERYTHING[..]].concat();
        cargo::run(&[&clippy[..], &["--", "-D", "warnings"]].concat())?;
        // The code that only the rig and the fuzzer build.
        let armed = ["clippy", "--quiet", "--all-targets", "-p", "fuzz", "-p", "rig"];
        let cfgs = [
            "--",
            "-D",
            "warnings",
            "--cfg",
            "fuzzing",
            "--cfg",
            "logcore_kill_points",
        ];
        cargo::run(&[&armed[..], &cfgs].concat())
    })?;
    if !after_test {
        steps.run("tests", || test::run(&[]))?;
    }
    // Most steps leave a core idle for a while. Those of the second lane have target folders of
    // their own, so that no build waits for another.
    let second_lane = thread::Builder::new().name("second lane".to_owned());
    let second_lane = second_lane.spawn(run_second_lane).context("start a thread")?;
    let passed = run_first_lane(&mut steps);
    let second = second_lane.join().map_err(|_| anyhow!("the second lane panicked"))?;
    passed?;
    steps.0.extend(second?.0);
    steps.report();
    Ok(())
}

fn run_first_lane(steps: &mut CiSteps) -> Result<()> {
    steps.run("torture", || {
        let kills = programs::SHORT_TORTURE.to_string();
        programs::torture(&["--kills".to_owned(), kills])
    })?;
    steps.run("demo", || demo::run(&["--fast".to_owned(), "--dev".to_owned()]))?;
    steps.run("docs", || {
        let mut doc = cargo::command(&[&["doc", "--quiet", "--no-deps"], &cargo::EVERYTHING[..]].concat());
        cargo::run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.run("echoes", || echoes::run(&[]))?;
    steps.run("features", || features::run(&["--short".to_owned()]))?;
    steps.run("packages", || package::run(&[]))?;
    steps.run("instructions", || instructions::run(&[]))?;
    steps.run("benches check", || cargo::run(&["check", "--quiet", "-p", "benches"]))
}

fn run_second_lane() -> Result<CiSteps> {
    let mut steps = CiSteps::default();
    steps.run("frameworks", || frameworks::run(&[]))?;
    steps.run("fuzz", || {
        let seconds = fuzz::SHORT.to_string();
        fuzz::run(&["--seconds".to_owned(), seconds])
    })?;
    steps.run("model", || model::run(&[]))?;
    Ok(steps)
}

/// The steps that have passed, with their times.
#[derive(Default)]
struct CiSteps(Vec<(&'static str, Duration)>);

impl CiSteps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        step().with_context(|| format!("the step {name}"))?;
        self.0.push((name, start.elapsed()));
        Ok(())
    }

    fn report(&self) {
        println!("\n== all checks have passed");
        for (name, time) in &self.0 {
            println!("{name:<14} {:>6.1} s", time.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|(_, time)| *time).sum();
        println!("{:<14} {:>6.1} s", "sum", total.as_secs_f64());
    }
}
