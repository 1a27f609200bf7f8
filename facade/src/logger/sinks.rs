//! Building the sinks that a config asks for.
//!
//! The sinks `console`, `file` and `wandb` appear here by name because fields of [`LogConfig`] are
//! theirs (`enable_console`, `file_level`, …), and `jsonl` because it is on unless the config turns
//! it off. The config is part of the public contract.

use std::collections::BTreeMap;
#[cfg(feature = "health")]
use std::sync::Arc;

use logcore::log::LevelFilter;
use logcore::registry::{self, BuildContext};
use logcore::{ConfigError, EventKind, LogConfig, Ranks, RunInfo, StopFlag};
#[cfg(feature = "health")]
use logcore_health::rules::{FindingHook, RuleSink, TrippedMetrics};
use logcore_pipeline::{FolderNumber, NamedSink, RepeatFolder, print_notice};
use serde_json::Value;

#[cfg(feature = "health")]
use crate::run::Run;

/// Name of the sink in which the rules look at the values; no plugin can have it.
pub(crate) const RULES: &str = "the rules";

/// The sinks of one logger, built but not yet in use.
pub(crate) struct BuiltSinks {
    pub(crate) sinks: Vec<NamedSink>,
    /// Level of each sink that takes records.
    pub(crate) levels: BTreeMap<String, LevelFilter>,
    /// First step of this run, if it resumes an earlier one; else 0.
    pub(crate) first_step: u64,
    /// Number of the folder of their files, if the folder holds a name of the ring.
    pub(crate) folder: Option<FolderNumber>,
    /// The metrics whose values a rule finds bad.
    #[cfg(feature = "health")]
    pub(crate) tripped: Arc<TrippedMetrics>,
}

impl BuiltSinks {
    /// Lets the console take records of foreign targets up to `level`, beyond those that the other
    /// sinks take.
    pub(crate) fn open_console_to_foreign(&mut self, level: LevelFilter) {
        for sink in self.sinks.iter_mut().filter(|sink| sink.name == "console") {
            sink.foreign_level = level;
        }
    }

    /// Adds the sink in which the rules look at the values of the logger. Its books are nobody's
    /// business: what it gets is delivered to nobody.
    #[cfg(feature = "health")]
    pub(crate) fn add_rules(&mut self, config: &LogConfig, run: &Arc<Run>) {
        let logger: Arc<str> = config.name.as_str().into();
        let (of_hook, name) = (Arc::clone(run), Arc::clone(&logger));
        let hook = FindingHook::new(move |finding| {
            of_hook.health().findings().push(&name, finding);
            of_hook.bell().ring();
        });
        let sink = RuleSink::new(&config.rules, &config.metrics_prefix, hook, Arc::clone(&self.tripped));
        if let Some(missing) = sink.missing_watch() {
            run.health().findings().add_missing_watch(&logger, &missing);
        }
        self.sinks.push(NamedSink::new(RULES, LevelFilter::Off, Box::new(sink)));
    }

    /// Returns the most verbose level of foreign records that only the console takes.
    pub(crate) fn foreign_console_level(&self) -> LevelFilter {
        let levels = self.sinks.iter().map(|sink| sink.foreign_level);
        levels.max().unwrap_or(LevelFilter::Off)
    }

    /// Returns `true` if a sink takes alerts.
    pub(crate) fn take_alerts(&self) -> bool {
        self.sinks.iter().any(|sink| sink.sink.wants(EventKind::Alert))
    }

    /// Returns `true` if a killed process may leave something for one of these sinks. A terminal
    /// needs no recovery.
    pub(crate) fn can_recover(&self) -> bool {
        self.sinks.iter().any(|sink| registry::can_recover(&sink.name))
    }
}

/// Returns `true` if `config` asks for a page of the run, or for a sink that may leave files.
pub(crate) fn leave_files(config: &LogConfig) -> Result<bool, ConfigError> {
    const WITHOUT_FILES: [&str; 2] = ["console", "memory"];
    let ranks = Ranks::from_config(config);
    let wanted = wanted_sinks(config, ranks)?;
    let has_page = config.report && ranks.is_first();
    Ok(has_page || wanted.keys().any(|name| !WITHOUT_FILES.contains(&name.as_str())))
}

/// Returns `true` if a logger of this config has the sink.
pub(crate) fn is_sink_on(config: &LogConfig, name: &str) -> bool {
    wanted_sinks(config, Ranks::from_config(config)).is_ok_and(|wanted| wanted.contains_key(name))
}

