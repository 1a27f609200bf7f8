//! The registry of sinks, formatters and probes.
//!
//! A plugin crate registers a constructor under a name, with
//! [`register_sink!`](crate::register_sink), [`register_formatter!`](crate::register_formatter) or
//! [`register_probe!`](crate::register_probe). The name in a config then selects the plugin:
//! `sinks.slack` builds the sink `slack` from the options in that table. No code that builds a
//! logger names the plugin crate, so a sink from any crate is used in the same way as the bundled
//! sinks.
//!
//! Registration happens at link time. Rust does not link a crate that is only listed in
//! `Cargo.toml`: mention the crate once in the program, for instance with `use my_sink as _;`.
//!
//! ```standalone_crate
//! use logcore::registry;
//!
//! // No plugin crate is linked into this example.
//! assert!(registry::sink_names().unwrap().is_empty());
//! ```

mod context;
mod macros;
mod plugin;

use serde_json::{Map, Value};

pub use self::context::BuildContext;
#[doc(hidden)]
pub use self::macros::__private;
use self::plugin::{PluginRole, checked_names, find, require};
use crate::{ConfigError, Formatter, Probe, Sink, SinkError, SinkErrorKind};

/// Returns the names of all linked sinks, sorted.
///
/// ```standalone_crate
/// # struct Null;
/// # impl logcore::Sink for Null {}
/// # #[derive(serde::Deserialize)]
/// # struct NoOptions {}
/// logcore::register_sink!("null", |_: NoOptions, _: &logcore::BuildContext<'_>| Ok(Null));
/// # fn main() {
/// assert_eq!(logcore::registry::sink_names().unwrap(), ["null"]);
/// # }
/// ```
///
/// # Errors
///
/// If two linked crates registered the same name.
pub fn sink_names() -> Result<Vec<&'static str>, ConfigError> {
    checked_names::<dyn Sink>()
}

/// Returns the names of all linked formatters, sorted.
///
/// # Errors
///
/// If two linked crates registered the same name.
pub fn formatter_names() -> Result<Vec<&'static str>, ConfigError> {
    checked_names::<dyn Formatter>()
}

/// Returns the names of all linked probes, sorted.
///
/// # Errors
///
/// If two linked crates registered the same name.
pub fn probe_names() -> Result<Vec<&'static str>, ConfigError> {
    checked_names::<dyn Probe>()
}

/// Builds the sink `name` from its options: a table, or `true` for the defaults of all options.
///
/// ```
/// use logcore::{BuildContext, LogConfig, StopFlag, registry};
/// use logcore::serde_json::json;
///
/// let (config, stop) = (LogConfig::default(), StopFlag::default());
/// let context = BuildContext::new(&config, &stop);
/// let error = registry::build_sink("pager", &json!(true), &context).err().unwrap();
/// assert_eq!(error.field, "sinks.pager");
/// assert!(error.remedy.contains("use my_sink as _;"));
/// ```
///
/// # Errors
///
/// If no linked crate registered the name, or the sink refuses its options. The error names the
/// path of the option.
pub fn build_sink(name: &str, options: &Value, context: &BuildContext<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    build::<dyn Sink>(name, options, context)
}

/// Builds the probe `name` from its options: a table, or `true` for the defaults of all options.
///
/// # Errors
///
/// If no linked crate registered the name, or the probe refuses its options.
pub fn build_probe(name: &str, options: &Value, context: &BuildContext<'_>) -> Result<Box<dyn Probe>, ConfigError> {
    build::<dyn Probe>(name, options, context)
}

/// Returns `true` if a linked crate registered a sink of this name that can resume from a
/// [`ResumePoint`](crate::ResumePoint).
///
/// ```
/// assert!(!logcore::registry::can_recover("slack"));
/// ```
pub fn can_recover(name: &str) -> bool {
    find::<dyn Sink>(name).is_ok_and(|plugin| plugin.is_some_and(|plugin| plugin.recover.is_some()))
}

