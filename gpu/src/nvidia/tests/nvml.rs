//! Tests of the probe against fake drivers of all kinds.

use std::time::{Duration, Instant};

use logcore::log::Level;
use logcore::{Probe, ProbeError, Readings};

use crate::nvidia::device::AvailableSources;
use crate::nvidia::device_map::MappedBy;
use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::fake::{FakeLibrary, PID, environment};
use crate::nvidia::options::{Fallback, GpuOptions};
use crate::nvidia::probe::GpuProbe;
use crate::nvidia::sampler::{SamplerTimeouts, Unavailable};
use crate::nvidia::session::{DriverFigures, NvmlSession};
use crate::nvidia::source_select::MemorySource;
use crate::nvidia::tests::{eager, probe};

const GB: u64 = 1_000_000_000;

fn open(fake: &FakeLibrary, visible: Option<&str>) -> Result<NvmlSession, Unavailable> {
    NvmlSession::open(Some(&fake.path().to_owned()), &environment(visible))
}

/// Returns the first sample: ordinals, GB and sources.
fn first(
    fake: &FakeLibrary,
    fallback: Fallback,
    visible: Option<&str>,
) -> Result<Vec<(usize, u64, MemorySource)>, Unavailable> {
    let figures = open(fake, visible)?.sample(Instant::now())?;
    Ok(tuples(figures, fallback))
}

/// Returns the better of the driver's two values for each device.
fn tuples(figures: Vec<DriverFigures>, fallback: Fallback) -> Vec<(usize, u64, MemorySource)> {
    let best = |figures: DriverFigures| {
        let ordinal = figures.ordinal;
        let mut offers = AvailableSources::default();
        offers.add_driver(figures, fallback);
        let (source, memory) = offers.sources.into_iter().next()?;
        Some((ordinal, memory.allocated / GB, source))
    };
    figures.into_iter().filter_map(best).collect()
}

#[test]
fn probe_reports_this_process_on_every_device() {
    let fake = FakeLibrary::with_devices(2);
    fake.processes(1, &[(PID, 5 * GB)]);
    let mut probe = probe(&fake, environment(None), eager());
    let mut readings = Readings::default();
    probe.sample(&mut readings).unwrap();
    let values: Vec<_> = readings.iter().map(|(name, value)| (name, value.as_f64())).collect();
    assert_eq!(
        values,
        [
            ("memory/gpu_allocated_gb", 2.0),
            ("memory/gpu_reserved_gb", 2.0),
            ("memory/gpu_max_allocated_gb", 2.0),
            ("memory/gpu_source", 3.0),
            ("memory/gpu_process_gb", 2.0),
            ("memory/gpu_allocated_gb/cuda:1", 5.0),
            ("memory/gpu_reserved_gb/cuda:1", 5.0),
            ("memory/gpu_max_allocated_gb/cuda:1", 5.0),
            ("memory/gpu_source/cuda:1", 3.0),
            ("memory/gpu_process_gb/cuda:1", 5.0),
        ]
    );
    assert_eq!(readings.source(), Some(("GPU memory", "nvml_process")));
    // The second version of the memory call was used.
    assert_eq!(fake.get("calls.memory_v1"), 0);
    assert!(fake.get("calls.memory_v2") > 0);
}

#[test]
fn driver_without_gpus_has_no_readings() {
    assert!(first(&FakeLibrary::with_devices(0), Fallback::Device, None).is_err());
}

