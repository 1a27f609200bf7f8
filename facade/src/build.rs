//! The sinks that a config asks for.

use std::collections::BTreeMap;

use logcore::log::LevelFilter;
use logcore::registry::{self, BuildContext};
use logcore::{ConfigError, EventKind, LogConfig, Ranks, StopFlag};
use logcore_pipeline::{FolderNumber, NamedSink, RepeatFolder};
use serde_json::Value;

/// The sinks of one logger, built but not yet in use.
pub(crate) struct BuiltSinks {
    pub(crate) sinks: Vec<NamedSink>,
    /// The level of each sink that takes records.
    pub(crate) levels: BTreeMap<String, LevelFilter>,
    /// The step that the run goes on from, if it is resumed.
    pub(crate) first_step: u64,
    /// Which of the folders with a name of the ring their files are in.
    pub(crate) folder: Option<FolderNumber>,
}

/// Builds every sink that `config` asks for and that is linked.
pub(crate) fn build_sinks(config: &LogConfig, stop: &StopFlag) -> Result<BuiltSinks, ConfigError> {
    let context = BuildContext::new(config, stop);
    let ranks = context.ranks();
    let mut built = BuiltSinks {
        sinks: Vec::new(),
        levels: BTreeMap::new(),
        first_step: 0,
        folder: None,
    };
    for (name, options) in wanted(config, ranks)? {
        let sink = registry::build_sink(&name, &options, &context)?;
        let level = level_of(&name, config);
        if sink.wants(EventKind::Record) {
            built.levels.insert(name.clone(), level);
        }
        let folds = config.fold_repeats && sink.folds_repeats();
        let fold = folds.then(RepeatFolder::default);
        built.sinks.push(NamedSink {
            name,
            level,
            sink,
            fold,
        });
    }
    built.first_step = context.first_step();
    Ok(built)
}

/// From which level on a sink gets records.
pub(crate) fn level_of(sink: &str, config: &LogConfig) -> LevelFilter {
    match sink {
        // W&B shows what the terminal shows.
        "console" | "wandb" if Ranks::from_config(config).is_first() => config.console_level,
        "console" | "wandb" => config.console_level.min(config.other_ranks_level),
        "file" => config.file_level,
        // A sink without a level of its own gets whatever one of the two lets in.
        _ => config.console_level.max(config.file_level),
    }
}

/// Names and options of the sinks that are on: those of the flags, those that are on by being linked, those that have an
/// entry of their own.
fn wanted(config: &LogConfig, ranks: Ranks) -> Result<BTreeMap<String, Value>, ConfigError> {
    let linked = registry::sink_names()?;
    let flags = [
        ("console", config.enable_console),
        ("file", config.enable_file),
        (
            "wandb",
            config.enable_wandb && (ranks.is_first() || config.other_ranks_wandb),
        ),
    ];
    if config.enable_wandb && !linked.contains(&"wandb") {
        return Err(ConfigError::new(
            "enable_wandb",
            true,
            format!(
                "no linked crate has the sink `wandb`: switch on the Cargo feature `wandb` of logcore-facade, or leave it off; \
                 linked are: {}",
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
        let flagged_off = flags.iter().any(|(flagged, on)| flagged == name && !on);
        if *options == Value::Bool(false) {
            wanted.remove(name);
        } else if !flagged_off {
            wanted.insert(name.clone(), options.clone());
        }
    }
    Ok(wanted)
}
