//! Conversion of any serializable value to JSON, which omits only the members that have no form in
//! JSON.

mod key;

use std::fmt::{self, Display};

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};
use serde_json::{Map, Value};

use self::key::KeySerializer;
use crate::catch_panic;

/// Deeper levels are cut. JSON parsers refuse 128 levels, and the files of a run add a few levels.
const MAX_DEPTH: usize = 100;
/// Largest size of a value, in bytes of text; the same as for messages.
const MAX_BYTES: usize = 16 << 20;
/// Bytes that a value without a text counts.
const BYTES_PER_VALUE: usize = 8;

/// A value as JSON, and the omitted members.
///
/// - Infinities and NaN become texts: `"Infinity"`, `"-Infinity"`, `"NaN"`.
/// - A member is omitted if it has no form in JSON, or if its `Serialize` fails or panics. In a
///   list, `null` takes its place.
/// - A value deeper than 100 levels is cut; a value with more than 16 MiB of text is omitted.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use logcore::JsonCapture;
/// use serde_json::json;
///
/// #[derive(serde::Serialize)]
/// struct Curriculum { warmup: f64, stages: BTreeMap<(u32, u32), f64> }
///
/// let curriculum = Curriculum { warmup: f64::INFINITY, stages: [((0, 10), 0.5)].into() };
/// let captured = JsonCapture::new(&curriculum);
/// assert_eq!(captured.value, Some(json!({"warmup": "Infinity"})));
/// assert_eq!(captured.omitted[0].to_string(), "`stages` (a map whose keys are not texts)");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct JsonCapture {
    /// JSON form of the value; `None` if the whole value has none.
    pub value: Option<Value>,
    /// Members that are not in the JSON form.
    pub omitted: Vec<Omission>,
}

/// A member that is not in the JSON form of a value.
///
/// ```
/// let captured = logcore::JsonCapture::new(&(1, u128::MAX));
/// assert_eq!(captured.value, Some(serde_json::json!([1, null])));
/// assert_eq!((&*captured.omitted[0].path, &*captured.omitted[0].cause), ("[1]", "an integer of more than 64 bits"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Omission {
    /// Path of the member: `model.stages[2]`; empty for the whole value.
    pub path: String,
    /// Reason of the omission.
    pub cause: String,
}

impl JsonCapture {
    /// Converts `value`, and calls its `Serialize` once.
    #[must_use]
    pub fn new(value: &(impl Serialize + ?Sized)) -> Self {
        let mut serializer = CaptureSerializer {
            path: Vec::new(),
            remaining_bytes: MAX_BYTES,
            omitted: Vec::new(),
        };
        let value = match serializer.capture(value) {
            Ok(value) => Some(value),
            Err(error) => {
                serializer.omitted.clear();
                serializer.omit(&error);
                None
            }
        };
        Self {
            value,
            omitted: serializer.omitted,
        }
    }
}

impl Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => write!(f, "the whole value ({})", self.cause),
            path => write!(f, "`{path}` ({})", self.cause),
        }
    }
}

/// The reason why a value has no form in JSON.
#[derive(Debug)]
enum CaptureError {
    /// The `Serialize` of the value failed.
    Custom(String),
    InvalidKey,
    TooLarge,
    /// An integer of more than 64 bits, which JSON parsers do not keep.
    TooWide,
}

impl Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Custom(cause) => cause,
            Self::InvalidKey => "a map whose keys are not texts",
            Self::TooLarge => "more than 16 MiB",
            Self::TooWide => "an integer of more than 64 bits",
        })
    }
}

impl std::error::Error for CaptureError {}

impl ser::Error for CaptureError {
    fn custom<T: Display>(cause: T) -> Self {
        Self::Custom(cause.to_string())
    }
}

/// Serializes a value to JSON and collects the omitted members.
struct CaptureSerializer {
    /// Path of the present member.
    path: Vec<PathSegment>,
    /// Bytes of text until the limit.
    remaining_bytes: usize,
    omitted: Vec<Omission>,
}

enum PathSegment {
    Name(String),
    Index(usize),
}

impl CaptureSerializer {
    /// Counts a value with `text` bytes of text against the limit.
    fn count_bytes(&mut self, text: usize) -> Result<(), CaptureError> {
        self.remaining_bytes = self
            .remaining_bytes
            .checked_sub(text + BYTES_PER_VALUE)
            .ok_or(CaptureError::TooLarge)?;
        Ok(())
    }

    /// Serializes a value, whose code may panic: a panic is the error of the innermost member.
    fn capture<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Value, CaptureError> {
        let depth = self.path.len();
        catch_panic(|| value.serialize(&mut *self)).unwrap_or_else(|message| {
            self.path.truncate(depth);
            Err(CaptureError::Custom(format!("its `Serialize` panicked: {message}")))
        })
    }

    /// Serializes a member; `None` if the member is omitted.
    fn serialize_member<T: Serialize + ?Sized>(&mut self, segment: PathSegment, value: &T) -> Option<Value> {
        let (remaining_bytes, omitted) = (self.remaining_bytes, self.omitted.len());
        self.path.push(segment);
        let value = match self.capture(value) {
            Ok(value) => Some(value),
            Err(error) => {
                // An omitted member counts no bytes, and reports none of its parts.
                self.remaining_bytes = remaining_bytes;
                self.omitted.truncate(omitted);
                self.omit(&error);
                None
            }
        };
        self.path.pop();
        value
    }