#[test]
fn visible_devices_are_numbered_as_cuda_numbers_them() {
    let fake = FakeLibrary::with_devices(3);
    for device in 0..3 {
        fake.processes(device, &[(PID, (device + 10) * GB)]);
    }
    let seen = |visible| {
        let usages = first(&fake, Fallback::Process, Some(visible)).unwrap_or_default();
        usages
            .into_iter()
            .map(|(ordinal, gb, _)| (ordinal, gb))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen("1,0"), [(0, 11), (1, 10)]);
    assert_eq!(seen("2"), [(0, 12)]);
    assert_eq!(seen("GPU-2aaa-bbb,GPU-0"), [(0, 12), (1, 10)]);
    // Too large an index, an unknown name and an ambiguous one end the list.
    assert_eq!(seen("1,7,0"), [(0, 11)]);
    assert_eq!(seen("1,GPU-9,0"), [(0, 11)]);
    assert_eq!(seen("1,GPU-,0"), [(0, 11)]);
    assert_eq!(seen("1,MIG-9999,0"), [(0, 11)]);
    for none in ["0,0", "0,GPU-0aaa", "7", ""] {
        assert_eq!(seen(none), [], "{none:?}");
    }
}

#[test]
fn mig_slice_is_found_by_its_uuid() {
    let fake = FakeLibrary::with_devices(1);
    fake.set("99.total", 10 * GB);
    fake.processes(99, &[(PID, 4 * GB)]);
    let seen = first(&fake, Fallback::Process, Some("MIG-0000"));
    assert_eq!(seen, Ok(vec![(0, 4, MemorySource::Process)]));
}

#[test]
fn sliced_device_is_replaced_by_its_slices() {
    let fake = FakeLibrary::with_devices(2);
    fake.set("1.mig", 1);
    fake.set("1.slices", 2);
    for (slice, gb) in [(2000, 4), (2001, 6)] {
        fake.set(&format!("{slice}.total"), 20 * GB);
        fake.processes(slice, &[(PID, gb * GB)]);
    }
    let seen = |visible| {
        let usages = first(&fake, Fallback::Process, visible).unwrap_or_default();
        usages
            .into_iter()
            .map(|(ordinal, gb, _)| (ordinal, gb))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(None), [(0, 2), (1, 4)]);
    assert_eq!(seen(Some("1")), [(0, 4)]);
    assert_eq!(seen(Some("GPU-1aaa,0")), [(0, 4), (1, 2)]);
    assert_eq!(seen(Some("MIG-2001-slice")), [(0, 6)]);
    assert_eq!(seen(Some("MIG-2001")), [(0, 6)]);
    // Ambiguous, and unknown.
    for none in ["MIG-2", "MIG-2007-slice"] {
        assert_eq!(seen(Some(none)), [], "{none}");
    }
}

#[test]
fn index_is_exact_if_the_order_is_known() {
    let fake = FakeLibrary::with_devices(2);
    let found = |visible, is_pci_order| {
        let environment = GpuEnvironment {
            is_pci_order,
            ..environment(visible)
        };
        let mut session = NvmlSession::open(Some(&fake.path().to_owned()), &environment).unwrap();
        session.sample(Instant::now()).unwrap()[0].mapped_by == MappedBy::Environment
    };
    assert!(found(None, false));
    fake.set("1.model", 1);
    assert!(!found(None, false) && !found(Some("1"), false));
    assert!(found(None, true) && found(Some("1"), true) && found(Some("GPU-1aaa"), false));
}

#[test]
fn driver_that_hangs_at_start_is_reported_once() {
    let fake = FakeLibrary::with_devices(1);
    fake.set("hang_at_start", 1);
    let timeouts = SamplerTimeouts {
        first_required: Duration::ZERO,
        ..eager()
    };
    let mut probe = probe(&fake, environment(None), timeouts);
    let mut warnings = || {
        let mut readings = Readings::default();
        assert!(probe.sample(&mut readings).is_err());
        readings.notes().filter(|(level, _)| *level == Level::Warn).count()
    };
    assert_eq!([warnings(), warnings(), warnings()], [1, 0, 0]);
    fake.set("hang_at_start", 0);
}

