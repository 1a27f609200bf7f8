//! Writes any value of serde as JSON into an existing buffer.
//!
//! `serde_json` writes `null` for numbers that are not finite, and refuses keys that are not texts.
//! A log keeps both: as `"NaN"`, `"Infinity"` and `"-Infinity"`, and as keys in quotes.

use std::fmt::{self, Display, Write as _};

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The shape of a written value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonShape {
    /// A text, written without quotes.
    Text,
    /// Any other value, written as JSON.
    Other,
}

/// Appends a value of at most `limit` bytes.
///
/// # Errors
///
/// If the code of the value fails, or the value is too long. Then a part of it is in the buffer.
pub(crate) fn write_json(
    value: &(impl Serialize + ?Sized),
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<JsonShape, JsonError> {
    let mut json = JsonWriter {
        limit: out.len() + limit,
        out,
        is_top: true,
        shape: JsonShape::Other,
    };
    value.serialize(&mut json)?;
    Ok(json.shape)
}

/// The reason why a value could not be written.
#[derive(Debug)]
pub(crate) enum JsonError {
    TooLong,
    Failed(String),
}

impl JsonError {
    pub(crate) fn is_too_long(&self) -> bool {
        matches!(self, Self::TooLong)
    }
}

impl Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the value is too long"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for JsonError {}

impl serde::ser::Error for JsonError {
    fn custom<T: Display>(why: T) -> Self {
        Self::Failed(why.to_string())
    }
}

struct JsonWriter<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    /// `true` until something is written.
    is_top: bool,
    shape: JsonShape,
}

impl JsonWriter<'_> {
    fn put(&mut self, text: &str) -> Result<(), JsonError> {
        if self.out.len() + text.len() > self.limit {
            return Err(JsonError::TooLong);
        }
        self.out.extend_from_slice(text.as_bytes());
        self.is_top = false;
        Ok(())
    }

    fn put_display(&mut self, value: impl Display) -> Result<(), JsonError> {
        let mut raw = RawText {
            json: self,
            result: Ok(()),
        };
        let written = write!(raw, "{value}");
        raw.result.and(written.map_err(JsonError::custom))
    }

    /// Appends a text: without quotes if it is the whole value.
    fn put_text(&mut self, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> Result<(), JsonError> {
        if std::mem::replace(&mut self.is_top, false) {
            self.shape = JsonShape::Text;
            let mut raw = RawText {
                json: self,
                result: Ok(()),
            };
            let written = write(&mut raw);
            return raw.result.and(written.map_err(JsonError::custom));
        }
        self.put("\"")?;
        let mut escaped = EscapedText(RawText {
            json: self,
            result: Ok(()),
        });
        let written = write(&mut escaped);
        escaped.0.result.and(written.map_err(JsonError::custom))?;
        self.put("\"")
    }

    fn put_float(&mut self, value: f64, digits: impl Display) -> Result<(), JsonError> {
        match value {
            _ if value.is_finite() => self.put_display(digits),
            _ if value.is_nan() => self.put("\"NaN\""),
            _ if value > 0.0 => self.put("\"Infinity\""),
            _ => self.put("\"-Infinity\""),
        }
    }

    /// Appends a key, in quotes even if it is not a text.
    fn put_key(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), JsonError> {
        let at = self.out.len();
        key.serialize(&mut *self)?;
        if self.out.get(at) != Some(&b'"') {
            let written = String::from_utf8_lossy(&self.out[at..]).into_owned();
            self.out.truncate(at);
            self.put_text(|out| out.write_str(&written))?;
        }
        self.put(":")
    }
}

/// Writes text unchanged.
struct RawText<'j, 'a> {
    json: &'j mut JsonWriter<'a>,
    result: Result<(), JsonError>,
}

impl fmt::Write for RawText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.result = self.json.put(text);
        self.result.is_ok().then_some(()).ok_or(fmt::Error)
    }
}

/// Writes text with the escapes that it needs between quotes.
struct EscapedText<'j, 'a>(RawText<'j, 'a>);

