//! The record of a row, which a training writes at each step.
//!
//! The bytes are those of [`LogRecord`](super::proto::LogRecord) with a
//! [`HistoryRecord`](super::proto::HistoryRecord). Measured for ten metrics: the structs take 6,000
//! instructions, as each message finds out the length of all within it, and strings move in and
//! out.

use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

/// A row of [`put_row`], with names and values in the bytes of its record.
#[derive(Debug, PartialEq)]
pub(crate) struct RowView<'a> {
    /// Number of the record.
    pub(crate) num: i64,
    /// Names and values as JSON, which were not checked.
    pub(crate) values: Vec<(&'a str, &'a str)>,
}

impl<'a> RowView<'a> {
    /// Reads the record of a row in the form in which this crate writes it. Any other record, and
    /// any other form, is `None`.
    ///
    /// Measured for ten metrics: 5,300 instructions, and 15,000 with the structs and their strings.
    pub(crate) fn read(mut record: &'a [u8]) -> Option<Self> {
        let rest = &mut record;
        let num = match take_tag(rest, &[NUM]) {
            true => take_varint(rest)? as i64,
            false => 0,
        };
        let mut row = take_tag(rest, &[HISTORY]).then(|| take_delimited(rest))??;
        if !rest.is_empty() {
            return None;
        }
        let mut values = Vec::with_capacity(USUAL_VALUES);
        while take_tag(&mut row, &[ITEM]) {
            let mut item = take_delimited(&mut row)?;
            let mut text = |tag: &[u8]| match take_tag(&mut item, tag) {
                true => std::str::from_utf8(take_delimited(&mut item)?).ok(),
                false => Some(""),
            };
            values.push((text(&[KEY])?, text(&VALUE_JSON)?));
            if !item.is_empty() {
                return None;
            }
        }
        // The step is also a value.
        let mut step = take_tag(&mut row, &[STEP]).then(|| take_delimited(&mut row))??;
        if take_tag(&mut step, &[STEP_NUM]) {
            take_varint(&mut step)?;
        }
        (row.is_empty() && step.is_empty()).then_some(Self { num, values })
    }
}

/// Number of values for which a row has room at first.
const USUAL_VALUES: usize = 16;

/// Takes a tag off the front, if it is there.
fn take_tag(bytes: &mut &[u8], tag: &[u8]) -> bool {
    let rest = bytes.strip_prefix(tag);
    *bytes = rest.unwrap_or(bytes);
    rest.is_some()
}

/// Takes a number off the front.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    match *bytes {
        [byte @ 0..0x80, rest @ ..] => {
            *bytes = rest;
            Some(u64::from(*byte))
        }
        _ => decode_varint(bytes).ok(),
    }
}

/// Takes a field of bytes off the front, without its tag.
fn take_delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(bytes)?).ok()?;
    let (field, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(field)
}

/// A value of rows under its name, in the bytes that it has in the record of a row.
///
/// The bytes of the name are made once, and a row copies each of its items with one call of
/// `memcpy`.
pub(crate) struct RowItem {
    name: String,
    /// The item: its tag and length, the name, and the value.
    bytes: Vec<u8>,
    /// The offset of the value in `bytes`.
    value_at: usize,
    /// `true` if `bytes` are the item: each length is one byte, and no field is empty.
    is_short: bool,
}

impl RowItem {
    /// Creates the item of a name, with an empty value.
    pub(crate) fn new(name: &str) -> Self {
        let mut bytes = vec![ITEM, 0, KEY];
        put_varint(name.len() as u64, &mut bytes);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[VALUE_JSON[0], VALUE_JSON[1], 0]);
        Self {
            name: name.to_owned(),
            value_at: bytes.len(),
            bytes,
            is_short: false,
        }
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value as JSON.
    pub(crate) fn value(&self) -> &str {
        // A value is a text, and the digits of a number are ASCII.
        std::str::from_utf8(self.value_bytes()).unwrap_or_default()
    }

    /// Returns `true` without a value.
    pub(crate) fn is_empty(&self) -> bool {
        self.value_bytes().is_empty()
    }

