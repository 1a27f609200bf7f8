//! Tests of the selection of sources with a fake CUDA driver.

use std::time::{Duration, Instant};

use logcore::Readings;
use logcore::log::Level;

use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::fake::{FakeLibrary, PID, environment};
use crate::nvidia::options::Fallback;
use crate::nvidia::probe::{GpuProbe, MIN_INTERVAL};
use crate::nvidia::tests::eager;

const GB: u64 = 1_000_000_000;

/// A program with both libraries, and its probe.
struct FakeProgram {
    nvml: FakeLibrary,
    cuda: FakeLibrary,
    probe: GpuProbe,
    now: Instant,
}

impl FakeProgram {
    fn new(nvml: FakeLibrary, cuda: FakeLibrary, fallback: Fallback) -> Self {
        let environment = GpuEnvironment {
            cuda: Some(cuda.path().into()),
            ..environment(None)
        };
        Self {
            probe: GpuProbe::with_environment(nvml.options(fallback), environment, eager()),
            nvml,
            cuda,
            now: Instant::now(),
        }
    }

    fn with_devices(count: u64) -> Self {
        Self::new(
            FakeLibrary::with_devices(count),
            FakeLibrary::cuda(&[], count),
            Fallback::Process,
        )
    }

    /// A sample that counts.
    fn sample(&mut self) -> Readings {
        self.now += MIN_INTERVAL;
        let mut readings = Readings::default();
        let _ = self.probe.sample_at(self.now, &mut readings);
        readings
    }

    /// The source of the next sample, and its first value in GB.
    fn source(&mut self) -> Option<(String, f64)> {
        let readings = self.sample();
        let (_, source) = readings.source()?;
        let value = readings.iter().next()?.1.as_f64();
        Some((source.to_owned(), value))
    }
}

impl Drop for FakeProgram {
    /// No test may make the probe start, create or set anything.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.cuda.get("calls.forbidden"), 0);
        }
    }
}

fn some(source: &str, gb: f64) -> Option<(String, f64)> {
    Some((source.to_owned(), gb))
}

#[test]
fn pool_reports_the_exact_allocation() {
    let mut program = FakeProgram::with_devices(1);
    program.cuda.start_with(0, 1_234_567_890);
    let readings = program.sample();
    let values: Vec<_> = readings.iter().map(|(name, value)| (name, value.as_f64())).collect();
    assert_eq!(
        values,
        [
            ("memory/gpu_allocated_gb", 1.234567890),
            ("memory/gpu_reserved_gb", 2.469135780),
            ("memory/gpu_max_allocated_gb", 3.703703670),
            ("memory/gpu_source", 2.0),
            ("memory/gpu_process_gb", 2.0),
        ]
    );
    assert_eq!(readings.source(), Some(("GPU memory", "cuda_mempool")));
}

#[test]
fn emptied_pool_reports_zero() {
    let mut program = FakeProgram::with_devices(1);
    program.cuda.start_with(0, 0);
    program.cuda.set("0.highest", GB);
    assert_eq!(program.source(), some("cuda_mempool", 0.0));
}

#[test]
fn driver_replaces_a_pool_without_values() {
    for (cfgs, setting) in [
        (&[] as &[&str], ("started", 0)),
        (&[], ("devices", 0)),
        (&[], ("0.active", 0)),
        // The device does not support pools.
        (&[], ("0.pool", 801)),
        (&["without_pool"], ("0.pool", 0)),
    ] {
        let mut program = FakeProgram::new(
            FakeLibrary::with_devices(1),
            FakeLibrary::cuda(cfgs, 1),
            Fallback::Process,
        );
        program.cuda.start_with(0, GB);
        program.cuda.set(setting.0, setting.1);
        assert_eq!(program.source(), some("nvml_process", 2.0), "{cfgs:?} {setting:?}");
    }
    // The pool never held a byte: the framework does not use it.
    let mut program = FakeProgram::with_devices(1);
    program.cuda.start_with(0, 0);
    assert_eq!(program.source(), some("nvml_process", 2.0));
}

#[test]
fn probe_never_loads_cuda() {
    let nvml = FakeLibrary::with_devices(1);
    let nowhere = GpuEnvironment {
        cuda: Some("libcuda-of-nobody.so.1".into()),
        ..environment(None)
    };
    let mut probe = GpuProbe::with_environment(nvml.options(Fallback::Process), nowhere, eager());
    let mut readings = Readings::default();
    probe.sample_at(Instant::now(), &mut readings).unwrap();
    assert_eq!(readings.source(), Some(("GPU memory", "nvml_process")));
}

