//! `logcore prune`: deletes old runs, after a list and a yes.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use logcore::epoch_seconds;
use logcore::escape::to_one_line;
use logcore_runs::{StoredRun, list_runs};
use serde_json::{Value, json};

use super::{report_list_problems, report_problems};
use crate::arguments::PruneArguments;
use crate::columns::{Condition, RunColumn, format_bytes};
use crate::commands::list::read_all;
use crate::output::{Outcome, Output};
use crate::removal::{KeptBecause, Removal, RunRemover};
use crate::run_entry::RunEntry;
use crate::table::{Column, Table};

/// A run that meets all criteria.
struct Candidate {
    entry: RunEntry,
    bytes: u64,
    kept: Option<KeptBecause>,
    is_deleted: bool,
}

pub(super) fn run(arguments: &PruneArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    ensure!(
        arguments.keep.is_some() || arguments.older_than.is_some() || !arguments.conditions.is_empty(),
        "cannot choose the runs to delete: nothing says which. Add --keep, --older-than or --where"
    );
    let log_dir = arguments.dir.as_deref().unwrap_or(log_dir);
    let remover = RunRemover::open(log_dir, arguments.unsent)?;
    let (chosen, others) = choose(arguments, log_dir, output)?;
    let mut outcome = Outcome::Done;
    let mut candidates: Vec<Candidate> = Vec::new();
    for entry in chosen {
        match remover.look_at(&entry.run) {
            Ok((bytes, kept)) => candidates.push(Candidate {
                entry,
                bytes,
                kept,
                is_deleted: false,
            }),
            Err(error) => {
                outcome = Outcome::DoneInPart;
                output.problem(Some(&entry.run.dir.to_string_lossy()), &format!("{error:#}"));
            }
        }
    }
    let leftovers = remover.leftovers();
    list(&candidates, leftovers.len(), output);
    let has_work = candidates.iter().any(|candidate| candidate.kept.is_none()) || !leftovers.is_empty();
    if has_work && !arguments.dry_run && is_wanted(arguments, output)? {
        let _only = remover.begin()?;
        for leftover in &leftovers {
            if let Err(error) = remover.complete(leftover) {
                outcome = Outcome::DoneInPart;
                output.problem(Some(&log_dir.join(leftover).to_string_lossy()), &format!("{error:#}"));
            }
        }
        for candidate in candidates.iter_mut().filter(|candidate| candidate.kept.is_none()) {
            let dir = candidate.entry.run.dir.to_string_lossy().into_owned();
            match remover.remove(&candidate.entry.run) {
                Ok(Removal::Deleted) => candidate.is_deleted = true,
                Ok(Removal::Kept(kept)) => {
                    output.line(format!("{} stays: it {kept}", to_one_line(&dir)));
                    candidate.kept = Some(kept);
                }
                Err(error) => {
                    outcome = Outcome::DoneInPart;
                    output.problem(Some(&dir), &format!("{error:#}"));
                }
            }
        }
        let is_left = |candidate: &&Candidate| !candidate.is_deleted;
        let left = candidates.iter().filter(is_left).map(|candidate| &candidate.entry);
        let left = left.chain(&others).map(|entry| &entry.run);
        remover.mend_links(left.max_by(|a, b| a.manifest.started.total_cmp(&b.manifest.started)));
        let deleted: Vec<_> = candidates.iter().filter(|candidate| candidate.is_deleted).collect();
        let bytes = deleted.iter().map(|candidate| candidate.bytes).sum();
        output.line(format!("deleted {}, {}", counted(deleted.len()), format_bytes(bytes)));
    }
    output.member("dry_run", arguments.dry_run.into());
    let (kept, pruned): (Vec<_>, Vec<_>) = candidates.iter().partition(|candidate| candidate.kept.is_some());
    output.member("pruned", pruned.into_iter().map(Candidate::json).collect());
    output.member("kept", kept.into_iter().map(Candidate::json).collect());
    Ok(outcome)
}

