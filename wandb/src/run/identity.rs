//! The ids of the W&B runs that belong to one run.
//!
//! The first logger of rank 0 has the run's own id. The others have ids and a group that begin with
//! the id, so that W&B's page shows what belongs together.

use std::path::Path;

use logcore::{BuildContext, ConfigError, RunInfo, WandbRun, is_same_name};

use crate::folder::RunFolder;
use crate::log_format::proto::{RecordKind, RunRecord};
use crate::log_format::{LogEntry, LogReader};
use crate::settings::{ResumeMode, RunMode, RunSettings};
use crate::sync::find_logs;

/// Sets the id of a W&B run, and lets a resumed run continue its earlier W&B run.
///
/// # Errors
///
/// If the settings ask for another W&B run than the resumed run has.
pub(super) fn identify(settings: &mut RunSettings, context: &BuildContext<'_>) -> Result<(), ConfigError> {
    let run = context.run();
    check_resume(settings, context)?;
    if run.id().is_empty() {
        return Ok(());
    }
    let earlier = run.wandb_runs().into_iter().find(|wandb| is_of(wandb, context));
    if let Some(earlier) = earlier.as_ref().filter(|_| run.attempt() > 1) {
        check_place(settings, earlier, run)?;
    }
    match (earlier, settings.run_id_is_explicit) {
        (Some(earlier), true) if earlier.id != settings.run_id => {
            let remedy = format!(
                "the resumed run `{}` goes on in the W&B run `{}`; use that id, or none",
                run.id(),
                earlier.id
            );
            return Err(ConfigError::new("run_id", &settings.run_id, remedy));
        }
        (_, true) => {}
        (Some(earlier), false) => settings.run_id = earlier.id,
        (None, false) => settings.run_id = new_id(run, context),
    }
    if settings.run_id != run.id() && !settings.run_id_is_explicit {
        settings.group.get_or_insert_with(|| run.id().to_owned());
    }
    if run.attempt() > 1 {
        settings.resume.get_or_insert(ResumeMode::Allow);
        settings.keeps_steps = true;
    }
    Ok(())
}

/// Refuses another project, or another user or team, than the earlier W&B run has, whose parts
/// would be in two places.
fn check_place(settings: &RunSettings, earlier: &WandbRun, run: &RunInfo) -> Result<(), ConfigError> {
    let Some(record) = first_record(run.dir(), &earlier.id).filter(|_| settings.mode != RunMode::Disabled) else {
        return Ok(());
    };
    let refuse = |field: &str, ours: &str, earlier_place: &str| {
        let remedy = format!(
            "the resumed run `{}` goes on in the W&B run `{}`, whose {field} is `{earlier_place}`; use that one, or begin a \
             new run",
            run.id(),
            earlier.id
        );
        Err(ConfigError::new(field, ours, remedy))
    };
    match &settings.entity {
        Some(entity) if !record.entity.is_empty() && record.entity != *entity => {
            refuse("entity", entity, &record.entity)
        }
        _ if record.project != settings.project => refuse("project", &settings.project, &record.project),
        _ => Ok(()),
    }
}

/// Returns the record with which the newest log of a W&B run begins; `None` if there is no log that
/// can be read.
fn first_record(dir: &Path, id: &str) -> Option<RunRecord> {
    let log = find_logs(dir)
        .into_iter()
        .rfind(|log| log.file_stem().is_some_and(|stem| *stem == *format!("run-{id}")))?;
    let mut reader = LogReader::new(RunFolder::open(&log).ok()?.open_log().ok()?).ok()?;
    for _ in 0..MAX_RECORDS_BEFORE_RUN {
        match reader.next().ok()? {
            LogEntry::Record(record) => match record.kind {
                Some(RecordKind::Run(run)) => return Some(*run),
                _ => continue,
            },
            LogEntry::End => break,
        }
    }
    None
}

/// A log begins with a header, and then its run.
const MAX_RECORDS_BEFORE_RUN: usize = 4;

/// Refuses a condition of W&B's beside `LogConfig.resume`, which decides alone.
fn check_resume(settings: &RunSettings, context: &BuildContext<'_>) -> Result<(), ConfigError> {
    let condition = match settings.resume {
        Some(ResumeMode::Must) => "must",
        Some(ResumeMode::Never) => "never",
        Some(ResumeMode::Allow | ResumeMode::Auto) | None => return Ok(()),
    };
    match &context.config().resume {
        Some(resume) => {
            let remedy = format!("`resume = \"{resume}\"` of the logger decides which run goes on; leave this one out");
            Err(ConfigError::new("resume", condition, remedy))
        }
        None => Ok(()),
    }
}

fn is_of(wandb: &WandbRun, context: &BuildContext<'_>) -> bool {
    is_same_name(&wandb.logger, context.logger()) && wandb.rank == context.rank()
}

