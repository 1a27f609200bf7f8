//! Any value of serde as JSON, into a buffer that is there already.
//!
//! `serde_json` writes `null` for numbers that are not finite, and refuses keys that are no texts. In a log both are kept:
//! `"NaN"`, `"Infinity"`, `"-Infinity"`, and keys in quotes.

use std::fmt::{self, Display, Write as _};

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The kinds of values that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// It is a text, which stands in the buffer without quotes.
    Text,
    /// It is anything else, as JSON.
    Structure,
}

/// Appends a value of at most `limit` bytes.
///
/// # Errors
///
/// If its own code fails, or it is too long. Then a part of it is in the buffer.
pub(crate) fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>, limit: usize) -> Result<Top, Error> {
    let mut json = Json {
        limit: out.len() + limit,
        out,
        is_top: true,
        top: Top::Structure,
    };
    value.serialize(&mut json)?;
    Ok(json.top)
}

/// Why there is no JSON.
#[derive(Debug)]
pub(crate) enum Error {
    TooLong,
    Failed(String),
}

impl Error {
    pub(crate) fn is_too_long(&self) -> bool {
        matches!(self, Self::TooLong)
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the value is too long"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: Display>(why: T) -> Self {
        Self::Failed(why.to_string())
    }
}

struct Json<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    /// Nothing was written yet.
    is_top: bool,
    top: Top,
}

impl Json<'_> {
    fn put(&mut self, text: &str) -> Result<(), Error> {
        if self.out.len() + text.len() > self.limit {
            return Err(Error::TooLong);
        }
        self.out.extend_from_slice(text.as_bytes());
        self.is_top = false;
        Ok(())
    }

    fn put_display(&mut self, value: impl Display) -> Result<(), Error> {
        let mut raw = Raw {
            json: self,
            result: Ok(()),
        };
        let written = write!(raw, "{value}");
        raw.result.and(written.map_err(Error::custom))
    }

    /// Appends a text in quotes; at the top without them.
    fn put_text(&mut self, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_top, false) {
            self.top = Top::Text;
            let mut raw = Raw {
                json: self,
                result: Ok(()),
            };
            let written = write(&mut raw);
            return raw.result.and(written.map_err(Error::custom));
        }
        self.put("\"")?;
        let mut escaped = Escaped(Raw {
            json: self,
            result: Ok(()),
        });
        let written = write(&mut escaped);
        escaped.0.result.and(written.map_err(Error::custom))?;
        self.put("\"")
    }

    fn put_float(&mut self, value: f64, digits: impl Display) -> Result<(), Error> {
        match value {
            _ if value.is_finite() => self.put_display(digits),
            _ if value.is_nan() => self.put("\"NaN\""),
            _ if value > 0.0 => self.put("\"Infinity\""),
            _ => self.put("\"-Infinity\""),
        }
    }

    /// Appends a key. One that is no text is put in quotes.
    fn put_key(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), Error> {
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

/// Text as it is.
struct Raw<'j, 'a> {
    json: &'j mut Json<'a>,
    result: Result<(), Error>,
}

impl fmt::Write for Raw<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.result = self.json.put(text);
        self.result.is_ok().then_some(()).ok_or(fmt::Error)
    }
}

/// Text as it stands between quotes.
struct Escaped<'j, 'a>(Raw<'j, 'a>);

impl fmt::Write for Escaped<'_, '_> {
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
        $(fn $method(self, value: $number) -> Result<(), Error> {
            self.put_display(value)
        })*
    };
}

