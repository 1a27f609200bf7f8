//! A config from a table, a file, or the environment; every error names the field.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::LogConfig;
use super::depth::{DEEPEST, depth};
use super::level::LEVELS;
use crate::ConfigError;
use crate::suggest::{did_you_mean, option_error};

const ENV_PREFIX: &str = "LOGCORE_";

impl LogConfig {
    /// Reads a config from a TOML or JSON file, by its ending. What the file leaves out has its default; a `watch_file` that
    /// it names lies beside it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is neither, or holds a field or a value that cannot work. The error names the field,
    /// or `config file` where there is none to name.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("logging.toml");
    /// use logcore::LogConfig;
    ///
    /// std::fs::write(&path, "name = \"trainer\"\n[sinks.file]\nrotate_mb = 100\n").unwrap();
    /// let config = LogConfig::from_file(&path).unwrap();
    /// assert_eq!(config.sinks["file"]["rotate_mb"], 100);
    ///
    /// std::fs::write(&path, "console_level = \"LOUD\"\n").unwrap();
    /// assert_eq!(LogConfig::from_file(&path).unwrap_err().field, "console_level");
    /// ```
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::read_file(path.as_ref()).map(|(config, _)| config)
    }

    /// The config in a file, and the fields that the file names.
    pub(super) fn read_file(path: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        let refuse = |remedy: String| ConfigError::new("config file", path.display(), remedy);
        let text = fs::read_to_string(path).map_err(|error| refuse(format!("it cannot be read: {error}")))?;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let table: Map<String, Value> = match ending.to_ascii_lowercase().as_str() {
            "toml" if depth(&text) > DEEPEST => return Err(refuse(format!("it is nested more than {DEEPEST} deep"))),
            "toml" => basic_toml::from_str(&text).map_err(|error| refuse(format!("it is not valid TOML: {error}")))?,
            "json" => serde_json::from_str(&text).map_err(|error| refuse(format!("it is not valid JSON: {error}")))?,
            _ => return Err(refuse("name it with the ending .toml or .json".to_owned())),
        };
        let named = table.keys().cloned().collect();
        let mut config = Self::from_table(table)?;
        config.validate()?;
        if let (Some(watched), Some(folder)) = (&mut config.watch_file, path.parent()) {
            *watched = folder.join(&*watched);
        }
        Ok((config, named))
    }

    /// Lays the environment over the config: `LOGCORE_<FIELD>`, for example `LOGCORE_CONSOLE_LEVEL=debug`. Lists are
    /// written with commas, tables (`LOGCORE_SINKS`) as JSON.
    ///
    /// # Errors
    ///
    /// If a variable that begins with `LOGCORE_` names no field, or its value cannot work.
    pub fn with_env(self) -> Result<Self, ConfigError> {
        let variables = env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(ENV_PREFIX)?.to_owned();
            Some((
                name,
                value.into_string().map_err(|raw| raw.to_string_lossy().into_owned()),
            ))
        });
        self.with_variables(variables)
    }

    pub(crate) fn with_variables(
        self,
        variables: impl Iterator<Item = (String, Result<String, String>)>,
    ) -> Result<Self, ConfigError> {
        let mut table = self.table();
        let mut changed = false;
        for (name, value) in variables {
            let field = name.to_ascii_lowercase();
            let Some(slot) = table.get_mut(&field) else {
                let fields = table
                    .keys()
                    .map(|field| format!("{ENV_PREFIX}{}", field.to_ascii_uppercase()));
                let name = format!("{ENV_PREFIX}{name}");
                let remedy = did_you_mean(&name, fields, "no field of LogConfig is called so");
                return Err(ConfigError::new(&name, value.unwrap_or_else(|raw| raw), remedy));
            };
            let text = value.map_err(|raw| ConfigError::new(&field, raw, "the variable is not valid UTF-8"))?;
            *slot = from_variable(slot, &field, &text)?;
            changed = true;
        }
        if !changed {
            return Ok(self);
        }
        let config = Self::from_table(table)?;
        config.validate()?;
        Ok(config)
    }

    /// The config that a table of fields describes.
    pub(crate) fn from_table(table: Map<String, Value>) -> Result<Self, ConfigError> {
        let known = Self::default().table();
        if let Some((field, value)) = table.iter().find(|(field, _)| !known.contains_key(*field)) {
            let remedy = did_you_mean(field, known.keys(), "there is no such field");
            // So that a name that nobody sees is one.
            let field = if field.is_empty() { "\"\"" } else { field };
            return Err(ConfigError::new(field, value, remedy));
        }
        let table = Value::Object(table);
        // The inherent function that serde derived, under the name of the trait's.
        let mut track = serde_path_to_error::Track::new();
        Self::deserialize(serde_path_to_error::Deserializer::new(&table, &mut track))
            .map_err(|error: serde_json::Error| option_error(&table, &track.path().to_string(), &error))
    }

    fn table(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(table)) => table,
            // A struct of plain fields; only a path that is not UTF-8 has no form in JSON.
            _ => Map::new(),
        }
    }
}

impl Serialize for LogConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for LogConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = <Map<String, Value> as Deserialize>::deserialize(deserializer)?;
        Self::from_table(table).map_err(de::Error::custom)
    }
}

/// A logger of this name; everything else is the default, overlaid by the environment.
impl TryFrom<&str> for LogConfig {
    type Error = ConfigError;

    fn try_from(name: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default().with_env()?;
        // What stands in the code goes before the environment.
        config.name = name.to_owned();
        Ok(config)
    }
}

/// The same as from `&str`.
impl TryFrom<String> for LogConfig {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        Self::try_from(name.as_str())
    }
}

/// The same as from `&str`.
impl TryFrom<&String> for LogConfig {
    type Error = ConfigError;

