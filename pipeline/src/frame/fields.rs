//! The structured fields of a record in a frame: name length u32, name, tag u8, then 8 bytes or
//! length u32 and text.
//!
//! Scalars keep their type. Other values of serde (`key:serde`) are written as JSON straight into
//! the frame, so a caller allocates only room in its buffer.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::kv::{Error as KvError, Key, Source, Value as KvValue, VisitSource, VisitValue};
use logcore::{FieldValue, MetricValue};
use serde::Serialize;

use super::bytes::{
    ByteCursor, FLOAT, INT, LimitedWriter, MAX_TEXT, UINT, floor_char_boundary, put_text, value_bits, value_from,
};
use super::json::{JsonShape, write_json};

const BOOL: u8 = 3;
const TEXT: u8 = 4;
const NULL: u8 = 5;
const JSON: u8 = 6;

/// Appends the fields of a record, and returns their number. If the code of a value fails or
/// panics, a text replaces the value.
pub(crate) fn encode_fields(out: &mut Vec<u8>, source: &dyn Source) -> u16 {
    let mut fields = FieldWriter {
        complete_end: out.len(),
        value_at: None,
        count: 0,
        out,
    };
    // The visitor takes all fields: only foreign code fails, and its fields so far count.
    let visited = catch_unwind(AssertUnwindSafe(|| drop(source.visit(&mut fields))));
    if visited.is_err() {
        fields.replace_value("(the field's code panicked here)");
    }
    fields.count
}

/// Reads `count` fields.
pub(crate) fn decode_fields<'a>(cursor: &mut ByteCursor<'a>, count: u16) -> Option<Vec<(&'a str, FieldValue<'a>)>> {
    let mut fields = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let name = cursor.long_text()?;
        let value = match cursor.u8()? {
            BOOL => FieldValue::Bool(cursor.u64()? != 0),
            TEXT => FieldValue::Text(Cow::Borrowed(cursor.long_text()?)),
            JSON => FieldValue::Json(Cow::Borrowed(cursor.long_text()?)),
            NULL => FieldValue::Null,
            tag => match value_from(tag, cursor.u64()?)? {
                MetricValue::Int(value) => FieldValue::Int(value),
                MetricValue::UInt(value) => FieldValue::UInt(value),
                other => FieldValue::Float(other.as_f64()),
            },
        };
        fields.push((name, value));
    }
    Some(fields)
}

/// Appends a field, with its texts replaced by the results of `rewrite`. `None` if a frame cannot
/// hold the value.
pub(crate) fn put_rewritten_field(
    out: &mut Vec<u8>,
    name: &str,
    value: &FieldValue<'_>,
    rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>,
) -> Option<()> {
    put_text(out, name);
    let (tag, bits) = match value {
        FieldValue::Text(text) => {
            out.push(TEXT);
            put_text(out, &rewrite(text));
            return Some(());
        }
        FieldValue::Json(text) => {
            let mut value = value.to_json();
            rewrite_texts(&mut value, rewrite);
            out.push(if value.is_string() { TEXT } else { JSON });
            match value.as_str() {
                Some(_) => put_text(out, &rewrite(text)),
                None => put_text(out, &value.to_string()),
            }
            return Some(());
        }
        FieldValue::Null => {
            out.push(NULL);
            return Some(());
        }
        FieldValue::Bool(value) => (BOOL, u64::from(*value)),
        FieldValue::Int(value) => value_bits(MetricValue::Int(*value)),
        FieldValue::UInt(value) => value_bits(MetricValue::UInt(*value)),
        FieldValue::Float(value) => value_bits(MetricValue::Float(*value)),
        _ => return None,
    };
    out.push(tag);
    out.extend_from_slice(&bits.to_le_bytes());
    Some(())
}

fn rewrite_texts(value: &mut serde_json::Value, rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>) {
    match value {
        serde_json::Value::String(text) => *text = rewrite(text).into_owned(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| rewrite_texts(item, rewrite)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|inner| rewrite_texts(inner, rewrite)),
        _ => {}
    }
}

struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    /// End of the last complete field.
    complete_end: usize,
    /// Beginning of the value of the current field, once its name is written.
    value_at: Option<usize>,
    count: u16,
}

