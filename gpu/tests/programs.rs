//! What a whole program opens, starts and reads, with stand-ins in the place of the system's libraries.
//!
//! The loader of glibc says each library that it looks for and each that it loads.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "support/stand_in.rs"]
mod stand_in;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A machine that has both libraries.
struct Machine(TempDir);

/// One device of 80 GB, and 3 GB in the pool of a program that has started CUDA.
const STATE: &str = "devices=1,0.total=80000000000,started=1,0.active=1,0.used=3000000000,0.reserved=4000000000,\
                     0.highest=5000000000";

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the stand-ins");
        stand_in::compile("nvml", &[], &folder.path().join("libnvidia-ml.so.1"));
        stand_in::compile("cuda", &[], &folder.path().join("libcuda.so.1"));
        Self(folder)
    }

    /// Runs the program that reads once; returns what it prints, and what the loader says.
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

/// Cargo builds the examples of a package beside its tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("it has a path");
    let folder = test.parent().and_then(Path::parent).expect("it lies in `deps`");
    folder.join("examples").join(name)
}

#[test]
fn off_looks_for_nothing() {
    let machine = Machine::new();
    for with_cuda in [false, true] {
        let (said, loader) = machine.run(Some("off"), with_cuda);
        let nothing = "reading failed: neither the framework nor CUDA says anything, and nothing else may be asked\n";
        assert_eq!(said, nothing);
        assert!(!loader.contains("nvidia"), "{loader}");
        assert!(!loader.contains("find library=libcuda"), "{loader}");
    }
}

#[test]
fn cuda_is_never_loaded_by_the_probe() {
    let machine = Machine::new();
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
fn a_program_with_cuda_is_read_from_its_pool() {
    let machine = Machine::new();
    for switch in [None, Some("pool"), Some("all")] {
        let (said, _) = machine.run(switch, true);
        let lines: Vec<_> = said
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
    // Told to leave CUDA alone, it does.
    let (said, loader) = machine.run(Some("nvml"), true);
    assert!(!said.contains("cuda_mempool"), "{said}");
    assert!(!loader.contains("find library=libcuda"), "{loader}");
}