    fn try_from(name: &String) -> Result<Self, ConfigError> {
        Self::try_from(name.as_str())
    }
}

/// A borrowed config, as it is.
impl From<&LogConfig> for LogConfig {
    fn from(config: &LogConfig) -> Self {
        config.clone()
    }
}

/// Fields that are numbers, or nothing: then their value does not tell.
const OPTIONAL_NUMBERS: [&str; 2] = ["rank", "world_size"];

/// Reads a variable as the kind of value that the field has now.
fn from_variable(now: &Value, field: &str, text: &str) -> Result<Value, ConfigError> {
    let refuse = |remedy: &str| ConfigError::new(field, format!("\"{text}\""), remedy);
    Ok(match now {
        Value::Bool(_) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true.into(),
            "0" | "false" | "no" | "off" | "" => false.into(),
            _ => return Err(refuse("write true or false")),
        },
        _ if matches!(now, Value::Number(_)) || OPTIONAL_NUMBERS.contains(&field) => {
            let number: Value = serde_json::from_str(text.trim()).map_err(|_| refuse("write a number"))?;
            if !number.is_number() {
                return Err(refuse("write a number"));
            }
            number
        }
        Value::Array(_) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
        Value::Object(_) => {
            let table: Value = serde_json::from_str(text).map_err(|_| refuse("write a JSON object"))?;
            if !table.is_object() {
                return Err(refuse("write a JSON object"));
            }
            table
        }
        _ => text.into(),
    })
}

/// Whether `LogConfig` has a field of this name.
pub(crate) fn is_field(name: &str) -> bool {
    LogConfig::default().table().contains_key(name)
}

/// The advice for a level that serde's own words do not give.
pub(crate) fn level_remedy(field: &str) -> Option<&'static str> {
    matches!(field, "console_level" | "file_level" | "other_ranks_level").then_some(LEVELS)
}

// `LogError: From<Infallible>` is what lets `setup_logging` take a config that needs no conversion.
const _: fn(Infallible) -> crate::LogError = crate::LogError::from;

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(variables: &[(&str, &str)]) -> Result<LogConfig, ConfigError> {
        LogConfig::default().with_variables(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Ok((*value).to_owned()))),
        )
    }

    #[test]
    fn a_file_that_is_nested_without_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.toml");
        for level in ["[", "{a=", "a."] {
            for text in [format!("a = {}", level.repeat(100_000)), level.repeat(100_000)] {
                std::fs::write(&path, text).unwrap();
                let error = LogConfig::from_file(&path).unwrap_err();
                assert_eq!(error.field, "config file", "{level}");
            }
        }
    }

    #[test]
    fn the_environment_sets_every_kind_of_field() {
        let config = overlay(&[
            ("CONSOLE_LEVEL", "CRITICAL"),
            ("ENABLE_FILE", "0"),
            ("METRICS_WINDOW", "7"),
            ("PROGRESS_SMOOTHING", "1"),
            ("WANDB_TAGS", "a, b,"),
            ("WANDB_NAME", "first"),
            ("ON_FULL", "drop"),
            ("RANK", "3"),
            ("WORLD_SIZE", "8"),
            ("OTHER_RANKS_LEVEL", "info"),
            ("SINKS", r#"{"file": {"utc": true}}"#),
        ])
        .unwrap();
        assert_eq!(config.console_level, log::LevelFilter::Error);
        assert!(!config.enable_file);
        assert_eq!(config.metrics_window, 7);
        assert_eq!(config.progress_smoothing, 1.0);
        assert_eq!(config.wandb_tags, ["a", "b"]);
        assert_eq!(config.wandb_name.as_deref(), Some("first"));
        assert_eq!(config.on_full, crate::OnFull::Drop);
        assert_eq!((config.rank, config.world_size), (Some(3), Some(8)));
        assert_eq!(config.other_ranks_level, log::LevelFilter::Info);
        assert_eq!(config.sinks["file"]["utc"], true);
    }

    #[test]
    fn what_the_environment_gets_wrong_is_named() {
        for (variable, value, field) in [
            ("CONSOL_LEVEL", "info", "LOGCORE_CONSOL_LEVEL"),
            ("CONSOLE_LEVEL", "loud", "console_level"),
            ("METRICS_WINDOW", "many", "metrics_window"),
            ("METRICS_WINDOW", "0", "metrics_window"),
            ("METRICS_WINDOW", "-3", "metrics_window"),
            ("ENABLE_FILE", "perhaps", "enable_file"),
            ("ON_FULL", "explode", "on_full"),
            ("RANK", "first", "rank"),
            ("RANK", "-1", "rank"),
            ("WORLD_SIZE", "0", "world_size"),
            ("OTHER_RANKS_LEVEL", "loud", "other_ranks_level"),
            ("SINKS", "file", "sinks"),
        ] {
            let error = overlay(&[(variable, value)]).unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
        let error = overlay(&[("CONSOL_LEVEL", "info")]).unwrap_err();
        assert!(error.remedy.contains("LOGCORE_CONSOLE_LEVEL"), "{error}");
    }

    #[test]
    fn a_wrong_table_names_field_value_and_remedy() {
        let read = |text: &str| LogConfig::from_table(serde_json::from_str(text).unwrap()).unwrap_err();
        let error = read(r#"{"metric_window": 5}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("metric_window", "5"));
        assert!(error.remedy.contains("`metrics_window`"), "{error}");

        let error = read(r#"{"": 30.0}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("\"\"", "30.0"));

        let error = read(r#"{"file_level": "LOUD"}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("file_level", "\"LOUD\""));
        assert!(error.remedy.contains("warning"), "{error}");

        let error = read(r#"{"wandb_tags": ["a", 3]}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("wandb_tags[1]", "3"));
    }
}
