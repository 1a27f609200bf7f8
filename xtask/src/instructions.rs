//! The cost of each call in instructions. Unlike times they are exact, so a change for the worse is
//! visible on any machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

/// The function in which valgrind counts.
const COUNTED: &str = "hot_paths::measured";
/// Number of calls of each path.
const CALLS: u64 = 1000;
/// Paths whose cost is also counted on all threads, until everything is in the files.
const WRITTEN: [&str; 5] = [
    "limit: format only",
    "log::info!(logger: …)",
    "global log::info!",
    "ten metrics by name",
    "a step: progress, ten metrics",
];
/// Numbers of calls of two runs. Their difference leaves out start and end.
const WRITTEN_CALLS: [u64; 2] = [4000, 16_000];
/// Tolerance above the record in percent, because another processor copies bytes by other
/// instructions.
const MARGIN: u64 = 10;
/// Least tolerance in instructions, for the shortest paths.
const LEAST_MARGIN: u64 = 10;

/// Instructions of a call, by path.
type Counts = BTreeMap<String, u64>;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let update = match arguments {
        [] => false,
        [only] if only == "--update" => true,
        _ => bail!("instructions takes --update or nothing"),
    };
    let program = cargo::build(&["build", "--release", "--quiet", "-p", "hot-paths"])?;
    let folder = cargo::root().join("target/instructions");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut names_and_counts = count(&program, &folder)?;
    for name in WRITTEN {
        names_and_counts.push((
            format!("{name}, until written"),
            count_written(&program, &folder, name)?,
        ));
    }
    let record = cargo::root().join("testing/benches/hot-paths/instructions.json");
    let recorded: Counts = match fs::read(&record) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", record.display()))?,
        Err(_) if update => Counts::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}; `--update` creates it", record.display())),
    };
    let worse = compare(&names_and_counts, &recorded);
    if update {
        let counts: Counts = names_and_counts.into_iter().collect();
        return fs::write(&record, format!("{}\n", serde_json::to_string_pretty(&counts)?))
            .with_context(|| format!("write {}", record.display()));
    }
    ensure!(
        worse.is_empty(),
        "more instructions than {} allows: {}. If they are needed, `cargo xtask instructions --update` records them",
        record.display(),
        worse.join(", ")
    );
    Ok(())
}

/// Prints the table and returns the paths above the tolerance.
fn compare(counts: &[(String, u64)], recorded: &Counts) -> Vec<String> {
    println!("{:<46} {:>8} {:>8}", "instructions a call", "now", "recorded");
    let mut worse = Vec::new();
    for (name, count) in counts {
        let before = recorded.get(name).copied();
        println!(
            "{name:<46} {count:>8} {:>8}",
            before.map_or("-".to_owned(), |it| it.to_string())
        );
        if before.is_none_or(|before| *count > before + (before * MARGIN / 100).max(LEAST_MARGIN)) {
            worse.push(name.clone());
        }
    }
    worse
}

/// Runs all paths under valgrind, and counts on their own thread.
fn count(program: &Path, folder: &Path) -> Result<Vec<(String, u64)>> {
    let counts = folder.join("counts");
    let own_thread = [
        "--separate-threads=yes".to_owned(),
        "--collect-atstart=no".to_owned(),
        format!("--toggle-collect={COUNTED}"),
        format!("--dump-after={COUNTED}"),
    ];
    let names = run_under_valgrind(program, &["--once", &CALLS.to_string()], &counts, &own_thread)?;
    let of_path = |(at, name): (usize, &str)| Ok((name.to_owned(), total(&part(&counts, at + 1))? / CALLS));
    names.lines().enumerate().map(of_path).collect()
}

/// Returns the instructions of a call of a path on all threads, until everything is in the files.
fn count_written(program: &Path, folder: &Path, name: &str) -> Result<u64> {
    let [few, many] = WRITTEN_CALLS;
    let all = |calls: u64| {
        let counts = folder.join(format!("written.{calls}"));
        run_under_valgrind(program, &["--whole", name, &calls.to_string()], &counts, &[])?;
        total(&counts)
    };
    Ok((all(many)? - all(few)?) / (many - few))
}

/// Returns the output of a run whose counts go into a file.
fn run_under_valgrind(program: &Path, arguments: &[&str], counts: &Path, options: &[String]) -> Result<String> {
    let output = Command::new("valgrind")
        // Else valgrind lets a thread that never waits run alone.
        .args(["--tool=callgrind", "--fair-sched=try"])
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .args(options)
        .arg(program)
        .args(arguments)
        .output()
        .context("start valgrind, which must be installed")?;
    ensure!(
        output.status.success(),
        "{} under valgrind: {}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the file with the counts of a path on the first thread; valgrind numbers the files
/// from 1.
fn part(counts: &Path, number: usize) -> PathBuf {
    counts.with_file_name(format!("counts.{number}-01"))
}

/// Returns the sum at the end of a file of counts.
fn total(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("{} has no totals", path.display()))?;
    Ok(total.trim().parse()?)
}
