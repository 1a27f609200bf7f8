//! Calls with arbitrary content.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::{Arbitrary, Unstructured};
use logcore::log::Level;
use logcore::{FieldValue, MetricValue, Record};

/// The parts of a record.
#[derive(Debug, Arbitrary)]
pub(crate) struct ArbitraryRecord {
    pub(crate) level: u8,
    pub(crate) logger: String,
    pub(crate) target: String,
    pub(crate) routed: bool,
    pub(crate) message: String,
    pub(crate) fields: Vec<(String, ArbitraryField)>,
    pub(crate) moment: ArbitraryTime,
}

impl ArbitraryRecord {
    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&Record<'_>) -> T) -> T {
        let level = Level::iter().nth(usize::from(self.level % 5)).unwrap_or(Level::Info);
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.value()))
            .collect();
        let record = Record::at(self.moment.time(), level, &self.logger, &self.message).with_fields(&fields);
        let record = match self.routed {
            true => record.with_facade_target(&self.target),
            false => record.with_target(&self.target),
        };
        use_it(&record)
    }
}

#[derive(Debug, Arbitrary)]
pub(crate) enum ArbitraryField {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(String),
}

impl ArbitraryField {
    pub(crate) fn value(&self) -> FieldValue<'_> {
        match self {
            Self::Bool(value) => FieldValue::Bool(*value),
            Self::Int(value) => FieldValue::Int(*value),
            Self::UInt(value) => FieldValue::UInt(*value),
            Self::Float(value) => FieldValue::Float(*value),
            Self::Text(text) => FieldValue::Text(text.as_str().into()),
        }
    }
}

/// A time that a frame can hold, in nanoseconds before or after 1970.
#[derive(Debug, Arbitrary)]
pub(crate) struct ArbitraryTime(i64);

impl ArbitraryTime {
    pub(crate) fn time(&self) -> SystemTime {
        let distance = Duration::from_nanos(self.0.unsigned_abs());
        match self.0 {
            0.. => UNIX_EPOCH + distance,
            _ => UNIX_EPOCH - distance,
        }
    }
}

/// A number of any of the four kinds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArbitraryNumber(pub(crate) MetricValue);

impl<'a> Arbitrary<'a> for ArbitraryNumber {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self(match u.int_in_range(0..=3)? {
            0 => MetricValue::Float(u.arbitrary()?),
            1 => MetricValue::Int(u.arbitrary()?),
            2 => MetricValue::F32(u.arbitrary()?),
            _ => MetricValue::from(u.arbitrary::<u64>()?),
        }))
    }
}
