//! The fields of events and spans, kept with their types.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::kv::{Error as KvError, Key, Source, Value, VisitSource};
use tracing_core::field::{Field, Visit};

/// Longest text of a field in bytes, as in the other records of a logger.
const MAX_TEXT: usize = 16 << 20;

/// Buffers with more room than this are not kept.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    /// The buffer of the thread, absent while it is in use: the code of a field may log.
    static SCRATCH: Cell<Option<FieldList>> = const { Cell::new(None) };
}

/// Calls `work` with an empty list, whose memory the thread keeps.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut FieldList) -> T) -> T {
    let mut fields = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let result = work(&mut fields);
    if fields.room() <= KEPT_BYTES {
        fields.clear();
        let _ = SCRATCH.try_with(|scratch| scratch.set(Some(fields)));
    }
    result
}

/// Fields in their order, and the texts of their values in one buffer.
#[derive(Debug, Default)]
pub(crate) struct FieldList {
    fields: Vec<(&'static str, FieldValue)>,
    texts: String,
}

/// A value of a field. Texts are parts of the list's buffer.
#[derive(Clone, Debug)]
pub(crate) enum FieldValue {
    Int(i64),
    UInt(u64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
}

impl FieldList {
    fn clear(&mut self) {
        self.fields.clear();
        self.texts.clear();
    }

    /// Returns the number of bytes that the list can hold.
    fn room(&self) -> usize {
        self.texts.capacity() + self.fields.capacity() * size_of::<(&str, FieldValue)>()
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.fields.iter().any(|(other, _)| *other == name)
    }

    pub(crate) fn push(&mut self, name: &'static str, value: FieldValue) {
        self.fields.push((name, value));
    }

    pub(crate) fn push_text(&mut self, name: &'static str, text: &str) {
        self.push_written(name, |out| out.write_str(text));
    }

    /// Adds a field whose text `write` writes. If that code fails or panics, the text says so.
    pub(crate) fn push_written(&mut self, name: &'static str, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) {
        let start = self.texts.len();
        let mut out = LimitedText {
            texts: &mut self.texts,
            room: MAX_TEXT,
        };
        match catch_unwind(AssertUnwindSafe(|| write(&mut out))) {
            Ok(Ok(())) => {}
            Ok(Err(fmt::Error)) if out.room < MAX_TEXT => self.texts.push_str(" (cut here)"),
            Ok(Err(fmt::Error)) => self.texts.push_str("(the field's code failed here)"),
            Err(_) => self.texts.push_str("(the field's code panicked here)"),
        }
        self.push(name, FieldValue::Text(start..self.texts.len()));
    }

    /// Removes the last field, and returns its text.
    pub(crate) fn pop_text(&mut self) -> Option<Box<str>> {
        let (_, value) = self.fields.pop()?;
        let FieldValue::Text(range) = value else { return None };
        Some(self.texts.split_off(range.start).into())
    }

    /// Returns the list with the values of `changed`, in place of those that the list has.
    pub(crate) fn with(&self, changed: &Self) -> Self {
        let mut all = Self::default();
        for (name, value) in &self.fields {
            let changed = changed
                .fields
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, new)| (changed, new));
            let (list, value) = changed.unwrap_or((self, value));
            let value = all.copy_value(list, value);
            all.push(name, value);
        }
        for (name, value) in &changed.fields {
            if !all.contains(name) {
                let value = all.copy_value(changed, value);
                all.push(name, value);
            }
        }
        all
    }

    /// Adds the fields of `other` that neither the list nor `is_known` has, the last first.
    pub(crate) fn extend_reversed(&mut self, other: &Self, is_known: impl Fn(&str) -> bool) {
        for (name, value) in other.fields.iter().rev() {
            if !self.contains(name) && !is_known(name) {
                let value = self.copy_value(other, value);
                self.push(name, value);
            }
        }
    }

    fn copy_value(&mut self, other: &Self, value: &FieldValue) -> FieldValue {
        let FieldValue::Text(range) = value else {
            return value.clone();
        };
        let start = self.texts.len();
        self.texts.push_str(&other.texts[range.clone()]);
        FieldValue::Text(start..self.texts.len())
    }

    /// Reverses the order of the fields from `start` on.
    pub(crate) fn reverse_from(&mut self, start: usize) {
        self.fields[start..].reverse();
    }

    /// Returns the text of a field, if its value is one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(other, _)| *other == name)?;
        match value {
            FieldValue::Text(range) => Some(&self.texts[range.clone()]),
            _ => None,
        }
    }

    /// Returns a field as a number without a sign, if its value is one.
    pub(crate) fn unsigned(&self, name: &str) -> Option<u64> {
        let (_, value) = self.fields.iter().find(|(other, _)| *other == name)?;
        value.as_unsigned()
    }
}

impl FieldValue {
    /// Returns the value as a number without a sign, if the value is one.
    pub(crate) fn as_unsigned(&self) -> Option<u64> {
        match self {
            Self::UInt(value) => Some(*value),
            Self::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }
}

impl Source for FieldList {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), KvError> {
        for (name, value) in &self.fields {
            let value = match value {
                FieldValue::Int(value) => Value::from(*value),
                FieldValue::UInt(value) => Value::from(*value),
                FieldValue::Float(value) => Value::from(*value),
                FieldValue::Bool(value) => Value::from(*value),
                FieldValue::Text(range) => Value::from(&self.texts[range.clone()]),
            };
            visitor.visit_pair(Key::from(*name), value)?;
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.fields.len()
    }
}

/// Takes the fields of events and spans with their types.
pub(crate) trait FieldSink {
    fn take(&mut self, name: &'static str, value: FieldValue);

    fn take_written(&mut self, name: &'static str, write: &mut dyn FnMut(&mut dyn fmt::Write) -> fmt::Result);
}

/// Visits fields for a sink.
pub(crate) struct FieldVisitor<'a, T>(pub(crate) &'a mut T);

impl<T: FieldSink> Visit for FieldVisitor<'_, T> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.take(field.name(), FieldValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.take(field.name(), FieldValue::UInt(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.record_i64(field, value),
            (_, Ok(value)) => self.record_u64(field, value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.take(field.name(), FieldValue::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.take(field.name(), FieldValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.take_written(field.name(), &mut |out| out.write_str(value));
    }

    /// Keeps the causes, too.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.take_written(field.name(), &mut |out| {
            write!(out, "{value}")?;
            let mut cause = value.source();
            while let Some(error) = cause {
                write!(out, ": {error}")?;
                cause = error.source();
            }
            Ok(())
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.take_written(field.name(), &mut |out| write!(out, "{value:?}"));
    }
}

/// A writer that takes `room` bytes.
struct LimitedText<'a> {
    texts: &'a mut String,
    room: usize,
}

impl fmt::Write for LimitedText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(self.room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.texts.push_str(&text[..end]);
        self.room -= end;
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_texts_leave_nothing_behind() {
        let mut list = FieldList::default();
        list.push_text("phase", "begin");
        list.push("epoch", FieldValue::Int(1));
        for number in 0..1000 {
            let mut changed = FieldList::default();
            changed.push_text("phase", &format!("phase {number}"));
            changed.push_text("late", "yes");
            list = list.with(&changed);
        }
        assert_eq!(
            (list.text("phase"), list.text("late")),
            (Some("phase 999"), Some("yes"))
        );
        assert_eq!((list.len(), list.texts.len()), (3, "phase 999yes".len()));
    }
}