#[test]
fn late_pool_is_selected_once() {
    let mut program = FakeProgram::with_devices(1);
    assert_eq!(program.source(), some("nvml_process", 2.0));
    program.cuda.start_with(0, GB);
    assert_eq!(program.source(), some("nvml_process", 2.0));
    // These samples are too close together to count.
    for _ in 0..10 {
        program.now -= MIN_INTERVAL;
        assert_eq!(program.source(), some("nvml_process", 2.0));
    }
    assert_eq!(program.source(), some("nvml_process", 2.0));
    assert_eq!(program.source(), some("cuda_mempool", 1.0));
    // The context ends, and with it the pool.
    program.cuda.set("0.active", 0);
    for _ in 0..4 {
        assert_eq!(program.source(), None);
    }
    assert_eq!(program.source(), some("nvml_process", 2.0));
    program.cuda.set("0.active", 1);
    for _ in 0..10 {
        assert_eq!(program.source(), some("nvml_process", 2.0));
    }
}

#[test]
fn context_on_one_device_is_not_assumed_on_another() {
    let mut program = FakeProgram::with_devices(2);
    program.cuda.start_with(1, GB);
    program.nvml.processes(0, &[]);
    let readings = program.sample();
    assert_eq!(readings.source(), Some(("GPU memory", "cuda_mempool")));
    assert!(readings.iter().len() == 5 && readings.iter().all(|(name, _)| name.ends_with("/cuda:1")));

    program.nvml.processes(0, &[(PID, GB)]);
    let source = program.sample().source().map(|(_, source)| source.to_owned());
    assert_eq!(source.as_deref(), Some("nvml_process (cuda:0), cuda_mempool (cuda:1)"));
}

#[test]
fn strict_fallback_uses_the_pool_only() {
    let mut program = FakeProgram::new(
        FakeLibrary::with_devices(1),
        FakeLibrary::cuda(&[], 1),
        Fallback::Strict,
    );
    assert_eq!(program.source(), None);
    program.cuda.start_with(0, GB);
    assert_eq!(program.source(), some("cuda_mempool", 1.0));
    assert_eq!(program.nvml.get("calls.init"), 0);
}

#[test]
fn cuda_names_the_devices() {
    for cfgs in [&[] as &[&str], &["without_uuid_v2"], &["without_uuid"]] {
        let mut program = FakeProgram::new(
            FakeLibrary::with_devices(2),
            FakeLibrary::cuda(cfgs, 2),
            Fallback::Process,
        );
        program.nvml.processes(1, &[(PID, 7 * GB)]);
        program.cuda.set("0.nvml", 1);
        program.cuda.set("1.nvml", 0);
        assert_eq!(program.source(), some("nvml_process", 2.0));
        program.cuda.set("started", 1);
        let readings = program.sample();
        let values: Vec<_> = readings.iter().map(|(_, value)| value.as_f64()).collect();
        assert_eq!((values[0], values[5]), (7.0, 2.0));
        let notes: Vec<_> = readings.notes().map(|(_, text)| text).collect();
        let expected = [(0, 1), (1, 0)].map(|(ordinal, index)| {
            format!(
                "cuda:{ordinal} is NVIDIA H100, 80.0 GB, NVML device {index}, GPU-{index}aaa-bbb, 0000:0{index}:00.0, \
                 driver 550.54, found from CUDA"
            )
        });
        assert_eq!(notes, expected);
    }
}

#[test]
fn mig_slice_is_found_by_its_cuda_uuid() {
    let mut program = FakeProgram::with_devices(1);
    program.nvml.set("99.total", 10 * GB);
    program.nvml.processes(99, &[(PID, 4 * GB)]);
    program.cuda.set("0.nvml", 99);
    program.cuda.set("started", 1);
    assert_eq!(program.source(), some("nvml_process", 4.0));
}

