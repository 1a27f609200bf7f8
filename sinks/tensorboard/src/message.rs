//! The wire format of Protocol Buffers, for the few messages of an event file.
//!
//! The messages are written straight into the bytes of the file and read in place, so that a step
//! costs no allocation, and a program with this sink builds no generator of code. The format is
//! described at <https://protobuf.dev/programming-guides/encoding/>.

use std::fmt;

/// Kinds of values on the wire.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;
/// Most bytes of a varint.
const MAX_VARINT: u32 = 10;

/// Appends the fields of a message.
pub(crate) struct MessageWriter<'a>(pub(crate) &'a mut Vec<u8>);

impl MessageWriter<'_> {
    pub(crate) fn double(&mut self, field: u32, value: f64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn float(&mut self, field: u32, value: f32) {
        self.key(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn integer(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.varint(value);
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Appends a message within this one.
    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut MessageWriter<'_>)) {
        self.key(field, BYTES);
        let start = self.0.len();
        // Most messages have a length of one byte. The content of longer ones is moved.
        self.0.push(0);
        write(&mut MessageWriter(self.0));
        let mut length = (self.0.len() - start - 1) as u64;
        let mut at = start;
        while length > 0x7f {
            self.0[at] = low_bits(length) | 0x80;
            length >>= 7;
            at += 1;
            self.0.insert(at, 0);
        }
        self.0[at] = low_bits(length);
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low_bits(value));
    }
}

/// Returns the lowest seven bits.
fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

/// The fields of a message, in the order of the bytes. After an error the iterator ends.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }
}

/// A number and the value of a field.
pub(crate) type Field<'a> = (u64, FieldValue<'a>);

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FieldValue<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

impl<'a> FieldValue<'a> {
    /// Returns the fields of a message within the message.
    pub(crate) fn message(self) -> Result<Fields<'a>, MalformedMessage> {
        Ok(Fields::of(self.bytes()?))
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], MalformedMessage> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(MalformedMessage("a number is in the place of bytes")),
        }
    }

    pub(crate) fn text(self) -> Result<String, MalformedMessage> {
        let text = std::str::from_utf8(self.bytes()?);
        Ok(text.map_err(|_| MalformedMessage("a text is not UTF-8"))?.to_owned())
    }

    pub(crate) fn double(self) -> Result<f64, MalformedMessage> {
        match self {
            Self::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(MalformedMessage("a field is no double")),
        }
    }

    pub(crate) fn float(self) -> Result<f32, MalformedMessage> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(MalformedMessage("a field is no float")),
        }
    }

    /// Returns a signed integer, which is on the wire in two's complement.
    pub(crate) fn integer(self) -> Result<i64, MalformedMessage> {
        match self {
            Self::Varint(value) => Ok(value as i64),
            _ => Err(MalformedMessage("a field is no integer")),
        }
    }
}

/// The bytes are no message of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedMessage(pub(crate) &'static str);

impl fmt::Display for MalformedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for MalformedMessage {}

impl<'a> Fields<'a> {
    /// Reads the next field. `None`: a field is cut off, or of a kind that nobody writes any more.
    fn read(&mut self) -> Option<Field<'a>> {
        let key = self.take_varint()?;
        let value = match key & 7 {
            VARINT => FieldValue::Varint(self.take_varint()?),
            FIXED64 => FieldValue::Fixed64(self.take(8)?.try_into().ok()?),
            BYTES => {
                let length = usize::try_from(self.take_varint()?).ok()?;
                FieldValue::Bytes(self.take(length)?)
            }
            FIXED32 => FieldValue::Fixed32(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for place in 0..MAX_VARINT {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, MalformedMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or(MalformedMessage("a field is cut off"));
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// The same fields, as the derive of another library knows them.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Known {
        #[prost(double, optional, tag = "1")]
        double: Option<f64>,
        #[prost(float, optional, tag = "2")]
        float: Option<f32>,
        #[prost(int64, optional, tag = "300")]
        integer: Option<i64>,
        #[prost(string, optional, tag = "4")]
        text: Option<String>,
        #[prost(message, optional, boxed, tag = "5")]
        within: Option<Box<Known>>,
    }

    fn write(known: &Known, writer: &mut MessageWriter<'_>) {
        known.double.inspect(|value| writer.double(1, *value));
        known.float.inspect(|value| writer.float(2, *value));
        known.integer.inspect(|value| writer.integer(300, *value as u64));
        known.text.as_deref().inspect(|value| writer.text(4, value));
        known
            .within
            .as_ref()
            .inspect(|value| writer.message(5, |writer| write(value, writer)));
    }

    fn read(message: Fields<'_>) -> Result<Known, MalformedMessage> {
        let mut known = Known::default();
        for field in message {
            match field? {
                (1, value) => known.double = Some(value.double()?),
                (2, value) => known.float = Some(value.float()?),
                (300, value) => known.integer = Some(value.integer()?),
                (4, value) => known.text = Some(value.text()?),
                (5, value) => known.within = Some(Box::new(read(value.message()?)?)),
                _ => {}
            }
        }
        Ok(known)
    }

    proptest! {
        #[test]
        fn another_library_reads_and_writes_the_same_messages(
            double: Option<f64>, float: Option<f32>, integer: Option<i64>,
            // Lengths of one, two and three bytes.
            lengths in prop::collection::vec(prop_oneof![0_usize..200, 16_300_usize..16_500], 0..4),
        ) {
            let mut known = Known { double, float, integer, ..Known::default() };
            for length in lengths {
                let text = Some("x".repeat(length));
                known = Known { text, within: Some(Box::new(known)), ..Known::default() };
            }
            let mut bytes = Vec::new();
            write(&known, &mut MessageWriter(&mut bytes));
            let shown = format!("{known:?}");
            prop_assert_eq!(format!("{:?}", Known::decode(&*bytes).unwrap()), &*shown);
            prop_assert_eq!(format!("{:?}", read(Fields::of(&known.encode_to_vec())).unwrap()), shown);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = read(Fields::of(&bytes));
        }
    }
}
