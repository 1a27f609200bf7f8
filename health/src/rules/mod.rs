//! Rules: conditions on the values of metrics, and the answers to them.
//!
//! A [`RuleSink`] on the writer's thread looks at each value of a logger. A value that meets the
//! condition of a rule opens an episode of that rule and metric, which is told once, as a
//! [`Finding`], and which ends after `window` values that do not meet the condition; an episode of
//! `missing` ends with the next value. For each episode that was told, an [`Incident`] holds the
//! 200 rows before and after it, for [`write_incident`]; the rows before come first, alone.
//!
//! | condition | met by |
//! |---|---|
//! | `nan` | a value that is no finite number |
//! | `above`, `below` | a value beyond the bound, infinities included |
//! | `spike` | a value far from the trend of the values before it; an infinity |
//! | `flat` | the last of so many equal values |
//! | `missing` | the time since the last value; looked at by a [`MissingWatch`] |
//!
//! A NaN says nothing to any condition but `nan`.
//!
//! # Cost
//!
//! Nothing on the thread that logs. On the writer, with ten metrics a batch and their rows
//! remembered, a value costs 6 ns with a `nan` rule on each metric and 15 ns with a `spike` rule on
//! each as well, as the median of 301 rounds on a busy machine (`cargo run --release -p
//! logcore-health --example rule_cost`). The sink allocates nothing once the names are known, until
//! a rule finds something.

mod finding;
mod history;
mod incident;
mod layouts;
mod missing;
mod pattern;
mod sink;
mod spike;
mod tripped;
mod watch;

pub use self::finding::{Breach, EndedMetric, Episode, EpisodeEnd, Finding, FindingHook};
pub use self::incident::{Incident, IncidentRow, write_incident};
pub use self::missing::MissingWatch;
pub use self::sink::RuleSink;
pub use self::tripped::TrippedMetrics;
