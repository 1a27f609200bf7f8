//! Runs the proof with stand-ins for the driver: with honest ones all rows hold, and with a fault
//! in one of them a row fails.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "../../../gpu/tests/support/stand_in.rs"]
mod stand_in;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with the fakes of both libraries, and with an `nvidia-smi`.
struct FakeDriver(TempDir);

/// Two devices of 80 GB in another order than NVML's. Other processes use 1 GB of each, and the
/// driver keeps half a GiB of the first.
const STATE: &str = "devices=2,0.nvml=1,1.nvml=0,0.total=80000000000,1.total=80000000000,0.others=1000000000,\
                     1.others=1000000000,1.kept=536870912,0.temperature=35,1.temperature=36,0.milliwatts=81000,\
                     1.milliwatts=82000,0.limit=700000,1.limit=700000,0.sm_clock=1980,1.sm_clock=1980,\
                     0.memory_clock=2619,1.memory_clock=2619,0.gpu=3,1.gpu=4";

/// The figures of these devices. The section holds 256 MiB and a context of 400 MiB on NVML's
/// device 1.
const FIGURES: &str = "954, 3, 0, 35, 81.00, 700.00, 1980, 2619\n1610, 4, 0, 36, 82.00, 700.00, 1980, 2619";
const ERRORS: &str = "0, 0\n[N/A], [N/A]";

impl FakeDriver {
    fn new() -> Self {
        Self::variant(&["allocates"], FIGURES, ERRORS)
    }

    /// A driver whose libcuda is compiled with `cfgs`, and whose `nvidia-smi` prints these figures.
    fn variant(cfgs: &[&str], figures: &str, errors: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the fakes");
        stand_in::compile("nvml", &["beside_cuda"], &folder.path().join("libnvidia-ml.so.1"));
        stand_in::compile("cuda", cfgs, &folder.path().join("libcuda.so.1"));
        let program = folder.path().join("nvidia-smi");
        let script = format!("#!/bin/sh\ncase \"$1\" in *ecc*) echo '{errors}' ;; *) echo '{figures}' ;; esac\n");
        fs::write(&program, script).expect("the script is written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("the script may run");
        Self(folder)
    }

    /// Runs the program with this state of the fakes, which has `STATE` in it.
    fn run(&self, state: &str, arguments: &[&str]) -> Output {
        program(arguments)
            .env("LD_LIBRARY_PATH", self.0.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()))
            .env("FAKE_STATE", format!("{STATE},{state}"))
            .output()
            .expect("the program can be started")
    }

    /// Returns the rows of a section that fail with this state of the fakes.
    fn failing(&self, section: &str, state: &str) -> Vec<String> {
        let output = self.run(state, &["--section", section, "--seconds", "5"]);
        let printed = text(&output.stdout);
        let rows = printed.lines().filter(|line| line.starts_with("row\t"));
        assert!(
            rows.clone().count() > 0,
            "{section} with {state}: {printed}{}",
            text(&output.stderr)
        );
        let failing: Vec<_> = rows
            .filter(|row| row.contains("\tfails\t"))
            .map(str::to_owned)
            .collect();
        let code = output.status.code();
        assert_eq!(
            code,
            Some(i32::from(!failing.is_empty())),
            "{section} with {state}: {printed}"
        );
        failing
    }

    /// Fails unless each fault has rows of the section fail that contain the texts beside it.
    fn assert_found(&self, section: &str, faults: &[(&str, &[&str])]) {
        for (fault, rows) in faults {
            let failing = self.failing(section, fault);
            for row in *rows {
                assert!(
                    failing.iter().any(|failed| failed.contains(row)),
                    "{fault} is not found by `{row}`: {failing:#?}"
                );
            }
        }
    }