    fn omit(&mut self, cause: &dyn Display) {
        let mut path = String::new();
        for segment in &self.path {
            match segment {
                PathSegment::Name(name) if path.is_empty() => path.push_str(name),
                PathSegment::Name(name) => path.extend([".", name]),
                PathSegment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        self.omitted.push(Omission {
            path,
            cause: cause.to_string(),
        });
    }

    fn number(&mut self, number: impl Into<Value>) -> Result<Value, CaptureError> {
        self.count_bytes(0)?;
        Ok(number.into())
    }

    /// Starts a value with members. Beyond the depth limit, the members are cut.
    fn open(&mut self, variant: Option<&'static str>) -> Result<CompoundSerializer<'_>, CaptureError> {
        self.count_bytes(0)?;
        let is_cut = self.path.len() >= MAX_DEPTH;
        if is_cut {
            self.omit(&format_args!("nested more than {MAX_DEPTH} levels deep, and cut"));
        }
        Ok(CompoundSerializer {
            parent: self,
            variant,
            is_cut,
            items: Vec::new(),
            map: Map::new(),
            key: None,
        })
    }
}

/// Serializes a list, a map or a struct.
struct CompoundSerializer<'w> {
    parent: &'w mut CaptureSerializer,
    variant: Option<&'static str>,
    is_cut: bool,
    items: Vec<Value>,
    map: Map<String, Value>,
    key: Option<String>,
}

impl CompoundSerializer<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CaptureError> {
        // Cut items count, too: a list may be endless.
        self.parent.count_bytes(0)?;
        if !self.is_cut {
            let segment = PathSegment::Index(self.items.len());
            let value = self.parent.serialize_member(segment, value);
            self.items.push(value.unwrap_or_default());
        }
        Ok(())
    }

    fn insert<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), CaptureError> {
        self.parent.count_bytes(name.len())?;
        if !self.is_cut
            && let Some(value) = self.parent.serialize_member(PathSegment::Name(name.to_owned()), value)
        {
            self.map.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn into_list(mut self) -> Value {
        let items = std::mem::take(&mut self.items);
        self.close(items.into())
    }

    fn into_table(mut self) -> Value {
        let map = std::mem::take(&mut self.map);
        self.close(map.into())
    }

    fn close(self, value: Value) -> Value {
        let value = match self.is_cut {
            true => "… (nested too deep)".into(),
            false => value,
        };
        match self.variant {
            Some(variant) => Map::from_iter([(variant.to_owned(), value)]).into(),
            None => value,
        }
    }
}

impl<'w> Serializer for &'w mut CaptureSerializer {
    type Ok = Value;
    type Error = CaptureError;
    type SerializeSeq = CompoundSerializer<'w>;
    type SerializeTuple = CompoundSerializer<'w>;
    type SerializeTupleStruct = CompoundSerializer<'w>;
    type SerializeTupleVariant = CompoundSerializer<'w>;
    type SerializeMap = CompoundSerializer<'w>;
    type SerializeStruct = CompoundSerializer<'w>;
    type SerializeStructVariant = CompoundSerializer<'w>;

    fn serialize_bool(self, value: bool) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_i8(self, value: i8) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_i16(self, value: i16) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_i32(self, value: i32) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_i64(self, value: i64) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_i128(self, value: i128) -> Result<Value, CaptureError> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.number(value),
            (_, Ok(value)) => self.number(value),
            _ => Err(CaptureError::TooWide),
        }
    }

    fn serialize_u8(self, value: u8) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_u16(self, value: u16) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_u32(self, value: u32) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_u64(self, value: u64) -> Result<Value, CaptureError> {
        self.number(value)
    }

    fn serialize_u128(self, value: u128) -> Result<Value, CaptureError> {
        self.number(u64::try_from(value).map_err(|_| CaptureError::TooWide)?)
    }

    fn serialize_f32(self, value: f32) -> Result<Value, CaptureError> {
        // The digits of an f32: 0.1 and not 0.10000000149011612.
        self.serialize_f64(value.to_string().parse().unwrap_or_else(|_| value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Value, CaptureError> {
        let word = match value {
            value if value.is_finite() => return self.number(value),
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "Infinity",
            _ => "-Infinity",
        };
        self.serialize_str(word)
    }

    fn serialize_char(self, value: char) -> Result<Value, CaptureError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<Value, CaptureError> {
        self.count_bytes(value.len())?;
        Ok(value.into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, CaptureError> {
        self.count_bytes(value.len().saturating_mul(BYTES_PER_VALUE))?;
        Ok(value.into())
    }

    fn serialize_none(self) -> Result<Value, CaptureError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, CaptureError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, CaptureError> {
        self.number(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, CaptureError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, CaptureError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, CaptureError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, CaptureError> {
        let mut members = self.open(None)?;
        members.insert(variant, value)?;
        Ok(members.into_table())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<CompoundSerializer<'w>, CaptureError> {
        self.open(Some(variant))
    }
}

impl SerializeSeq for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CaptureError> {
        self.push(value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_list())
    }
}

impl SerializeTuple for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CaptureError> {
        self.push(value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_list())
    }
}

impl SerializeTupleStruct for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CaptureError> {
        self.push(value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_list())
    }
}

impl SerializeTupleVariant for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CaptureError> {
        self.push(value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_list())
    }
}

impl SerializeMap for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CaptureError> {
        self.key = Some(key.serialize(KeySerializer)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CaptureError> {
        let key = self.key.take().unwrap_or_default();
        self.insert(&key, value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_table())
    }
}

impl SerializeStruct for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), CaptureError> {
        self.insert(name, value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_table())
    }
}

impl SerializeStructVariant for CompoundSerializer<'_> {
    type Ok = Value;
    type Error = CaptureError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), CaptureError> {
        self.insert(name, value)
    }

    fn end(self) -> Result<Value, CaptureError> {
        Ok(self.into_table())
    }
}

#[cfg(test)]
mod tests;