/// Builds every linked sink that `config` asks for. The config's `log_dir` is the folder of the
/// run.
pub(crate) fn build_sinks(config: &LogConfig, run: &RunInfo, stop: &StopFlag) -> Result<BuiltSinks, ConfigError> {
    let context = BuildContext::new(config, stop).with_run(run);
    let ranks = context.ranks();
    report_unused_options(config);
    let mut built = BuiltSinks {
        sinks: Vec::new(),
        levels: BTreeMap::new(),
        first_step: 0,
        folder: None,
        #[cfg(feature = "health")]
        tripped: Arc::default(),
    };
    let wanted = wanted_sinks(config, ranks)?;
    if config.report && ranks.is_first() && !wanted.contains_key("jsonl") {
        report_page_without_rows(&config.name);
    }
    for (name, options) in wanted {
        let sink = registry::build_sink(&name, &options, &context)?;
        let level = level_of(&name, config);
        if sink.wants(EventKind::Record) {
            built.levels.insert(name.clone(), level);
        }
        let folds = config.fold_repeats && sink.folds_repeats();
        built.sinks.push(NamedSink {
            repeat_folder: folds.then(RepeatFolder::default),
            directed_level: match name == "console" && !ranks.is_first() {
                true => config.other_ranks_level,
                false => LevelFilter::Trace,
            },
            ..NamedSink::new(name, level, sink)
        });
    }
    built.first_step = context.first_step();
    Ok(built)
}

/// Reports options of W&B that nobody reads: an entry in `sinks` switches every other sink on.
fn report_unused_options(config: &LogConfig) {
    let options = config.sinks.get("wandb");
    if !config.enable_wandb && options.is_some_and(|options| !matches!(options, Value::Bool(false) | Value::Null)) {
        print_notice(
            "sinks.wandb without enable_wandb",
            "the options in `sinks.wandb` have no effect, because W&B is off: set `enable_wandb` to true, or leave the \
             options out",
        );
    }
}

fn report_page_without_rows(logger: &str) {
    print_notice(
        "report without jsonl",
        &format!(
            "the page of the run (`report`) gets no values of logger `{logger}`, because the sink `jsonl` is off: leave \
             `jsonl` on, or set `report` to false"
        ),
    );
}

/// Returns the level from which a sink gets records.
pub(crate) fn level_of(sink: &str, config: &LogConfig) -> LevelFilter {
    match sink {
        // W&B shows the lines of the terminal.
        "console" | "wandb" if Ranks::from_config(config).is_first() => config.console_level,
        "console" | "wandb" => config.console_level.min(config.other_ranks_level),
        "file" => config.file_level,
        // The config has no level for any other sink: it gets what the console or the file gets.
        _ => config.console_level.max(config.file_level),
    }
}

/// Returns names and options of the sinks that are on: by a flag of the config, by being linked, or
/// by an entry in `sinks`.
fn wanted_sinks(config: &LogConfig, ranks: Ranks) -> Result<BTreeMap<String, Value>, ConfigError> {
    let linked = registry::sink_names()?;
    let wandb_is_on = config.enable_wandb && (ranks.is_first() || config.other_ranks_wandb);
    let flags = [
        ("console", config.enable_console),
        ("file", config.enable_file),
        ("wandb", wandb_is_on),
    ];
    if config.enable_wandb && !linked.contains(&"wandb") {
        return Err(ConfigError::new(
            "enable_wandb",
            true,
            format!(
                "no linked crate has the sink `wandb`: switch on the Cargo feature `wandb` of \
                 logcore-facade, or leave it off; linked are: {}",
                linked.join(", ")
            ),
        ));
    }
    let mut wanted: BTreeMap<String, Value> = flags
        .iter()
        .filter(|(name, on)| *on && linked.contains(name))
        .map(|(name, _)| ((*name).to_owned(), Value::Bool(true)))
        .collect();
    if linked.contains(&"jsonl") {
        wanted.insert("jsonl".to_owned(), Value::Bool(true));
    }
    for (name, options) in &config.sinks {
        let is_flagged_off = flags.iter().any(|(flagged, on)| flagged == name && !on);
        if *options == Value::Bool(false) {
            wanted.remove(name);
        } else if !is_flagged_off {
            wanted.insert(name.clone(), options.clone());
        }
    }
    Ok(wanted)
}
