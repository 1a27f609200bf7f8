//! A config from a table, a file, or the environment; every error names the field.

use std::convert::Infallible;
use std::env;
use std::io;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::LogConfig;
use super::depth::{DEEPEST, depth};
use super::fields::Fields;
use super::level::LEVELS;
use crate::ConfigError;
use crate::secret::HIDDEN;
use crate::suggest::{did_you_mean, option_error};

const ENV_PREFIX: &str = "LOGCORE_";
/// Longer is no config.
const LONGEST: u64 = 1 << 20;

impl LogConfig {
    /// Reads a config from a TOML or JSON file, by its ending. What the file leaves out has its default; a `watch_file` that
    /// it names lies beside it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read (it is no regular file, is longer than 1 MiB, or is no text), is neither, or holds a field or
    /// a value that cannot work. The error names the file, and the field and its line as far as they are known; the field is
    /// `config file` where there is none to name.
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
        let text = logcore_files::read_to_string(path, LONGEST).map_err(|error| refuse(unreadable(&error)))?;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let table: Map<String, Value> = match ending.to_ascii_lowercase().as_str() {
            "toml" if depth(&text) > DEEPEST => return Err(refuse(format!("it is nested more than {DEEPEST} deep"))),
            "toml" => basic_toml::from_str(&text).map_err(|error| refuse(format!("it is not valid TOML: {error}")))?,
            "json" => match serde_json::from_str(&text) {
                Ok(Value::Object(table)) => table,
                Ok(_) => return Err(refuse("it holds no JSON object, which has the fields".to_owned())),
                Err(error) => return Err(refuse(format!("it is not valid JSON: {error}"))),
            },
            _ => return Err(refuse("name it with the ending .toml or .json".to_owned())),
        };
        let named = table.keys().cloned().collect();
        let in_file = |error: ConfigError| match line_of(&text, &error.field) {
            Some(line) => error.read_from(format_args!("{}, line {line}", path.display())),
            None => error.read_from(path.display()),
        };
        let mut config = Self::from_table(table).map_err(in_file)?;
        config.validate().map_err(in_file)?;
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
                return Err(ConfigError::new(&name, HIDDEN, remedy));
            };
            let text = value.map_err(|raw| shown(ConfigError::new(&field, raw, "the variable is not valid UTF-8")))?;
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
        if let Some(field) = table.keys().find(|field| !known.contains_key(*field)) {
            let remedy = did_you_mean(field, known.keys(), "there is no such field");
            // So that a name that nobody sees is one.
            let field = if field.is_empty() { "\"\"" } else { field };
            return Err(ConfigError::new(field, HIDDEN, remedy));
        }
        let table = Value::Object(table);
        let mut track = serde_path_to_error::Track::new();
        Fields::deserialize(serde_path_to_error::Deserializer::new(&table, &mut track))
            .map_err(|error: serde_json::Error| shown(option_error(&table, &track.path().to_string(), &error)))
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
        Fields::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for LogConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Serde's own error for what is no table would quote it.
        match Value::deserialize(deserializer)? {
            Value::Object(table) => Self::from_table(table).map_err(de::Error::custom),
            _ => Err(de::Error::custom("a config is a table of fields")),
        }
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
    let refuse = |remedy: &str| shown(ConfigError::new(field, format!("\"{text}\""), remedy));
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
            let table: Value =
                serde_json::from_str(text).map_err(|error| refuse(&format!("write a JSON object: {error}")))?;
            if !table.is_object() {
                return Err(refuse("write a JSON object"));
            }
            table
        }
        _ => text.into(),
    })
}

/// The error as it may be seen: what stands in the fields that may hold anything is not shown.
fn shown(error: ConfigError) -> ConfigError {
    let field = error.field.split(['.', '[']).next().unwrap_or_default();
    match matches!(field, "sinks" | "probes" | "redact") {
        true => error.without_text(),
        false => error,
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "it cannot be read: it is not text in UTF-8".to_owned(),
        io::ErrorKind::FileTooLarge => format!("it cannot be read: it is longer than {LONGEST} bytes"),
        _ => format!("it cannot be read: {error}"),
    }
}

