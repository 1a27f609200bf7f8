//! Records, as sinks receive them: borrowed during a call, or owned.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// One leveled message, as a sink receives it. All texts are borrowed.
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
/// The JSON form is one object: `time` (seconds since 1970), `level`, `logger`, `target`, `message`
/// and, if the record has fields, `fields`.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    time: SystemTime,
    level: Level,
    logger: &'a str,
    target: &'a str,
    is_from_facade: bool,
    message: &'a str,
    has_plain_message: bool,
    fields: &'a [(&'a str, FieldValue<'a>)],
    place: Option<(&'a str, u32)>,
}

impl<'a> Record<'a> {
    /// Creates a record of the present moment, addressed to `logger`, without fields.
    #[must_use]
    pub fn new(level: Level, logger: &'a str, message: &'a str) -> Self {
        Self::at(SystemTime::now(), level, logger, message)
    }

    /// Creates a record of the moment `time`, addressed to `logger`, without fields.
    ///
    /// ```
    /// use logcore::Record;
    /// use logcore::log::Level;
    /// use std::time::UNIX_EPOCH;
    ///
    /// assert_eq!(Record::at(UNIX_EPOCH, Level::Info, "trainer", "hello").time(), UNIX_EPOCH);
    /// ```
    #[must_use]
    pub fn at(time: SystemTime, level: Level, logger: &'a str, message: &'a str) -> Self {
        Self {
            time,
            level,
            logger,
            target: logger,
            is_from_facade: false,
            message,
            has_plain_message: false,
            fields: &[],
            place: None,
        }
    }

    /// Sets the structured fields.
    #[must_use]
    pub fn with_fields(mut self, fields: &'a [(&'a str, FieldValue<'a>)]) -> Self {
        self.fields = fields;
        self
    }

    /// Sets the target of a record that was addressed to its logger.
    ///
    /// ```
    /// use logcore::Record;
    /// use logcore::log::Level;
    ///
    /// let record = Record::new(Level::Info, "trainer", "hello").with_target("app::data");
    /// assert_eq!((record.target(), record.display_name()), ("app::data", "trainer"));
    /// ```
    #[must_use]
    pub fn with_target(mut self, target: &'a str) -> Self {
        self.target = target;
        self.is_from_facade = false;
        self
    }

    /// Sets the target of a record that came through the global `log` facade, where the target
    /// selected the logger.
    ///
    /// ```
    /// use logcore::Record;
    /// use logcore::log::Level;
    ///
    /// let record = Record::new(Level::Info, "trainer", "hello").with_facade_target("hyper::client");
    /// assert_eq!(record.display_name(), "hyper::client");
    /// ```
    #[must_use]
    pub fn with_facade_target(mut self, target: &'a str) -> Self {
        self.target = target;
        self.is_from_facade = true;
        self
    }

    /// Sets the file and the line of the call.
    ///
    /// ```
    /// use logcore::Record;
    /// use logcore::log::Level;
    ///
    /// let record = Record::new(Level::Info, "trainer", "hello").with_place("src/main.rs", 7);
    /// assert_eq!(record.place(), Some(("src/main.rs", 7)));
    /// ```
    #[must_use]
    pub fn with_place(mut self, file: &'a str, line: u32) -> Self {
        self.place = Some((file, line));
        self
    }

    /// Declares that the message has printable characters of ASCII only, because somebody has
    /// checked the text already.
    ///
    /// ```
    /// use logcore::Record;
    /// use logcore::log::Level;
    ///
    /// let record = Record::new(Level::Info, "trainer", "loss=0.5").with_plain_message();
    /// assert!(record.has_plain_message());
    /// ```
    #[must_use]
    pub fn with_plain_message(mut self) -> Self {
        self.has_plain_message = true;
        self
    }

    /// Returns `true` if the message is known to have printable characters of ASCII only. Then a
    /// formatter for text need not escape anything.
    ///
    /// The pipeline knows that of all its records; `false` says nothing.
    #[must_use]
    pub fn has_plain_message(&self) -> bool {
        self.has_plain_message
    }

    /// Returns the file and the line of the call. Records have them if some sink of the process
    /// [wants them](crate::Sink::wants_places).
    #[must_use]
    pub fn place(&self) -> Option<(&'a str, u32)> {
        self.place
    }

    /// Returns the time of the call.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Returns the severity level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns the name of the logger.
    #[must_use]
    pub fn logger(&self) -> &'a str {
        self.logger
    }

    /// Returns the target: the module that logged through a `log` macro, or else the logger's name.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// Returns the name for the third column of a text line: the target of a record of the global
    /// `log` facade, or else the logger's name.
    #[must_use]
    pub fn display_name(&self) -> &'a str {
        if self.is_from_facade { self.target } else { self.logger }
    }

    /// Returns `true` if the record came through the global `log` facade.
    #[must_use]
    pub fn is_from_facade(&self) -> bool {
        self.is_from_facade
    }

    /// Returns the formatted message. It may contain line ends and control characters.
    #[must_use]
    pub fn message(&self) -> &'a str {
        self.message
    }

    /// Returns the structured fields under unique names, for formats in which a name occurs once. A
    /// field whose name is `reserved` or taken by an earlier field has a `_` appended.
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

    /// Returns the structured fields as pairs of name and value, in the order of the call.
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
            map.serialize_entry("fields", &UniqueFields(self.fields))?;
        }
        map.end()
    }
}

