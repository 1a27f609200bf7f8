//! Sinks, formatters and probes that linked crates have registered, and how they are built by name.
//!
//! A plugin crate that is only named in a `Cargo.toml` is not linked, so its registration is not there either: name the
//! crate once in the program (`use my_sink as _;`).

use std::cell::Cell;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::suggest::{did_you_mean, option_error};
use crate::{ConfigError, FileRank, Formatter, LogConfig, Probe, Ranks, Sink, SinkError, StopFlag};

/// What a sink, formatter or probe learns when it is built.
#[derive(Debug, Clone)]
pub struct BuildContext<'a> {
    config: &'a LogConfig,
    ranks: Ranks,
    stop: &'a StopFlag,
    first_step: Cell<u64>,
    follows_links: bool,
    for_dead_process: bool,
}

/// Why a mark was refused whose files are not beneath the log directory: the [reason](SinkError::reason) of the error.
pub const FOREIGN_PATH: &str = "foreign path";

impl<'a> BuildContext<'a> {
    /// The context of a logger with this config. The ranks are those of [`Ranks::from_config`].
    pub fn new(config: &'a LogConfig, stop: &'a StopFlag) -> Self {
        Self {
            config,
            ranks: Ranks::from_config(config),
            stop,
            first_step: Cell::new(0),
            follows_links: false,
            for_dead_process: false,
        }
    }

    /// The same, for what a killed process has left: its files may be behind links, because its user says so.
    #[must_use]
    pub fn allow_links(mut self) -> Self {
        self.follows_links = true;
        self
    }

    /// The same, for what a killed process has left that is known to be dead: a lock that somebody has on its files was inherited.
    #[must_use]
    pub fn for_dead_process(mut self) -> Self {
        self.for_dead_process = true;
        self
    }

    /// Whether the sink is to go on with what a process has left that is known to be dead.
    pub fn is_for_dead_process(&self) -> bool {
        self.for_dead_process
    }

    /// The name of the logger that the sink is for.
    pub fn logger(&self) -> &'a str {
        &self.config.name
    }

    /// The whole config.
    pub fn config(&self) -> &'a LogConfig {
        self.config
    }

    /// The folder of the run's files. It may not exist yet.
    pub fn log_dir(&self) -> &'a Path {
        &self.config.log_dir
    }

    /// The rank of this process among those of the run; 0 where there is only one.
    pub fn rank(&self) -> u32 {
        self.ranks.rank
    }

    /// Rank, local rank and world size.
    pub fn ranks(&self) -> Ranks {
        self.ranks
    }

    /// Where a file of the run is, under the name that no other rank uses: `metrics.rank3.jsonl` for `metrics.jsonl`.
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.config.log_dir.join(FileRank::from_config(self.config).name(name))
    }

    /// Where a file is that a [mark](crate::ResumePoint) names by its path within the log directory. A sink that goes on from a mark
    /// asks this first: the ring that the mark comes from may have been sent by somebody.
    ///
    /// ```
    /// use logcore::{BuildContext, LogConfig, StopFlag};
    /// use std::path::Path;
    ///
    /// let config = LogConfig { log_dir: "run".into(), ..LogConfig::default() };
    /// let stop = StopFlag::default();
    /// let context = BuildContext::new(&config, &stop);
    /// assert_eq!(context.resolve_beneath(Path::new("training.log")).unwrap(), Path::new("run/training.log"));
    /// assert!(context.resolve_beneath(Path::new("/home/me/.bashrc")).is_err());
    /// assert!(context.resolve_beneath(Path::new("../.bashrc")).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// With the reason [`FOREIGN_PATH`] if the path leads out of the directory, or over a link.
    pub fn resolve_beneath(&self, path: &Path) -> Result<PathBuf, SinkError> {
        self.resolve_beneath_folder(self.log_dir(), path)
    }

    /// The same for another folder that this context's config names.
    ///
    /// # Errors
    ///
    /// As for [`beneath`](Self::beneath).
    pub fn resolve_beneath_folder(&self, folder: &Path, path: &Path) -> Result<PathBuf, SinkError> {
        let refuse = |why: &str| {
            let words = format!("{} {why} {}", path.display(), folder.display());
            Err(SinkError::new(words).with_reason(FOREIGN_PATH))
        };
        if !logcore_files::is_plain_relative(path) {
            return refuse("leads out of");
        }
        let mut whole = folder.to_owned();
        for component in path {
            whole.push(component);
            if !whole.is_symlink() {
                continue;
            }
            if !self.follows_links {
                return refuse("is, or leads over, a link in");
            }
            whole = whole.canonicalize()?;
        }
        Ok(whole)
    }

    /// Through this a sink asks the run to stop.
    pub fn stop_flag(&self) -> &'a StopFlag {
        self.stop
    }

    /// The run goes on where an earlier one has stopped: its steps begin at `step`, if no other sink wants them higher.
    pub fn start_from(&self, step: u64) {
        self.first_step.set(self.first_step.get().max(step));
    }

    /// The step that the run begins at, as far as the sinks that were built with this context know.
    pub fn first_step(&self) -> u64 {
        self.first_step.get()
    }

    /// Builds the formatter that an option names: `"json"`, or a table with its name and options.
    ///
    /// # Errors
    ///
    /// If no linked crate has a formatter of that name, or it refuses its options.
    pub fn build_formatter(&self, choice: &Value) -> Result<Box<dyn Formatter>, ConfigError> {
        let (name, options) = match choice {
            Value::String(name) => (name.clone(), Value::Object(Map::new())),
            Value::Object(table) => {
                let mut options = table.clone();
                match options.remove("name") {
                    Some(Value::String(name)) => (name, Value::Object(options)),
                    _ => {
                        return Err(ConfigError::new(
                            "formatter",
                            choice,
                            "say which, with `name = \"json\"`",
                        ));
                    }
                }
            }
            _ => {
                return Err(ConfigError::new(
                    "formatter",
                    choice,
                    "write its name, such as \"plain\"",
                ));
            }
        };
        let plugin = find::<FormatterPlugin>(&name)?
            .ok_or_else(|| ConfigError::new("formatter", &name, remedy_for::<FormatterPlugin>(&name)))?;
        (plugin.build)(options, self).map_err(|error| error.within("formatter"))
    }
}

