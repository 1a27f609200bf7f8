//! Configs from tables, files and the environment. Every error names the field.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::io;
use std::iter;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::LogConfig;
use super::level::LEVEL_NAMES;
use super::parsed_value::{ParsedTable, ParsedValue};
use super::serde_form::ConfigFields;
use super::toml_text::parse_toml;
use crate::ConfigError;
use crate::option_error::{option_error, suggest_name, suggest_shown};
use crate::secret::HIDDEN;
use crate::type_remedy::number_remedy;

const ENV_PREFIX: &str = "LOGCORE_";
/// Variables of the program `logcore` that are no fields, without the prefix: the token of
/// `logcore serve`. The environment of a training may have them.
const PROGRAM_VARIABLES: [&str; 1] = ["TOKEN"];
/// Largest size of a config file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl LogConfig {
    /// Reads a config from a file that ends in `.toml` or `.json`.
    ///
    /// Missing fields have their defaults. A relative `watch_file` is relative to the folder of the
    /// config file.
    ///
    /// # Errors
    ///
    /// - If the file cannot be read: it is not a regular file, larger than 1 MiB, or not UTF-8. The
    ///   field of the error is then `config file`.
    /// - If the file is neither TOML nor JSON, or a field or value is invalid. The error names the
    ///   file, the field, and the line if the field occurs once.
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

    /// Reads a config, and the names of the fields that the file sets.
    pub(super) fn read_file(path: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        let refuse = |remedy: String| ConfigError::new("config file", path.display(), remedy);
        let text =
            crate::files::read_to_string(path, MAX_FILE_BYTES).map_err(|error| refuse(describe_read_error(&error)))?;
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        let parsed = match extension.to_ascii_lowercase().as_str() {
            "toml" => parse_toml(&text).map_err(refuse)?,
            "json" => {
                let parsed: ParsedValue =
                    serde_json::from_str(&text).map_err(|error| refuse(format!("not valid JSON: {error}")))?;
                let table = parsed.into_table();
                table.ok_or_else(|| refuse("not a JSON object with the fields of a config".to_owned()))?
            }
            _ => return Err(refuse("use a file name that ends in .toml or .json".to_owned())),
        };
        let fields = parsed.fields.keys().cloned().collect();
        let in_file = |error: ConfigError| match line_of(&text, &error.field) {
            Some(line) => error.read_from(format_args!("{}, line {line}", path.display())),
            None => error.read_from(path.display()),
        };
        let mut config = Self::from_parsed(parsed).map_err(in_file)?;
        config.validate().map_err(in_file)?;
        if let (Some(watched), Some(folder)) = (&mut config.watch_file, path.parent()) {
            *watched = folder.join(&*watched);
        }
        Ok((config, fields))
    }

    /// Overrides fields with environment variables: `LOGCORE_<FIELD>`, for example
    /// `LOGCORE_CONSOLE_LEVEL=debug`.
    ///
    /// Lists are separated by commas, and tables (`LOGCORE_SINKS`) are JSON. An empty variable
    /// counts as unset, except for lists and for texts that may be empty: `directives`,
    /// `limit_per_site`, `metrics_prefix`, `stop_before`. `LOGCORE_TOKEN`, which is for `logcore
    /// serve`, is passed over. Code overrides the environment only if it sets a field after this
    /// call:
    ///
    /// ```
    /// use logcore::LogConfig;
    ///
    /// let config = LogConfig { name: "trainer".into(), ..LogConfig::default().with_env()? };
    /// assert_eq!(config.name, "trainer");
    /// # Ok::<(), logcore::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If another variable that begins with `LOGCORE_` names no field, or its value is invalid.
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
        // The fields that variables set, and the variables.
        let mut changed = BTreeMap::new();
        for (name, value) in variables.filter(|(name, _)| !PROGRAM_VARIABLES.contains(&name.as_str())) {
            let field = name.to_ascii_lowercase();
            let Some(slot) = table.get_mut(&field) else {
                let show = |field: &str| format!("{ENV_PREFIX}{}", field.to_ascii_uppercase());
                let variable = format!("{ENV_PREFIX}{name}");
                let remedy = match option_in_variable(&field) {
                    Some(remedy) => remedy,
                    None => suggest_shown(&field, table.keys(), "LogConfig has no such field", show),
                };
                return Err(ConfigError::new(&variable, HIDDEN, remedy));
            };
            let variable = format!("{ENV_PREFIX}{name}");
            let of_variable = |error: ConfigError| error.read_from(format_args!("the variable {variable}"));
            let text = value
                .map_err(|raw| without_free_text(ConfigError::new(&field, raw, "the variable is not valid UTF-8")))
                .map_err(of_variable)?;
            if text.trim().is_empty() && !may_be_empty(slot, &field) {
                continue;
            }
            *slot = from_variable(slot, &field, &text).map_err(of_variable)?;
            changed.insert(field, variable);
        }
        if changed.is_empty() {
            return Ok(self);
        }
        let of_variable = |error: ConfigError| {
            let field = error.field.split(['.', '[']).next().unwrap_or_default();
            match changed.get(field) {
                Some(variable) => error.read_from(format_args!("the variable {variable}")),
                None => error,
            }
        };
        let config = Self::from_table(table).map_err(of_variable)?;
        config.validate().map_err(of_variable)?;
        Ok(config)
    }

    fn from_parsed(parsed: ParsedTable) -> Result<Self, ConfigError> {
        refuse_infinite(&parsed.not_finite)?;
        Self::from_table(parsed.fields)
    }

    /// Parses a table of fields.
    pub(crate) fn from_table(table: Map<String, Value>) -> Result<Self, ConfigError> {
        let fields = Self::default().table();
        if let Some(field) = table.keys().find(|field| !fields.contains_key(*field)) {
            let remedy = suggest_name(field, fields.keys(), "there is no such field");
            // Makes an empty name visible.
            let field = if field.is_empty() { "\"\"" } else { field };
            return Err(ConfigError::new(field, HIDDEN, remedy));
        }
        let table = Value::Object(table);
        let mut track = serde_path_to_error::Track::new();
        ConfigFields::deserialize(serde_path_to_error::Deserializer::new(&table, &mut track)).map_err(
            |error: serde_json::Error| {
                let parse = |table: &Value| ConfigFields::deserialize(table).err();
                without_free_text(option_error(&table, &track.path().to_string(), &error, parse))
            },
        )
    }

    fn table(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(table)) => table,
            // Only a path that is not UTF-8 has no form in JSON.
            _ => Map::new(),
        }
    }
}

