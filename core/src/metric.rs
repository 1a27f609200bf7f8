//! Metrics, as sinks receive them: batches of names and numbers.

use std::fmt;
use std::num::NonZeroU64;
use std::time::SystemTime;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The values of one `log_metrics` call, as a sink receives them.
///
/// A name includes the config's `metrics_prefix`. The logger's own families (`throughput/`,
/// `progress/`, `memory/`, `system/`) have no prefix.
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
    layout: Option<NonZeroU64>,
}

impl<'a> MetricBatch<'a> {
    /// Creates a batch of the present moment.
    #[must_use]
    pub fn new(logger: &'a str, step: u64, values: &'a [(&'a str, MetricValue)]) -> Self {
        Self::at(SystemTime::now(), logger, step, values)
    }

    /// Creates a batch of the moment `time`.
    #[must_use]
    pub fn at(time: SystemTime, logger: &'a str, step: u64, values: &'a [(&'a str, MetricValue)]) -> Self {
        Self {
            logger,
            step,
            time,
            values,
            layout: None,
        }
    }

    /// Numbers the sequence of names. Only the pipeline does so: in a process, batches with equal
    /// numbers must have the same names in the same order.
    #[doc(hidden)]
    #[must_use]
    pub fn with_layout(self, layout: NonZeroU64) -> Self {
        Self {
            layout: Some(layout),
            ..self
        }
    }

    /// Returns the number of the sequence of names. A sink that has met the number before need not
    /// compare the names.
    #[doc(hidden)]
    #[must_use]
    pub fn layout(&self) -> Option<NonZeroU64> {
        self.layout
    }

    /// Returns the name of the logger.
    #[must_use]
    pub fn logger(&self) -> &'a str {
        self.logger
    }

    /// Returns the step of all values.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Returns the time of the call.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Returns the names and values, in the order of the call. Each name occurs once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, MetricValue)> + Clone + use<'a> {
        self.values.iter().copied()
    }
}

/// A number as it was logged: integers stay integers, and an `f32` keeps its digits.
///
/// The JSON form is a number, or one of the strings `"NaN"`, `"Infinity"` and `"-Infinity"`,
/// because JSON has no such numbers. An `f32` that is read back from JSON is a
/// [`Float`](Self::Float) with the same digits.
///
/// ```
/// use logcore::MetricValue;
///
/// assert_eq!(serde_json::to_string(&MetricValue::from(3_u8)).unwrap(), "3");
/// assert_eq!(serde_json::to_string(&MetricValue::from(0.1_f32)).unwrap(), "0.1");
/// assert_eq!(serde_json::to_string(&MetricValue::from(f32::NAN)).unwrap(), "\"NaN\"");
/// assert_eq!(MetricValue::from(u64::MAX).as_f64(), 18446744073709551615.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// A floating-point number, NaN and infinities included.
    Float(f64),
    /// A number of single precision. As text it has the shortest digits that identify it: 0.1, and
    /// not 0.10000000149011612.
    F32(f32),
    /// A signed integer.
    Int(i64),
    /// An integer above [`i64::MAX`].
    UInt(u64),
}

impl MetricValue {
    /// Returns the value as a double. Integers beyond 2^53 are rounded.
    ///
    /// ```
    /// use logcore::MetricValue;
    ///
    /// assert_eq!(MetricValue::Int(3).as_f64(), 3.0);
    /// assert_eq!(MetricValue::F32(0.1).as_f64(), 0.10000000149011612);
    /// ```
    #[must_use]
    #[inline]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Float(value) => value,
            Self::F32(value) => f64::from(value),
            Self::Int(value) => value as f64,
            Self::UInt(value) => value as f64,
        }
    }

    /// Returns the double with the shortest digits of the value. A sink that writes text uses it
    /// for numbers that are no integers.
    ///
    /// ```
    /// use logcore::MetricValue;
    ///
    /// assert_eq!(MetricValue::F32(0.1).as_decimal(), 0.1);
    /// assert_eq!(MetricValue::Float(0.1).as_decimal(), 0.1);
    /// ```
    #[must_use]
    #[inline]
    pub fn as_decimal(self) -> f64 {
        match self {
            Self::F32(value) => decimal_of_f32(value),
            other => other.as_f64(),
        }
    }
}

/// Returns the double that is nearest to the shortest digits of `value`.
fn decimal_of_f32(value: f32) -> f64 {
    let exact = f64::from(value);
    // With up to 12 decimals, a product of 24 bits and a power of ten is exact, and so is the
    // nearest integer. The first number of decimals that leads back to the value is the shortest.
    if (1e-5..1e7).contains(&exact.abs()) {
        let mut scale = 1.0;
        for _ in 0..=12 {
            let decimal = (exact * scale).round() / scale;
            if decimal as f32 == value {
                return decimal;
            }
            scale *= 10.0;
        }
    }
    format!("{value:e}").parse().unwrap_or(exact)
}

