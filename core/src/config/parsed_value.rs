//! Values of any format as JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value of any format. Its numbers may be infinite or NaN, for which JSON has no form.
pub(super) enum ParsedValue {
    /// A text, a switch, a finite number, or null.
    Plain(Value),
    NotFinite(f64),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
}

/// A table as JSON.
pub(super) struct ParsedTable {
    /// The fields. A number that is not finite is a text here, as wherever the program writes JSON:
    /// `"NaN"`, `"Infinity"` or `"-Infinity"`.
    pub(super) fields: Map<String, Value>,
    /// The paths of the numbers that are not finite, and the numbers as TOML writes them.
    pub(super) not_finite: Vec<(String, &'static str)>,
}

impl ParsedValue {
    /// Returns the table, or `None` if the value is none.
    pub(super) fn into_table(self) -> Option<ParsedTable> {
        let mut not_finite = Vec::new();
        match self.into_json("", &mut not_finite) {
            Value::Object(fields) => Some(ParsedTable { fields, not_finite }),
            _ => None,
        }
    }

    /// Converts the value at a path, and collects the numbers that are not finite.
    fn into_json(self, path: &str, not_finite: &mut Vec<(String, &'static str)>) -> Value {
        match self {
            Self::Plain(value) => value,
            Self::NotFinite(number) => {
                let (written, word) = match (number.is_nan(), number.is_sign_negative()) {
                    (true, false) => ("nan", "NaN"),
                    (true, true) => ("-nan", "NaN"),
                    (false, false) => ("inf", "Infinity"),
                    (false, true) => ("-inf", "-Infinity"),
                };
                not_finite.push((path.to_owned(), written));
                word.into()
            }
            Self::List(items) => {
                let items = items.into_iter().enumerate();
                items
                    .map(|(at, item)| item.into_json(&format!("{path}[{at}]"), not_finite))
                    .collect()
            }
            Self::Table(members) => {
                let dot = if path.is_empty() { "" } else { "." };
                let members = members.into_iter().map(|(name, value)| {
                    let value = value.into_json(&format!("{path}{dot}{name}"), not_finite);
                    (name, value)
                });
                Value::Object(members.collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for ParsedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = ParsedValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<ParsedValue, E> {
        Ok(match value.is_finite() {
            true => ParsedValue::Plain(value.into()),
            false => ParsedValue::NotFinite(value),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Plain(value.into()))
    }

    fn visit_unit<E>(self) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Plain(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<ParsedValue, D::Error> {
        ParsedValue::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ParsedValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(ParsedValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ParsedValue, A::Error> {
        let mut table = Vec::new();
        while let Some(member) = members.next_entry()? {
            table.push(member);
        }
        Ok(ParsedValue::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_texts_with_their_paths() {
        let text =
            "a = inf\nb = [1.5, nan]\n[c.d]\ne = {f = -inf, g = true}\n[[h]]\n[[h]]\ni = +inf\nj = -nan\nk = \"nan\"";
        let table = basic_toml::from_str::<ParsedValue>(text).unwrap().into_table();
        let table = table.map(|table| (Value::Object(table.fields), table.not_finite));
        let fields = json!({
            "a": "Infinity", "b": [1.5, "NaN"], "c": {"d": {"e": {"f": "-Infinity", "g": true}}},
            "h": [{}, {"i": "Infinity", "j": "NaN", "k": "nan"}],
        });
        let paths = [
            ("a", "inf"),
            ("b[1]", "nan"),
            ("c.d.e.f", "-inf"),
            ("h[1].i", "inf"),
            ("h[1].j", "-nan"),
        ];
        let paths = paths.map(|(path, number)| (path.to_owned(), number)).to_vec();
        assert_eq!(table, Some((fields, paths)));
    }

    #[test]
    fn json_stays_as_it_is() {
        let text = r#"{"a":[null,true,18446744073709551615,-1,0.5,"x",{}],"b":{"c":[]}}"#;
        let table = serde_json::from_str::<ParsedValue>(text).unwrap().into_table().unwrap();
        assert_eq!(Value::Object(table.fields).to_string(), text);
        assert_eq!(table.not_finite, []);
        assert!(
            serde_json::from_str::<ParsedValue>("[1]")
                .unwrap()
                .into_table()
                .is_none()
        );
    }
}