/// A sink that a crate has registered.
pub struct SinkPlugin {
    name: &'static str,
    build: Build<dyn Sink>,
    recover: Option<Recover>,
}

/// A formatter that a crate has registered.
pub struct FormatterPlugin {
    name: &'static str,
    build: Build<dyn Formatter>,
}

/// A probe that a crate has registered.
pub struct ProbePlugin {
    name: &'static str,
    build: Build<dyn Probe>,
}

/// The names of all linked sinks, sorted.
///
/// # Errors
///
/// If two crates have registered the same name: which of them was meant cannot be known.
pub fn sink_names() -> Result<Vec<&'static str>, ConfigError> {
    checked_names::<SinkPlugin>()
}

/// The names of all linked formatters, sorted.
///
/// # Errors
///
/// If two crates have registered the same name.
pub fn formatter_names() -> Result<Vec<&'static str>, ConfigError> {
    checked_names::<FormatterPlugin>()
}

/// The names of all linked probes, sorted.
///
/// # Errors
///
/// If two crates have registered the same name.
pub fn probe_names() -> Result<Vec<&'static str>, ConfigError> {
    checked_names::<ProbePlugin>()
}

/// Builds the sink `name` from its options: a table, or `true` for all defaults.
///
/// # Errors
///
/// If no linked crate has a sink of that name, or it refuses its options. The error names the option with its path.
pub fn build_sink(name: &str, options: &Value, context: &BuildContext<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let plugin = find::<SinkPlugin>(name)?.ok_or_else(|| unknown::<SinkPlugin>(name, options))?;
    (plugin.build)(option_table(options), context).map_err(|error| of_table(error, "sinks", name, options))
}

/// Whether a linked crate has a sink of this name that can go on from a mark.
pub fn can_recover(name: &str) -> bool {
    find::<SinkPlugin>(name).is_ok_and(|plugin| plugin.is_some_and(|plugin| plugin.recover.is_some()))
}

/// Makes the sink `name` that goes on from a mark which a killed process has left.
///
/// # Errors
///
/// If no linked crate has a sink of that name that could, if the mark is none of its own, or if its output is gone.
pub fn recover_sink(name: &str, mark: &str, context: &BuildContext<'_>) -> Result<Box<dyn Sink>, SinkError> {
    let plugin = find::<SinkPlugin>(name).map_err(SinkError::new)?;
    let recover = plugin.and_then(|plugin| plugin.recover).ok_or_else(|| {
        SinkError::new(format!("no linked crate has a sink `{name}` that goes on from a mark"))
            .with_reason("not linked")
    })?;
    recover(mark, context)
}

/// Builds the probe `name` from its options.
///
/// # Errors
///
/// If no linked crate has a probe of that name, or it refuses its options.
pub fn build_probe(name: &str, options: &Value, context: &BuildContext<'_>) -> Result<Box<dyn Probe>, ConfigError> {
    let plugin = find::<ProbePlugin>(name)?.ok_or_else(|| unknown::<ProbePlugin>(name, options))?;
    (plugin.build)(option_table(options), context).map_err(|error| of_table(error, "probes", name, options))
}

