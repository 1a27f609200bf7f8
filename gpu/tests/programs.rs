//! Tests of whole programs, with fakes in place of the system's libraries: opened libraries and
//! readings.
//!
//! With `LD_DEBUG`, the loader of glibc prints each library that it searches and loads.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "support/stand_in.rs"]
mod stand_in;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder with both fake libraries.
struct FakeMachine(TempDir);

/// One device of 80 GB; 3 GB in the pool of a program that has started CUDA.
const STATE: &str = "devices=1,0.total=80000000000,started=1,0.active=1,0.used=3000000000,0.reserved=4000000000,\
                     0.highest=5000000000";

impl FakeMachine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the fakes");
        stand_in::compile("nvml", &[], &folder.path().join("libnvidia-ml.so.1"));
        stand_in::compile("cuda", &[], &folder.path().join("libcuda.so.1"));
        Self(folder)
    }

    /// Runs a program that reads once. Returns its output, and the loader's.
    fn run(&self, switch: Option<&str>, with_cuda: bool) -> (String, String) {
        let mut command = Command::new(example("gpu_readings"));
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("GPU_PROBE");
        command
            .env("LD_LIBRARY_PATH", self.0.path())
            .env("LD_DEBUG", "libs,files");
        command.env("FAKE_STATE", STATE);
        if with_cuda {
            command.env("LD_PRELOAD", self.0.path().join("libcuda.so.1"));
        }
        if let Some(switch) = switch {
            command.env("GPU_PROBE", switch);
        }
        let output = command.output().expect("the example can be started");
        assert!(output.status.success());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr))
    }
}

/// Returns the path of an example, which Cargo builds beside the tests of a package.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("it has a path");
    let folder = test.parent().and_then(Path::parent).expect("it lies in `deps`");
    folder.join("examples").join(name)
}

#[test]
fn switch_off_searches_no_library() {
    let machine = FakeMachine::new();
    for with_cuda in [false, true] {
        let (output, loader) = machine.run(Some("off"), with_cuda);
        let reason = "neither a framework nor CUDA reports GPU memory, and NVML is disabled\n";
        assert!(output.ends_with(reason) && output.lines().count() == 1, "{output}");
        assert!(!loader.contains("nvidia"), "{loader}");
        assert!(!loader.contains("find library=libcuda"), "{loader}");
    }
}

#[test]
fn probe_never_loads_cuda() {
    let machine = FakeMachine::new();
    for switch in [None, Some("pool"), Some("nvml")] {
        let (_, loader) = machine.run(switch, false);
        let loaded = loader.lines().filter(|line| line.contains("calling init:"));
        assert_eq!(loaded.filter(|line| line.contains("libcuda")).count(), 0, "{switch:?}");
        assert_eq!(
            loader.contains("libnvidia-ml.so.1"),
            switch != Some("pool"),
            "{switch:?}"
        );
    }
}

#[test]
fn pool_of_a_program_with_cuda_is_read() {
    let machine = FakeMachine::new();
    for switch in [None, Some("pool"), Some("all")] {
        let (output, _) = machine.run(switch, true);
        let lines: Vec<_> = output
            .lines()
            .filter(|line| line.starts_with("GPU memory") || line.contains("_gb"))
            .collect();
        assert_eq!(
            lines,
            [
                "GPU memory: cuda_mempool",
                "memory/gpu_allocated_gb: 3",
                "memory/gpu_reserved_gb: 4",
                "memory/gpu_max_allocated_gb: 5",
            ],
            "{switch:?}"
        );
    }
    // With `nvml`, CUDA is not searched.
    let (output, loader) = machine.run(Some("nvml"), true);
    assert!(!output.contains("cuda_mempool"), "{output}");
    assert!(!loader.contains("find library=libcuda"), "{loader}");
}