impl FieldWriter<'_> {
    /// Replaces the value of the current field by a text.
    fn replace_value(&mut self, text: &str) {
        match self.value_at {
            Some(at) => {
                self.out.truncate(at);
                put_tagged_text(self.out, text);
                self.complete();
            }
            None => self.out.truncate(self.complete_end),
        }
    }

    fn complete(&mut self) {
        self.value_at = None;
        self.complete_end = self.out.len();
        self.count += 1;
    }
}

impl<'kvs> VisitSource<'kvs> for FieldWriter<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: KvValue<'kvs>) -> Result<(), KvError> {
        if self.count == u16::MAX {
            return Ok(());
        }
        put_text(self.out, key.as_str());
        let at = self.out.len();
        self.value_at = Some(at);
        let mut scalar = ScalarWriter {
            out: &mut *self.out,
            is_other: false,
        };
        let visited = value.visit(&mut scalar);
        if visited.is_err() || scalar.is_other {
            self.out.truncate(at);
            #[allow(
                clippy::needless_borrow,
                reason = "without the borrow only the first of the two traits is found"
            )]
            let put = (&SerdeCapture(&value)).put(self.out);
            if put.is_err() {
                self.replace_value("(the field's Serialize failed here)");
                return Ok(());
            }
        }
        self.complete();
        Ok(())
    }
}

/// Writes scalars, and recognizes other values.
struct ScalarWriter<'a> {
    out: &'a mut Vec<u8>,
    is_other: bool,
}

impl ScalarWriter<'_> {
    fn put(&mut self, tag: u8, bits: u64) -> Result<(), KvError> {
        self.out.push(tag);
        self.out.extend_from_slice(&bits.to_le_bytes());
        Ok(())
    }
}

impl<'v> VisitValue<'v> for &mut ScalarWriter<'_> {
    fn visit_any(&mut self, _: KvValue<'_>) -> Result<(), KvError> {
        self.is_other = true;
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), KvError> {
        self.out.push(NULL);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.put(UINT, value),
        }
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), KvError> {
        self.put(INT, value as u64)
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), KvError> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            // As text, because a double has too few digits.
            Err(_) => put_limited_text(self.out, &value),
        }
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), KvError> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.visit_i64(value),
            (_, Ok(value)) => self.visit_u64(value),
            _ => put_limited_text(self.out, &value),
        }
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        self.put(FLOAT, value.to_bits())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), KvError> {
        self.put(BOOL, u64::from(value))
    }

    fn visit_str(&mut self, value: &str) -> Result<(), KvError> {
        put_tagged_text(self.out, &value[..floor_char_boundary(value, MAX_TEXT)]);
        Ok(())
    }
}

fn put_tagged_text(out: &mut Vec<u8>, text: &str) {
    out.push(TEXT);
    put_text(out, text);
}

fn put_limited_text(out: &mut Vec<u8>, text: &dyn fmt::Display) -> Result<(), KvError> {
    out.push(TEXT);
    put_with_length(out, |out| {
        if write!(LimitedWriter::new(out), "{text}").is_err() {
            out.extend_from_slice(b" (the value's Display failed here)");
        }
    });
    Ok(())
}

/// Appends the output of `write`, preceded by its length.
fn put_with_length<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let result = write(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    result
}

/// A value that is not a scalar.
///
/// `log` reveals the structure of a value only if some crate of the program enables its feature
/// `kv_serde`: then values implement `Serialize`, and method resolution prefers the first of these
/// two traits. Depending on that feature here would bring six crates to every program.
struct SerdeCapture<T>(T);

#[allow(dead_code, reason = "unused in a program without `kv_serde`")]
trait EncodeStructure {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), KvError>;
}

impl<T: Serialize + fmt::Display> EncodeStructure for SerdeCapture<&T> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), KvError> {
        let at = out.len();
        out.push(JSON);
        let written = put_with_length(out, |out| write_json(self.0, out, MAX_TEXT));
        match written {
            Ok(JsonShape::Text) => out[at] = TEXT,
            Ok(JsonShape::Other) => {}
            Err(error) if error.is_too_long() => {
                out.truncate(at);
                return put_limited_text(out, self.0);
            }
            Err(error) => return Err(KvError::boxed(error)),
        }
        Ok(())
    }
}