#[test]
fn unknown_values_are_left_out() {
    let fake = FakeLibrary::with_devices(1);
    // Another process; this process with 0 bytes, "not available", more than the device has, all it
    // has.
    for ours in [(PID + 2, GB), (PID, 0), (PID, u64::MAX), (PID, 81 * GB), (PID, 80 * GB)] {
        fake.processes(0, &[(PID + 1, GB), ours]);
        assert_eq!(first(&fake, Fallback::Process, None), Ok(vec![]), "{ours:?}");
    }
    fake.processes(0, &[]);
    assert_eq!(first(&fake, Fallback::Process, None), Ok(vec![]));

    let mut readings = Readings::default();
    probe(&fake, environment(None), eager()).sample(&mut readings).unwrap();
    assert_eq!((readings.iter().len(), readings.source()), (0, None));
}

#[test]
fn exclusive_device_counts_for_the_process() {
    let fake = FakeLibrary::with_devices(1);
    for unknown in [0, u64::MAX] {
        fake.processes(0, &[(PID, unknown)]);
        assert_eq!(
            first(&fake, Fallback::Process, None),
            Ok(vec![(0, 3, MemorySource::Device)])
        );
    }
    for used in [0, u64::MAX, 81 * GB] {
        fake.set("0.used", used);
        assert_eq!(first(&fake, Fallback::Process, None), Ok(vec![]), "{used}");
    }
}

#[test]
fn device_fallback_reports_the_whole_device() {
    let fake = FakeLibrary::with_devices(2);
    fake.processes(0, &[(PID + 1, GB)]);
    let seen = first(&fake, Fallback::Device, None);
    assert_eq!(
        seen,
        Ok(vec![(0, 3, MemorySource::Device), (1, 2, MemorySource::Process)])
    );

    let options = fake.options(Fallback::Device);
    let mut probe = GpuProbe::with_environment(options, environment(None), eager());
    let mut readings = Readings::default();
    probe.sample(&mut readings).unwrap();
    assert_eq!(
        readings.source(),
        Some(("GPU memory", "nvml_device (cuda:0), nvml_process (cuda:1)"))
    );
}

#[test]
fn old_driver_gets_the_first_version_of_the_call() {
    let fake = FakeLibrary::variant(&["without_memory_v2"], 1);
    fake.processes(0, &[]);
    assert_eq!(
        first(&fake, Fallback::Device, None),
        Ok(vec![(0, 3, MemorySource::Device)])
    );
    fake.set("0.memory", 3);
    assert_eq!(first(&fake, Fallback::Device, None), Ok(vec![]));
    fake.processes(0, &[(PID, GB)]);
    assert_eq!(
        first(&fake, Fallback::Device, None),
        Ok(vec![(0, 1, MemorySource::Process)])
    );
}

#[test]
fn process_is_reported_without_any_memory_call() {
    let fake = FakeLibrary::variant(&["without_memory_v1", "without_memory_v2"], 1);
    assert_eq!(
        first(&fake, Fallback::Process, None),
        Ok(vec![(0, 2, MemorySource::Process)])
    );
}

#[test]
fn device_is_reported_without_a_process_list() {
    let fake = FakeLibrary::variant(&["without_processes", "without_shutdown"], 1);
    assert_eq!(first(&fake, Fallback::Process, None), Ok(vec![]));
    assert_eq!(
        first(&fake, Fallback::Device, None),
        Ok(vec![(0, 3, MemorySource::Device)])
    );
}

#[test]
fn misread_process_list_is_not_requested() {
    let fake = FakeLibrary::variant(&["misread_entries"], 1);
    assert_eq!(first(&fake, Fallback::Process, None), Ok(vec![]));
    assert_eq!(
        first(&fake, Fallback::Device, None),
        Ok(vec![(0, 3, MemorySource::Device)])
    );
    assert_eq!(fake.get("calls.processes"), 0);
}

