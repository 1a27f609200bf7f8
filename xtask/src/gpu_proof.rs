//! The proof for GPUs: a program that needs nothing but a driver, so that it can be carried to a
//! machine that reaches nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo, frameworks};

/// Greatest size of the program, in bytes.
const LARGEST: u64 = 20_000_000;

/// The program's exit code for a machine without a GPU.
const NO_GPU: i32 = 3;

/// Builds the proof and runs it; with `--binary`, runs one that is there.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (binary, output) = parse(arguments)?;
    let mut candle = Candle::Missing("`--binary` builds nothing".to_owned());
    let program = match binary {
        Some(program) => program,
        None => {
            candle = build_candle();
            build()?
        }
    };
    let size = check_size(&program)?;
    println!("gpu-proof: {}, {:.1} MB", program.display(), size as f64 / 1e6);

    let mut proof = Command::new(&program);
    proof.current_dir(cargo::root());
    if let Some(output) = output {
        proof.arg("--output").arg(output);
    }
    match candle {
        Candle::Program(program) => proof.arg("--candle").arg(program),
        Candle::Missing(reason) => proof.arg("--without-candle").arg(reason),
    };
    let status = proof
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(NO_GPU) => {
            println!("gpu-proof: copy the program to a machine with a GPU, and start it there");
            exit(NO_GPU);
        }
        _ => bail!("the proof has failed: {status}"),
    }
}

/// Returns the program that is there, if one is to be run, and the file of the page.
fn parse(arguments: &[String]) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    // Paths are those of the person's folder, and the proof runs in the workspace's.
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let (mut binary, mut output) = (None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = match argument.as_str() {
            "--binary" => &mut binary,
            "--output" => &mut output,
            _ => bail!("unknown argument `{argument}`: there are --binary FILE and --output FILE"),
        };
        let file = rest.next().with_context(|| format!("{argument} needs a file"))?;
        *value = Some(here.join(file));
    }
    Ok((binary, output))
}

fn build() -> Result<PathBuf> {
    // With symbols and line numbers the program has 37 MB instead of 5.
    let arguments = [
        "build",
        "--quiet",
        "--release",
        "--package=gpu-proof",
        "--config=profile.release.strip=true",
    ];
    cargo::build(&arguments)
}

fn check_size(program: &Path) -> Result<u64> {
    let size = fs::metadata(program)
        .with_context(|| {
            format!(
                "cannot find {}, which `cargo xtask gpu-proof` builds without --binary",
                program.display()
            )
        })?
        .len();
    ensure!(
        size <= LARGEST,
        "cannot accept {}: it has {size} bytes, and {LARGEST} are allowed. Leave out symbols or dependencies",
        program.display()
    );
    Ok(size)
}

/// The program that allocates with candle, or the reason why there is none.
enum Candle {
    Program(PathBuf),
    Missing(String),
}

/// Builds the program where CUDA's compiler is found, which candle needs.
fn build_candle() -> Candle {
    let compiler = Command::new("nvcc").arg("--version").output();
    if !compiler.is_ok_and(|output| output.status.success()) {
        return Candle::Missing("nvcc is not found, which builds candle's kernels".to_owned());
    }
    match frameworks::build_known_tensor() {
        Ok(program) => Candle::Program(program),
        Err(error) => {
            println!("gpu-proof: {error:#}");
            Candle::Missing("the program that uses candle does not build with this nvcc".to_owned())
        }
    }
}