impl Serialize for LogConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ConfigFields::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for LogConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Serde's own error would quote a value that is not a table.
        match ParsedValue::deserialize(deserializer)?.into_table() {
            Some(parsed) => Self::from_parsed(parsed).map_err(de::Error::custom),
            None => Err(de::Error::custom("a config is a table of fields")),
        }
    }
}

/// Creates the config of a logger with this name. The environment overrides the defaults of all
/// other fields.
impl TryFrom<&str> for LogConfig {
    type Error = ConfigError;

    fn try_from(name: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default().with_env()?;
        // Code overrides the environment.
        config.name = name.to_owned();
        Ok(config)
    }
}

/// Like the conversion from `&str`.
impl TryFrom<String> for LogConfig {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        Self::try_from(name.as_str())
    }
}

/// Like the conversion from `&str`.
impl TryFrom<&String> for LogConfig {
    type Error = ConfigError;

    fn try_from(name: &String) -> Result<Self, ConfigError> {
        Self::try_from(name.as_str())
    }
}

/// Clones a borrowed config.
impl From<&LogConfig> for LogConfig {
    fn from(config: &LogConfig) -> Self {
        config.clone()
    }
}

/// Refuses numbers that are not finite outside of `hyper_parameters`, which take any value. The
/// table of JSON has a text in the place of each, which would pass for a value of other fields.
fn refuse_infinite(not_finite: &[(String, &'static str)]) -> Result<(), ConfigError> {
    let fields = LogConfig::default().table();
    for (path, number) in not_finite {
        let field = path.split(['.', '[']).next().unwrap_or_default();
        // A field that does not exist is refused for its name.
        let Some(default) = fields
            .get(field)
            .filter(|_| path == field || field != "hyper_parameters")
        else {
            continue;
        };
        let remedy = match default {
            _ if field == TABLES && path != TABLES => "use a finite number; `nan = true` finds values that are none",
            _ if path != field => "use a finite number, or a text in quotes",
            _ if is_number(default, field) => "use a finite number",
            Value::Object(_) => "use a table",
            _ => {
                // Such a field refuses a table with the same remedy.
                let table = Map::from_iter([(field.to_owned(), Value::Object(Map::new()))]);
                let refused = LogConfig::from_table(table).err();
                &refused.map_or_else(String::new, |error| error.remedy)
            }
        };
        return Err(ConfigError::new(path, number, remedy));
    }
    Ok(())
}

/// Fields of the type `Option` of a number. Their present value may not show that they take
/// numbers.
const OPTIONAL_NUMBERS: [&str; 4] = ["rank", "world_size", "flops_per_sample", "peak_flops"];

/// Returns `true` if the field with this value takes a number.
fn is_number(present: &Value, field: &str) -> bool {
    present.is_number() || OPTIONAL_NUMBERS.contains(&field)
}

/// Returns `true` if a field takes an empty text or list. For other fields, an empty variable
/// counts as unset: `LOGCORE_RESUME=${RESUME}` in a template of jobs.
fn may_be_empty(present: &Value, field: &str) -> bool {
    match present {
        Value::Array(_) => field != TABLES,
        _ => ["directives", "limit_per_site", "metrics_prefix", "stop_before"].contains(&field),
    }
}

/// The field whose variable holds a JSON array of tables, and no list of texts.
const TABLES: &str = "rules";

/// Parses a variable as the type of the present value of the field.
fn from_variable(present: &Value, field: &str, text: &str) -> Result<Value, ConfigError> {
    let refuse = |remedy: &str| without_free_text(ConfigError::new(field, format!("\"{text}\""), remedy));
    Ok(match present {
        Value::Bool(_) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true.into(),
            "0" | "false" | "no" | "off" => false.into(),
            _ => return Err(refuse("use true or false")),
        },
        _ if is_number(present, field) => match serde_json::from_str(text.trim()) {
            Ok(Value::Number(number)) => number.into(),
            _ => {
                let is_whole = present.is_u64() || ["rank", "world_size"].contains(&field);
                let number = if is_whole { "a whole number" } else { "a number" };
                return Err(refuse(&number_remedy(field, number, Some(text))));
            }
        },
        _ if field == TABLES => {
            let tables: Value =
                serde_json::from_str(text).map_err(|error| refuse(&format!("use a JSON array of objects: {error}")))?;
            if !tables.is_array() {
                return Err(refuse("use a JSON array of objects"));
            }
            tables
        }
        Value::Array(_) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
        Value::Object(_) => {
            let table: Value =
                serde_json::from_str(text).map_err(|error| refuse(&format!("use a JSON object: {error}")))?;
            if !table.is_object() {
                return Err(refuse("use a JSON object"));
            }
            table
        }
        _ => text.into(),
    })
}

/// Returns the remedy for a variable that names an option within a table: `sinks_file_rotate_mb`.
fn option_in_variable(name: &str) -> Option<String> {
    let (table, option) = name.split_once('_')?;
    let (plugin, option) = option
        .split_once('_')
        .filter(|_| ["sinks", "probes"].contains(&table))?;
    let variable = table.to_ascii_uppercase();
    Some(format!(
        "an option within a table has no variable of its own; use \
         {ENV_PREFIX}{variable}='{{\"{plugin}\": {{\"{option}\": …}}}}'"
    ))
}

/// Hides the values of fields that may hold any text, and so a secret.
fn without_free_text(error: ConfigError) -> ConfigError {
    let field = error.field.split(['.', '[']).next().unwrap_or_default();
    match matches!(field, "sinks" | "probes" | "hyper_parameters" | "redact") {
        true => error.without_text(),
        false => error,
    }
}

fn describe_read_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "cannot be read: it is not UTF-8 text".to_owned(),
        io::ErrorKind::FileTooLarge => format!("cannot be read: it is longer than {MAX_FILE_BYTES} bytes"),
        _ => format!("cannot be read: {error}"),
    }
}

