//! Configs from tables, files and the environment. Every error names the field.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::io;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::LogConfig;
use super::level::LEVEL_NAMES;
use super::serde_form::ConfigFields;
use super::toml_depth::{MAX_DEPTH, nesting_depth};
use crate::ConfigError;
use crate::option_error::{option_error, suggest_name};
use crate::secret::HIDDEN;

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
        let table: Map<String, Value> = match extension.to_ascii_lowercase().as_str() {
            "toml" if nesting_depth(&text) > MAX_DEPTH => {
                return Err(refuse(format!("nested more than {MAX_DEPTH} levels deep")));
            }
            "toml" => basic_toml::from_str(&text).map_err(|error| refuse(format!("not valid TOML: {error}")))?,
            "json" => match serde_json::from_str(&text) {
                Ok(Value::Object(table)) => table,
                Ok(_) => return Err(refuse("not a JSON object with the fields of a config".to_owned())),
                Err(error) => return Err(refuse(format!("not valid JSON: {error}"))),
            },
            _ => return Err(refuse("use a file name that ends in .toml or .json".to_owned())),
        };
        let fields = table.keys().cloned().collect();
        let in_file = |error: ConfigError| match line_of(&text, &error.field) {
            Some(line) => error.read_from(format_args!("{}, line {line}", path.display())),
            None => error.read_from(path.display()),
        };
        if extension.eq_ignore_ascii_case("toml") {
            refuse_infinite(&table).map_err(in_file)?;
        }
        let mut config = Self::from_table(table).map_err(in_file)?;
        config.validate().map_err(in_file)?;
        if let (Some(watched), Some(folder)) = (&mut config.watch_file, path.parent()) {
            *watched = folder.join(&*watched);
        }
        Ok((config, fields))
    }

    /// Overrides fields with environment variables: `LOGCORE_<FIELD>`, for example
    /// `LOGCORE_CONSOLE_LEVEL=debug`.
    ///
    /// Lists are separated by commas, and tables (`LOGCORE_SINKS`) are JSON. `LOGCORE_TOKEN`, which
    /// is for `logcore serve`, is passed over. Code overrides the environment only if it sets a
    /// field after this call:
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
                let fields = table
                    .keys()
                    .map(|field| format!("{ENV_PREFIX}{}", field.to_ascii_uppercase()));
                let variable = format!("{ENV_PREFIX}{name}");
                let remedy = match option_in_variable(&field) {
                    Some(remedy) => remedy,
                    None => suggest_name(&variable, fields, "LogConfig has no such field"),
                };
                return Err(ConfigError::new(&variable, HIDDEN, remedy));
            };
            let variable = format!("{ENV_PREFIX}{name}");
            let of_variable = |error: ConfigError| error.read_from(format_args!("the variable {variable}"));
            let text = value
                .map_err(|raw| without_free_text(ConfigError::new(&field, raw, "the variable is not valid UTF-8")))
                .map_err(of_variable)?;
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
            |error: serde_json::Error| without_free_text(option_error(&table, &track.path().to_string(), &error)),
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
        match Value::deserialize(deserializer)? {
            Value::Object(table) => Self::from_table(table).map_err(de::Error::custom),
            _ => Err(de::Error::custom("a config is a table of fields")),
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

/// Refuses `inf` and `nan` in the rules of a TOML file. TOML has no null, and the table of JSON has
/// one in the place of each, which would pass for a field that is not there.
fn refuse_infinite(table: &Map<String, Value>) -> Result<(), ConfigError> {
    let rules = table.get(TABLES).and_then(Value::as_array).into_iter().flatten();
    for (at, rule) in rules.enumerate() {
        let mut fields = rule.as_object().into_iter().flatten();
        if let Some((field, _)) = fields.find(|(_, value)| value.is_null()) {
            let remedy = "use a finite number; `nan = true` finds values that are none";
            return Err(ConfigError::new(
                format!("{TABLES}[{at}].{field}"),
                "inf or nan",
                remedy,
            ));
        }
    }
    Ok(())
}

/// Fields of the type `Option` of a number. Their present value may not show that they take
/// numbers.
const OPTIONAL_NUMBERS: [&str; 4] = ["rank", "world_size", "flops_per_sample", "peak_flops"];

/// The field whose variable holds a JSON array of tables, and no list of texts.
const TABLES: &str = "rules";

/// Parses a variable as the type of the present value of the field.
fn from_variable(present: &Value, field: &str, text: &str) -> Result<Value, ConfigError> {
    let refuse = |remedy: &str| without_free_text(ConfigError::new(field, format!("\"{text}\""), remedy));
    Ok(match present {
        Value::Bool(_) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true.into(),
            "0" | "false" | "no" | "off" | "" => false.into(),
            _ => return Err(refuse("use true or false")),
        },
        _ if matches!(present, Value::Number(_)) || OPTIONAL_NUMBERS.contains(&field) => {
            let number: Value = serde_json::from_str(text.trim()).map_err(|_| refuse("use a number"))?;
            if !number.is_number() {
                return Err(refuse("use a number"));
            }
            number
        }
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

/// Returns the number of the only line that sets the field, counted from 1. The parsers do not
/// report lines.
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
                "rules[0].above = inf or nan: use a finite number",
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