/// Returns the runs that meet all criteria, and the other ones.
fn choose(arguments: &PruneArguments, log_dir: &Path, output: &mut Output) -> Result<(Vec<RunEntry>, Vec<RunEntry>)> {
    let conditions: Vec<Condition> = arguments
        .conditions
        .iter()
        .map(|condition| Condition::parse(condition))
        .collect::<Result<_>>()?;
    let runs = list_runs(log_dir)?;
    report_list_problems(&runs, output);
    // A run in `log_dir` itself has no folder of its own, and hidden folders are no runs.
    let has_folder = |run: &StoredRun| {
        let name = run.dir.file_name().unwrap_or_default();
        run.dir != log_dir && !name.as_encoded_bytes().starts_with(b".")
    };
    let runs: Vec<StoredRun> = runs.runs.into_iter().filter(has_folder).collect();
    let has_rows = conditions.iter().any(Condition::needs_rows);
    let now = epoch_seconds(SystemTime::now());
    let (mut chosen, mut others) = (Vec::new(), Vec::new());
    let mut newest = 0;
    for entry in read_all(&runs, has_rows) {
        let holds = conditions.iter().all(|condition| condition.holds(&entry));
        if holds {
            // A run about which not all is known is not deleted because of what is not known.
            report_problems(&entry, output);
            newest += 1;
        }
        let is_beyond = arguments.keep.is_none_or(|keep| newest > keep);
        let is_old = match arguments.older_than {
            Some(age) => end_of(&entry.run).is_some_and(|end| now - end > age.as_secs_f64()),
            None => true,
        };
        let is_chosen = holds && is_beyond && is_old && entry.problems.is_empty();
        if is_chosen { &mut chosen } else { &mut others }.push(entry);
    }
    Ok((chosen, others))
}

/// Returns the time of the last sign of a run in its `run.json`.
fn end_of(run: &StoredRun) -> Option<f64> {
    let manifest = &run.manifest;
    let attempts = manifest.attempts.iter();
    let times = attempts.flat_map(|attempt| [Some(attempt.started), attempt.ended]);
    let times = times.chain([Some(manifest.started), manifest.ended]).flatten();
    times.reduce(f64::max).filter(|time| *time > 0.0)
}

/// Shows the runs to delete, and those that have to stay.
fn list(candidates: &[Candidate], leftovers: usize, output: &mut Output) {
    for candidate in candidates {
        if let Some(kept) = &candidate.kept {
            let dir = candidate.entry.run.dir.to_string_lossy();
            output.line(format!("{} stays: it {kept}", to_one_line(&dir)));
        }
    }
    if leftovers > 0 {
        output.line(format!(
            "{} of an earlier prune to delete completely",
            counted(leftovers)
        ));
    }
    let doomed: Vec<_> = candidates.iter().filter(|candidate| candidate.kept.is_none()).collect();
    if doomed.is_empty() {
        if leftovers == 0 {
            output.line("there is nothing to delete");
        }
        return;
    }
    let names = ["id", "name", "state", "ended", "dir"];
    let columns: Vec<RunColumn> = names.iter().filter_map(|name| RunColumn::parse(name).ok()).collect();
    let headers = columns.iter().map(|column| Column::left(column.name()));
    let mut table = Table::new([Column::right("size")].into_iter().chain(headers).collect());
    for candidate in &doomed {
        let size = [format_bytes(candidate.bytes).into()];
        let cells = columns.iter().map(|column| column.cell(&candidate.entry));
        table.row(size.into_iter().chain(cells));
    }
    for line in table.format(output.width(), output.has_colors()) {
        output.line(line);
    }
    let bytes = doomed.iter().map(|candidate| candidate.bytes).sum();
    output.line(format!("{} to delete, {}", counted(doomed.len()), format_bytes(bytes)));
}

/// Returns whether the user agrees, who has seen the list.
fn is_wanted(arguments: &PruneArguments, output: &mut Output) -> Result<bool> {
    if arguments.yes {
        return Ok(true);
    }
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal() && !output.has_json();
    if !output.print_text()? {
        return Ok(false);
    }
    if !can_ask {
        bail!(
            "cannot ask whether to delete these runs: there is no terminal. Add --yes, or --dry-run for the list alone"
        );
    }
    write!(io::stderr(), "Delete them? [y/N] ").context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    let is_yes = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    if !is_yes {
        output.line("nothing is deleted");
    }
    Ok(is_yes)
}

fn counted(runs: usize) -> String {
    let plural = if runs == 1 { "" } else { "s" };
    format!("{runs} run{plural}")
}

impl Candidate {
    fn json(&self) -> Value {
        let run = &self.entry.json;
        let mut json = json!({
            "id": run["id"],
            "name": run["name"],
            "dir": run["dir"],
            "state": run["state"],
            "started": run["started"],
            "ended": run["ended"],
            "bytes": self.bytes,
            "deleted": self.is_deleted,
        });
        if let Some(kept) = &self.kept {
            json["reason"] = kept.name().into();
            json["text"] = format!("it {kept}").into();
        }
        json
    }
}
