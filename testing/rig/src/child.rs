//! The processes that are killed: this program, run with the hidden task `child`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use facade::{LogConfig, MetricHandle, RingPlace, UnifiedLogger, recover, setup_logging};
use serde_json::json;

use crate::event_files::GENERATION;
use crate::plan::{ProcessPlan, RunChoice};
use crate::receipts::{CallKind, CallReceipts};
use crate::resumed;
use crate::scripted_call::ScriptedCall;

/// Logs until the process is killed, or recovers the rings of earlier processes.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    #[cfg(logcore_kill_points)]
    arm_kill_point()?;
    match arguments {
        [task, plan] if task == "live" => live(&serde_json::from_str(plan)?),
        [task, folder] if task == "recover" => recover_all(Path::new(folder)),
        _ => bail!("this task is only for the crash rig"),
    }
}

/// Has this process kill itself at the point that `KILL_POINT=<name>:<n>` names, when it is passed
/// for the n-th time.
#[cfg(logcore_kill_points)]
fn arm_kill_point() -> Result<()> {
    use rustix::process::{Signal, getpid, kill_process};

    if let Ok(point) = std::env::var("KILL_POINT") {
        let (name, times) = point.rsplit_once(':').context("KILL_POINT is not <name>:<n>")?;
        facade::logcore::kill_point::arm_kill_point(name, times.parse()?, || {
            let _ = kill_process(getpid(), Signal::KILL);
        });
    }
    Ok(())
}

fn recover_all(folder: &Path) -> Result<()> {
    for outcome in recover(folder) {
        match outcome {
            // In the form of the logger's own notices, so that the rig reads both alike.
            Ok(recovered) => eprintln_line(&format!("logcore: {recovered}"))?,
            Err(error) => bail!("{error}"),
        }
    }
    Ok(())
}

fn eprintln_line(line: &str) -> std::io::Result<()> {
    std::io::stderr().write_all(format!("{line}\n").as_bytes())
}

/// Logs until the process is killed.
fn live(life: &ProcessPlan) -> Result<()> {
    ScriptedCall::prepare();
    let receipts = CallReceipts::open(&life.receipts).context("open the receipts")?;
    let logger = setup_logging(config(life))?;
    let shared = life.run.resumed().map(|_| resumed::logger(config(life), life));
    let shared = shared.transpose()?;
    receipts.ready()?;
    thread::scope(|scope| {
        for thread in 0..life.threads {
            let (logger, receipts) = (&logger, &receipts);
            thread::Builder::new().spawn_scoped(scope, move || log(life, thread, logger, receipts))?;
        }
        if let Some(shared) = &shared {
            let receipts = &receipts;
            thread::Builder::new().spawn_scoped(scope, move || {
                for count in 1.. {
                    resumed::log(shared, life, count - 1);
                    receipts.stepped(count)?;
                    pause(Duration::from_micros(life.gap + SHARED_GAP));
                }
                anyhow::Ok(())
            })?;
        }
        anyhow::Ok(())
    })
}

/// Microseconds that are added between two steps of the shared logger.
const SHARED_GAP: u64 = 20;

fn config(life: &ProcessPlan) -> LogConfig {
    let mut file = json!({"keep": 5000});
    if let Some(rotate_mb) = life.rotate_mb {
        file["rotate_mb"] = rotate_mb.into();
    }
    let name = format!("g{}", life.generation);
    LogConfig {
        log_dir: life.folder.clone(),
        run: match &life.run {
            RunChoice::Flat => "flat".to_owned(),
            RunChoice::New => "auto".to_owned(),
            RunChoice::Resumed(run) => run.clone(),
        },
        resume: life.run.resumed().map(|_| "auto".to_owned()),
        enable_console: false,
        enable_wandb: true,
        wandb_name: Some(name.clone()),
        name,
        ring_bytes: life.ring_bytes as usize,
        ring_place: match life.shared_memory {
            true => RingPlace::SharedMemory,
            false => RingPlace::LogDir,
        },
        hyper_parameters: BTreeMap::from([(GENERATION.to_owned(), life.generation.into())]),
        sinks: BTreeMap::from([
            ("file".to_owned(), file),
            ("jsonl".to_owned(), json!({"records": true})),
            ("tensorboard".to_owned(), json!({})),
            ("wandb".to_owned(), json!({"mode": "offline"})),
        ]),
        ..LogConfig::default()
    }
}

/// Makes the calls of one thread, without end.
fn log(life: &ProcessPlan, thread: u64, logger: &UnifiedLogger, receipts: &CallReceipts) -> Result<()> {
    let odd = logger.metric("odd");
    let name = format!("t{thread}");
    let mut values = 0;
    for number in 0.. {
        let call = ScriptedCall::new(life, thread, number);
        let line = call.line(life, thread, number);
        match (call.one_in(6000, 3), call.one_in(2, 8)) {
            // An error is delivered when the call returns.
            (true, _) => logger.error(line),
            (false, true) => logger.info(line),
            // The writer formats the short ones.
            (false, false) => facade::info!(logger, "{}", line),
        }
        receipts.returned(thread, CallKind::Lines, number + 1)?;
        if (!life.own_steps || thread == 0) && call.one_in(3, 4) {
            match life.own_steps {
                true => log_at_own_step(logger, &odd, values),
                false => {
                    logger.log_metrics([(&name, values)]);
                }
            }
            values += 1;
            receipts.returned(thread, CallKind::Values, values)?;
        }
        if call.one_in(9000, 5) {
            logger.flush()?;
        }
        if call.one_in(4000, 6) {
            logger.log_config(&json!({"seed": life.seed, name.as_str(): number}));
        }
        pause(Duration::from_micros(life.gap));
    }
    Ok(())
}

/// Logs two values a step.
fn log_at_own_step(logger: &UnifiedLogger, odd: &MetricHandle, number: u64) {
    match number % 2 {
        0 => {
            logger.log_metrics_at(number / 2, [("even", number)]);
        }
        _ => odd.record(number / 2, number),
    }
}

/// Waits without `sleep`, which takes longer than some microseconds.
fn pause(gap: Duration) {
    let since = Instant::now();
    while since.elapsed() < gap {
        thread::yield_now();
    }
}
