//! Collects the facts about the process and its machine.
//!
//! A frozen file system may hold the collector up, so it has a thread of its own, and whoever needs
//! the facts waits with a deadline ([`RunInfo::wait_for_facts`]).

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;

use logcore::serde_json::Value;
use logcore::{LogConfig, Redaction, RunFacts, RunInfo, files, redacted, suppress_logging};

use super::git::read_repository;

/// Collects the facts of a run on a thread, unless that is done or under way.
pub(super) fn collect_in_background(run: &RunInfo, config: &LogConfig) {
    if !run.begin_facts() {
        return;
    }
    let patterns = config.redact.clone();
    let collector = run.clone();
    let spawned = thread::Builder::new()
        .name("logcore-facts".to_owned())
        .spawn(move || suppress_logging(|| collector.note_facts(collect(&patterns))));
    if spawned.is_err() {
        run.note_facts(collect(&config.redact));
    }
}

/// Collects the facts. `patterns` are those of the config's field `redact`.
fn collect(patterns: &[String]) -> RunFacts {
    let cwd = std::env::current_dir().unwrap_or_default();
    let executable = std::env::current_exe().unwrap_or_default();
    let git = read_repository(&cwd).or_else(|| read_repository(&executable));
    RunFacts {
        host: RunFacts::own_host().unwrap_or_default(),
        user: user_name(),
        pid: std::process::id(),
        argv: visible_arguments(
            std::env::args_os().map(|argument| argument.to_string_lossy().into()),
            patterns,
        ),
        executable,
        cwd,
        git,
        profile: env!("BUILD_PROFILE").to_owned(),
        logcore: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: env!("BUILD_RUSTC").to_owned(),
        os: std::env::consts::OS.to_owned(),
        kernel: read_line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: cpu_model(),
        cpus: thread::available_parallelism().map_or(0, |count| count.get() as u32),
        memory: memory(),
        gpus: gpu_models(Path::new("/proc/driver/nvidia/gpus")),
    }
}

/// Returns the command line without secrets and without matches of the user's patterns.
fn visible_arguments(arguments: impl Iterator<Item = Value>, patterns: &[String]) -> Vec<String> {
    let mut shown = redacted(&arguments.collect());
    // A config with invalid patterns has been refused.
    if let Ok(redaction) = Redaction::new(patterns) {
        redaction.hide_in(&mut shown);
    }
    let Value::Array(shown) = shown else { return Vec::new() };
    let mut room = ARGUMENTS_LIMIT;
    let mut kept: Vec<String> = Vec::new();
    for argument in &shown {
        let argument = argument.as_str().unwrap_or_default();
        let Some(rest) = usize::checked_sub(room, argument.len()) else {
            kept.push(format!("… and {} more", shown.len() - kept.len()));
            break;
        };
        room = rest;
        kept.push(argument.to_owned());
    }
    kept
}

/// Most bytes of a command line; the kernel allows megabytes.
const ARGUMENTS_LIMIT: usize = 64 << 10;
/// Most bytes of a file with facts about the system.
const FILE_LIMIT: u64 = 1 << 20;

/// Returns the name of the user. Containers often lack the variables, and have the name in a file.
fn user_name() -> String {
    let variable = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    variable("USER")
        .or_else(|| variable("LOGNAME"))
        .or_else(named_in_passwd)
        .unwrap_or_default()
}

#[cfg(unix)]
fn named_in_passwd() -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let own_id = fs::metadata("/proc/self").ok()?.uid().to_string();
    let users = files::read_to_string(Path::new("/etc/passwd"), FILE_LIMIT).ok()?;
    users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, id) = (parts.next()?, parts.nth(1)?);
        (id == own_id).then(|| name.to_owned())
    })
}

#[cfg(not(unix))]
fn named_in_passwd() -> Option<String> {
    None
}

fn cpu_model() -> Option<String> {
    // The kernel composes the text for each CPU, and the first is enough.
    let mut first = Vec::new();
    let file = files::open(Path::new("/proc/cpuinfo")).ok()?;
    file.take(4 << 10).read_to_end(&mut first).ok()?;
    value_after(&String::from_utf8_lossy(&first), "model name")
}

/// Returns the bytes of memory of the machine.
fn memory() -> Option<u64> {
    let text = files::read_to_string(Path::new("/proc/meminfo"), FILE_LIMIT).ok()?;
    let total = value_after(&text, "MemTotal")?;
    let kib: u64 = total.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the models in the folder in which NVIDIA's driver describes each GPU, in the order of
/// their addresses.
fn gpu_models(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut gpus: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    gpus.sort();
    let model = |gpu: &PathBuf| {
        let text = files::read_to_string(&gpu.join("information"), FILE_LIMIT).ok()?;
        value_after(&text, "Model")
    };
    gpus.iter().filter_map(model).collect()
}

/// Returns the value of the first line `name: value`.
fn value_after(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

fn read_line(path: &str) -> Option<String> {
    let text = files::read_to_string(Path::new(path), FILE_LIMIT).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(arguments: &[&str], patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        visible_arguments(arguments.iter().map(|argument| Value::from(*argument)), &patterns)
    }

    #[test]
    fn secrets_in_the_command_line_are_hidden() {
        let arguments = [
            "train",
            "--api-key",
            "X1",
            "--token=X2",
            "HF_TOKEN=X3",
            "--lr",
            "0.1",
            "--db=pg://a:X4@h/d",
        ];
        assert_eq!(
            shown(&arguments, &[]),
            [
                "train",
                "--api-key",
                "***",
                "--token=***",
                "HF_TOKEN=***",
                "--lr",
                "0.1",
                "--db=pg://a:***@h/d"
            ]
        );
        assert_eq!(shown(&["train", "patient-12345"], &["patient-[0-9]+"])[1], "***");
    }

    #[test]
    fn a_long_command_line_is_cut() {
        let long = "x".repeat(ARGUMENTS_LIMIT - 1);
        assert_eq!(shown(&["a", &long, "b", "c"], &[]), ["a", &long, "… and 2 more"]);
    }

    #[test]
    fn gpus_are_those_that_the_driver_describes() {
        let folder = tempfile::tempdir().unwrap();
        for (address, model) in [("0000:65:00.0", "NVIDIA H200"), ("0000:04:00.0", "NVIDIA L4")] {
            fs::create_dir(folder.path().join(address)).unwrap();
            let text = format!("Model: \t\t {model}\nIRQ:   \t\t 16\nGPU UUID: \t GPU-1\n");
            fs::write(folder.path().join(address).join("information"), text).unwrap();
        }
        assert_eq!(gpu_models(folder.path()), ["NVIDIA L4", "NVIDIA H200"]);
        assert_eq!(gpu_models(&folder.path().join("no")), [""; 0]);
    }

    #[test]
    fn facts_of_this_process_are_known() {
        let facts = collect(&[]);
        assert_eq!(facts.pid, std::process::id());
        assert!(facts.argv[0].contains("facade") && facts.cpus > 0 && facts.rustc.starts_with("rustc "));
        assert_eq!(facts.profile == "debug", cfg!(debug_assertions));
        #[cfg(target_os = "linux")]
        assert!(!facts.host.is_empty() && !facts.user.is_empty() && !facts.kernel.is_empty() && facts.memory.is_some());
    }
}