/// The only line of a file that gives a value to the field, counted from 1. The parsers do not keep it.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let name = field.split(['[', ']']).next()?.rsplit('.').next()?;
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches('"');
        let behind = line.strip_prefix(name).filter(|_| !name.is_empty());
        behind.is_some_and(|rest| rest.trim_start_matches(['"', ' ', '\t']).starts_with(['=', ':']))
    };
    let mut found = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| sets(line))
        .map(|(_, number)| number);
    let line = found.next()?;
    found.next().is_none().then_some(line)
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
    use serde_json::json;

    use super::*;

    fn overlay(variables: &[(&str, &str)]) -> Result<LogConfig, ConfigError> {
        LogConfig::default().with_variables(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Ok((*value).to_owned()))),
        )
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_named_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.toml");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for (path, kind) in [
            (&*pipe, "pipe"),
            (folder.path(), "folder"),
            (Path::new("/dev/zero"), "device"),
        ] {
            for refused in [
                LogConfig::from_file(path).err(),
                crate::WatchedLevels::from_file(path).err(),
            ] {
                let error = refused.unwrap().to_string();
                assert!(error.contains(kind), "{error}");
            }
        }
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
        assert_eq!((error.field.as_str(), error.value.as_str()), ("metric_window", "***"));
        assert!(error.remedy.contains("`metrics_window`"), "{error}");

        let error = read(r#"{"": 30.0}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("\"\"", "***"));

        let error = read(r#"{"file_level": "LOUD"}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("file_level", "\"LOUD\""));
        assert!(error.remedy.contains("warning"), "{error}");

        let error = read(r#"{"wandb_tags": ["a", 3]}"#);
        assert_eq!((error.field.as_str(), error.value.as_str()), ("wandb_tags[1]", "3"));
    }

    /// Wherever a key stands that should stand elsewhere, no error shows it.
    #[test]
    fn a_secret_at_a_wrong_place_is_not_shown() {
        const KEY: &str = "S3CR3T-0123456789abcdef0123456789abcdef0";
        let tables = [
            json!({"wandb_api": KEY}),
            json!({"wandb_api": {"deep": [KEY]}}),
            json!({"sinks": KEY}),
            json!({"sinks": [{"api_key": KEY}]}),
            json!({"probes": KEY}),
            json!({"redact": [format!("{KEY}(")]}),
            json!({"redact": KEY}),
            json!({"redact": [{"a": KEY}]}),
            json!({"name": {"api_key": KEY}}),
            json!({"wandb_tags": [[KEY]]}),
            json!({"ring_place": {KEY: 1}}),
            json!({"rank": [KEY]}),
            json!({"console_level": [KEY]}),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.json");
        let texts = tables.iter().map(Value::to_string).chain([
            format!("{{\"sinks\": {{\"wandb\": {{\"api_key\": \"{KEY}\"}}"),
            format!("\"{KEY}\""),
            format!("{{\"a\": {KEY}}}"),
        ]);
        for text in texts {
            std::fs::write(&path, &text).unwrap();
            let error = LogConfig::from_file(&path)
                .and_then(|config| config.validate())
                .unwrap_err();
            assert!(!format!("{error} {error:?}").contains("S3CR3T"), "{text}: {error}");
            let Ok(table) = serde_json::from_str(&text) else {
                continue;
            };
            let said = serde_json::from_value::<LogConfig>(table).map_err(|error| error.to_string());
            let said = said.and_then(|config| config.validate().map_err(|error| error.to_string()));
            assert!(!said.clone().unwrap_err().contains("S3CR3T"), "{text}: {said:?}");
        }
        let path = folder.path().join("logging.toml");
        for text in [
            format!("api_kay = {KEY}"),
            KEY.to_owned(),
            format!("a = \"{KEY}"),
            format!("sinks = \"{KEY}\""),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = LogConfig::from_file(&path).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("S3CR3T"), "{text}: {error}");
        }
        for variable in ["SINKS", "PROBES", "SINK", "API_KEY", "REDACT"] {
            for text in [
                KEY.to_owned(),
                format!("{{\"api_key\":\"{KEY}\""),
                format!("[\"{KEY}(\"]"),
                format!("{KEY}("),
            ] {
                let Err(error) = overlay(&[(variable, &text)]) else {
                    continue;
                };
                assert!(
                    !format!("{error} {error:?}").contains("S3CR3T"),
                    "{variable}={text}: {error}"
                );
            }
        }
    }

    #[test]
    fn a_file_that_is_no_config_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("folder.toml")).unwrap();
        std::fs::write(at("binary.toml"), b"\x7fELF\xff\xfe").unwrap();
        std::fs::File::create(at("huge.json"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        std::fs::write(at("list.json"), "[1]").unwrap();
        std::fs::write(at("deep.json"), "{\"a\":".repeat(100_000)).unwrap();
        std::fs::write(at("other.yaml"), "").unwrap();
        for (name, words) in [
            ("missing.toml", "cannot be read"),
            ("folder.toml", "a folder"),
            ("binary.toml", "not text in UTF-8"),
            ("huge.json", "longer than 1048576 bytes"),
            ("list.json", "no JSON object"),
            ("deep.json", "recursion limit"),
            ("other.yaml", ".toml or .json"),
        ] {
            let error = LogConfig::from_file(at(name)).unwrap_err();
            assert_eq!(
                (&*error.field, &*error.value),
                ("config file", &*at(name).display().to_string())
            );
            assert!(error.remedy.contains(words), "{error}");
        }
    }

    #[test]
    fn an_error_in_a_file_names_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            let error = LogConfig::from_file(folder.path().join(name)).unwrap_err().to_string();
            error.replace(folder.path().to_str().unwrap(), "")
        };
        for (name, text, expected) in [
            ("a.toml", "name = \"x\"\nmetrics_window = 0\n", "(in /a.toml, line 2)"),
            ("a.toml", "name = \"x\"\n\nconsol_level = 1\n", "(in /a.toml, line 3)"),
            ("a.toml", "name = \"x\"\n[sinks]\na = 1\n= 2", "at line 4"),
            ("a.json", "{\n  \"file_level\": \"LOUD\"\n}", "(in /a.json, line 2)"),
            ("a.json", "{\"a\": 1, \"file_level\": \"LOUD\"}", "(in /a.json"),
            ("a.json", "{\n\"name\": }", "at line 2"),
        ] {
            let error = read(name, text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
