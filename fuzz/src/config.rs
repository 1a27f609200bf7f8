//! Config files and the environment.

use std::fs;

use logcore::testing::with_variables;
use logcore::{ConfigError, LogConfig};

use crate::folder;

/// The first byte says what the rest is.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 3 {
        0 => check(from_file("config.toml", rest)),
        1 => check(from_file("config.json", rest)),
        _ => check(from_variables(&String::from_utf8_lossy(rest))),
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
    let mut seeds = vec![with_kind(1, &config)];
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

/// A variable a line, without `LOGCORE_`.
fn from_variables(lines: &str) -> Result<LogConfig, ConfigError> {
    let variables = lines.lines().filter_map(|line| line.split_once('='));
    with_variables(
        LogConfig::default(),
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
}

/// What was accepted can be written down and is accepted again, as the same; what was refused says where.
fn check(read: Result<LogConfig, ConfigError>) {
    match read {
        Ok(config) => {
            config.validate().expect("what was accepted is valid");
            config.directives().expect("what was accepted is valid");
            let text = serde_json::to_string(&config).expect("a config has a form in JSON");
            let again: LogConfig = serde_json::from_str(&text).expect("it is read again");
            assert_eq!(config, again);
        }
        Err(error) => assert!(!error.field.is_empty() && !error.remedy.is_empty()),
    }
}