impl<'j, 'a> Serializer for &'j mut Json<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'j, 'a>;
    type SerializeTuple = Items<'j, 'a>;
    type SerializeTupleStruct = Items<'j, 'a>;
    type SerializeTupleVariant = Items<'j, 'a>;
    type SerializeMap = Items<'j, 'a>;
    type SerializeStruct = Items<'j, 'a>;
    type SerializeStructVariant = Items<'j, 'a>;

    numbers!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        match i64::try_from(value).is_ok() || u64::try_from(value).is_ok() {
            true => self.put_display(value),
            // Readers would make a double of it.
            false => self.put_text(|out| write!(out, "{value}")),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        match u64::try_from(value) {
            Ok(value) => self.put_display(value),
            Err(_) => self.put_text(|out| write!(out, "{value}")),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        // The shortest digits of the narrower type: 0.1 and not 0.10000000149011612.
        self.put_float(value.into(), format_args!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.put_float(value, format_args!("{value:?}"))
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.put_text(|out| out.write_char(value))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.put_text(|out| out.write_str(value))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.put_text(|out| write!(out, "{value}"))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        bytes.serialize(self)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.put("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.put("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.put("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.put("{")?;
        self.put_key(variant)?;
        value.serialize(&mut *self)?;
        self.put("}")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'j, 'a>, Error> {
        Items::begin(self, "[", "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'j, 'a>, Error> {
        Items::begin(self, "[", "]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'j, 'a>, Error> {
        Items::begin(self, "[", "]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'j, 'a>, Error> {
        self.put("{")?;
        self.put_key(variant)?;
        Items::begin(self, "[", "]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'j, 'a>, Error> {
        Items::begin(self, "{", "}")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'j, 'a>, Error> {
        Items::begin(self, "{", "}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'j, 'a>, Error> {
        self.put("{")?;
        self.put_key(variant)?;
        Items::begin(self, "{", "}}")
    }
}

/// A list or an object that is being written.
struct Items<'j, 'a> {
    json: &'j mut Json<'a>,
    separator: &'static str,
    end: &'static str,
}

impl<'j, 'a> Items<'j, 'a> {
    fn begin(json: &'j mut Json<'a>, begin: &str, end: &'static str) -> Result<Self, Error> {
        json.put(begin)?;
        Ok(Self {
            json,
            separator: "",
            end,
        })
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.json.put(std::mem::replace(&mut self.separator, ","))?;
        value.serialize(&mut *self.json)
    }

    fn key(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.json.put(std::mem::replace(&mut self.separator, ","))?;
        self.json.put_key(key)
    }

    fn field(&mut self, key: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.key(key)?;
        value.serialize(&mut *self.json)
    }

    fn close(self) -> Result<(), Error> {
        self.json.put(self.end)
    }
}

macro_rules! items {
    ($($kind:ident::$method:ident),*) => {
        $(impl $kind for Items<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
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
        $(impl $kind for Items<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
                self.field(key, value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Items<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.json)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(value: &impl Serialize) -> (Top, String) {
        let mut out = Vec::new();
        let top = write_json(value, &mut out, 1 << 20).unwrap();
        (top, String::from_utf8(out).unwrap())
    }

    #[derive(serde::Serialize)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(u8, char),
        Struct { a: Option<u8>, b: () },
    }

    #[test]
    fn every_shape_is_what_serde_json_makes_of_it() {
        let shapes = [
            Shape::Unit,
            Shape::New(1),
            Shape::Tuple(2, 'x'),
            Shape::Struct { a: None, b: () },
        ];
        let all = (shapes, (1_i8, -0.5_f64), [Some("a\"b\\\n\u{1}é")], b"ab");
        let read: Value = serde_json::from_str(&written(&all).1).unwrap();
        assert_eq!(read, serde_json::to_value(&all).unwrap());
    }

    #[test]
    fn what_json_has_no_form_for_is_kept_as_text() {
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
    fn a_text_at_the_top_has_no_quotes() {
        assert_eq!(written(&"a\"b"), (Top::Text, "a\"b".to_owned()));
        assert_eq!(written(&json!([1])), (Top::Structure, "[1]".to_owned()));
    }

    #[test]
    fn a_long_value_is_refused() {
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
        fn what_is_written_reads_back(value in any_json()) {
            let value = vec![value];
            let read: Vec<Value> = serde_json::from_str(&written(&value).1).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
