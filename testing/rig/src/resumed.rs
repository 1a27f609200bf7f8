//! The logger that all attempts of a resumed run share: each attempt repeats some steps of the one
//! before, and the rows of the newest attempt are those that count.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use facade::{LogConfig, UnifiedLogger, setup_logging};
use logcore_runs::StoredRun;
use serde_json::json;

use crate::check::KilledProcess;
use crate::findings::{ComparedOutput, Findings};
use crate::plan::ProcessPlan;

/// Name of the logger.
pub(crate) const SHARED: &str = "trainer";

/// Opens the logger beside that of the process.
pub(crate) fn logger(config: LogConfig, life: &ProcessPlan) -> Result<UnifiedLogger> {
    let logger = setup_logging(LogConfig {
        name: SHARED.to_owned(),
        enable_file: false,
        enable_wandb: false,
        wandb_name: None,
        sinks: BTreeMap::from([("jsonl".to_owned(), json!({}))]),
        ..config
    })?;
    logger.start_from(life.first_step);
    Ok(logger)
}

/// Logs the n-th step of a process.
pub(crate) fn log(logger: &UnifiedLogger, life: &ProcessPlan, number: u64) {
    let step = life.first_step + number;
    logger.log_metrics_at(step, [("shared", value(life.generation, step))]);
}

fn value(generation: u64, step: u64) -> u64 {
    generation << GENERATION_AT | step
}

/// Returns the generation and the step of a value.
pub(crate) fn parse(value: u64) -> (u64, u64) {
    (value >> GENERATION_AT, value & ((1 << GENERATION_AT) - 1))
}

/// A number of `metrics.jsonl` is exact up to 2^53.
const GENERATION_AT: u32 = 32;

/// The rows of one run that count.
struct NewestSteps {
    /// Generation of the process by step.
    newest: BTreeMap<u64, u64>,
    /// Steps from here on may be superseded: a process was killed while it told its first step.
    doubtful_from: u64,
    /// The call that may not have returned.
    open: Option<(u64, u64)>,
}

impl NewestSteps {
    fn of_run(run: &str, dead: &[KilledProcess]) -> Self {
        let mut steps = Self {
            newest: BTreeMap::new(),
            doubtful_from: u64::MAX,
            open: None,
        };
        for one in dead.iter().filter(|one| one.life.run.resumed() == Some(run)) {
            let (first, count) = (one.life.first_step, one.returned.steps());
            if !one.returned.was_ready() {
                steps.doubtful_from = steps.doubtful_from.min(first);
                continue;
            }
            // `next_to_log` is never behind a doubtful step.
            steps.doubtful_from = u64::MAX;
            steps.newest.split_off(&first);
            let generation = one.life.generation;
            steps
                .newest
                .extend((first..first + count).map(|step| (step, generation)));
            steps.open = Some((first + count, generation));
        }
        steps
    }
}

/// Returns the first step of the next attempt of a run, which repeats some of the steps so far.
pub(crate) fn next_to_log(run: &str, dead: &[KilledProcess], repeated: u64) -> u64 {
    let steps = NewestSteps::of_run(run, dead);
    let next = steps.newest.last_key_value().map_or(0, |(step, _)| step + 1);
    next.saturating_sub(repeated).min(steps.doubtful_from)
}

/// Checks the rows of the shared logger in the folder of a run.
pub(crate) fn check(folder: &Path, run: &str, dead: &[KilledProcess], findings: &mut Findings) -> Result<()> {
    let steps = NewestSteps::of_run(run, dead);
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    for row in StoredRun::open(folder)?.rows(0)? {
        let row = row?;
        if row.logger != SHARED {
            continue;
        }
        let (generation, step) = parse(row.value("metrics/shared").unwrap_or_default() as u64);
        if step != row.step || found.insert(step, generation).is_some() {
            let words = format_args!("{run}: two rows of step {}, or a foreign one, count", row.step);
            findings.doubled(ComparedOutput::Rows, generation, words);
        }
    }
    for (step, generation) in &steps.newest {
        let there = found.remove(step);
        if there != Some(*generation) && (there.is_some() || *step < steps.doubtful_from) {
            let words = format_args!("{run}: step {step} of g{generation} does not count, but that of {there:?}");
            findings.lost(ComparedOutput::Rows, *generation, 1, words);
        }
    }
    for (step, generation) in found {
        if Some((step, generation)) != steps.open {
            let words = format_args!("{run}: step {step} of g{generation} counts and is superseded");
            findings.torn(ComparedOutput::Rows, Some(generation), words);
        }
    }
    Ok(())
}