impl fmt::Write for EscapedText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut clean_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            if !matches!(byte, b'"' | b'\\' | ..0x20) {
                continue;
            }
            self.0.write_str(&text[clean_from..at])?;
            clean_from = at + 1;
            match byte {
                b'"' | b'\\' => self.0.write_str(if byte == b'"' { "\\\"" } else { "\\\\" })?,
                b'\n' => self.0.write_str("\\n")?,
                b'\r' => self.0.write_str("\\r")?,
                b'\t' => self.0.write_str("\\t")?,
                other => write!(self.0, "\\u{other:04x}")?,
            }
        }
        self.0.write_str(&text[clean_from..])
    }
}

macro_rules! numbers {
    ($($method:ident: $number:ty),*) => {
        $(fn $method(self, value: $number) -> Result<(), JsonError> {
            self.put_display(value)
        })*
    };
}

impl<'j, 'a> Serializer for &'j mut JsonWriter<'a> {
    type Ok = ();
    type Error = JsonError;
    type SerializeSeq = JsonItems<'j, 'a>;
    type SerializeTuple = JsonItems<'j, 'a>;
    type SerializeTupleStruct = JsonItems<'j, 'a>;
    type SerializeTupleVariant = JsonItems<'j, 'a>;
    type SerializeMap = JsonItems<'j, 'a>;
    type SerializeStruct = JsonItems<'j, 'a>;
    type SerializeStructVariant = JsonItems<'j, 'a>;

