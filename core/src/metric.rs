use std::fmt;
use std::time::SystemTime;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// The values of one `log_metrics` call, as a sink gets them.
///
/// Names are as the user will find them: with the prefix of the config, the system's own families as they are.
///
/// ```
/// use logcore::{MetricBatch, MetricValue};
///
/// let values = [("metrics/loss", MetricValue::Float(0.5)), ("metrics/epoch", MetricValue::Int(3))];
/// let batch = MetricBatch::new("trainer", 12, &values);
/// assert_eq!(batch.step(), 12);
/// let sum: f64 = batch.iter().map(|(_, value)| value.as_f64()).sum();
/// assert_eq!(sum, 3.5);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MetricBatch<'a> {
    logger: &'a str,
    step: u64,
    time: SystemTime,
    values: &'a [(&'a str, MetricValue)],
}

impl<'a> MetricBatch<'a> {
    /// A batch of now.
    pub fn new(logger: &'a str, step: u64, values: &'a [(&'a str, MetricValue)]) -> Self {
        Self::at(SystemTime::now(), logger, step, values)
    }

    /// A batch of `time`.
    pub fn at(time: SystemTime, logger: &'a str, step: u64, values: &'a [(&'a str, MetricValue)]) -> Self {
        Self {
            logger,
            step,
            time,
            values,
        }
    }

    /// The logger that the metrics were given to.
    pub fn logger(&self) -> &'a str {
        self.logger
    }

    /// The step that they belong to.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// When the call was made.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Names and values, in the order of the call; no name comes twice.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, MetricValue)> + Clone + use<'a> {
        self.values.iter().copied()
    }
}

/// A number as it was logged: integers stay integers.
///
/// As JSON it is a number, or one of the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, which JSON has no numbers for.
///
/// ```
/// use logcore::MetricValue;
///
/// assert_eq!(serde_json::to_string(&MetricValue::from(3_u8)).unwrap(), "3");
/// assert_eq!(serde_json::to_string(&MetricValue::from(f32::NAN)).unwrap(), "\"NaN\"");
/// assert_eq!(MetricValue::from(u64::MAX).as_f64(), 18446744073709551615.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// A floating-point number, NaN and infinities included.
    Float(f64),
    /// A signed integer.
    Int(i64),
    /// An integer above [`i64::MAX`].
    UInt(u64),
}

impl MetricValue {
    /// The value as a double; integers beyond 2^53 are rounded.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Float(value) => value,
            Self::Int(value) => value as f64,
            Self::UInt(value) => value as f64,
        }
    }
}

impl Serialize for MetricValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Float(value) => serialize_float(value, serializer),
            Self::Int(value) => serializer.serialize_i64(value),
            Self::UInt(value) => serializer.serialize_u64(value),
        }
    }
}

/// Reads what [`Serialize`] writes; a number with a point or an exponent is a float.
impl<'de> Deserialize<'de> for MetricValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = MetricValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<MetricValue, E> {
                Ok(value.into())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<MetricValue, E> {
                Ok(value.into())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<MetricValue, E> {
                Ok(value.into())
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<MetricValue, E> {
                match value {
                    "NaN" => Ok(f64::NAN.into()),
                    "Infinity" => Ok(f64::INFINITY.into()),
                    "-Infinity" => Ok(f64::NEG_INFINITY.into()),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

/// Whatever can be the value of a metric: every primitive number, a [`MetricValue`], and references to them.
pub trait Number {
    /// The number, integers as integers.
    fn value(&self) -> MetricValue;
}

impl<N: Number + ?Sized> Number for &N {
    fn value(&self) -> MetricValue {
        (**self).value()
    }
}

impl Number for MetricValue {
    fn value(&self) -> MetricValue {
        *self
    }
}

macro_rules! numbers {
    (floats: $($float:ty)*; small: $($small:ty)*; large: $($large:ty)*) => {
        $(impl Number for $float {
            fn value(&self) -> MetricValue {
                MetricValue::Float(f64::from(*self))
            }
        })*
        $(impl Number for $small {
            fn value(&self) -> MetricValue {
                MetricValue::Int(i64::from(*self))
            }
        })*
        $(impl Number for $large {
            fn value(&self) -> MetricValue {
                match (i64::try_from(*self), u64::try_from(*self)) {
                    (Ok(value), _) => MetricValue::Int(value),
                    (_, Ok(value)) => MetricValue::UInt(value),
                    _ => MetricValue::Float(*self as f64),
                }
            }
        })*
        $(from_number!($float);)* $(from_number!($small);)* $(from_number!($large);)*
    };
}

macro_rules! from_number {
    ($number:ty) => {
        impl From<$number> for MetricValue {
            fn from(number: $number) -> Self {
                number.value()
            }
        }
    };
}

numbers! {
    floats: f32 f64;
    small: i8 i16 i32 i64 u8 u16 u32;
    large: u64 i128 u128 isize usize
}

/// A name and a number: what `log_metrics` takes any number of.
///
/// Pairs by value and by reference, so that arrays, slices, vectors and maps all serve.
pub trait MetricPair {
    /// The metric's name.
    fn name(&self) -> &str;
    /// Its value.
    fn value(&self) -> MetricValue;
}

impl<K: AsRef<str>, V: Number> MetricPair for (K, V) {
    fn name(&self) -> &str {
        self.0.as_ref()
    }
    fn value(&self) -> MetricValue {
        self.1.value()
    }
}

impl<K: AsRef<str>, V: Number> MetricPair for &(K, V) {
    fn name(&self) -> &str {
        self.0.as_ref()
    }
    fn value(&self) -> MetricValue {
        self.1.value()
    }
}

/// What is known of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// The newest value, which may be NaN or infinite.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub last: f64,
    /// The mean of the finite values in the window; NaN if it holds none.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub mean: f64,
    /// The least finite value of the run; NaN if there was none.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub min: f64,
    /// The greatest finite value of the run; NaN if there was none.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub max: f64,
    /// How many values there were, in the whole run.
    pub count: u64,
    /// How many of them were NaN.
    pub nan_count: u64,
    /// How many of them were infinite.
    pub infinite_count: u64,
    /// The history in memory holds one value of this many: 1 until its budget is used up.
    pub history_stride: u64,
}

impl Stats {
    /// Stats of a metric that has had no value yet.
    pub fn empty() -> Self {
        Self {
            last: f64::NAN,
            mean: f64::NAN,
            min: f64::NAN,
            max: f64::NAN,
            count: 0,
            nan_count: 0,
            infinite_count: 0,
            history_stride: 1,
        }
    }
}

/// One value of a metric's history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// The step that it was logged at.
    pub step: u64,
    /// The value.
    pub value: f64,
}

impl Point {
    /// The value `value` at `step`.
    pub fn new(step: u64, value: f64) -> Self {
        Self { step, value }
    }
}

fn serialize_stat<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serialize_float(*value, serializer)
}

/// Reads a number, or the text that [`serialize_float`] writes for a value that JSON has no number for.
fn deserialize_stat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(f64),
        Text(String),
    }
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(value) => Ok(value),
        NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Writes a double so that the result is always valid JSON and every value can be told from every other.
pub(crate) fn serialize_float<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(value)
    } else if value.is_nan() {
        serializer.serialize_str("NaN")
    } else if value > 0.0 {
        serializer.serialize_str("Infinity")
    } else {
        serializer.serialize_str("-Infinity")
    }
}