impl Serialize for MetricValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Float(_) | Self::F32(_) => serialize_float(self.as_decimal(), serializer),
            Self::Int(value) => serializer.serialize_i64(value),
            Self::UInt(value) => serializer.serialize_u64(value),
        }
    }
}

/// Parses the JSON form. A number with a point or an exponent becomes a float.
impl<'de> Deserialize<'de> for MetricValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetricValueVisitor;
        impl Visitor<'_> for MetricValueVisitor {
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
        deserializer.deserialize_any(MetricValueVisitor)
    }
}

/// A type that can be the value of a metric: every primitive number, [`MetricValue`], and
/// references to them.
///
/// The trait is open: implement it for number types of other crates, such as half-precision floats.
///
/// ```
/// use logcore::{MetricValue, Number};
///
/// /// Hundredths of a percent.
/// struct BasisPoints(i32);
///
/// impl Number for BasisPoints {
///     fn value(&self) -> MetricValue { MetricValue::Float(f64::from(self.0) / 10_000.0) }
/// }
///
/// assert_eq!(BasisPoints(250).value(), MetricValue::Float(0.025));
/// ```
pub trait Number {
    /// Returns the number; integers stay integers.
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

macro_rules! impl_number {
    (small: $($small:ty)*; large: $($large:ty)*) => {
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
        $(impl_from_number!($small);)* $(impl_from_number!($large);)*
    };
}

macro_rules! impl_from_number {
    ($number:ty) => {
        impl From<$number> for MetricValue {
            fn from(number: $number) -> Self {
                number.value()
            }
        }
    };
}

impl Number for f32 {
    fn value(&self) -> MetricValue {
        MetricValue::F32(*self)
    }
}

impl Number for f64 {
    fn value(&self) -> MetricValue {
        MetricValue::Float(*self)
    }
}

impl_from_number!(f32);
impl_from_number!(f64);
impl_number! {
    small: i8 i16 i32 i64 u8 u16 u32;
    large: u64 i128 u128 isize usize
}

/// A name and a number: the items that `log_metrics` takes.
///
/// Pairs implement the trait by value and by reference, so `log_metrics` takes arrays, slices,
/// vectors and maps. The trait is open: implement it for a metric type of your own.
///
/// ```
/// use logcore::{MetricPair, MetricValue};
///
/// let pair = &("loss", 0.5_f32);
/// assert_eq!((pair.name(), pair.value()), ("loss", MetricValue::F32(0.5)));
/// ```
pub trait MetricPair {
    /// Returns the name of the metric.
    fn name(&self) -> &str;
    /// Returns the value of the metric.
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

/// The statistics of one metric.
///
/// ```
/// let stats = logcore::Stats::empty();
/// assert!(stats.count == 0 && stats.mean.is_nan());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Newest value; may be NaN or infinite.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub last: f64,
    /// Mean of the finite values in the window; NaN if there are none.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub mean: f64,
    /// Smallest finite value of the run; NaN if there was none.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub min: f64,
    /// Largest finite value of the run; NaN if there was none.
    #[serde(serialize_with = "serialize_stat", deserialize_with = "deserialize_stat")]
    pub max: f64,
    /// Number of values in the whole run.
    pub count: u64,
    /// Number of NaNs in the whole run.
    pub nan_count: u64,
    /// Number of infinite values in the whole run.
    pub infinite_count: u64,
    /// The history in memory keeps one value of this many; 1 until the memory budget is used up.
    pub history_stride: u64,
}

impl Stats {
    /// Returns the statistics of a metric without values.
    #[must_use]
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

/// One value in the history of a metric.
///
/// ```
/// let point = logcore::Point::new(120, 0.5);
/// assert_eq!((point.step, point.value), (120, 0.5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Point {
    /// Step of the value.
    pub step: u64,
    /// Logged value.
    pub value: f64,
}

impl Point {
    /// Creates the point of `value` at `step`.
    #[must_use]
    pub fn new(step: u64, value: f64) -> Self {
        Self { step, value }
    }
}

fn serialize_stat<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serialize_float(*value, serializer)
}

/// Parses a number, or the text of a value that JSON has no number for.
fn deserialize_stat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(MetricValue::deserialize(deserializer)?.as_f64())
}

/// Serializes a double as valid JSON. NaN and the infinities become three distinct strings.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_stays_as_small_as_two_words() {
        assert_eq!(size_of::<MetricValue>(), 16);
    }

    proptest! {
        #[test]
        fn the_decimal_of_an_f32_has_its_shortest_digits(
            value in prop_oneof![any::<f32>(), -1e3_f32..1e3, (0_u32..100_000).prop_map(|n| n as f32 / 1e4)],
        ) {
            let decimal = MetricValue::F32(value).as_decimal();
            let expected: f64 = format!("{value:e}").parse().unwrap();
            prop_assert!(decimal.to_bits() == expected.to_bits() || (decimal.is_nan() && value.is_nan()));
        }
    }
}