#[test]
fn refused_query_is_disabled_and_others_continue() {
    let fake = FakeLibrary::with_devices(2);
    fake.set("0.handle", 4);
    let mut session = open(&fake, None).unwrap();
    let handles = fake.get("calls.handle");
    for _ in 0..3 {
        let usages = session.sample(Instant::now());
        assert_eq!(
            usages.map(|figures| tuples(figures, Fallback::Process)),
            Ok(vec![(1, 2, MemorySource::Process)])
        );
    }
    assert_eq!(fake.get("calls.handle"), handles + 2);

    fake.set("1.memory", 4);
    assert_eq!(
        session
            .sample(Instant::now())
            .map(|figures| tuples(figures, Fallback::Process)),
        Ok(vec![(1, 2, MemorySource::Process)])
    );
    fake.set("1.processes", 4);
    let unavailable = session.sample(Instant::now()).unwrap_err();
    assert_eq!(unavailable.reason, "the driver supports no memory query for these GPUs");
}

#[test]
fn lost_device_is_retried_after_a_minute() {
    let fake = FakeLibrary::with_devices(2);
    let mut session = open(&fake, None).unwrap();
    let start = Instant::now();
    let mut seen = |seconds| {
        tuples(
            session.sample(start + Duration::from_secs(seconds)).unwrap(),
            Fallback::Device,
        )
        .len()
    };
    assert_eq!(seen(0), 2);
    fake.set("0.memory", 15);
    assert_eq!(seen(1), 1);
    let calls = fake.get("calls.memory_v2");
    assert_eq!(seen(60), 1);
    assert_eq!(fake.get("calls.memory_v2"), calls + 1, "the lost device was queried");
    // The device disappears from the list, and returns.
    fake.set("0.handle", 15);
    assert_eq!(seen(61), 1);
    fake.set("0.handle", 0);
    fake.set("0.memory", 0);
    assert_eq!(seen(120), 1);
    let handles = fake.get("calls.handle");
    assert_eq!(seen(121), 2);
    assert_eq!(fake.get("calls.handle"), handles + 1, "its old handle was used");
    // A device that needs a reset counts as lost.
    fake.set("1.processes", 16);
    assert_eq!(seen(122), 1);
    fake.set("1.processes", 0);
    assert_eq!(seen(181), 1);
    assert_eq!(seen(182), 2);
}

#[test]
fn transient_failure_skips_a_sample_and_keeps_the_source() {
    let fake = FakeLibrary::with_devices(1);
    let mut session = open(&fake, None).unwrap();
    let start = Instant::now();
    let mut seconds = 0;
    let mut seen = || {
        seconds += 1;
        tuples(
            session.sample(start + Duration::from_secs(seconds)).unwrap(),
            Fallback::Device,
        )
    };
    for _ in 0..3 {
        fake.set("0.processes", 10);
        for _ in 0..4 {
            assert_eq!(seen(), []);
        }
        fake.set("0.processes", 0);
        assert_eq!(seen(), [(0, 2, MemorySource::Process)]);
    }
    // Five failures in a row disable the query.
    fake.set("0.processes", 999);
    for _ in 0..4 {
        assert_eq!(seen(), []);
    }
    assert_eq!(seen(), [(0, 3, MemorySource::Device)]);
    fake.set("0.processes", 0);
    assert_eq!(seen(), [(0, 3, MemorySource::Device)]);
    // The query is retried after a minute.
    let seen: Vec<_> = (0..60).flat_map(|_| seen()).collect();
    assert_eq!(seen.first(), Some(&(0, 3, MemorySource::Device)));
    assert_eq!(seen.last(), Some(&(0, 2, MemorySource::Process)));
}

