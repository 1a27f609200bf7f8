//! Many threads, names and rows, two runs at once, and the runtimes of others.

use std::fs;

use facade::wandb::{Image, find_logs};
use logcore::registry::build_sink;
use logcore::{BuildContext, MetricBatch, MetricValue, Notices, StopFlag};
use serde_json::json;
use tempfile::TempDir;

use crate::{check_all, config, delivered, log_all, online, start, with};
use testkit::wandb_server::{KEY, WandbServer};

#[test]
fn two_runs_at_once_do_not_mix() {
    let (first, second) = (WandbServer::start(), WandbServer::start());
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let a = start(&folder, "two_a", online(&first));
    let b = start(&other, "two_b", online(&second));
    std::thread::scope(|scope| {
        for logger in [&a, &b] {
            std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    for _ in 0..500 {
                        logger.log_metrics([(logger.name(), 1)]);
                    }
                })
                .unwrap();
        }
    });
    delivered(&a.finish());
    delivered(&b.finish());
    for (server, name) in [(&first, "two_a"), (&second, "two_b")] {
        let run = server.run();
        assert_eq!(run.history.len(), 500);
        assert!(run.is_whole() && run.rows().iter().all(|row| row[name] == 1));
    }
}

#[test]
fn threads_lose_no_row() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "threads", online(&server));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            std::thread::Builder::new()
                .spawn_scoped(scope, || {
                    for _ in 0..2000 {
                        logger.log_metrics([("x", 1)]);
                    }
                })
                .unwrap();
        }
    });
    delivered(&logger.finish());
    assert_eq!(server.run().steps(), (0..8000).collect::<Vec<_>>());
}

/// Media that take long to encode still reach their row while other threads log.
#[test]
fn images_of_other_threads_are_not_late() {
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "images", json!({"mode": "offline"}));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let metrics = || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                logger.log_metrics([("x", 1)]);
            }
        };
        std::thread::Builder::new().spawn_scoped(scope, metrics).unwrap();
        for _ in 0..20 {
            let image = Image::rgb(64, 64, vec![7; 64 * 64 * 3]);
            logger.wandb().log_image("sample", image, None);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let report = logger.finish();
    let books = report.sink("wandb").unwrap();
    assert_eq!(books.dropped_total(), 0, "{books:?}");
}

#[test]
fn it_works_inside_tokio() {
    let current = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for (at, runtime) in [current, multi].into_iter().enumerate() {
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        runtime.block_on(async {
            let options = with(online(&server), json!({"resume": "allow", "run_id": "x"}));
            let logger = start(&folder, &format!("tokio_{at}"), options);
            log_all(&logger, &folder);
            delivered(&logger.finish());
        });
        check_all(&server);
    }
}

#[test]
fn ten_thousand_names_and_many_rows() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "many", online(&server));
    let names: Vec<String> = (0..10_000).map(|at| format!("layer.{at}/norm")).collect();
    for step in 0..3_u64 {
        logger.log_metrics_at(step, names.iter().map(|name| (name.as_str(), step)));
    }
    for step in 3..20_000_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    delivered(&logger.finish());
    let run = server.run();
    assert!(run.is_whole());
    assert_eq!(run.history.len(), 20_000);
    assert_eq!(run.rows()[2].len(), 10_000 + 3);
    assert_eq!(run.summary.as_object().unwrap().len(), 10_000 + 1 + 4);
}

/// Data for a server that is down stay on disk and not in memory, which is measured for the whole
/// process.
#[cfg(target_os = "linux")]
#[test]
fn memory_stays_flat_while_a_server_is_down() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let address = WandbServer::start().url();
    let options = json!({"mode": "online", "base_url": address, "api_key": KEY, "transmit_interval": 0.05});
    let config = config(&folder, "down", options);
    let stop = StopFlag::default();
    let mut sink = build_sink("wandb", &config.sinks["wandb"], &BuildContext::new(&config, &stop)).unwrap();
    sink.start(&Notices::new(|_, _| {})).unwrap();
    let mut log = |steps: std::ops::Range<u64>| {
        for step in steps {
            let values = ["a", "b", "c"].map(|name| (name, MetricValue::Float(step as f64 / 7.0)));
            sink.metrics(&MetricBatch::new("down", step, &values)).unwrap();
            if step % 100 == 0 {
                sink.deliver().unwrap();
                sink.resume_point().unwrap();
            }
        }
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let early = log(0..50_000);
    let late = log(50_000..400_000);
    let size = fs::metadata(&find_logs(folder.path())[0]).unwrap().len() >> 10;
    assert!(
        late < early + size / 4,
        "from {early} to {late} KiB, with {size} KiB on disk"
    );
    assert_eq!(sink.books().unwrap().spooled, 400_000);
}
