//! How records become text: [`Plain`], [`Colored`], [`Json`], [`Logfmt`].
//!
//! Each is registered under its name in lower case, so that a sink can be told to use it: `sinks.file.formatter = "json"`.

mod clock;
#[cfg(feature = "color")]
mod colored;
mod escape;
mod json;
#[cfg(feature = "color")]
mod keywords;
mod logfmt;
mod plain;

pub use self::clock::{Clock, take_zone_problem};
#[cfg(feature = "color")]
pub use self::colored::Colored;
pub use self::escape::escape_line;
pub use self::json::Json;
pub use self::logfmt::Logfmt;
pub use self::plain::Plain;

/// The options of all our formatters: there are none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}
