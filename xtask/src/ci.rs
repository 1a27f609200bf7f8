//! Everything that has to hold.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{cargo, demo, features, frameworks, fuzz, instructions, model, package, test, torture};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let after_test = match arguments {
        [] => false,
        [only] if only == "--after-test" => true,
        _ => bail!("ci takes --after-test or nothing"),
    };
    let mut steps = Steps::default();
    steps.run("format", || cargo::run(&["fmt", "--all", "--check"]))?;
    steps.run("lints", || {
        let all = [
            "clippy",
            "--quiet",
            "--workspace",
            "--exclude",
            "benches",
            "--all-targets",
            "--all-features",
        ];
        cargo::run(&[&all[..], &["--", "-D", "warnings"]].concat())
    })?;
    if !after_test {
        steps.run("tests", || test::run(&[]))?;
    }
    steps.run("model", || model::run(&[]))?;
    steps.run("torture", || {
        let kills = torture::SHORT.to_string();
        torture::run(&["--kills".to_owned(), kills])
    })?;
    steps.run("fuzz", || {
        let seconds = fuzz::SHORT.to_string();
        fuzz::run(&["--seconds".to_owned(), seconds])
    })?;
    steps.run("docs", || {
        let mut doc = cargo::command(&[
            "doc",
            "--quiet",
            "--no-deps",
            "--workspace",
            "--exclude",
            "benches",
            "--all-features",
        ]);
        cargo::run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.run("features", || features::run(&[]))?;
    steps.run("packages", || package::run(&[]))?;
    steps.run("instructions", || instructions::run(&[]))?;
    steps.run("benches build", || cargo::run(&["check", "--quiet", "-p", "benches"]))?;
    steps.run("frameworks", || frameworks::run(&[]))?;
    steps.run("demo", || demo::run(&["--fast".to_owned()]))?;
    steps.report();
    Ok(())
}

/// How long each step took.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        step()?;
        self.0.push((name, start.elapsed()));
        Ok(())
    }

    fn report(&self) {
        println!("\n== all is well");
        for (name, time) in &self.0 {
            println!("{name:<14} {:>6.1} s", time.as_secs_f64());
        }
    }
}