/// Registers a sink, so that an entry `sinks.<name>` in a config switches it on.
///
/// The second argument is a function `fn(Options, &BuildContext<'_>) -> Result<S, ConfigError>`, where `Options` is
/// whatever serde can read from the entry and `S` is the sink. Use `#[serde(deny_unknown_fields)]` on the options, so
/// that a mistyped one is an error.
///
/// ```
/// use logcore::{BuildContext, ConfigError, Sink};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct NullOptions {}
///
/// struct Null;
/// impl Sink for Null {}
///
/// impl Null {
///     fn build(_: NullOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> { Ok(Self) }
/// }
///
/// logcore::register_sink!("null", Null::build);
/// # fn main() {
/// assert!(logcore::registry::sink_names().unwrap().contains(&"null"));
/// # }
/// ```
///
/// A sink that gives [marks](crate::Sink::resume_point) has a third argument, a function
/// `fn(State, &BuildContext<'_>) -> Result<S, SinkError>`, where `State` is what serde can read from the mark.
#[macro_export]
macro_rules! register_sink {
    ($name:expr, $build:expr) => {
        $crate::register_sink!(@submit $name, $build, $crate::__private::None);
    };
    ($name:expr, $build:expr, $recover:expr) => {
        $crate::register_sink!(@submit $name, $build, $crate::__private::Some(|mark, context| {
            $crate::__private::recover(mark, context, $recover)
                .map(|sink| $crate::__private::Box::new(sink) as $crate::__private::Box<dyn $crate::Sink>)
        }));
    };
    (@submit $name:expr, $build:expr, $recover:expr) => {
        $crate::__private::inventory::submit! {
            $crate::__private::sink_plugin(
                $name,
                |options, context| {
                    $crate::__private::build(options, context, $build)
                        .map(|sink| $crate::__private::Box::new(sink) as $crate::__private::Box<dyn $crate::Sink>)
                },
                $recover,
            )
        }
    };
}

/// Registers a formatter, so that sinks can be told to use it by name. The form is that of
/// [`register_sink!`](crate::register_sink).
#[macro_export]
macro_rules! register_formatter {
    ($name:expr, $build:expr) => {
        $crate::__private::inventory::submit! {
            $crate::__private::formatter_plugin($name, |options, context| {
                $crate::__private::build(options, context, $build)
                    .map(|it| $crate::__private::Box::new(it) as $crate::__private::Box<dyn $crate::Formatter>)
            })
        }
    };
}

/// Registers a probe, so that `log_memory` asks it. The form is that of [`register_sink!`](crate::register_sink); its
/// options stand under `probes.<name>`, and `false` there switches it off.
#[macro_export]
macro_rules! register_probe {
    ($name:expr, $build:expr) => {
        $crate::__private::inventory::submit! {
            $crate::__private::probe_plugin($name, |options, context| {
                $crate::__private::build(options, context, $build)
                    .map(|probe| $crate::__private::Box::new(probe) as $crate::__private::Box<dyn $crate::Probe>)
            })
        }
    };
}

