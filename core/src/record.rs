use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// One levelled message, as a sink gets it. Everything in it is borrowed.
///
/// ```
/// use logcore::{FieldValue, Record};
/// use logcore::log::Level;
///
/// let fields = [("lr", FieldValue::Float(0.1))];
/// let record = Record::new(Level::Info, "trainer", "epoch done").with_fields(&fields);
/// assert_eq!(record.logger(), "trainer");
/// let shown: Vec<String> = record.fields().map(|(name, value)| format!("{name}={value}")).collect();
/// assert_eq!(shown, ["lr=0.1"]);
/// ```
///
/// As JSON it is one object: `time` (seconds since 1970), `level`, `logger`, `target`, `message` and, if there are
/// any, `fields`.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    time: SystemTime,
    level: Level,
    logger: &'a str,
    target: &'a str,
    is_from_facade: bool,
    message: &'a str,
    fields: &'a [(&'a str, FieldValue<'a>)],
}

impl<'a> Record<'a> {
    /// A record of now, addressed to `logger`, without fields.
    pub fn new(level: Level, logger: &'a str, message: &'a str) -> Self {
        Self::at(SystemTime::now(), level, logger, message)
    }

    /// A record of `time`, addressed to `logger`, without fields.
    pub fn at(time: SystemTime, level: Level, logger: &'a str, message: &'a str) -> Self {
        Self {
            time,
            level,
            logger,
            target: logger,
            is_from_facade: false,
            message,
            fields: &[],
        }
    }

    /// The same record with structured fields.
    pub fn with_fields(mut self, fields: &'a [(&'a str, FieldValue<'a>)]) -> Self {
        self.fields = fields;
        self
    }

    /// The same record with a target of its own.
    pub fn with_target(mut self, target: &'a str) -> Self {
        self.target = target;
        self.is_from_facade = false;
        self
    }

    /// The same record with a target of its own, as it came through the global `log` facade, where the target chose the logger.
    pub fn with_facade_target(mut self, target: &'a str) -> Self {
        self.target = target;
        self.is_from_facade = true;
        self
    }

    /// When the call was made.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// How grave it is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The name of the logger that took the record.
    pub fn logger(&self) -> &'a str {
        self.logger
    }

    /// The record's target: the module that logged through a `log` macro, else the logger's name.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// What the third column of a text line shows: the target of a record that came through the global facade, else
    /// the logger's name.
    pub fn display_name(&self) -> &'a str {
        if self.is_from_facade { self.target } else { self.logger }
    }

    /// Whether the record came through the global `log` facade.
    pub fn is_from_facade(&self) -> bool {
        self.is_from_facade
    }

    /// The message, just as it was formatted: it may hold line ends and control characters.
    pub fn message(&self) -> &'a str {
        self.message
    }

    /// The same, each under a name of its own that is none of `reserved`: for formats in which names stand once. A name that
    /// is taken has `_` behind it.
    ///
    /// ```
    /// use logcore::{FieldValue, Record};
    ///
    /// let fields = [("a", FieldValue::Int(1)), ("time", FieldValue::Int(2)), ("a", FieldValue::Int(3))];
    /// let record = Record::new(logcore::log::Level::Info, "trainer", "hello").with_fields(&fields);
    /// let names: Vec<_> = record.unique_fields(&["time"]).map(|(name, _)| name).collect();
    /// assert_eq!(names, ["a", "time_", "a_"]);
    /// ```
    pub fn unique_fields(&self, reserved: &'a [&'a str]) -> impl Iterator<Item = (Cow<'a, str>, &'a FieldValue<'a>)> {
        unique_names(self.fields, reserved).zip(self.fields.iter().map(|(_, value)| value))
    }

    /// The structured fields, as pairs of name and value.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a FieldValue<'a>)> + Clone + use<'a> {
        self.fields.iter().map(|(name, value)| (*name, value))
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &epoch_seconds(self.time))?;
        map.serialize_entry("level", self.level.as_str())?;
        map.serialize_entry("logger", self.logger)?;
        map.serialize_entry("target", self.target)?;
        map.serialize_entry("message", self.message)?;
        if !self.fields.is_empty() {
            map.serialize_entry("fields", &Fields(self.fields))?;
        }
        map.end()
    }
}

/// The value of a structured field. Numbers stay numbers until a formatter writes them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldValue<'a> {
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An integer above [`i64::MAX`].
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// Text, or anything else as its `Display` wrote it.
    Text(Cow<'a, str>),
    /// A list or an object (`key:serde = value`), as JSON.
    Json(Cow<'a, str>),
    /// Nothing: `None`, or `()`.
    Null,
}

impl FieldValue<'_> {
    /// The value with its type, and what a list or an object holds.
    ///
    /// ```
    /// use logcore::FieldValue;
    /// use logcore::serde_json::json;
    ///
    /// assert_eq!(FieldValue::Json(r#"{"tokens":[3,4]}"#.into()).to_json(), json!({"tokens": [3, 4]}));
    /// assert_eq!(FieldValue::Float(f64::NAN).to_json(), json!("NaN"));
    /// ```
    pub fn to_json(&self) -> Value {
        match self {
            // JSON that is nested too deeply to be read stays text.
            Self::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_ref())),
            // No other value fails.
            other => serde_json::to_value(other).unwrap_or_default(),
        }
    }
}

