//! Records of a logger as records of OTLP.

use std::time::{SystemTime, UNIX_EPOCH};

use logcore::log::Level;
use logcore::{FieldValue, Record};
use serde_json::Value as Json;

use crate::message::{AnyValue, ArrayValue, KeyValue, KeyValueList, LogRecord, Value};

/// Returns the record of OTLP. All of it follows from the call, so that a recovery writes the same
/// bytes again.
pub(crate) fn convert(record: &Record<'_>, step: Option<u64>) -> LogRecord {
    let time_unix_nano = unix_nanos(record.time());
    let (severity_number, severity_text) = severity(record.level());
    let fields = record.unique_fields(RESERVED);
    let mut attributes: Vec<KeyValue> = fields.map(|(name, value)| KeyValue::new(name, field(value))).collect();
    attributes.push(KeyValue::text("logcore.logger", record.logger()));
    if let Some(step) = step {
        attributes.push(KeyValue::new("logcore.step", integer(step)));
    }
    if record.is_from_facade() {
        attributes.push(KeyValue::text("code.namespace", record.target()));
    }
    if let Some((file, line)) = record.place() {
        attributes.push(KeyValue::text("code.file.path", file));
        attributes.push(KeyValue::new("code.line.number", Value::Int(line.into())));
    }
    LogRecord {
        time_unix_nano,
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue {
            value: Some(Value::Text(record.message().to_owned())),
        }),
        attributes,
        observed_time_unix_nano: time_unix_nano,
    }
}

/// Names of attributes that a field cannot have.
const RESERVED: &[&str] = &[
    "logcore.logger",
    "logcore.step",
    "code.namespace",
    "code.file.path",
    "code.line.number",
];

/// Returns number and name of the severity, after the data model of OpenTelemetry's logs.
fn severity(level: Level) -> (i32, &'static str) {
    match level {
        Level::Error => (17, "ERROR"),
        Level::Warn => (13, "WARN"),
        Level::Info => (9, "INFO"),
        Level::Debug => (5, "DEBUG"),
        Level::Trace => (1, "TRACE"),
    }
}

/// Returns the nanoseconds since 1970; 0 for an earlier time.
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn field(value: &FieldValue<'_>) -> Value {
    match value {
        FieldValue::Bool(value) => Value::Bool(*value),
        FieldValue::Int(value) => Value::Int(*value),
        FieldValue::UInt(value) => integer(*value),
        FieldValue::Float(value) => Value::Double(*value),
        FieldValue::Json(text) => match serde_json::from_str(text) {
            Ok(json) => structured(json).value.unwrap_or(Value::Text(String::new())),
            Err(_) => Value::Text(text.to_string()),
        },
        FieldValue::Null => Value::Text(String::new()),
        other => Value::Text(other.to_string()),
    }
}

/// Returns an integer; beyond the range of OTLP its digits.
fn integer(value: u64) -> Value {
    i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int)
}

/// Returns a JSON value; `null` has no value.
pub(crate) fn structured(json: Json) -> AnyValue {
    let value = match json {
        Json::Null => None,
        Json::Bool(value) => Some(Value::Bool(value)),
        Json::Number(number) => Some(match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => integer(value),
            (None, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Json::String(text) => Some(Value::Text(text)),
        Json::Array(items) => Some(Value::List(ArrayValue {
            values: items.into_iter().map(structured).collect(),
        })),
        Json::Object(members) => {
            let values = members.into_iter().map(|(key, value)| KeyValue {
                key,
                value: Some(structured(value)),
            });
            Some(Value::Table(KeyValueList {
                values: values.collect(),
            }))
        }
    };
    AnyValue { value }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn attribute(record: &LogRecord, key: &str) -> Option<Value> {
        let found = record.attributes.iter().find(|attribute| attribute.key == key)?;
        found.value.clone()?.value
    }

    #[test]
    fn fields_keep_their_types() {
        let fields = [
            ("lr", FieldValue::Float(0.5)),
            ("batch", FieldValue::UInt(32)),
            ("big", FieldValue::UInt(u64::MAX)),
            ("ok", FieldValue::Bool(true)),
            ("shape", FieldValue::Json(r#"{"a": [1, null, "x"]}"#.into())),
            ("logcore.step", FieldValue::Int(99)),
        ];
        let time = UNIX_EPOCH + Duration::from_nanos(1_500_000_001);
        let record = Record::at(time, Level::Warn, "trainer", "slow").with_fields(&fields);
        let record = record.with_facade_target("app::data").with_place("src/data.rs", 7);
        let record = convert(&record, Some(7));
        let sent = LogRecord::decode(&*record.encode_to_vec()).unwrap();
        assert_eq!(
            (sent.time_unix_nano, sent.severity_number, &*sent.severity_text),
            (1_500_000_001, 13, "WARN")
        );
        assert_eq!(sent.body.clone().unwrap().value, Some(Value::Text("slow".into())));
        for (key, value) in [
            ("lr", Value::Double(0.5)),
            ("batch", Value::Int(32)),
            ("big", Value::Text(u64::MAX.to_string())),
            ("ok", Value::Bool(true)),
            ("logcore.step", Value::Int(7)),
            ("code.namespace", Value::Text("app::data".into())),
            ("code.file.path", Value::Text("src/data.rs".into())),
            ("code.line.number", Value::Int(7)),
        ] {
            assert_eq!(attribute(&sent, key), Some(value), "{key}");
        }
        let Some(Value::Table(table)) = attribute(&sent, "shape") else {
            panic!("{sent:?}")
        };
        let Some(Value::List(list)) = table.values[0].value.clone().unwrap().value else {
            panic!("{table:?}")
        };
        assert_eq!(list.values[1], AnyValue { value: None });
        let mut keys: Vec<_> = sent.attributes.iter().map(|attribute| &attribute.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), sent.attributes.len(), "keys are unique");
    }

    #[test]
    fn each_level_has_its_number() {
        let number = |level| convert(&Record::new(level, "a", ""), None).severity_number;
        let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
        assert_eq!(levels.map(number), [1, 5, 9, 13, 17]);
    }

    proptest! {
        #[test]
        fn any_record_survives(message in "\\PC*", name in "\\PC{0,9}", text in "\\PC*", number in any::<f64>()) {
            let fields = [(&*name, FieldValue::Text(text.into())), ("n", FieldValue::Float(number))];
            let record = convert(&Record::new(Level::Info, "a", &message).with_fields(&fields), None);
            let sent = LogRecord::decode(&*record.encode_to_vec()).unwrap();
            prop_assert_eq!(sent.encode_to_vec(), record.encode_to_vec());
            prop_assert_eq!(sent.body.unwrap().value, Some(Value::Text(message)));
        }
    }
}
