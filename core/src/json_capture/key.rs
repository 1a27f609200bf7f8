//! The serializer for keys of maps, which must be texts in JSON.

use serde::Serialize;
use serde::ser::{Impossible, Serializer};

use super::CaptureError;

/// Serializes the key of a map to a text. Only texts, numbers and switches are keys.
pub(super) struct KeySerializer;

/// Implements the methods for keys that have a `Display` form.
macro_rules! impl_display_keys {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, key: $type) -> Result<String, CaptureError> {
            Ok(key.to_string())
        })*
    };
}

impl Serializer for KeySerializer {
    type Ok = String;
    type Error = CaptureError;
    type SerializeSeq = Impossible<String, CaptureError>;
    type SerializeTuple = Impossible<String, CaptureError>;
    type SerializeTupleStruct = Impossible<String, CaptureError>;
    type SerializeTupleVariant = Impossible<String, CaptureError>;
    type SerializeMap = Impossible<String, CaptureError>;
    type SerializeStruct = Impossible<String, CaptureError>;
    type SerializeStructVariant = Impossible<String, CaptureError>;

    impl_display_keys! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, CaptureError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, key: &T) -> Result<String, CaptureError> {
        key.serialize(self)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<String, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_none(self) -> Result<String, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<String, CaptureError> {
        key.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, CaptureError> {
        Err(CaptureError::InvalidKey)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, CaptureError> {
        Err(CaptureError::InvalidKey)
    }
}
