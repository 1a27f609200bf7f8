//! The plugins that linked crates registered, and the search by name.

use std::fmt;

use serde_json::Value;

use super::BuildContext;
use crate::option_error::suggest_name;
use crate::{ConfigError, Formatter, Probe, Sink, SinkError};

/// A registered constructor of a `dyn Sink`, `dyn Formatter` or `dyn Probe`.
pub struct Plugin<T: ?Sized + 'static> {
    pub(super) name: &'static str,
    pub(super) build: BuildFn<T>,
    pub(super) recover: Option<RecoverFn<T>>,
}

impl<T: ?Sized> fmt::Debug for Plugin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Builds a plugin from its options.
pub(super) type BuildFn<T> = fn(Value, &BuildContext<'_>) -> Result<Box<T>, ConfigError>;
/// Builds a plugin from the text of a resume point.
pub(super) type RecoverFn<T> = fn(&str, &BuildContext<'_>) -> Result<Box<T>, SinkError>;

impl<T: ?Sized> Plugin<T> {
    /// A plugin that can be built, and resumed if `recover` is given.
    pub const fn new(name: &'static str, build: BuildFn<T>, recover: Option<RecoverFn<T>>) -> Self {
        Self { name, build, recover }
    }
}

/// The role that a plugin plays: the differences between sinks, formatters and probes.
pub(super) trait PluginRole: 'static {
    /// The table of the config that holds the options.
    const TABLE: &'static str;
    /// The noun for error texts.
    const ROLE: &'static str;
    /// The bundled plugins, each with the Cargo feature of `logcore-facade` that links it.
    const BUNDLED: &'static [(&'static str, &'static str)];

    /// Returns all linked plugins of this role, in link order.
    fn linked() -> impl Iterator<Item = &'static Plugin<Self>>;
}

macro_rules! plugin_role {
    ($plugin:ty, $table:literal, $role:literal, [$($bundled:expr),* $(,)?]) => {
        inventory::collect!(Plugin<$plugin>);

        impl PluginRole for $plugin {
            const TABLE: &'static str = $table;
            const ROLE: &'static str = $role;
            const BUNDLED: &'static [(&'static str, &'static str)] = &[$($bundled),*];

            fn linked() -> impl Iterator<Item = &'static Plugin<Self>> {
                inventory::iter::<Plugin<$plugin>>.into_iter()
            }
        }
    };
}

plugin_role!(
    dyn Sink,
    "sinks",
    "sink",
    [
        ("console", "console"),
        ("file", "file"),
        ("jsonl", "jsonl"),
        ("kubeflow", "kubeflow"),
        ("memory", "memory"),
        ("mlflow", "mlflow"),
        ("otlp", "otlp"),
        ("tensorboard", "tensorboard"),
        ("wandb", "wandb"),
        ("webhook", "webhook"),
    ]
);
// Every text sink links the first three formatters.
plugin_role!(
    dyn Formatter,
    "formatter",
    "formatter",
    [
        ("json", "file"),
        ("logfmt", "file"),
        ("plain", "file"),
        ("colored", "console"),
    ]
);
plugin_role!(
    dyn Probe,
    "probes",
    "probe",
    [("gpu", "gpu"), ("host", "gpu"), ("system", "gpu")]
);

/// Returns the sorted names of all linked plugins of a role, or an error if two plugins share a
/// name.
pub(super) fn checked_names<T: PluginRole + ?Sized>() -> Result<Vec<&'static str>, ConfigError> {
    let names = names::<T>();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ConfigError::new(
            T::TABLE,
            pair[0],
            format!(
                "two linked crates registered a {} of this name; link only one of them",
                T::ROLE
            ),
        )),
        None => Ok(names),
    }
}

/// Returns the plugin `name`, or `None` if no linked crate registered the name.
pub(super) fn find<T: PluginRole + ?Sized>(name: &str) -> Result<Option<&'static Plugin<T>>, ConfigError> {
    checked_names::<T>()?;
    Ok(T::linked().find(|plugin| plugin.name == name))
}

/// Returns the plugin `name`, or the error that `refuse` makes of the remedy.
pub(super) fn require<T: PluginRole + ?Sized>(
    name: &str,
    refuse: impl FnOnce(String) -> ConfigError,
) -> Result<&'static Plugin<T>, ConfigError> {
    find::<T>(name)?.ok_or_else(|| refuse(remedy_for::<T>(name)))
}

fn names<T: PluginRole + ?Sized>() -> Vec<&'static str> {
    let mut names: Vec<_> = T::linked().map(|plugin| plugin.name).collect();
    // The link order differs between builds.
    names.sort_unstable();
    names
}

/// Returns the remedy for a name that is not linked.
fn remedy_for<T: PluginRole + ?Sized>(name: &str) -> String {
    let (names, role) = (names::<T>(), T::ROLE);
    match T::BUNDLED.iter().find(|(bundled, _)| *bundled == name) {
        Some((_, feature)) => format!(
            "not linked: switch on the Cargo feature `{feature}` of logcore-facade; linked are: {}",
            names.join(", ")
        ),
        None => {
            let problem = format!(
                "no linked crate registered a {role} of this name (mention the crate once in the program: \
                 `use my_{role} as _;`)"
            );
            suggest_name(name, names.iter(), &problem)
        }
    }
}
