//! Probes that are asked from time to time.
#![cfg(feature = "metrics")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use facade::logcore::{self, BuildContext, ConfigError, Probe, ProbeError, Readings};
use facade::{LogConfig, UnifiedLogger, setup_logging};
use serde_json::json;

/// The other ends of the next probe that is built. The probe reports each sample, and waits for a
/// permission to continue.
static NEXT: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);
/// One test at a time builds its logger.
static TURN: Mutex<()> = Mutex::new(());

struct Ticks {
    period: Duration,
    asked: Sender<()>,
    may_go_on: Receiver<()>,
    count: u32,
}

#[derive(serde::Deserialize)]
struct TicksOptions {
    period_ms: u64,
}

impl Ticks {
    fn build(options: TicksOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let (asked, may_go_on) = NEXT.lock().unwrap().take().expect("a test asks for one");
        Ok(Self {
            period: Duration::from_millis(options.period_ms),
            asked,
            may_go_on,
            count: 0,
        })
    }
}

impl Probe for Ticks {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        let _ = self.asked.send(());
        let gone = |_| ProbeError::Unavailable("the test is over".to_owned());
        self.may_go_on.recv().map_err(gone)?;
        self.count += 1;
        readings.push("system/ticks", self.count);
        readings.push("system/gpu_energy_kwh", 0.25 * f64::from(self.count));
        if let Some(nice) = nice_of_this_thread() {
            readings.push("system/nice", nice);
        }
        Ok(())
    }

    fn period(&self) -> Option<Duration> {
        Some(self.period)
    }
}

logcore::register_probe!("ticks", Ticks::build);

/// The nineteenth field, of which the second is a name in brackets.
fn nice_of_this_thread() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    let behind_name = stat.rsplit(')').next()?;
    behind_name.split_whitespace().nth(16)?.parse().ok()
}

fn logger(name: &str, period_ms: u64) -> (UnifiedLogger, Receiver<()>, Sender<()>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let ((asked, was_asked), (go_on, may_go_on)) = (channel(), channel());
    *NEXT.lock().unwrap() = Some((asked, may_go_on));
    let config = LogConfig {
        name: name.into(),
        log_dir: folder.path().into(),
        probes: [("ticks".into(), json!({ "period_ms": period_ms }))].into(),
        ..LogConfig::default()
    };
    (setup_logging(config).unwrap(), was_asked, go_on, folder)
}

#[test]
fn a_periodic_probe_is_sampled_at_the_start_and_at_the_end() {
    let (logger, was_asked, go_on, _folder) = logger("sampling.ends", 3_600_000);
    for _ in 0..9 {
        go_on.send(()).unwrap();
    }
    was_asked.recv().unwrap();
    // The probe has a period of its own, so that `log_memory` does not sample it.
    logger.log_memory();
    logger.log_memory();
    logger.finish();
    assert_eq!(was_asked.iter().count(), 1);
    #[cfg(feature = "jsonl")]
    {
        let summary = std::fs::read_to_string(logger.run_dir().join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["sampling.ends"]["gpu_energy_kwh"], json!(0.5), "{summary}");
        assert_eq!(summary["sampling.ends"]["mfu"], json!(null), "{summary}");
    }
}

#[test]
fn a_periodic_probe_is_sampled_while_the_program_logs_nothing() {
    let (logger, was_asked, go_on, _folder) = logger("sampling.period", 1);
    for _ in 0..6 {
        was_asked.recv().unwrap();
        go_on.send(()).unwrap();
    }
    // Before it is asked the seventh time, the sixth reading was logged.
    was_asked.recv().unwrap();
    let stats = logger.metrics().stats("system/ticks").expect("it was logged");
    assert_eq!((stats.count, stats.last), (6, 6.0));
    // The training goes first.
    #[cfg(target_os = "linux")]
    assert!(logger.metrics().stats("system/nice").expect("it was logged").last >= 10.0);
    drop(go_on);
}

#[test]
fn a_probe_that_hangs_does_not_hold_up_the_end() {
    let (logger, was_asked, go_on, _folder) = logger("sampling.hang", 1);
    was_asked.recv().unwrap();
    logger.info("said while it hangs");
    let report = logger.finish();
    assert!(report.problem.is_none(), "{report:?}");
    drop(go_on);
}
