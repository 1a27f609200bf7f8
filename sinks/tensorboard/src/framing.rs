//! The records of an event file: a length, the message, and checksums of both.
//!
//! ```text
//! length: u64, little-endian | checksum of the length: u32 | message | checksum of the message: u32
//! ```
//!
//! The format is that of TensorFlow's `lib/io/record_writer.h`. After a wrong checksum TensorBoard
//! reads nothing more of a file, and at a record without its end it waits for more bytes.

use std::io::{self, Read};

/// Bytes before and after a message.
pub(crate) const HEADER: usize = 12;
pub(crate) const FOOTER: usize = 4;
/// Longest message that is read, in bytes.
pub(crate) const MAX_MESSAGE: u64 = 64 << 20;

/// Appends a record, whose message `write` appends.
pub(crate) fn append_record(bytes: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; HEADER]);
    write(bytes);
    let message = &bytes[start + HEADER..];
    let length = (message.len() as u64).to_le_bytes();
    let footer = checksum(message);
    bytes[start..start + 8].copy_from_slice(&length);
    bytes[start + 8..start + HEADER].copy_from_slice(&checksum(&length));
    bytes.extend_from_slice(&footer);
}

/// Returns the checksum in the form of the file: a masked CRC-32C.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    const MASK: u32 = 0xa282_ead8;
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// Reads the messages of an event file.
pub(crate) struct RecordReader<R> {
    input: R,
    message: Vec<u8>,
    /// Offset behind the last whole record.
    position: u64,
}

/// The reason why a record could not be read.
#[derive(Debug)]
pub(crate) enum RecordError {
    Io(io::Error),
    /// A checksum is wrong.
    Damaged,
    /// The length of the message in bytes, which is more than [`MAX_MESSAGE`].
    TooLong(u64),
}

impl<R: Read> RecordReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            message: Vec::new(),
            position: 0,
        }
    }

    /// Returns the offset behind the last whole record.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next message; `None` if the bytes end before or within the record.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, RecordError> {
        let Some(length) = self.read_length()? else {
            return Ok(None);
        };
        self.message.clear();
        // The memory grows with the bytes that come, and not with a length that only says so.
        let wanted = length + FOOTER as u64;
        let read = (&mut self.input).take(wanted).read_to_end(&mut self.message);
        if (read.map_err(RecordError::Io)? as u64) < wanted {
            return Ok(None);
        }
        let (message, footer) = self.message.split_at(self.message.len() - FOOTER);
        if checksum(message) != footer {
            return Err(RecordError::Damaged);
        }
        self.position += HEADER as u64 + wanted;
        Ok(Some(message))
    }

    fn read_length(&mut self) -> Result<Option<u64>, RecordError> {
        self.message.clear();
        let header = (&mut self.input).take(HEADER as u64).read_to_end(&mut self.message);
        if header.map_err(RecordError::Io)? < HEADER {
            return Ok(None);
        }
        let (length, footer) = self.message.split_at(8);
        if checksum(length) != footer {
            return Err(RecordError::Damaged);
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(length);
        match u64::from_le_bytes(bytes) {
            length if length > MAX_MESSAGE => Err(RecordError::TooLong(length)),
            length => Ok(Some(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> (Vec<Vec<u8>>, u64, Option<RecordError>) {
        let mut reader = RecordReader::new(bytes);
        let mut messages = Vec::new();
        let error = loop {
            match reader.next() {
                Ok(Some(message)) => messages.push(message.to_owned()),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        (messages, reader.position(), error)
    }

    #[test]
    fn a_record_is_that_of_tensorflow() {
        let mut bytes = Vec::new();
        append_record(&mut bytes, |bytes| bytes.extend_from_slice(b"abc"));
        // From `tensorboard.summary.writer.record_writer.RecordWriter` of TensorBoard 2.21.0.
        assert_eq!(bytes, b"\x03\0\0\0\0\0\0\0\xb0\x99\x49\x0eabc\x6e\x57\xf1\x21");
    }

    #[test]
    fn a_length_that_is_too_great_is_refused_before_memory_is_taken() {
        let length = (MAX_MESSAGE + 1).to_le_bytes();
        let bytes = [&length[..], &checksum(&length)].concat();
        assert!(matches!(read_all(&bytes).2, Some(RecordError::TooLong(_))));
    }

    proptest! {
        /// A cut file has its whole records, and a damaged one those before the damage.
        #[test]
        fn records_before_a_cut_or_a_damage_are_read(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            place in 0.0..1.0,
            flip in 1_u8..,
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for message in &messages {
                append_record(&mut bytes, |bytes| bytes.extend_from_slice(message));
                ends.push(bytes.len());
            }
            let at = (bytes.len() as f64 * place) as usize;
            let whole = ends.iter().filter(|end| **end <= at).count() - 1;
            let (read, position, error) = read_all(&bytes[..at]);
            prop_assert!(error.is_none());
            prop_assert_eq!((&*read, position), (&messages[..whole], ends[whole] as u64));
            bytes[at] ^= flip;
            let (read, _, error) = read_all(&bytes);
            prop_assert!(error.is_some());
            prop_assert_eq!(&*read, &messages[..whole]);
        }
    }
}