/// Builds the sink `name` from the text of a [`ResumePoint`](crate::ResumePoint) that a killed
/// process left behind.
///
/// ```
/// use logcore::{BuildContext, LogConfig, SinkErrorKind, StopFlag, registry};
///
/// let (config, stop) = (LogConfig::default(), StopFlag::default());
/// let context = BuildContext::new(&config, &stop);
/// let error = registry::recover_sink("pager", "{}", &context).err().unwrap();
/// assert_eq!(error.kind(), SinkErrorKind::NotLinked);
/// ```
///
/// # Errors
///
/// - [`SinkErrorKind::NotLinked`] if no linked crate registered a sink of this name that can
///   resume;
/// - [`SinkErrorKind::InvalidResumePoint`] if the sink cannot read the resume point;
/// - any error of the sink, for instance [`SinkErrorKind::NotFound`] if its output is gone.
pub fn recover_sink(name: &str, resume_point: &str, context: &BuildContext<'_>) -> Result<Box<dyn Sink>, SinkError> {
    let plugin = find::<dyn Sink>(name).map_err(SinkError::new)?;
    let recover = plugin.and_then(|plugin| plugin.recover).ok_or_else(|| {
        SinkError::new(format!(
            "cannot recover sink `{name}`: no linked crate registered a sink of this name that can resume"
        ))
        .with_kind(SinkErrorKind::NotLinked)
    })?;
    recover(resume_point, context)
}

/// Returns the role, the name and the Cargo feature of every bundled plugin. A test compares the
/// list with the plugins that are linked.
#[doc(hidden)]
pub fn bundled_plugins() -> Vec<(&'static str, &'static str, &'static str)> {
    fn of<T: PluginRole + ?Sized>() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        T::BUNDLED.iter().map(|(name, feature)| (T::ROLE, *name, *feature))
    }
    of::<dyn Sink>()
        .chain(of::<dyn Formatter>())
        .chain(of::<dyn Probe>())
        .collect()
}

fn build<T: PluginRole + ?Sized>(
    name: &str,
    options: &Value,
    context: &BuildContext<'_>,
) -> Result<Box<T>, ConfigError> {
    let plugin = require::<T>(name, |remedy| {
        // The options of an unknown plugin may hold secrets under any name.
        ConfigError::new(format!("{}.{name}", T::TABLE), options, remedy).without_text()
    })?;
    let table = match options {
        Value::Bool(true) | Value::Null => Value::Object(Map::new()),
        other => other.clone(),
    };
    (plugin.build)(table, context).map_err(|error| qualify(error, T::TABLE, name, options))
}

/// Puts the path of the options table before the field of the error.
///
/// Fields of `LogConfig` and environment variables that a plugin refuses keep their own names. Only
/// numbers, switches and plain words are shown: a key may stand in the wrong place.
fn qualify(error: ConfigError, table: &str, name: &str, options: &Value) -> ConfigError {
    // An option may have the name of a config field.
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::{LogConfig, StopFlag};

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code, reason = "only the types count here")]
    struct FileOptions {
        rotate_mb: Option<f64>,
        keep: usize,
        utc: bool,
        mode: Option<String>,
        tags: Vec<String>,
        parts: Vec<Part>,
        style: Style,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only the types count here")]
    struct Part {
        size: u8,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Style {
        #[default]
        Plain,
        Json,
    }

    #[test]
    fn an_option_of_the_wrong_type_has_a_remedy_in_plain_words() {
        let (config, stop) = (LogConfig::default(), StopFlag::default());
        let context = BuildContext::new(&config, &stop);
        for (options, expected) in [
            (
                json!({"rotate_mb": "10MB"}),
                "sinks.file.rotate_mb = ***: use a number of megabytes, without a unit",
            ),
            (
                json!({"keep": -1}),
                "sinks.file.keep = -1: use a whole number, 0 or more",
            ),
            (
                json!({"utc": "on"}),
                "sinks.file.utc = ***: use true or false, without quotes",
            ),
            (
                json!({"mode": 7}),
                "sinks.file.mode = 7: put the value into quotes: \"7\"",
            ),
            (json!({"mode": []}), "sinks.file.mode = []: use a text in quotes"),
            (json!({"tags": "a"}), "sinks.file.tags = ***: use a list, in brackets"),
            (json!({"parts": [5]}), "sinks.file.parts[0] = 5: use a table of options"),
            (
                json!({"parts": [{}]}),
                "sinks.file.parts[0] = {}: the option `size` is missing; add it",
            ),
            (json!({"style": {}}), "sinks.file.style = {}: use `plain` or `json`"),
            (
                json!(5),
                "sinks.file = 5: use a table of options, `true` for their defaults, or `false` to switch off",
            ),
        ] {
            let built = __private::build(options.clone(), &context, |_: FileOptions, _| Ok(()));
            let error = qualify(built.unwrap_err(), "sinks", "file", &options);
            assert_eq!(error.to_string(), format!("invalid {expected}"));
        }
    }
}
