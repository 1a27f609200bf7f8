//! Numbers and texts in bytes: how they are appended to a frame, and read from one.

use std::fmt;
use std::time::SystemTime;

use logcore::MetricValue;

use super::clock::from_nanos;

/// Room for the frames of nearly all records: the buffer of a thread grows once.
const USUAL_FRAME: usize = 512;

/// Longer messages and texts are cut: 16 MiB.
pub(crate) const MAX_TEXT: usize = 16 << 20;

// Tags of numbers.
pub(super) const FLOAT: u8 = 0;
pub(super) const INT: u8 = 1;
pub(super) const UINT: u8 = 2;
pub(super) const F32: u8 = 7;

/// Returns the tag and the bits of a number.
#[inline]
pub(super) fn value_bits(value: MetricValue) -> (u8, u64) {
    match value {
        MetricValue::Int(value) => (INT, value as u64),
        MetricValue::UInt(value) => (UINT, value),
        MetricValue::F32(value) => (F32, u64::from(value.to_bits())),
        // `Float`; the enum is open, so that another crate cannot list its variants.
        other => (FLOAT, other.as_f64().to_bits()),
    }
}

/// Returns the number of a tag and bits; `None` if the tag is not that of a number.
pub(super) fn value_from(tag: u8, bits: u64) -> Option<MetricValue> {
    Some(match tag {
        FLOAT => MetricValue::Float(f64::from_bits(bits)),
        INT => MetricValue::Int(bits as i64),
        UINT => MetricValue::UInt(bits),
        F32 => MetricValue::F32(f32::from_bits(bits as u32)),
        _ => return None,
    })
}

/// Appends a number as u32.
pub(crate) fn put_u32(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// Appends the length of a text, and the text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Returns the greatest index up to `limit` at which a character of `text` begins or ends.
///
/// The standard library has this function only since Rust 1.91.
pub(super) fn floor_char_boundary(text: &str, limit: usize) -> usize {
    let mut at = limit.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Appends the first [`MAX_TEXT`] bytes of a text, and counts the rest.
pub(super) struct LimitedWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Greatest length of `out`.
    limit: usize,
    /// Number of bytes that were cut.
    pub(super) cut: usize,
}

impl<'a> LimitedWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let limit = out.len() + MAX_TEXT;
        if out.capacity() > limit {
            out.shrink_to(limit);
        }
        Self { limit, out, cut: 0 }
    }

    /// Appends a text that is long, or for which there is little room.
    #[inline(never)]
    fn append_long(&mut self, text: &str) {
        // The capacity is never beyond the limit: one comparison serves both. Measured: 60
        // instructions a line.
        if text.len() <= self.out.capacity() - self.out.len() {
            self.out.extend_from_slice(text.as_bytes());
        } else {
            self.grow(text);
        }
    }

    #[cold]
    fn grow(&mut self, text: &str) {
        let length = self.out.len() + text.len();
        if length > self.limit {
            return self.cut(text);
        }
        let capacity = length.max(2 * self.out.capacity()).max(USUAL_FRAME).min(self.limit);
        self.out.reserve_exact(capacity - self.out.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    fn cut(&mut self, text: &str) {
        let kept = floor_char_boundary(text, self.limit - self.out.len());
        self.out.extend_from_slice(&text.as_bytes()[..kept]);
        self.cut += text.len() - kept;
        // Nothing may follow the cut.
        self.limit = self.out.len();
        self.out.shrink_to_fit();
    }
}

impl fmt::Write for LimitedWriter<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !append_short(self.out, text.as_bytes()) {
            self.append_long(text);
        }
        Ok(())
    }
}

/// Length of the longest text that is copied without a call of `memcpy`.
const SHORT_TEXT: usize = 16;

/// Appends a text that is usually short.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, text: &str) {
    if !append_short(out, text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends a short text, if the vector has the capacity for one of any length. Returns `false` if
/// not, or if the text is longer.
///
/// A message is formatted in many pieces of a few bytes, for each of which `memcpy` and the code
/// around its call take longer than two copies of a fixed length, which may overlap. Measured: 250
/// instructions a line with three floats.
#[inline]
fn append_short(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let (start, length) = (out.len(), text.len());
    if length > SHORT_TEXT || out.capacity() - start < SHORT_TEXT {
        return false;
    }
    out.extend_from_slice(&[0; SHORT_TEXT]);
    let room = &mut out[start..start + SHORT_TEXT];
    let _ = copy_ends::<8>(room, text)
        || copy_ends::<4>(room, text)
        || copy_ends::<2>(room, text)
        || copy_ends::<1>(room, text);
    out.truncate(start + length);
    true
}

/// Copies the first `N` bytes of a text and the last `N`, which are all of it if it is no longer
/// than twice that. Returns `false` if the text is shorter than `N`.
#[inline]
fn copy_ends<const N: usize>(room: &mut [u8], text: &[u8]) -> bool {
    let (Some(first), Some(last)) = (text.first_chunk::<N>(), text.last_chunk::<N>()) else {
        return false;
    };
    room[..N].copy_from_slice(first);
    room[text.len() - N..text.len()].copy_from_slice(last);
    true
}

/// Reads bytes from the front. Each method returns `None` if too few are left.
#[derive(Clone)]
pub(crate) struct ByteCursor<'a>(&'a [u8]);

impl<'a> ByteCursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn time(&mut self) -> Option<SystemTime> {
        self.array().map(i64::from_le_bytes).map(from_nanos)
    }

    /// Reads what [`put_text`] has written.
    pub(crate) fn long_text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn limited_writer_appends_texts_of_each_length_with_and_without_room() {
        let text = "abcdefghijklmnopqrstuvwxyz";
        for length in 0..text.len() {
            for capacity in 0..40 {
                let mut out = Vec::with_capacity(capacity);
                out.push(b'<');
                let mut writer = LimitedWriter::new(&mut out);
                write!(writer, "{}{}", &text[..length], &text[length..]).unwrap();
                assert_eq!(writer.cut, 0);
                assert_eq!(out, format!("<{text}").as_bytes(), "{length} of {capacity}");
            }
        }
    }
}
