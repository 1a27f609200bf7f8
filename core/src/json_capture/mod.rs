//! Anything that serde can walk, as JSON: what has no form there does not take the rest with it.

mod key;

use std::fmt::{self, Display};

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};
use serde_json::{Map, Value};

use self::key::Key;

/// Levels below this are cut. Readers of JSON give up at 128, and what is written has a few levels of its own.
const DEEPEST: usize = 100;
/// More text than this is not taken, as with messages.
const LARGEST: usize = 16 << 20;
/// The share of that which a value without a text of its own costs.
const OF_ONE: usize = 8;

/// A value as JSON, and what is not in it.
///
/// Infinities and NaN are texts: `"Infinity"`, `"-Infinity"`, `"NaN"`. A member that has no form in JSON, or whose `Serialize`
/// fails, is left out by name, and the others stay; in a list `null` takes its place. A value that is nested deeper than 100
/// levels is cut, and one that has more than 16 MiB of text is left out.
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
/// assert_eq!(captured.omitted[0].to_string(), "`stages` (a map whose keys are no text)");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct JsonCapture {
    /// The value; `None` if nothing of it has a form in JSON.
    pub value: Option<Value>,
    /// The parts that are not in it.
    pub omitted: Vec<Omission>,
}

/// A part that is not in a captured value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Omission {
    /// Where it would be: `model.stages[2]`; empty for the whole.
    pub path: String,
    /// Why it is not there.
    pub why: String,
}

impl JsonCapture {
    /// Walks `value`. Its own `Serialize` is run once.
    pub fn new(value: &(impl Serialize + ?Sized)) -> Self {
        let mut walk = Walk {
            path: Vec::new(),
            room: LARGEST,
            omitted: Vec::new(),
        };
        let value = match value.serialize(&mut walk) {
            Ok(value) => Some(value),
            Err(refused) => {
                walk.omitted.clear();
                walk.leave_out(&refused);
                None
            }
        };
        Self {
            value,
            omitted: walk.omitted,
        }
    }
}

impl Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => write!(f, "all of it ({})", self.why),
            path => write!(f, "`{path}` ({})", self.why),
        }
    }
}

/// Why a value has no form.
#[derive(Debug)]
enum Refused {
    /// Its own `Serialize` says so.
    Failed(String),
    Keys,
    Large,
    /// An integer that no reader of JSON keeps.
    Wide,
}

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(why) => why,
            Self::Keys => "a map whose keys are no text",
            Self::Large => "there is more than 16 MiB of it",
            Self::Wide => "an integer of more than 64 bits",
        })
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: Display>(why: T) -> Self {
        Self::Failed(why.to_string())
    }
}

struct Walk {
    /// Names and places of the members that lead to where the walk is.
    path: Vec<Step>,
    /// How much text may still be taken.
    room: usize,
    omitted: Vec<Omission>,
}

enum Step {
    Name(String),
    Place(usize),
}

impl Walk {
    fn pay(&mut self, text: usize) -> Result<(), Refused> {
        self.room = self.room.checked_sub(text + OF_ONE).ok_or(Refused::Large)?;
        Ok(())
    }

    /// The value of a member, or `None` if it is left out.
    fn member<T: Serialize + ?Sized>(&mut self, step: Step, value: &T) -> Option<Value> {
        let (room, known) = (self.room, self.omitted.len());
        self.path.push(step);
        let value = match value.serialize(&mut *self) {
            Ok(value) => Some(value),
            Err(refused) => {
                // A member that failed as a whole has taken nothing, and none of its parts is told.
                self.room = room;
                self.omitted.truncate(known);
                self.leave_out(&refused);
                None
            }
        };
        self.path.pop();
        value
    }

    fn leave_out(&mut self, why: &dyn Display) {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) if path.is_empty() => path.push_str(name),
                Step::Name(name) => path.extend([".", name]),
                Step::Place(place) => path.push_str(&format!("[{place}]")),
            }
        }
        self.omitted.push(Omission {
            path,
            why: why.to_string(),
        });
    }

    fn number(&mut self, number: impl Into<Value>) -> Result<Value, Refused> {
        self.pay(0)?;
        Ok(number.into())
    }

    /// Begins something with members. Where it lies too deep, it has none.
    fn open(&mut self, variant: Option<&'static str>) -> Result<Members<'_>, Refused> {
        self.pay(0)?;
        let is_cut = self.path.len() >= DEEPEST;
        if is_cut {
            self.leave_out(&format_args!("nested more than {DEEPEST} levels deep, and cut there"));
        }
        Ok(Members {
            walk: self,
            variant,
            is_cut,
            items: Vec::new(),
            map: Map::new(),
            key: None,
        })
    }
}