#[test]
fn driver_that_does_not_start_is_reported_once() {
    let fake = FakeLibrary::with_devices(1);
    for (code, said) in [
        (9, "cannot start NVML: NVIDIA driver is not loaded"),
        (4, "or set GPU_PROBE=off"),
        (18, "restart the machine"),
        (12, "a shared library couldn't be found"),
        (17, "or set GPU_PROBE=off"),
        (15, "fell off the bus"),
        (999, "an internal driver error"),
        (12345, "12345"),
    ] {
        fake.set("init", code);
        let unavailable = open(&fake, None).err().expect("it cannot start");
        assert!(
            unavailable.reason.contains(said) && unavailable.is_failure,
            "{code}: {unavailable:?}"
        );
        let mut probe = probe(&fake, environment(None), eager());
        for notes in [1, 0] {
            let mut readings = Readings::default();
            let sampled = probe.sample(&mut readings);
            assert_eq!(sampled, Err(ProbeError::Transient(unavailable.reason.clone())));
            // The failure is reported once.
            assert_eq!(
                readings.notes().filter(|(level, _)| *level == Level::Warn).count(),
                notes
            );
        }
    }
}

#[test]
fn file_that_is_no_driver_counts_as_no_driver() {
    for library in ["/nowhere/libnvidia-ml.so.1", "/proc/self/status"] {
        let options = GpuOptions::default().with_library(library);
        let unavailable = NvmlSession::open(options.library.as_ref(), &environment(None))
            .err()
            .expect("it is none");
        assert!(
            unavailable.reason.starts_with("no NVIDIA driver: ") && !unavailable.is_failure,
            "{unavailable:?}"
        );
    }
}

#[test]
fn disabled_probe_opens_nothing() {
    let fake = FakeLibrary::with_devices(1);
    let mut no_nvml = environment(None);
    no_nvml.nvml = false;
    for (fallback, environment) in [(Fallback::Process, no_nvml), (Fallback::Strict, environment(None))] {
        let mut probe = GpuProbe::with_environment(fake.options(fallback), environment, eager());
        assert!(probe.sample(&mut Readings::default()).is_err());
    }
    assert_eq!(fake.get("calls.init"), 0);
}

#[test]
fn library_is_opened_once_and_never_closed() {
    let fake = FakeLibrary::with_devices(1);
    for _ in 0..3 {
        let mut readings = Readings::default();
        probe(&fake, environment(None), eager()).sample(&mut readings).unwrap();
        assert_eq!(readings.iter().len(), 5);
    }
    assert_eq!(fake.get("calls.init"), 1);
    assert_eq!(fake.get("calls.shutdown"), 0);
}

#[test]
fn hanging_call_does_not_block_a_caller() {
    let fake = FakeLibrary::with_devices(1);
    fake.set("hang", 1);
    let timeouts = SamplerTimeouts {
        first_required: Duration::from_millis(20),
        ..SamplerTimeouts::default()
    };
    let mut probe = probe(&fake, environment(None), timeouts);
    let start = Instant::now();
    for _ in 0..1000 {
        let sampled = probe.sample(&mut Readings::default());
        assert!(matches!(sampled, Err(ProbeError::Transient(_))));
    }
    fake.wait("calls.processes", 1);
    drop(probe);
    // Far longer than needed, and far shorter than a thousand timeouts or the end of the call.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(fake.get("calls.processes"), 1);
    fake.set("hang", 0);
}

#[test]
fn readings_come_back_after_a_hang() {
    let fake = FakeLibrary::with_devices(1);
    let mut probe = probe(
        &fake,
        environment(None),
        SamplerTimeouts {
            refresh: Duration::from_millis(5),
            ..eager()
        },
    );
    let mut sample = || {
        let mut readings = Readings::default();
        probe.sample(&mut readings).map(|()| readings.iter().len())
    };
    assert_eq!(sample(), Ok(5));
    fake.set("hang", 1);
    assert!(matches!(sample(), Err(ProbeError::Transient(_))));
    fake.set("hang", 0);
    while sample() != Ok(5) {
        std::thread::yield_now();
    }
}