    /// Sets the value to the text that `put` appends.
    pub(crate) fn set(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.value_at);
        put(&mut self.bytes);
        // Without the tag and the length of the item itself.
        let length = self.bytes.len() - 2;
        let value_length = self.bytes.len() - self.value_at;
        self.is_short = length < 0x80 && value_length > 0 && !self.name.is_empty();
        self.bytes[1] = length as u8;
        self.bytes[self.value_at - 1] = value_length as u8;
    }

    fn value_bytes(&self) -> &[u8] {
        &self.bytes[self.value_at..]
    }

    /// Returns the number of bytes in a row.
    fn encoded_len(&self) -> usize {
        match self.is_short {
            true => self.bytes.len(),
            false => delimited_length(item_length(&self.name, self.value_bytes())),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self.is_short {
            true => out.extend_from_slice(&self.bytes),
            false => put_item(&self.name, self.value_bytes(), out),
        }
    }
}

/// Appends a row.
pub(super) fn put_row<'a>(num: i64, step: u64, items: impl Iterator<Item = &'a RowItem> + Clone, out: &mut Vec<u8>) {
    let step = step.min(i64::MAX as u64);
    let step_length = if step == 0 { 0 } else { 1 + varint_length(step) };
    let items_length: usize = items.clone().map(RowItem::encoded_len).sum();
    // Fields that are zero or empty are left out.
    if num != 0 {
        out.push(NUM);
        put_varint(num as u64, out);
    }
    out.push(HISTORY);
    put_varint((items_length + delimited_length(step_length)) as u64, out);
    items.for_each(|item| item.put(out));
    out.push(STEP);
    put_varint(step_length as u64, out);
    if step != 0 {
        out.push(STEP_NUM);
        put_varint(step, out);
    }
}

/// Appends an item with lengths of any size.
#[cold]
fn put_item(name: &str, value: &[u8], out: &mut Vec<u8>) {
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
        out.extend_from_slice(value);
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

fn item_length(name: &str, value: &[u8]) -> usize {
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
    use crate::log_format::proto::{ExitRecord, HistoryRecord, HistoryStep, Item, LogRecord, RecordKind, TypedValue};

    fn row() -> impl Strategy<Value = RecordKind> {
        let texts = || prop::collection::vec("[a-z]{0,3}", 0..2);
        let item = ("[a-z]{0,3}", texts(), "[0-9]{0,3}", prop::option::of(any::<bool>())).prop_map(
            |(key, nested_key, value_json, typed)| Item {
                key,
                nested_key,
                value_json,
                typed: typed.map(TypedValue::Bool),
            },
        );
        let step = prop::option::of(any::<i64>().prop_map(|num| HistoryStep { num }));
        (prop::collection::vec(item, 0..3), step)
            .prop_map(|(item, step)| RecordKind::History(HistoryRecord { item, step }))
    }

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
            let items = pairs.clone().map(|(name, value)| {
                let mut item = RowItem::new(name);
                item.set(|bytes| bytes.extend_from_slice(b"earlier"));
                item.set(|bytes| bytes.extend_from_slice(value.as_bytes()));
                item
            });
            let items: Vec<_> = items.collect();
            put_row(num, step, items.iter(), &mut bytes);
            prop_assert!(items.iter().map(|item| (item.name(), item.value())).eq(pairs.clone()));
            prop_assert_eq!(&bytes, &expected);
            prop_assert_eq!(RowView::read(&bytes), Some(RowView { num, values: pairs.collect() }));
        }

        /// Whatever a view shows is in the record.
        #[test]
        fn view_agrees_with_the_structs(
            num in prop_oneof![Just(0), any::<i64>()],
            kind in prop_oneof![row(), Just(RecordKind::Exit(ExitRecord::default()))],
            more in prop::collection::vec(any::<u8>(), 0..3),
            change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = LogRecord { num, kind: Some(kind) }.encode_to_vec();
            bytes.extend(more);
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(view) = RowView::read(&bytes) {
                let record = LogRecord::decode(&*bytes).unwrap();
                prop_assert_eq!(record.num, view.num);
                let Some(RecordKind::History(history)) = record.kind else { panic!("no row") };
                prop_assert!(history.item.iter().all(|item| item.nested_key.is_empty() && item.typed.is_none()));
                let values = history.item.iter().map(|item| (&*item.key, &*item.value_json));
                prop_assert_eq!(values.collect::<Vec<_>>(), view.values);
            }
        }
    }
}