    numbers!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_i128(self, value: i128) -> Result<(), JsonError> {
        match i64::try_from(value).is_ok() || u64::try_from(value).is_ok() {
            true => self.put_display(value),
            // Readers would turn the number into a double.
            false => self.put_text(|out| write!(out, "{value}")),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), JsonError> {
        match u64::try_from(value) {
            Ok(value) => self.put_display(value),
            Err(_) => self.put_text(|out| write!(out, "{value}")),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), JsonError> {
        // The shortest digits of the narrower type: 0.1 and not 0.10000000149011612.
        self.put_float(value.into(), format_args!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Result<(), JsonError> {
        self.put_float(value, format_args!("{value:?}"))
    }

    fn serialize_char(self, value: char) -> Result<(), JsonError> {
        self.put_text(|out| out.write_char(value))
    }

    fn serialize_str(self, value: &str) -> Result<(), JsonError> {
        self.put_text(|out| out.write_str(value))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        self.put_text(|out| write!(out, "{value}"))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), JsonError> {
        bytes.serialize(self)
    }

    fn serialize_none(self) -> Result<(), JsonError> {
        self.put("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), JsonError> {
        self.put("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), JsonError> {
        self.put("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), JsonError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        self.put("{")?;
        self.put_key(variant)?;
        value.serialize(&mut *self)?;
        self.put("}")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<JsonItems<'j, 'a>, JsonError> {
        JsonItems::begin(self, "[", "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<JsonItems<'j, 'a>, JsonError> {
        JsonItems::begin(self, "[", "]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<JsonItems<'j, 'a>, JsonError> {
        JsonItems::begin(self, "[", "]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<JsonItems<'j, 'a>, JsonError> {
        self.put("{")?;
        self.put_key(variant)?;
        JsonItems::begin(self, "[", "]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<JsonItems<'j, 'a>, JsonError> {
        JsonItems::begin(self, "{", "}")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<JsonItems<'j, 'a>, JsonError> {
        JsonItems::begin(self, "{", "}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<JsonItems<'j, 'a>, JsonError> {
        self.put("{")?;
        self.put_key(variant)?;
        JsonItems::begin(self, "{", "}}")
    }
}

/// A list or an object in progress.
struct JsonItems<'j, 'a> {
    json: &'j mut JsonWriter<'a>,
    separator: &'static str,
    end: &'static str,
}

impl<'j, 'a> JsonItems<'j, 'a> {
    fn begin(json: &'j mut JsonWriter<'a>, begin: &str, end: &'static str) -> Result<Self, JsonError> {
        json.put(begin)?;
        Ok(Self {
            json,
            separator: "",
            end,
        })
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), JsonError> {
        self.json.put(std::mem::replace(&mut self.separator, ","))?;
        value.serialize(&mut *self.json)
    }

    fn key(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), JsonError> {
        self.json.put(std::mem::replace(&mut self.separator, ","))?;
        self.json.put_key(key)
    }

    fn field(&mut self, key: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), JsonError> {
        self.key(key)?;
        value.serialize(&mut *self.json)
    }

    fn close(self) -> Result<(), JsonError> {
        self.json.put(self.end)
    }
}

macro_rules! items {
    ($($kind:ident::$method:ident),*) => {
        $(impl $kind for JsonItems<'_, '_> {
            type Ok = ();
            type Error = JsonError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
                self.item(value)
            }

            fn end(self) -> Result<(), JsonError> {
                self.close()
            }
        })*
    };
}

items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($kind:ident),*) => {
        $(impl $kind for JsonItems<'_, '_> {
            type Ok = ();
            type Error = JsonError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), JsonError> {
                self.field(key, value)
            }

            fn end(self) -> Result<(), JsonError> {
                self.close()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for JsonItems<'_, '_> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), JsonError> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        value.serialize(&mut *self.json)
    }

    fn end(self) -> Result<(), JsonError> {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(value: &impl Serialize) -> (JsonShape, String) {
        let mut out = Vec::new();
        let shape = write_json(value, &mut out, 1 << 20).unwrap();
        (shape, String::from_utf8(out).unwrap())
    }

    #[derive(serde::Serialize)]
    enum SerdeShape {
        Unit,
        New(u8),
        Tuple(u8, char),
        Struct { a: Option<u8>, b: () },
    }

    #[test]
    fn every_shape_is_written_as_serde_json_does() {
        let shapes = [
            SerdeShape::Unit,
            SerdeShape::New(1),
            SerdeShape::Tuple(2, 'x'),
            SerdeShape::Struct { a: None, b: () },
        ];
        let all = (shapes, (1_i8, -0.5_f64), [Some("a\"b\\\n\u{1}é")], b"ab");
        let read: Value = serde_json::from_str(&written(&all).1).unwrap();
        assert_eq!(read, serde_json::to_value(&all).unwrap());
    }

    #[test]
    fn values_without_json_form_are_kept_as_text() {
        let odd = (
            f64::NAN,
            f32::INFINITY,
            f64::NEG_INFINITY,
            0.1_f32,
            u128::MAX,
            i128::MIN,
            7_u128,
        );
        let (_, text) = written(&odd);
        let digits = "340282366920938463463374607431768211455";
        let expected = format!(
            "[\"NaN\",\"Infinity\",\"-Infinity\",0.1,\"{digits}\",\"{}\",7]",
            i128::MIN
        );
        assert_eq!(text, expected);
        let keys = BTreeMap::from([((1, "a"), 1)]);
        assert_eq!(written(&keys).1, r#"{"[1,\"a\"]":1}"#);
        assert_eq!(written(&BTreeMap::from([(2.5.to_string(), true)])).1, r#"{"2.5":true}"#);
        assert_eq!(written(&BTreeMap::from([(7, ())])).1, r#"{"7":null}"#);
    }

    #[test]
    fn text_at_the_top_has_no_quotes() {
        assert_eq!(written(&"a\"b"), (JsonShape::Text, "a\"b".to_owned()));
        assert_eq!(written(&json!([1])), (JsonShape::Other, "[1]".to_owned()));
    }

    #[test]
    fn too_long_value_is_refused() {
        let mut out = Vec::new();
        assert!(write_json(&vec!["abc"; 100], &mut out, 50).unwrap_err().is_too_long());
        assert!(out.len() <= 50);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_value_is_read_back(value in any_json()) {
            let value = vec![value];
            let read: Vec<Value> = serde_json::from_str(&written(&value).1).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
