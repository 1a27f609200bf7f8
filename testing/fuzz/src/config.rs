//! Config files and the environment.

use std::fs;

use logcore::testing::with_variables;
use logcore::{ConfigError, LogConfig};
use serde_json::Value;

use crate::folder;

/// Runs the reader that the first byte chooses.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 3 {
        0 => check(from_file("config.toml", rest)),
        1 => {
            let read = from_file("config.json", rest);
            if let Err(error) = &read {
                check_hides(error, rest);
            }
            check(read);
        }
        _ => check(from_variables(&String::from_utf8_lossy(rest))),
    }
}

/// Values under a name that nobody knows, or where anything may stand, are not in the error.
fn check_hides(error: &ConfigError, json: &[u8]) {
    let Ok(Value::Object(table)) = serde_json::from_slice(json) else {
        return;
    };
    let fields = serde_json::to_value(LogConfig::default()).expect("a config has a form in JSON");
    let open = |name: &str| fields.get(name).is_some() && !matches!(name, "sinks" | "probes" | "redact");
    let shown = format!("{} {} {error} {error:?}", error.value, error.remedy);
    // A name may be shown, and so may what is a part of our own words.
    let ours = format!("{} {fields} {}", error.field, LogConfig::from_file("/").unwrap_err());
    for (name, value) in table.iter().filter(|(name, _)| !open(name)) {
        for text in texts(value).filter(|text| text.len() > 8 && !text.contains(['"', '\\'])) {
            let is_name = ours.contains(text) || name.contains(text) || text.parse::<f64>().is_ok();
            assert!(is_name || !shown.contains(text), "{text:?} is shown: {shown}");
        }
    }
}

/// Collects all texts in a value.
fn texts(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => Box::new(std::iter::once(text.as_str())),
        Value::Array(items) => Box::new(items.iter().flat_map(texts)),
        Value::Object(map) => Box::new(map.values().flat_map(texts)),
        _ => Box::new(std::iter::empty()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let config = serde_json::to_string(&LogConfig::default()).expect("a config has a form in JSON");
    let fields = [
        "CONSOLE_LEVEL=debug\nFILE_LEVEL=CRITICAL\nENABLE_WANDB=yes\nWANDB_TAGS=a,b",
        "SINKS={\"file\": {\"rotate_mb\": 100}}\nRING_BYTES=65536\nFLUSH_TIMEOUT=1e300",
        "DIRECTIVES=info,hyper=warn,my_app::data=debug\nNAME=\u{1b}[31m\nON_FULL=drop",
    ];
    let tables = [
        "name = \"trainer\"\nconsole_level = \"WARNING\"\nprogress_smoothing = 0.5\nwandb_tags = [\"a\", \"b\"]\n\
         [sinks.file]\nrotate_mb = 100\n[sinks]\nconsole = { color = \"never\" }\n",
        "filename = '''x\ny'''\n\"metrics_window\" = 0x10\nlog_dir = \"\\u0000\"\n[[sinks.x.y]]\nz = 1_000\n",
        "name = [[[[1, 2], []]]]\nsinks.file.keep = -9223372036854775808\nflush_timeout = 1e999\n",
    ];
    let deep = ["[", "{ a = ", "a."].map(|level| format!("a = {0}\n{0}", level.repeat(300)));
    let with_kind = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let hidden = [
        r#"{"wandb_api": "a key at a wrong place"}"#,
        r#"{"sinks": ["a key at a wrong place"]}"#,
        r#"{"redact": ["a key at a wrong place("]}"#,
    ];
    let mut seeds = vec![with_kind(1, &config)];
    seeds.extend(hidden.map(|table| with_kind(1, table)));
    seeds.extend(tables.map(|table| with_kind(0, table)));
    seeds.extend(deep.map(|table| with_kind(0, &table)));
    seeds.extend(fields.map(|variables| with_kind(2, variables)));
    seeds
}

fn from_file(name: &str, bytes: &[u8]) -> Result<LogConfig, ConfigError> {
    fs::write(folder::path().join(name), bytes).expect("a file is written");
    let config = LogConfig::from_file(folder::path().join(name));
    folder::clear();
    config
}

/// Returns one variable for each line; lines omit `LOGCORE_`.
fn from_variables(lines: &str) -> Result<LogConfig, ConfigError> {
    let variables = lines.lines().filter_map(|line| line.split_once('='));
    with_variables(
        LogConfig::default(),
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
}

/// Checks that an accepted config reads back as itself, and that an error names a field.
fn check(read: Result<LogConfig, ConfigError>) {
    match read {
        Ok(config) => {
            config.validate().expect("what was accepted is valid");
            config.directives().expect("what was accepted is valid");
            let text = serde_json::to_string(&config).expect("a config has a form in JSON");
            let again: LogConfig = serde_json::from_str(&text).expect("it is read again");
            assert_eq!(config, again);
        }
        Err(error) => {
            assert!(!error.field.is_empty() && !error.remedy.is_empty());
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}