/// A value with members, as it grows.
struct Members<'w> {
    walk: &'w mut Walk,
    variant: Option<&'static str>,
    is_cut: bool,
    items: Vec<Value>,
    map: Map<String, Value>,
    key: Option<String>,
}

impl Members<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        // Also of an item that is not taken: a list may have no end.
        self.walk.pay(0)?;
        if !self.is_cut {
            let step = Step::Place(self.items.len());
            let value = self.walk.member(step, value);
            self.items.push(value.unwrap_or_default());
        }
        Ok(())
    }

    fn insert<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Refused> {
        self.walk.pay(name.len())?;
        if !self.is_cut
            && let Some(value) = self.walk.member(Step::Name(name.to_owned()), value)
        {
            self.map.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn list(mut self) -> Value {
        let items = std::mem::take(&mut self.items);
        self.close(items.into())
    }

    fn table(mut self) -> Value {
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

impl<'w> Serializer for &'w mut Walk {
    type Ok = Value;
    type Error = Refused;
    type SerializeSeq = Members<'w>;
    type SerializeTuple = Members<'w>;
    type SerializeTupleStruct = Members<'w>;
    type SerializeTupleVariant = Members<'w>;
    type SerializeMap = Members<'w>;
    type SerializeStruct = Members<'w>;
    type SerializeStructVariant = Members<'w>;

    fn serialize_bool(self, value: bool) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_i8(self, value: i8) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_i16(self, value: i16) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_i32(self, value: i32) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_i64(self, value: i64) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_i128(self, value: i128) -> Result<Value, Refused> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.number(value),
            (_, Ok(value)) => self.number(value),
            _ => Err(Refused::Wide),
        }
    }

    fn serialize_u8(self, value: u8) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_u16(self, value: u16) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_u32(self, value: u32) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_u64(self, value: u64) -> Result<Value, Refused> {
        self.number(value)
    }

    fn serialize_u128(self, value: u128) -> Result<Value, Refused> {
        self.number(u64::try_from(value).map_err(|_| Refused::Wide)?)
    }

    fn serialize_f32(self, value: f32) -> Result<Value, Refused> {
        // The digits of an f32: 0.1 and not 0.10000000149011612.
        self.serialize_f64(value.to_string().parse().unwrap_or_else(|_| value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Value, Refused> {
        let word = match value {
            value if value.is_finite() => return self.number(value),
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "Infinity",
            _ => "-Infinity",
        };
        self.serialize_str(word)
    }

    fn serialize_char(self, value: char) -> Result<Value, Refused> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<Value, Refused> {
        self.pay(value.len())?;
        Ok(value.into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Refused> {
        self.pay(value.len().saturating_mul(OF_ONE))?;
        Ok(value.into())
    }

    fn serialize_none(self) -> Result<Value, Refused> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Refused> {
        self.number(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Refused> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Refused> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Refused> {
        let mut members = self.open(None)?;
        members.insert(variant, value)?;
        Ok(members.table())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'w>, Refused> {
        self.open(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'w>, Refused> {
        self.open(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'w>, Refused> {
        self.open(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'w>, Refused> {
        self.open(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'w>, Refused> {
        self.open(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'w>, Refused> {
        self.open(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'w>, Refused> {
        self.open(Some(variant))
    }
}

impl SerializeSeq for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.list())
    }
}

impl SerializeTuple for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.list())
    }
}

impl SerializeTupleStruct for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.list())
    }
}

impl SerializeTupleVariant for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.list())
    }
}

impl SerializeMap for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key = Some(key.serialize(Key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let key = self.key.take().unwrap_or_default();
        self.insert(&key, value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.table())
    }
}

impl SerializeStruct for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Refused> {
        self.insert(name, value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.table())
    }
}

impl SerializeStructVariant for Members<'_> {
    type Ok = Value;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Refused> {
        self.insert(name, value)
    }

    fn end(self) -> Result<Value, Refused> {
        Ok(self.table())
    }
}

#[cfg(test)]
mod tests;
