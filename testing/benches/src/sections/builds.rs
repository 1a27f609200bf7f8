//! The cost of building a tiny program with logcore: its crates, and a clean debug build, beside
//! the same program with an HTTP client alone.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::amounts::Amounts;
use crate::table::{ReportTable, figure};
use crate::usage::cpu_seconds_of_children;

/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A tiny program.
struct Program {
    name: &'static str,
    /// Its dependencies, as in `Cargo.toml`, with `{root}` for the repository.
    dependencies: &'static str,
    main: &'static str,
}

/// The first is what the others are compared with.
const PROGRAMS: [Program; 3] = [
    Program {
        name: "reqwest with rustls alone",
        dependencies: r#"reqwest = { version = "0.13", default-features = false, features = ["rustls"] }"#,
        main: r#"fn main() { println!("{:?}", reqwest::Client::new()); }"#,
    },
    Program {
        name: "logcore-facade, default features",
        dependencies: r#"logcore-facade = { path = "{root}/facade" }"#,
        main: LOGCORE,
    },
    Program {
        name: "logcore-facade with `wandb`",
        dependencies: r#"logcore-facade = { path = "{root}/facade", features = ["wandb"] }"#,
        main: LOGCORE,
    },
];

const LOGCORE: &str = r#"
fn main() {
    let logger = facade::setup_logging(facade::LogConfig::default()).unwrap();
    logger.log_metrics([("loss", 0.5)]);
}
"#;

pub(crate) fn measure(amounts: &Amounts) -> Result<Vec<ReportTable>> {
    let mut folders = Vec::new();
    for program in &PROGRAMS {
        let folder = program.write()?;
        run(cargo(&folder).arg("fetch"))?;
        folders.push(folder);
    }
    let none = BuildTurn {
        cpu: f64::NAN,
        wall: f64::NAN,
    };
    let turn = |folder| if amounts.builds { build(folder) } else { Ok(none) };
    let turns = folders.iter().map(turn).collect::<Result<Vec<_>>>()?;
    let times = if amounts.builds {
        "The times are those of one clean debug build with everything downloaded, without a compiler cache, with the \
         settings of a new project: processor time, user and system, of cargo and all compilers, and wall time on \
         this machine."
    } else {
        "The times are left out: a quick run builds nothing."
    };
    let note = format!(
        "A program of a few lines. Crates are those that `cargo tree` lists for this machine, build dependencies \
         included, the program itself not. {times}"
    );
    let columns = [
        "dependency",
        "crates",
        "of logcore",
        "CPU, s",
        "× CPU",
        "wall, s",
        "× wall",
    ];
    let mut table = ReportTable::new("Builds", note, &columns);
    for ((program, folder), own) in PROGRAMS.iter().zip(&folders).zip(&turns) {
        let crates = crates(folder)?;
        let of_logcore = crates.iter().filter(|name| name.starts_with("logcore")).count();
        let cells = |value: fn(&BuildTurn) -> f64| [figure(value(own)), figure(value(own) / value(&turns[0]))];
        let names = [
            program.name.to_owned(),
            crates.len().to_string(),
            of_logcore.to_string(),
        ];
        let cpu = cells(|turn| turn.cpu);
        table.row(names.into_iter().chain(cpu).chain(cells(|turn| turn.wall)));
    }
    Ok(vec![table])
}

#[derive(Clone, Copy)]
struct BuildTurn {
    /// Seconds.
    cpu: f64,
    wall: f64,
}

impl Program {
    /// Writes the program into a folder of its own, with the versions that this repository locks.
    fn write(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir().context("make a folder for a program")?;
        let root = fs::canonicalize(ROOT).context("find the repository")?;
        let dependencies = self.dependencies.replace("{root}", &root.display().to_string());
        let manifest = format!(
            "[package]\nname = \"tiny\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n\n\
             [workspace]\n"
        );
        fs::write(folder.path().join("Cargo.toml"), manifest)?;
        fs::create_dir(folder.path().join("src"))?;
        fs::write(folder.path().join("src/main.rs"), self.main)?;
        fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock")).context("copy Cargo.lock")?;
        Ok(folder)
    }
}

/// Builds the program in a new target folder.
fn build(program: &TempDir) -> Result<BuildTurn> {
    let target = tempfile::tempdir().context("make a folder for a build")?;
    let before = cpu_seconds_of_children();
    let started = Instant::now();
    run(cargo(program)
        .args(["build", "--offline", "--quiet"])
        .env("CARGO_TARGET_DIR", target.path()))?;
    Ok(BuildTurn {
        wall: started.elapsed().as_secs_f64(),
        cpu: cpu_seconds_of_children() - before,
    })
}

/// The crates of the program with their versions, each once.
fn crates(program: &TempDir) -> Result<BTreeSet<String>> {
    let words = ["tree", "--offline", "--edges", "normal,build", "--prefix", "none"];
    let tree = run(cargo(program).args(words).args(["--format", "{p}"]))?;
    let lines = tree.lines().skip(1);
    // A crate that was listed before has a mark behind its name, and one of a path has the path.
    let name = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(lines.map(name).filter(|name| !name.is_empty()).collect())
}

/// Cargo in the folder of the program, without the settings of whoever builds this repository.
fn cargo(program: &TempDir) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(program.path());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let is_setting = ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_PKG_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if is_setting || matches!(name.as_str(), "CARGO_INCREMENTAL" | "CARGO_TARGET_DIR" | "RUSTFLAGS") {
            command.env_remove(name);
        }
    }
    // Empty, so that no file of settings names one either.
    command.env("RUSTC_WRAPPER", "");
    command
}

/// Runs a command to its end, and returns what it prints.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo failed: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
