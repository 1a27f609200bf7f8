//! The record of a row, which a training writes at each step.
//!
//! The bytes are those of [`LogRecord`](super::proto::LogRecord) with a
//! [`HistoryRecord`](super::proto::HistoryRecord). Measured for ten metrics: the structs take 6,000
//! instructions, as each message finds out the length of all within it, and strings move in and out.

use prost::encoding::{encode_varint, encoded_len_varint};

/// Appends a row: names and values as JSON.
pub(super) fn put_row<'a>(
    num: i64,
    step: u64,
    values: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    out: &mut Vec<u8>,
) {
    let step = step.min(i64::MAX as u64);
    let step_length = if step == 0 { 0 } else { 1 + varint_length(step) };
    let items: usize = values
        .clone()
        .map(|(name, value)| delimited_length(item_length(name, value)))
        .sum();
    // Fields that are zero or empty are left out.
    if num != 0 {
        out.push(NUM);
        put_varint(num as u64, out);
    }
    out.push(HISTORY);
    put_varint((items + delimited_length(step_length)) as u64, out);
    for (name, value) in values {
        out.push(ITEM);
        put_varint(item_length(name, value) as u64, out);
        if !name.is_empty() {
            out.push(KEY);
            put_varint(name.len() as u64, out);
            out.extend_from_slice(name.as_bytes());
        }
        if !value.is_empty() {
            out.extend_from_slice(&VALUE_JSON);
            put_varint(value.len() as u64, out);
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(STEP);
    put_varint(step_length as u64, out);
    if step != 0 {
        out.push(STEP_NUM);
        put_varint(step, out);
    }
}

// The tag of each field, and the type of its value: 0 for a number, 2 for bytes after their length.
const NUM: u8 = 1 << 3;
const HISTORY: u8 = 2 << 3 | 2;
const ITEM: u8 = 1 << 3 | 2;
const KEY: u8 = 1 << 3 | 2;
/// Tag 16 takes two bytes.
const VALUE_JSON: [u8; 2] = [0x82, 0x01];
const STEP: u8 = 2 << 3 | 2;
const STEP_NUM: u8 = 1 << 3;

fn item_length(name: &str, value: &str) -> usize {
    let key = if name.is_empty() {
        0
    } else {
        delimited_length(name.len())
    };
    let value = if value.is_empty() {
        0
    } else {
        1 + delimited_length(value.len())
    };
    key + value
}

/// Returns the length of a field of `length` bytes, with a tag of one byte.
fn delimited_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

fn varint_length(number: u64) -> usize {
    match number {
        0..0x80 => 1,
        number => encoded_len_varint(number),
    }
}

fn put_varint(number: u64, out: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(byte @ 0..0x80) => out.push(byte),
        _ => encode_varint(number, out),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::log_format::proto::{HistoryRecord, HistoryStep, Item, LogRecord, RecordKind};

    proptest! {
        #[test]
        fn row_has_the_bytes_of_the_structs(
            num: i64,
            step in prop_oneof![0..200_u64, any::<u64>()],
            values in prop::collection::vec(("\\PC{0,9}|a{120,130}", "\\PC{0,9}|1{16380,16390}"), 0..5),
        ) {
            let item = |(key, value): &(String, String)| Item {
                key: key.clone(),
                value_json: value.clone(),
                ..Item::default()
            };
            let history = HistoryRecord {
                item: values.iter().map(item).collect(),
                step: Some(HistoryStep { num: i64::try_from(step).unwrap_or(i64::MAX) }),
            };
            let expected = LogRecord { num, kind: Some(RecordKind::History(history)) }.encode_to_vec();
            let mut bytes = Vec::new();
            let pairs = values.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            put_row(num, step, pairs, &mut bytes);
            prop_assert_eq!(bytes, expected);
        }
    }
}