#[test]
fn probes_are_registered_with_their_own_options() {
    use logcore::{BuildContext, LogConfig, StopFlag, registry};

    assert_eq!(registry::probe_names().unwrap(), ["gpu", "host", "system"]);
    let (config, stop) = (LogConfig::default(), StopFlag::default());
    let context = BuildContext::new(&config, &stop);
    let build = |name, options| registry::build_probe(name, &options, &context);
    for options in [
        serde_json::json!(true),
        serde_json::json!({"fallback": "device", "library": "/usr/lib/libnvidia-ml.so.1"}),
        serde_json::json!({"fallback": "strict"}),
    ] {
        assert!(build("gpu", options).is_ok());
    }
    assert!(build("host", serde_json::json!({})).is_ok());
    assert!(build("system", serde_json::json!(true)).is_ok());
    let refused = build("gpu", serde_json::json!({"fallback": "proces"})).err().unwrap();
    assert_eq!(
        (refused.field.as_str(), refused.value.as_str()),
        ("probes.gpu.fallback", "***"),
        "a text could be a misplaced secret"
    );
    let refused = build("gpu", serde_json::json!({"fallbak": "process"})).err().unwrap();
    assert_eq!(refused.field, "probes.gpu.fallbak");
    let refused = build("host", serde_json::json!({"period": 1})).err().unwrap();
    assert_eq!(refused.field, "probes.host.period");
}

#[test]
fn device_changes_are_reported_once() {
    let fake = FakeLibrary::with_devices(2);
    let mut probe = probe(&fake, environment(None), eager());
    let mut said = || {
        let mut readings = Readings::default();
        probe.sample(&mut readings).unwrap();
        let notes = readings.notes().map(|(level, text)| format!("{level} {text}"));
        notes.collect::<Vec<_>>()
    };
    let identity = |index: u32| {
        format!("NVIDIA H100, 80.0 GB, NVML device {index}, GPU-{index}aaa-bbb, 0000:0{index}:00.0, driver 550.54")
    };
    let both = [0, 1].map(|index| format!("INFO cuda:{index} is {}, found from the environment", identity(index)));
    assert_eq!(said(), both);
    assert!(said().is_empty());
    fake.set("1.memory", 15);
    let lost = format!(
        "ERROR cuda:1 is lost: {}, with 2.000 GB allocated. Retrying every minute",
        identity(1)
    );
    assert_eq!(said(), [lost]);
    assert!(said().is_empty());
}

#[test]
fn driver_that_stops_answering_is_reported_once() {
    let fake = FakeLibrary::with_devices(1);
    let timeouts = SamplerTimeouts {
        refresh: Duration::from_millis(5),
        ..eager()
    };
    let mut probe = probe(&fake, environment(None), timeouts);
    let mut warnings = || {
        let mut readings = Readings::default();
        let sampled = probe.sample(&mut readings);
        let warned = readings.notes().filter(|(level, _)| *level == Level::Warn).count();
        (sampled.is_ok(), warned)
    };
    assert_eq!(warnings(), (true, 0));
    fake.set("hang", 1);
    assert_eq!([warnings(), warnings()], [(false, 1), (false, 0)]);
    fake.set("hang", 0);
}

#[test]
fn process_list_is_requested_rarely() {
    let fake = FakeLibrary::with_devices(1);
    let mut rarely = environment(None);
    rarely.periods.processes = Duration::from_secs(15);
    let mut session = NvmlSession::open(Some(&fake.path().to_owned()), &rarely).unwrap();
    let start = Instant::now();
    for seconds in (0..=30).step_by(2) {
        let figures = session.sample(start + Duration::from_secs(seconds));
        assert_eq!(
            figures.map(|figures| tuples(figures, Fallback::Process)),
            Ok(vec![(0, 2, MemorySource::Process)])
        );
    }
    // One more for the identity of the device.
    assert_eq!(fake.get("calls.memory_v2"), 16 + 1);
    // At 0 and 16 seconds; the next would be at 31. Each time once for the count and once for the
    // list.
    assert_eq!(fake.get("calls.processes"), 4);
}
