//! Parses a row of `metrics.jsonl`.

use std::fmt;

use logcore::MetricValue;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// The values that a logger of one rank has logged for a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankRow {
    pub(crate) step: u64,
    /// Seconds since 1970.
    pub(crate) time: f64,
    pub(crate) logger: String,
    /// Names and values, in the order of the row.
    pub(crate) values: Vec<(String, MetricValue)>,
}

impl RankRow {
    /// Returns the value of this name as a float.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        let found = self.values.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_f64())
    }

    /// Adds the values of a later row of the same step; they replace earlier ones of the same name.
    pub(crate) fn add(&mut self, later: RankRow) {
        self.time = later.time;
        for (name, value) in later.values {
            match self.values.iter_mut().find(|(own, _)| *own == name) {
                Some((_, own)) => *own = value,
                None => self.values.push((name, value)),
            }
        }
    }
}

impl<'de> Deserialize<'de> for RankRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RankRowVisitor;
        impl<'de> Visitor<'de> for RankRowVisitor {
            type Value = RankRow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row with step, time, logger and numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RankRow, A::Error> {
                let (mut step, mut time, mut logger, mut values) = (None, None, None, Vec::new());
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "step" => step = Some(map.next_value()?),
                        "time" => time = Some(map.next_value()?),
                        "logger" => logger = Some(map.next_value()?),
                        _ => values.push((name, map.next_value()?)),
                    }
                }
                Ok(RankRow {
                    step: step.ok_or_else(|| de::Error::missing_field("step"))?,
                    time: time.ok_or_else(|| de::Error::missing_field("time"))?,
                    logger: logger.ok_or_else(|| de::Error::missing_field("logger"))?,
                    values,
                })
            }
        }
        deserializer.deserialize_map(RankRowVisitor)
    }
}