impl Display for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => Display::fmt(value, f),
            Self::Int(value) => Display::fmt(value, f),
            Self::UInt(value) => Display::fmt(value, f),
            Self::Float(value) => Display::fmt(value, f),
            Self::Text(value) | Self::Json(value) => Display::fmt(value, f),
            Self::Null => f.write_str("null"),
        }
    }
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Float(value) => crate::metric::serialize_float(*value, serializer),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Json(_) => self.to_json().serialize(serializer),
            Self::Null => serializer.serialize_none(),
        }
    }
}

/// A record that owns what it holds, for sinks that keep records or hand them to another thread.
///
/// ```
/// use logcore::{OwnedRecord, Record};
/// use logcore::log::Level;
///
/// let owned = OwnedRecord::from(&Record::new(Level::Warn, "trainer", "loss is NaN"));
/// owned.with_record(|record| assert_eq!(record.message(), "loss is NaN"));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OwnedRecord {
    /// When the call was made.
    pub time: SystemTime,
    /// How grave it is.
    pub level: Level,
    /// The logger that took it.
    pub logger: String,
    /// Its target; see [`Record::target`].
    pub target: String,
    /// Whether it came through the global `log` facade.
    pub is_from_facade: bool,
    /// The message.
    pub message: String,
    /// The structured fields.
    pub fields: Vec<(String, FieldValue<'static>)>,
}

impl OwnedRecord {
    /// Lends the record to `use_it` in the form that sinks take.
    pub fn with_record<T>(&self, use_it: impl FnOnce(&Record<'_>) -> T) -> T {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        use_it(&Record {
            time: self.time,
            level: self.level,
            logger: &self.logger,
            target: &self.target,
            is_from_facade: self.is_from_facade,
            message: &self.message,
            fields: &fields,
        })
    }
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> Self {
        Self {
            time: record.time,
            level: record.level,
            logger: record.logger.to_owned(),
            target: record.target.to_owned(),
            is_from_facade: record.is_from_facade,
            message: record.message.to_owned(),
            fields: record
                .fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone().into_owned()))
                .collect(),
        }
    }
}

impl FieldValue<'_> {
    /// The same value, borrowing nothing.
    pub fn into_owned(self) -> FieldValue<'static> {
        match self {
            Self::Bool(value) => FieldValue::Bool(value),
            Self::Int(value) => FieldValue::Int(value),
            Self::UInt(value) => FieldValue::UInt(value),
            Self::Float(value) => FieldValue::Float(value),
            Self::Text(value) => FieldValue::Text(Cow::Owned(value.into_owned())),
            Self::Json(value) => FieldValue::Json(Cow::Owned(value.into_owned())),
            Self::Null => FieldValue::Null,
        }
    }
}

/// Seconds since 1970, negative before; the form of every time in our JSON, which pandas and DuckDB take as it is.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// assert_eq!(logcore::epoch_seconds(UNIX_EPOCH + Duration::from_millis(1500)), 1.5);
/// ```
pub fn epoch_seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        // Whole microseconds: a double has no room for more at today's date, and shorter numbers read better.
        Ok(after) => after.as_micros() as f64 / 1e6,
        Err(before) => -(before.duration().as_micros() as f64 / 1e6),
    }
}

/// The names of fields, each once: JSON with a key twice is read differently by every reader. One that is taken, by a field
/// before it or by `reserved`, has as many `_` behind it as it needs.
fn unique_names<'a>(
    fields: &'a [(&'a str, FieldValue<'a>)],
    reserved: &'a [&'a str],
) -> impl Iterator<Item = Cow<'a, str>> {
    let mut taken: HashSet<Cow<'a, str>> = HashSet::new();
    fields.iter().map(move |(name, _)| {
        let mut name = Cow::Borrowed(*name);
        // Few fields are compared sooner than hashed; a single one that nothing is reserved beside, not at all.
        while fields.len() + reserved.len() > 1 && (taken.contains(&name) || reserved.contains(&&*name)) {
            name.to_mut().push('_');
        }
        taken.insert(name.clone());
        name
    })
}

struct Fields<'a>(&'a [(&'a str, FieldValue<'a>)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, (_, value)) in unique_names(self.0, &[]).zip(self.0) {
            map.serialize_entry(&name, value)?;
        }
        map.end()
    }
}
