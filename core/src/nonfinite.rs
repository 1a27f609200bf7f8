//! The column `nonfinite` of `metrics.jsonl`: the values of a row that are no finite numbers.
//!
//! JSON has no number for NaN and the infinities, and a text among numbers would make the column of
//! the metric one of texts. So the value is `null` there and stands in this column, whose text
//! holds an object.

use std::collections::BTreeMap;

use crate::MetricValue;

/// Returns the text of the column; `None` if no value belongs there.
///
/// ```
/// use logcore::{MetricValue, nonfinite};
///
/// let values = [("loss", MetricValue::F32(f32::NAN))];
/// assert_eq!(nonfinite::write(&values).unwrap(), r#"{"loss":"NaN"}"#);
/// assert_eq!(nonfinite::write(&[]), None);
/// ```
#[must_use]
pub fn write(values: &[(&str, MetricValue)]) -> Option<String> {
    if values.is_empty() {
        return None;
    }
    let values: serde_json::Map<_, _> = values
        .iter()
        .filter_map(|(name, value)| Some(((*name).to_owned(), serde_json::to_value(value).ok()?)))
        .collect();
    Some(serde_json::Value::Object(values).to_string())
}

/// Returns the values of a text that [`write()`] made; none of an empty text, or of one that cannot
/// be read.
///
/// ```
/// use logcore::{MetricValue, nonfinite};
///
/// let values = nonfinite::read(r#"{"loss":"-Infinity"}"#);
/// assert_eq!(values["loss"], MetricValue::Float(f64::NEG_INFINITY));
/// assert!(nonfinite::read("").is_empty());
/// ```
#[must_use]
pub fn read(text: &str) -> BTreeMap<String, MetricValue> {
    serde_json::from_str(text).unwrap_or_default()
}
