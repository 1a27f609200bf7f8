//! The runs in the folder: what waits for a recovery, or for a server.

use std::path::Path;

use logcore::RunState;
use logcore_runs::{StoredRun, list_runs};

use super::Finding;
use crate::removal::{KeptBecause, RunRemover};

pub(super) fn examine(log_dir: &Path) -> Vec<Finding> {
    let Ok(list) = list_runs(log_dir) else {
        return Vec::new();
    };
    let shown = log_dir.display();
    let count = |state: RunState| list.runs.iter().filter(|run| run.state == state).count();
    let text = format!(
        "{} in {shown}: {} running, {} killed, {} unknown",
        list.runs.len(),
        count(RunState::Running),
        count(RunState::Killed),
        count(RunState::Unknown)
    );
    let mut findings = vec![match list.problems.first() {
        None => Finding::ok("runs", text),
        Some(problem) => Finding::warning(
            "runs",
            format!("{text}; and {} that cannot be read", list.problems.len()),
            problem.to_string(),
        ),
    }];
    let Ok(remover) = RunRemover::open(log_dir, false) else {
        return findings;
    };
    let waits = |run: &&StoredRun| run.state != RunState::Running;
    let reasons = list
        .runs
        .iter()
        .filter(waits)
        .filter_map(|run| remover.waiting(run).ok());
    let (mut unrecovered, mut unsent) = (0, 0);
    for reason in reasons.flatten() {
        match reason {
            KeptBecause::Unrecovered => unrecovered += 1,
            KeptBecause::Unsent(_) => unsent += 1,
            _ => {}
        }
    }
    if unrecovered > 0 {
        findings.push(Finding::warning(
            "killed runs",
            format!("{unrecovered} with lines that are not in their files"),
            format!("`logcore repair {shown}` writes them; so does the next run"),
        ));
    }
    if unsent > 0 {
        findings.push(Finding::warning(
            "unsent runs",
            format!("{unsent} that their server does not have completely"),
            format!("`logcore sync {shown}`, for MLflow `logcore sync --to mlflow {shown}`, delivers them"),
        ));
    }
    findings
}
