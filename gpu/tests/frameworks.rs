//! Values that a program reports about its own allocators. Gauges belong to the process, so this is
//! one test.

use logcore::log::Level;
use logcore::{Probe, Readings};
use logcore_gpu::{Fallback, GpuOptions, GpuProbe, ask_allocator, gauge};

fn sample(probe: &mut GpuProbe) -> Readings {
    let mut readings = Readings::default();
    let _ = probe.sample(&mut readings);
    readings
}

fn values(readings: &Readings) -> Vec<(String, f64)> {
    let owned = |(name, value): (&str, logcore::MetricValue)| (name.to_owned(), value.as_f64());
    readings.iter().map(owned).collect()
}

#[test]
fn probe_reads_gauges_and_callbacks() {
    // No machine has devices of such high ordinals.
    let (first, second) = (101, 102);
    let options = GpuOptions::default().with_fallback(Fallback::Strict);
    let mut probe = GpuProbe::new(options.clone());
    assert_eq!(sample(&mut probe).iter().len(), 0);

    // Each sample has the newest value, however close the samples are.
    gauge(first).set(5_000_000_000, 6_000_000_000);
    sample(&mut probe);
    for (allocated, gb) in [(1_500_000_000, 1.5), (0, 0.0)] {
        gauge(first).set(allocated, 2_000_000_000);
        let readings = sample(&mut probe);
        assert_eq!(
            values(&readings),
            [
                ("memory/gpu_allocated_gb/cuda:101".to_owned(), gb),
                ("memory/gpu_reserved_gb/cuda:101".to_owned(), 2.0),
                ("memory/gpu_max_allocated_gb/cuda:101".to_owned(), 5.0),
                ("memory/gpu_source/cuda:101".to_owned(), 1.0),
            ]
        );
        assert_eq!(readings.source(), Some(("GPU memory", "framework:gauge")));
    }

    ask_allocator(second, "burn", || Some((3_000_000_000, 4_000_000_000)));
    let readings = sample(&mut GpuProbe::new(options.clone()));
    let source = "framework:gauge (cuda:101), framework:burn (cuda:102)";
    assert_eq!(readings.source(), Some(("GPU memory", source)));
    assert_eq!(
        values(&readings)[4],
        ("memory/gpu_allocated_gb/cuda:102".to_owned(), 3.0)
    );

    ask_allocator(second, "broken", || panic!("made to panic"));
    for warnings in [1, 0] {
        let readings = sample(&mut GpuProbe::new(options.clone()));
        assert_eq!(readings.iter().len(), 4);
        let warned = readings.notes().filter(|(level, _)| *level == Level::Warn);
        assert_eq!(warned.count(), warnings);
    }
}