#[test]
fn contradiction_is_reported_once_and_the_pool_is_kept() {
    for (used, lists, said) in [
        (
            60 * GB,
            1,
            "cuda:0: cuda_mempool reports 60.000 GB allocated and 120.000 GB reserved, but the device has 80.000 GB",
        ),
        (
            3 * GB,
            3,
            "cuda:0: cuda_mempool reports 3.000 GB allocated and 6.000 GB reserved, but the driver reports 2.000 GB \
             for this process",
        ),
    ] {
        let mut program = FakeProgram::with_devices(1);
        program.cuda.start_with(0, used);
        let mut warnings = || {
            let readings = program.sample();
            assert_eq!(readings.source(), Some(("GPU memory", "cuda_mempool")));
            let warned = readings.notes().filter(|(level, _)| *level == Level::Warn);
            warned.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
        };
        // A single process list may be outdated.
        for _ in 1..lists {
            assert!(warnings().is_empty());
        }
        assert_eq!(warnings(), [said]);
        assert!((0..5).all(|_| warnings().is_empty()));
    }
    let mut program = FakeProgram::with_devices(1);
    program.cuda.start_with(0, 2 * GB);
    for _ in 0..5 {
        assert!(program.sample().notes().all(|(level, _)| level != Level::Warn));
    }
}

#[test]
fn outdated_process_list_is_no_contradiction() {
    let mut program = FakeProgram::with_devices(1);
    program.nvml.processes(0, &[(PID, 2 * GB)]);
    program.cuda.start_with(0, GB);
    let is_calm = |program: &mut FakeProgram| program.sample().notes().all(|(level, _)| level != Level::Warn);
    assert!(is_calm(&mut program));
    // The pool has grown since each list was made.
    for grown in 4..10 {
        program.cuda.start_with(0, grown * GB);
        assert!(is_calm(&mut program), "{grown}");
        program.nvml.processes(0, &[(PID, (grown + 1) * GB)]);
    }
}

#[test]
fn peak_is_reset_when_the_device_changes() {
    let mut program = FakeProgram::with_devices(2);
    program.nvml.set("1.model", 1);
    for (device, gb) in [(0, 50), (1, 1)] {
        program.nvml.processes(device, &[(PID, gb * GB)]);
        program.cuda.set(&format!("{device}.nvml"), 1 - device);
    }
    let peak = |program: &mut FakeProgram| {
        let readings = program.sample();
        let mut values = readings.iter().map(|(name, value)| (name.to_owned(), value.as_f64()));
        values
            .find(|(name, _)| name == "memory/gpu_max_allocated_gb")
            .map(|(_, gb)| gb)
    };
    assert_eq!(peak(&mut program), Some(50.0), "the order was presumed");
    program.cuda.set("started", 1);
    assert_eq!(peak(&mut program), Some(1.0));
}

#[test]
fn device_unknown_to_nvml_keeps_the_map_of_the_environment() {
    let mut program = FakeProgram::with_devices(1);
    program.cuda.set("0.nvml", 7);
    assert_eq!(program.source(), some("nvml_process", 2.0));
    program.cuda.set("started", 1);
    for _ in 0..10 {
        assert_eq!(program.source(), some("nvml_process", 2.0));
    }
}

#[test]
fn device_that_misses_a_sample_keeps_its_source() {
    let mut program = FakeProgram::with_devices(2);
    program.cuda.start_with(0, GB);
    let both = "cuda_mempool (cuda:0), nvml_process (cuda:1)";
    let source = |program: &mut FakeProgram| program.sample().source().map(|(_, source)| source.to_owned());
    assert_eq!(source(&mut program).as_deref(), Some(both));
    program.nvml.set("1.processes", 10);
    assert_eq!(source(&mut program).as_deref(), Some(both));
}

#[test]
fn invalid_switch_is_reported_once() {
    let nvml = FakeLibrary::with_devices(1);
    let typo = GpuEnvironment {
        unknown_switch: Some("of".to_owned()),
        ..environment(None)
    };
    let mut probe = GpuProbe::with_environment(nvml.options(Fallback::Process), typo, eager());
    for warnings in [1, 0] {
        let mut readings = Readings::default();
        probe.sample_at(Instant::now(), &mut readings).unwrap();
        let warned = readings
            .notes()
            .filter(|(_, text)| text.starts_with("unknown GPU_PROBE value `of`"));
        assert_eq!(warned.count(), warnings);
    }
}

#[test]
fn pool_is_read_at_most_once_per_interval() {
    let mut program = FakeProgram::with_devices(1);
    program.cuda.start_with(0, GB);
    program.sample();
    let calls = program.cuda.get("calls.any");
    for _ in 0..100 {
        program.now -= MIN_INTERVAL;
        program.sample();
    }
    // The sampler thread asked for the devices once, before.
    assert_eq!(program.cuda.get("calls.any"), calls);
    program.now += Duration::from_secs(1);
    program.sample();
    assert!(program.cuda.get("calls.any") > calls);
}