    fn page(&self) -> PathBuf {
        self.0.path().join("page.md")
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-proof"));
    command.args(arguments);
    for name in [
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "GPU_PROBE",
        "RANK",
        "LOCAL_RANK",
    ] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn all_rows_hold_with_an_honest_driver() {
    let driver = FakeDriver::new();
    let page = driver.page();
    let output = driver.run("", &["--output", page.to_str().expect("text"), "--seconds", "5"]);
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let page = fs::read_to_string(page).expect("the page is there");
    assert!(page.contains(" rows hold, 0 fail, "), "{page}");
    for row in [
        "| driver | 550.54 |",
        "| cuda:0 | NVIDIA H100 |",
        "| cuda:1: an allocation from the pool | 268,435,456 bytes expected, 268,435,456 read | holds |",
        "| cuda:0: 1,000,003 bytes, which no allocator counts in | the driver counts 1,000,448 of them | holds |",
        "| several devices at once, each with its own bytes | 33,554,432 expected, 33,554,432 read; 67,108,864 \
         expected, 67,108,864 read | holds |",
    ] {
        assert!(page.lines().any(|line| line == row), "{row} is not in\n{page}");
    }
    for (beginning, verdict) in [
        ("| 1: ", "holds"),
        ("| 2: another thread reads the pool during a capture", "holds"),
        ("| 2: `log_memory`, each", "holds"),
        (
            "| 3: the driver's `used` and what the driver keeps for itself, device 0 | nothing is kept",
            "holds",
        ),
        (
            "| 3: the driver's `used` and what the driver keeps for itself, device 1 | `used` leaves it out",
            "holds",
        ),
        ("| 4: ", "holds"),
        ("| 5: a tensor of candle", "not tried: no program that uses candle"),
        ("| 6: ", "not tried: CUDA shows no slice"),
        ("| 7: ", "holds"),
        ("| `system/gpu.0.correctedMemoryErrors`", "holds"),
        (
            "| `system/gpu.1.correctedMemoryErrors`",
            "not tried: nvidia-smi has no value",
        ),
        ("| the threads that read the machine", "holds"),
    ] {
        let line = page.lines().find(|line| line.starts_with(beginning));
        let line = line.unwrap_or_else(|| panic!("{beginning} is not in\n{page}"));
        assert!(line.contains(&format!("| {verdict}")), "{line}");
    }
}

#[test]
fn other_honest_machines_have_no_row_that_fails() {
    let driver = FakeDriver::new();
    // A container whose driver lists pids of the host, one device, and a slice.
    for (section, state) in [
        ("process", "hidden=1"),
        ("memory", "devices=1"),
        ("identity", "devices=1,0.nvml=99"),
    ] {
        assert_eq!(
            driver.failing(section, state),
            Vec::<String>::new(),
            "{section} with {state}"
        );
    }
    let output = driver.run("devices=1,0.nvml=99", &["--section", "identity"]);
    let printed = text(&output.stdout);
    assert!(
        printed.contains("MIG-00000063-0000-0000-0000-000000000000 leads to MIG-"),
        "{printed}"
    );
}

#[test]
fn failing_rows_and_sections_that_die_are_written_and_are_the_exit_code() {
    // An old driver: cudarc panics where a function is missing.
    let driver = FakeDriver::variant(&["allocates", "without_pool"], FIGURES, ERRORS);
    let page = driver.page();
    let arguments = [
        "--output",
        page.to_str().expect("text"),
        "--candle",
        "false",
        "--seconds",
        "5",
    ];
    let output = driver.run("", &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let page = fs::read_to_string(page).expect("the page is there");
    for beginning in ["| the section `memory` ends", "| 5: a tensor of candle"] {
        let line = page.lines().find(|line| line.starts_with(beginning));
        assert!(
            line.is_some_and(|line| line.contains("**fails**")),
            "{line:?} in\n{page}"
        );
    }
}

#[test]
fn faults_of_allocations_are_found() {
    FakeDriver::new().assert_found(
        "memory",
        &[
            ("devices=1,fault.used=512", &["an allocation from the pool"]),
            ("devices=1,fault.highest=512", &["the highest value"]),
            ("devices=1,fault.reserved=1", &["reserved bytes"]),
            ("devices=1,fault.drift=512", &["which no allocator counts in"]),
            ("devices=1,fault.free=1", &["a free", "everything is freed"]),
            ("devices=1,fault.plain=1", &["a plain allocation"]),
            ("fault.mixed=1", &["several devices at once"]),
            ("devices=1,fault.context_needed=1", &["1: a thread without a context"]),
        ],
    );
}

#[test]
fn faults_of_the_way_through_the_driver_are_found() {
    let driver = FakeDriver::new();
    driver.assert_found(
        "untouched",
        &[
            ("fault.loads_cuda=1", &["does not load libcuda"]),
            ("fault.listed_early=1", &["out of the driver's lists"]),
            ("fault.context_made=1", &["creates no context"]),
        ],
    );
    driver.assert_found(
        "capture",
        &[
            (
                "fault.capture_broken=1",
                &["2: the capturing thread", "2: another thread"],
            ),
            ("fault.capture_refused=1", &["2: the capturing thread"]),
        ],
    );
    driver.assert_found("process", &[("fault.process=1", &["7: "])]);
    driver.assert_found("identity", &[("fault.uuid=1", &["the UUID of a device"])]);
}

#[test]
fn slow_pools_are_found() {
    FakeDriver::new().assert_found(
        "costs",
        &[(
            "fault.slow=1",
            &["2: `log_memory`, each call", "2: the pool and three of its values"],
        )],
    );
}

#[test]
fn costly_readings_are_found() {
    FakeDriver::new().assert_found(
        "costs",
        &[("fault.busy=40", &["4: NVML's calls", "the threads that read"])],
    );
}

#[test]
fn faults_of_figures_are_found() {
    let other = FakeDriver::variant(
        &["allocates"],
        "1200, 33, 90, 45, 181.00, 300.00, 980, 619\n1200, 34, 90, 46, 182.00, 300.00, 980, 619",
        "7, 8\n7, 8",
    );
    let failing = other.failing("figures", "fault.sum=4096");
    // Eight figures and two counts of errors of both devices, and the sum of each.
    assert_eq!(failing.len(), 2 * (8 + 2 + 1), "{failing:#?}");
}

#[test]
fn machine_without_a_gpu_has_its_own_exit_code_and_no_page() {
    let driver = FakeDriver::new();
    let page = driver.page();
    let output = driver.run("devices=0", &["--output", page.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("no GPU that CUDA can use: CUDA does not start"));
    assert!(!page.exists());

    fs::remove_file(driver.0.path().join("libcuda.so.1")).expect("it was there");
    let output = driver.run("", &["--output", page.to_str().expect("text")]);
    // A machine with a driver of its own has another libcuda.
    if output.status.code() == Some(3) {
        assert!(
            text(&output.stderr).contains("libcuda is not found"),
            "{}",
            text(&output.stderr)
        );
        assert!(!page.exists());
    }
}