/// What the macros expand to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use std::boxed::Box;
    pub use std::option::Option::{None, Some};

    pub use inventory;

    use super::*;

    pub const fn sink_plugin(name: &'static str, build: Build<dyn Sink>, recover: Option<Recover>) -> SinkPlugin {
        SinkPlugin { name, build, recover }
    }

    pub const fn formatter_plugin(name: &'static str, build: Build<dyn Formatter>) -> FormatterPlugin {
        FormatterPlugin { name, build }
    }

    pub const fn probe_plugin(name: &'static str, build: Build<dyn Probe>) -> ProbePlugin {
        ProbePlugin { name, build }
    }

    pub fn build<O: DeserializeOwned, T>(
        options: Value,
        context: &BuildContext<'_>,
        build: impl FnOnce(O, &BuildContext<'_>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let mut track = serde_path_to_error::Track::new();
        let parsed = O::deserialize(serde_path_to_error::Deserializer::new(&options, &mut track)).map_err(
            |error: serde_json::Error| option_error(&options, &track.path().to_string(), &error).without_text(),
        )?;
        build(parsed, context)
    }

    pub fn recover<S: DeserializeOwned, T>(
        mark: &str,
        context: &BuildContext<'_>,
        recover: impl FnOnce(S, &BuildContext<'_>) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let state = serde_json::from_str(mark)
            .map_err(|error| SinkError::new(format!("the mark cannot be read: {error}")).with_reason("bad mark"))?;
        recover(state, context)
    }
}

/// Makes the boxed thing from its options.
type Build<T> = fn(Value, &BuildContext<'_>) -> Result<Box<T>, ConfigError>;
/// Makes a sink of a mark.
type Recover = fn(&str, &BuildContext<'_>) -> Result<Box<dyn Sink>, SinkError>;

inventory::collect!(SinkPlugin);
inventory::collect!(FormatterPlugin);
inventory::collect!(ProbePlugin);

trait Plugin: inventory::Collect {
    /// The table of the config that its options stand in.
    const TABLE: &'static str;
    /// What one is called in an error.
    const ROLE: &'static str;
    /// Names that are ours, with the Cargo feature of the facade that links each.
    const OURS: &'static [(&'static str, &'static str)];
    fn name(&self) -> &'static str;
}

impl Plugin for SinkPlugin {
    const TABLE: &'static str = "sinks";
    const ROLE: &'static str = "sink";
    const OURS: &'static [(&'static str, &'static str)] = &[
        ("console", "console"),
        ("file", "file"),
        ("jsonl", "jsonl"),
        ("memory", "memory"),
        ("wandb", "wandb"),
    ];
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Plugin for FormatterPlugin {
    const TABLE: &'static str = "formatter";
    const ROLE: &'static str = "formatter";
    const OURS: &'static [(&'static str, &'static str)] = &[
        // Every sink of text brings the first three.
        ("json", "file"),
        ("logfmt", "file"),
        ("plain", "file"),
        ("colored", "console"),
    ];
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Plugin for ProbePlugin {
    const TABLE: &'static str = "probes";
    const ROLE: &'static str = "probe";
    const OURS: &'static [(&'static str, &'static str)] = &[("gpu", "gpu"), ("host", "gpu"), ("system", "gpu")];
    fn name(&self) -> &'static str {
        self.name
    }
}

fn names<P: Plugin>() -> Vec<&'static str> {
    // Link order is not ours; sorted, the list is the same in every build.
    let mut names: Vec<_> = inventory::iter::<P>.into_iter().map(Plugin::name).collect();
    names.sort_unstable();
    names
}

fn checked_names<P: Plugin>() -> Result<Vec<&'static str>, ConfigError> {
    let names = names::<P>();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ConfigError::new(
            P::TABLE,
            pair[0],
            format!("two linked crates have a {} of this name; link only one", P::ROLE),
        )),
        None => Ok(names),
    }
}

fn find<P: Plugin>(name: &str) -> Result<Option<&'static P>, ConfigError> {
    checked_names::<P>()?;
    Ok(inventory::iter::<P>.into_iter().find(|plugin| plugin.name() == name))
}

fn unknown<P: Plugin>(name: &str, options: &Value) -> ConfigError {
    // Nobody knows which of its options are secrets.
    ConfigError::new(format!("{}.{name}", P::TABLE), options, remedy_for::<P>(name)).without_text()
}

/// The remedy for a name that is not linked.
fn remedy_for<P: Plugin>(name: &str) -> String {
    match P::OURS.iter().find(|(ours, _)| *ours == name) {
        Some((_, feature)) => format!(
            "it is not linked: switch on the Cargo feature `{feature}` of logcore-facade; linked are: {}",
            names::<P>().join(", ")
        ),
        None => did_you_mean(
            name,
            names::<P>().iter(),
            &format!(
                "no linked crate has a {} of this name (a crate must be named once in the program: `use my_{} as _;`)",
                P::ROLE,
                P::ROLE
            ),
        ),
    }
}

/// The features that link what is ours, for a test that compares them with what is linked: kind, name, feature.
#[doc(hidden)]
pub fn bundled_plugins() -> Vec<(&'static str, &'static str, &'static str)> {
    fn of<P: Plugin>() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        P::OURS.iter().map(|(name, feature)| (P::ROLE, *name, *feature))
    }
    of::<SinkPlugin>()
        .chain(of::<FormatterPlugin>())
        .chain(of::<ProbePlugin>())
        .collect()
}

fn option_table(options: &Value) -> Value {
    match options {
        Value::Bool(true) | Value::Null => Value::Object(Map::new()),
        other => other.clone(),
    }
}

/// Puts the table's name before an option's; a field of `LogConfig` or a variable of the environment that a sink refuses
/// keeps its own name. Only numbers, switches and plain words are shown: a key that stands at the wrong place is a key all the
/// same.
fn of_table(error: ConfigError, table: &str, name: &str, options: &Value) -> ConfigError {
    // An option may be called as a field is.
    if crate::config::is_field(&error.field) && options.get(&error.field).is_none() {
        return error;
    }
    let is_word = error.value.len() <= 12 && error.value.bytes().all(|byte| byte.is_ascii_lowercase());
    let error = if is_word { error } else { error.without_text() };
    let is_variable = error.field.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    match is_variable && !error.field.is_empty() {
        true => error,
        false => error.within(&format!("{table}.{name}")),
    }
}