/// Returns an id that no other W&B run of the run has.
fn new_id(run: &RunInfo, context: &BuildContext<'_>) -> String {
    let (id, rank) = (run.id(), context.rank());
    let (first, name) = match rank {
        0 => (id.to_owned(), format!("{id}-{}", plain_name(context.logger()))),
        rank => (
            format!("{id}-rank{rank}"),
            format!("{id}-{}-rank{rank}", plain_name(context.logger())),
        ),
    };
    let others = run.wandb_runs();
    let numbered = (2..).map(|number: u64| format!("{name}-{number}"));
    [first, name.clone()]
        .into_iter()
        .chain(numbered)
        .find(|id| others.iter().all(|other| other.id != *id))
        .unwrap_or_default()
}

/// Most characters of a logger's name in an id.
const MAX_NAME: usize = 64;

/// Returns the name with `_` for every character that may not be part of an id everywhere.
fn plain_name(name: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    name.chars().map(plain).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use logcore::{LogConfig, StopFlag};
    use serde_json::{Value, json};

    use super::*;
    use crate::settings;

    /// Identifies the W&B run of a logger, and notes it in the run.
    fn settled(run: &RunInfo, logger: &str, rank: u32, options: Value) -> Result<RunSettings, ConfigError> {
        let config = LogConfig {
            name: logger.into(),
            rank: Some(rank),
            resume: (run.attempt() > 1).then(|| "latest".into()),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop).with_run(run);
        let mut settings = settings::resolve(
            serde_json::from_value(options).unwrap(),
            &config,
            &config.log_dir,
            &|_| None,
        )?;
        identify(&mut settings, &context)?;
        run.note_wandb_run(WandbRun {
            logger: logger.into(),
            rank,
            id: settings.run_id.clone(),
            url: None,
        });
        Ok(settings)
    }

    #[test]
    fn the_first_logger_has_the_id_of_the_run_and_the_others_begin_with_it() {
        let run = RunInfo::new("k3v9q2ab", "train", "run", 1);
        for (logger, rank, id, group) in [
            ("train", 0, "k3v9q2ab", None),
            ("app::eval", 0, "k3v9q2ab-app__eval", Some("k3v9q2ab")),
            ("app/eval", 0, "k3v9q2ab-app_eval", Some("k3v9q2ab")),
            ("train", 0, "k3v9q2ab", None),
            ("train", 3, "k3v9q2ab-rank3", Some("k3v9q2ab")),
            ("eval", 3, "k3v9q2ab-eval-rank3", Some("k3v9q2ab")),
        ] {
            let settings = settled(&run, logger, rank, json!({})).unwrap();
            assert_eq!(
                (&*settings.run_id, settings.group.as_deref()),
                (id, group),
                "{logger} {rank}"
            );
            assert!(!settings.keeps_steps && settings.resume.is_none());
        }
        assert_eq!(run.id(), "k3v9q2ab");
        let explicit = settled(&run, "other", 0, json!({"run_id": "mine", "group": "g"})).unwrap();
        assert_eq!((&*explicit.run_id, explicit.group.as_deref()), ("mine", Some("g")));
    }

    #[test]
    fn a_resumed_run_goes_on_in_its_wandb_run() {
        let run = RunInfo::new("k3v9q2ab", "train", "run", 2);
        let settings = settled(&run, "train", 0, json!({"run_id": "mine"})).unwrap();
        assert_eq!((settings.resume, settings.keeps_steps), (Some(ResumeMode::Allow), true));
        assert_eq!(settled(&run, "train", 0, json!({})).unwrap().run_id, "mine");
        let error = settled(&run, "train", 0, json!({"run_id": "another"})).unwrap_err();
        assert!(
            error.field == "run_id" && error.to_string().contains("`mine`"),
            "{error}"
        );
        for condition in ["must", "never"] {
            let error = settled(&run, "train", 0, json!({"resume": condition})).unwrap_err();
            assert_eq!((&*error.field, &*error.value), ("resume", condition));
        }
    }

    #[test]
    fn a_resumed_run_stays_in_its_project() {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig {
            name: "train".into(),
            log_dir: folder.path().into(),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let first = RunInfo::new("k3v9q2ab", "train", folder.path(), 1);
        let context = BuildContext::new(&config, &stop).with_run(&first);
        let options = json!({"mode": "offline", "project": "p", "entity": "team"});
        let mut sink = logcore::registry::build_sink("wandb", &options, &context).unwrap();
        sink.start(&logcore::Notices::new(|_, _| {})).unwrap();
        sink.finish(logcore::Deadline::after(std::time::Duration::from_secs(5)))
            .unwrap();

        let resumed = |options: Value| {
            let run = RunInfo::new("k3v9q2ab", "train", folder.path(), 2);
            first
                .wandb_runs()
                .into_iter()
                .for_each(|wandb| run.note_wandb_run(wandb));
            settled(&run, "train", 0, options)
        };
        for options in [json!({"project": "p"}), json!({"project": "p", "entity": "team"})] {
            assert_eq!(resumed(options).unwrap().run_id, "k3v9q2ab");
        }
        for (options, field, value) in [
            (json!({"project": "q"}), "project", "q"),
            (json!({"project": "p", "entity": "other"}), "entity", "other"),
        ] {
            let error = resumed(options).unwrap_err();
            assert_eq!((&*error.field, &*error.value), (field, value));
        }
        assert!(
            resumed(json!({"project": "q", "mode": "disabled"})).is_ok(),
            "nothing goes there"
        );
    }
}