/// Returns the number of the only line that sets the field, or else a table around the field,
/// counted from 1. The parsers do not report lines.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let parts = field.rsplit('.').map(|part| part.split('[').next().unwrap_or_default());
    // A key with dots has the whole path.
    iter::once(field)
        .chain(parts)
        .find_map(|name| only_line_that_sets(text, name))
}

fn only_line_that_sets(text: &str, name: &str) -> Option<usize> {
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

/// Returns `true` if `LogConfig` has a field of this name.
pub(crate) fn is_field(name: &str) -> bool {
    LogConfig::default().table().contains_key(name)
}

/// Returns the level names if the field takes a level. Serde's error does not list them.
pub(crate) fn level_remedy(field: &str) -> Option<&'static str> {
    matches!(
        field,
        "console_level" | "file_level" | "foreign_level" | "other_ranks_level"
    )
    .then_some(LEVEL_NAMES)
}

// `setup_logging` takes a config without conversion, whose error type is `Infallible`.
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
    fn from_file_of_a_pipe_or_device_fails_without_waiting() {
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
    fn from_file_with_deep_nesting_fails() {
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
    fn environment_overrides_every_type_of_field() {
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
    fn variables_of_the_program_are_passed_over() {
        let config = overlay(&[("TOKEN", "0123456789abcdef"), ("METRICS_WINDOW", "7")]).unwrap();
        assert_eq!(config.metrics_window, 7);
        let token = [("TOKEN".to_owned(), Err("not UTF-8".to_owned()))];
        LogConfig::default().with_variables(token.into_iter()).unwrap();
        for other in ["TOKENS", "token"] {
            assert!(overlay(&[(other, "0123456789abcdef")]).is_err(), "{other}");
        }
    }

    #[test]
    fn invalid_variable_is_named_in_the_error() {
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
            assert!(error.to_string().contains(&format!("LOGCORE_{variable}")), "{error}");
        }
        let error = overlay(&[("CONSOL_LEVEL", "info")]).unwrap_err();
        assert!(error.remedy.contains("LOGCORE_CONSOLE_LEVEL"), "{error}");
        let error = overlay(&[("SINKS_FILE_ROTATE_MB", "5")]).unwrap_err();
        let wanted = "LOGCORE_SINKS='{\"file\": {\"rotate_mb\": …}}'";
        assert!(error.remedy.contains(wanted), "{error}");
        // The config had this value before.
        let config = LogConfig {
            metrics_window: 0,
            ..LogConfig::default()
        };
        let variables = [("NAME".to_owned(), Ok("x".to_owned()))];
        let error = config.with_variables(variables.into_iter()).unwrap_err();
        assert!(
            error.field == "metrics_window" && !error.remedy.contains("LOGCORE_"),
            "{error}"
        );
    }

    #[test]
    fn invalid_table_names_field_value_and_remedy() {
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

    /// No error shows an API key, even if the key stands in the wrong field.
    #[test]
    fn secret_in_the_wrong_field_is_hidden() {
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
    fn from_file_of_another_file_type_fails() {
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
            ("binary.toml", "not UTF-8 text"),
            ("huge.json", "longer than 1048576 bytes"),
            ("list.json", "not a JSON object"),
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
    fn numbers_that_are_not_finite_are_kept_as_hyper_parameters_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            LogConfig::from_file(&path)
        };
        let config = read("[hyper_parameters]\nclip = inf\nlr = [nan, 0.1]\ndeep = {low = -inf}\n").unwrap();
        let kept = json!({"clip": "Infinity", "lr": ["NaN", 0.1], "deep": {"low": "-Infinity"}});
        assert_eq!(config.redacted_hyper_parameters(), kept);
        for (text, expected) in [
            ("hyper_parameters = inf", "hyper_parameters = inf: use a table"),
            ("flops_per_sample = nan", "flops_per_sample = nan: use a finite number"),
            ("peak_flops = -inf", "peak_flops = -inf: use a finite number"),
            ("rank = inf", "rank = inf: use a finite number"),
            ("world_size = -nan", "world_size = -nan: use a finite number"),
            ("finish_timeout = inf", "finish_timeout = inf: use a finite number"),
            ("resume = nan", "resume = nan: use a text in quotes"),
            ("name = inf", "name = inf: use a text in quotes"),
            ("enable_file = nan", "enable_file = nan: use true or false"),
            (
                "console_level = nan",
                "console_level = nan: use off, error, warning, info, debug or trace",
            ),
            ("on_full = inf", "on_full = inf: use `wait` or `drop`"),
            (
                "wandb_tags = [\"a\", inf]",
                "wandb_tags[1] = inf: use a finite number, or a text",
            ),
            ("redact = inf", "redact = inf: use a list, in brackets"),
            (
                "[sinks.file]\nrotate_mb = inf",
                "sinks.file.rotate_mb = inf: use a finite number, or a text",
            ),
            (
                "[probes.x]\ny = [{z = nan}]",
                "probes.x.y[0].z = nan: use a finite number, or a text",
            ),
            ("sinks.file = nan", "sinks.file = nan: use a finite number, or a text"),
            (
                "[[rules]]\nmetric = \"a\"\nspike = inf",
                "rules[0].spike = inf: use a finite number; `nan = true`",
            ),
            ("consol = nan", "consol = ***: there is no such field"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid {expected}")), "{error}");
            assert!(error.contains(&format!("line {}", text.lines().count())), "{error}");
            // Another program may read the file, and have serde make the config.
            let error = basic_toml::from_str::<LogConfig>(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid {expected}")), "{error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_has_a_remedy_in_plain_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.toml");
        for (text, expected) in [
            (
                "grace = \"30s\"",
                "grace = \"30s\": use a number of seconds, without a unit: 30 (in",
            ),
            (
                "finish_timeout = \"2m\"",
                "\"2m\": use a number of seconds, without a unit: 120 (in",
            ),
            (
                "flush_timeout = \"5\"",
                "flush_timeout = \"5\": use a number of seconds, without quotes (in",
            ),
            (
                "ring_bytes = \"4MiB\"",
                "ring_bytes = \"4MiB\": use a whole number of bytes, without a unit (in",
            ),
            (
                "ring_bytes = -1",
                "ring_bytes = -1: use a whole number of bytes, 0 or more (in",
            ),
            ("metrics_window = 1.5", "metrics_window = 1.5: use a whole number (in"),
            (
                "rank = 99999999999",
                "rank = 99999999999: use a whole number from 0 to 4294967295 (in",
            ),
            ("peak_flops = true", "peak_flops = true: use a number (in"),
            (
                "stall_after = 10",
                "stall_after = 10: use a time with its unit, in quotes, such as \"10s\" (in",
            ),
            (
                "stall_after = 1.5",
                "stall_after = 1.5: use a time with its unit, in quotes, such as \"10m\" (in",
            ),
            ("limit_per_site = 100", "such as \"100/10s\" (in"),
            (
                "stop_before = 1796061600",
                "stop_before = 1796061600: put the value into quotes: \"1796061600\" (in",
            ),
            ("name = []", "name = []: use a text in quotes (in"),
            ("log_dir = {}", "log_dir = {}: use a text in quotes (in"),
            (
                "resume = true",
                "resume = true: put the value into quotes: \"true\" (in",
            ),
            (
                "enable_file = \"yes\"",
                "enable_file = \"yes\": use true or false, without quotes (in",
            ),
            ("on_full = {}", "on_full = {}: use `wait` or `drop` (in"),
            ("on_full = 5", "on_full = 5: use `wait` or `drop` (in"),
            (
                "on_full = \"explode\"",
                "on_full = \"explode\": use `wait` or `drop` (in",
            ),
            ("on_full = {drop = 1}", ": use `wait` or `drop` (in"),
            (
                "console_level = 3",
                "console_level = 3: use off, error, warning, info, debug or trace (in",
            ),
            ("wandb_tags = 5", "wandb_tags = 5: use a list, in brackets (in"),
            ("sinks = 5", "sinks = 5: use a table (in"),
            ("rules = [5]", "rules[0] = 5: use a table of options (in"),
            (
                "[[rules]]\nmetric = \"a\"\nmissing = 90",
                "rules[0].missing = 90: use a time with its unit, in quotes, such as \"90s\" (in",
            ),
            (
                "[[rules]]\nmetric = \"a\"\nthen = 1",
                "rules[0].then = 1: use `warn`, `alert` or `stop` (in",
            ),
            (
                "level = 1",
                "did you mean `console_level`, `file_level`, `foreign_level` or `other_ranks_level`?",
            ),
            (
                "loglevel = 1",
                "did you mean `console_level`, `file_level`, `foreign_level` or `other_ranks_level`?",
            ),
            ("window = 1", "did you mean `metrics_window` or `progress_window`?"),
            (
                "stop_before = 2026-11-30T18:00:00Z",
                "put the date or time in line 1 into quotes: \"2026-11-30T18:00:00Z\"",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = LogConfig::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains("expected") && !error.contains("invalid type"),
                "{error}"
            );
        }
        let error = overlay(&[("GRACE", "30s")]).unwrap_err().to_string();
        assert!(error.contains("use a number of seconds, without a unit: 30"), "{error}");
        let error = overlay(&[("METRICS_WINDOW", "many")]).unwrap_err().to_string();
        assert!(error.contains("use a whole number"), "{error}");
        let error = overlay(&[("LEVEL", "info")]).unwrap_err().to_string();
        assert!(
            error.contains("did you mean `LOGCORE_CONSOLE_LEVEL`, `LOGCORE_FILE_LEVEL`,"),
            "{error}"
        );
    }

    #[test]
    fn no_error_names_a_type_of_rust_or_a_value_that_nobody_wrote() {
        let values = [
            "\"\"",
            "\"banana\"",
            "-1",
            "1.5",
            "0",
            "99999999999",
            "nan",
            "-inf",
            "true",
            "[]",
            "[1]",
            "[[]]",
            "{}",
            "{a = 1}",
            "[\"a\", \"a\"]",
            "[{a = nan}]",
        ];
        let mut refused = 0;
        for field in LogConfig::default().table().keys() {
            for value in values {
                let text = format!("{field} = {value}\n");
                let read = basic_toml::from_str::<LogConfig>(&text).map_err(|error| error.to_string());
                let read = read.and_then(|config| config.validate().map_err(|error| error.to_string()));
                let Err(error) = read else { continue };
                refused += 1;
                for word in [
                    "expected",
                    "invalid type",
                    "invalid value",
                    "null",
                    "struct",
                    "usize",
                    "f64",
                    "sequence",
                ] {
                    assert!(!error.contains(word), "{text}{error}");
                }
                assert!(
                    error.starts_with(&format!("invalid {field}")) && error.contains(": "),
                    "{text}{error}"
                );
            }
        }
        assert!(refused > 500, "{refused}");
    }

    #[test]
    fn an_empty_variable_counts_as_unset_unless_the_field_takes_it() {
        let config = LogConfig {
            resume: Some("latest".into()),
            wandb_tags: vec!["a".into()],
            directives: "info".into(),
            stop_before: "off".into(),
            enable_file: true,
            ..LogConfig::default()
        };
        let Value::Object(fields) = serde_json::to_value(&config).unwrap() else {
            panic!("a config is a table");
        };
        for empty in ["", " "] {
            for field in fields.keys() {
                let variable = [(field.to_ascii_uppercase(), Ok(empty.to_owned()))];
                let changed = config.clone().with_variables(variable.into_iter());
                let mut expected = config.clone();
                match field.as_str() {
                    "wandb_tags" => expected.wandb_tags.clear(),
                    "directives" => expected.directives = empty.to_owned(),
                    "stop_before" => expected.stop_before = empty.to_owned(),
                    "limit_per_site" => expected.limit_per_site = empty.to_owned(),
                    "metrics_prefix" => expected.metrics_prefix = empty.to_owned(),
                    _ => {}
                }
                assert_eq!(changed, Ok(expected), "{field}");
            }
        }
        assert!(overlay(&[("NO_SUCH", "")]).is_err());
    }

    #[test]
    fn error_in_a_file_names_file_and_line() {
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
            (
                "a.toml",
                "name = \"x\"\n[[rules]]\nmetric = \"a\"\nabove = -inf\n",
                "rules[0].above = -inf: use a finite number; `nan = true` finds",
            ),
            ("a.json", "{\n  \"file_level\": \"LOUD\"\n}", "(in /a.json, line 2)"),
            ("a.json", "{\"a\": 1, \"file_level\": \"LOUD\"}", "(in /a.json"),
            ("a.json", "{\n\"name\": }", "at line 2"),
        ] {
            let error = read(name, text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