#[allow(dead_code, reason = "unused in a program with `kv_serde`")]
trait EncodeText {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), KvError>;
}

impl<T: fmt::Display> EncodeText for &SerdeCapture<&T> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), KvError> {
        put_limited_text(out, self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(source: &dyn Source) -> Vec<(String, FieldValue<'static>)> {
        let mut out = Vec::new();
        let count = encode_fields(&mut out, source);
        let decoded = decode_fields(&mut ByteCursor::new(&out), count).unwrap();
        let owned = |(name, value): (&str, FieldValue<'_>)| (name.to_owned(), value.into_owned());
        decoded.into_iter().map(owned).collect()
    }

    fn field(value: KvValue<'_>) -> FieldValue<'static> {
        fields(&[("it", value)]).remove(0).1
    }

    #[derive(Debug, serde::Serialize)]
    struct BatchFields {
        id: u32,
        tokens: Vec<u32>,
        text: Option<String>,
        loss: f64,
    }

    const BATCH: BatchFields = BatchFields {
        id: 1,
        tokens: Vec::new(),
        text: None,
        loss: f64::NAN,
    };

    #[test]
    fn serde_value_keeps_its_structure() {
        assert_eq!(
            field(KvValue::from_serde(&BATCH)),
            FieldValue::Json(r#"{"id":1,"tokens":[],"text":null,"loss":"NaN"}"#.into())
        );
        assert_eq!(field(KvValue::from_serde(&None::<u8>)), FieldValue::Null);
        assert_eq!(field(KvValue::from_serde(&Some(7_u8))), FieldValue::Int(7));
        assert_eq!(field(KvValue::from_serde(&"x")), FieldValue::Text("x".into()));
        assert_eq!(
            field(KvValue::from_serde(&json!({"a": null}))),
            FieldValue::Json(r#"{"a":null}"#.into())
        );
        assert_eq!(field(KvValue::from_serde(&true)), FieldValue::Bool(true));
    }

    #[test]
    fn value_without_structure_becomes_text() {
        assert_eq!(field(KvValue::from_debug(&Some(1))), FieldValue::Text("Some(1)".into()));
        let error = std::io::Error::other("no");
        assert_eq!(field(KvValue::from_dyn_error(&error)), FieldValue::Text("no".into()));
        assert_eq!(field(u128::MAX.into()), FieldValue::Text(u128::MAX.to_string().into()));
        assert_eq!(field((-5_i128).into()), FieldValue::Int(-5));
        assert!(matches!(field(f64::NAN.into()), FieldValue::Float(value) if value.is_nan()));
    }

    /// Fails, or panics if the value is `true`.
    struct FaultySerialize(bool);

    impl Serialize for FaultySerialize {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            assert!(!self.0, "made to panic");
            Err(serde::ser::Error::custom("made to fail"))
        }
    }

    #[test]
    fn failing_value_does_not_affect_other_fields() {
        let source = [
            ("first", KvValue::from(1)),
            ("fails", KvValue::from_serde(&FaultySerialize(false))),
            ("panics", KvValue::from_serde(&FaultySerialize(true))),
        ];
        let shown: Vec<_> = fields(&source)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "first=1",
                "fails=(the field's Serialize failed here)",
                "panics=(the field's code panicked here)"
            ]
        );
    }

    #[test]
    fn rewrite_reaches_texts_in_a_structure() {
        let hide = |text: &str| -> Cow<'_, str> { Cow::Owned(text.replace("s3cr3t", "***")) };
        let value = FieldValue::Json(r#"{"a":["s3cr3t\"",1]}"#.into());
        let mut out = Vec::new();
        put_rewritten_field(&mut out, "it", &value, &|text| Cow::Owned(hide(text).into_owned())).unwrap();
        let read = decode_fields(&mut ByteCursor::new(&out), 1).unwrap().remove(0).1;
        assert_eq!(read.to_json(), json!({"a": ["***\"", 1]}));
    }

    #[test]
    fn huge_structure_is_cut_and_stays_readable() {
        let huge = vec!["x".repeat(1 << 20); 17];
        let value = field(KvValue::from_serde(&huge));
        assert!(matches!(value, FieldValue::Text(text) if text.len() <= MAX_TEXT));
        assert_eq!(field(KvValue::from_serde(&Value::Null)), FieldValue::Null);
    }
}