/// The value of a structured field. Numbers stay numbers until a formatter writes them.
///
/// ```
/// use logcore::FieldValue;
///
/// assert_eq!(FieldValue::Text("two words".into()).to_string(), "two words");
/// assert_eq!(FieldValue::Null.to_string(), "null");
/// ```
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
    /// Text, or the `Display` form of another type.
    Text(Cow<'a, str>),
    /// A list or an object as JSON (`key:serde = value`).
    Json(Cow<'a, str>),
    /// `None` or `()`.
    Null,
}

impl FieldValue<'_> {
    /// Returns the value as JSON, with its type. Lists and objects are parsed.
    ///
    /// ```
    /// use logcore::FieldValue;
    /// use logcore::serde_json::json;
    ///
    /// assert_eq!(FieldValue::Json(r#"{"tokens":[3,4]}"#.into()).to_json(), json!({"tokens": [3, 4]}));
    /// assert_eq!(FieldValue::Float(f64::NAN).to_json(), json!("NaN"));
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            // JSON that is nested too deep for the parser stays text.
            Self::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_ref())),
            // Serializing the other variants cannot fail.
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

/// A record that owns its texts, for sinks that keep records or send them to another thread.
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
    /// Time of the call.
    pub time: SystemTime,
    /// Severity level.
    pub level: Level,
    /// Name of the logger.
    pub logger: String,
    /// Target; see [`Record::target`].
    pub target: String,
    /// `true` if the record came through the global `log` facade.
    pub is_from_facade: bool,
    /// Formatted message.
    pub message: String,
    /// Structured fields, as pairs of name and value.
    pub fields: Vec<(String, FieldValue<'static>)>,
    /// File and line of the call; see [`Record::place`].
    pub place: Option<(String, u32)>,
}

impl OwnedRecord {
    /// Calls `work` with the record in the form that sinks take.
    pub fn with_record<T>(&self, work: impl FnOnce(&Record<'_>) -> T) -> T {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        work(&Record {
            time: self.time,
            level: self.level,
            logger: &self.logger,
            target: &self.target,
            is_from_facade: self.is_from_facade,
            message: &self.message,
            has_plain_message: false,
            fields: &fields,
            place: self.place.as_ref().map(|(file, line)| (file.as_str(), *line)),
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
            place: record.place.map(|(file, line)| (file.to_owned(), line)),
        }
    }
}

impl FieldValue<'_> {
    /// Returns the same value without borrowed texts.
    ///
    /// ```
    /// use logcore::FieldValue;
    ///
    /// let text = String::from("adam");
    /// let owned: FieldValue<'static> = FieldValue::Text(text.as_str().into()).into_owned();
    /// assert_eq!(owned.to_string(), "adam");
    /// ```
    #[must_use]
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

/// Returns the seconds since 1970, negative before. All JSON files of a run have times in this
/// form, which pandas and DuckDB read directly.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// assert_eq!(logcore::epoch_seconds(UNIX_EPOCH + Duration::from_millis(1500)), 1.5);
/// ```
#[must_use]
pub fn epoch_seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        // Whole microseconds: a double has no more digits at today's date, and short numbers read
        // better.
        Ok(after) => after.as_micros() as f64 / 1e6,
        Err(before) => -(before.duration().as_micros() as f64 / 1e6),
    }
}

/// Returns the names of fields, each once: readers of JSON disagree about repeated keys. A name
/// that is reserved or taken by an earlier field has as many `_` appended as needed.
fn unique_names<'a>(
    fields: &'a [(&'a str, FieldValue<'a>)],
    reserved: &'a [&'a str],
) -> impl Iterator<Item = Cow<'a, str>> {
    let mut taken: HashSet<Cow<'a, str>> = HashSet::new();
    fields.iter().map(move |(name, _)| {
        let mut name = Cow::Borrowed(*name);
        // A single field without reserved names cannot clash.
        while fields.len() + reserved.len() > 1 && (taken.contains(&name) || reserved.contains(&&*name)) {
            name.to_mut().push('_');
        }
        taken.insert(name.clone());
        name
    })
}

struct UniqueFields<'a>(&'a [(&'a str, FieldValue<'a>)]);

impl Serialize for UniqueFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, (_, value)) in unique_names(self.0, &[]).zip(self.0) {
            map.serialize_entry(&name, value)?;
        }
        map.end()
    }
}
