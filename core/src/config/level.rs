//! Levels in text, written as in Python or in Rust.

use log::LevelFilter;
use serde::{Deserialize, Deserializer, Serializer, de};

/// What to write instead of a level that is unknown.
pub(crate) const LEVELS: &str = "off, error, warning, info, debug or trace";

/// Reads a level: `WARNING`, `warn`, `CRITICAL` (which is error), … in any case.
pub(crate) fn parse_level(text: &str) -> Option<LevelFilter> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "off" | "none" => LevelFilter::Off,
        "error" | "critical" | "fatal" => LevelFilter::Error,
        "warn" | "warning" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "trace" | "notset" => LevelFilter::Trace,
        _ => return None,
    })
}

pub(super) fn serialize<S: Serializer>(level: &LevelFilter, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(level.as_str())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LevelFilter, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_level(&text).ok_or_else(|| de::Error::custom(format!("write {LEVELS}")))
}
