//! Level names, in the spelling of Python or Rust.

use log::LevelFilter;
use serde::{Deserialize, Deserializer, Serializer, de};

/// The level names for error texts.
pub(crate) const LEVEL_NAMES: &str = "off, error, warning, info, debug or trace";

/// Parses a level in any case: `WARNING`, `warn`, `CRITICAL` (error), ….
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
    parse_level(&text).ok_or_else(|| de::Error::custom(format!("use {LEVEL_NAMES}")))
}
