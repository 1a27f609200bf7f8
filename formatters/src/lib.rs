//! The bundled formatters: [`Plain`], `Colored`, [`Json`] and [`Logfmt`].
//!
//! A formatter turns a record into text. Each formatter of this crate is registered under a name,
//! and a text sink uses the formatter that its config names:
//!
//! | name | type | for | line |
//! |---|---|---|---|
//! | `plain` | [`Plain`] | text files | `2026-11-23 14:48:15.123 \| INFO  \| trainer \| Starting` |
//! | `colored` | `Colored` | terminals | the plain line with color codes |
//! | `json` | [`Json`] | programs | `{"time":1795445295.123,"level":"INFO","logger":"trainer",…}` |
//! | `logfmt` | [`Logfmt`] | log collectors | `time=2026-11-23T14:48:15.123+00:00 level=info …` |
//!
//! The crate `logcore` documents how to write a formatter.
//!
//! # Example: a formatter by name
//!
//! ```
//! use logcore::{BuildContext, LogConfig, Record, StopFlag, Style};
//! # use logcore_formatters as _;
//!
//! let (config, stop) = (LogConfig::default(), StopFlag::default());
//! let context = BuildContext::new(&config, &stop);
//! let mut formatter = context.build_formatter(&"json".into()).unwrap();
//!
//! let mut out = String::new();
//! let record = Record::new(logcore::log::Level::Info, "trainer", "Starting");
//! formatter.format(&record, &Style::default(), &mut out);
//! assert!(out.contains(r#""message":"Starting""#));
//! ```
//!
//! # Text from outside
//!
//! A message may contain anything. No part of a message can look like another record. The only
//! control characters in the output are line ends and, if the sink wants them, color codes.
//!
//! # Stability
//!
//! None: this crate is a part of `logcore-facade` and may change in any version. The names of the
//! formatters and the form of their lines are stable.

#![warn(missing_debug_implementations)]

#[cfg(feature = "color")]
mod colored;
mod escape;
mod json;
#[cfg(feature = "color")]
mod keywords;
mod logfmt;
mod plain;
mod time_writer;

#[cfg(feature = "color")]
pub use self::colored::Colored;
pub use self::json::Json;
pub use self::logfmt::Logfmt;
pub use self::plain::Plain;
pub use self::time_writer::take_zone_problem;

/// The options of the bundled formatters. There are none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatterOptions {}
