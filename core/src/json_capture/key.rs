use serde::Serialize;
use serde::ser::{Impossible, Serializer};

use super::Refused;

/// The text of a map's key: what is written as one word.
pub(super) struct Key;

/// Keys that are numbers or switches, as texts.
macro_rules! keys {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, key: $type) -> Result<String, Refused> {
            Ok(key.to_string())
        })*
    };
}

impl Serializer for Key {
    type Ok = String;
    type Error = Refused;
    type SerializeSeq = Impossible<String, Refused>;
    type SerializeTuple = Impossible<String, Refused>;
    type SerializeTupleStruct = Impossible<String, Refused>;
    type SerializeTupleVariant = Impossible<String, Refused>;
    type SerializeMap = Impossible<String, Refused>;
    type SerializeStruct = Impossible<String, Refused>;
    type SerializeStructVariant = Impossible<String, Refused>;

    keys! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, Refused> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, key: &T) -> Result<String, Refused> {
        key.serialize(self)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<String, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_none(self) -> Result<String, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<String, Refused> {
        key.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refused> {
        Err(Refused::Keys)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refused> {
        Err(Refused::Keys)
    }
}
