//! Hyper-parameters in the forms that TensorBoard has for them: values under plain names, and a
//! text that shows them as a table.

use std::collections::BTreeMap;

use logcore::escape::to_one_line;
use serde_json::{Map, Value};

/// Adds hyper-parameters by name. A later value replaces an earlier one, and a value that is no
/// table goes under `value`.
pub(crate) fn merge(all: &mut Map<String, Value>, new: Value) {
    match new {
        Value::Object(new) => all.extend(new),
        other => drop(all.insert("value".to_owned(), other)),
    }
}

/// Returns the values with names such as `model.width`. Lists become texts.
pub(crate) fn flatten(all: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    flatten_into("", all, &mut flat);
    flat
}

fn flatten_into(prefix: &str, table: &Map<String, Value>, flat: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let mut name = format!("{prefix}{name}");
        match value {
            Value::Object(table) if !table.is_empty() => flatten_into(&format!("{name}."), table, flat),
            value => {
                // `{"a": {"b": 1}, "a.b": 2}` has two values for one name.
                while flat.contains_key(&name) {
                    name.push('_');
                }
                flat.insert(name, value.clone());
            }
        }
    }
}

/// Returns a table in Markdown.
pub(crate) fn table(flat: &BTreeMap<String, Value>) -> String {
    let mut table = "| name | value |\n|---|---|\n".to_owned();
    for (name, value) in flat {
        let value = match value {
            Value::String(text) => escaped(text),
            other => escaped(&other.to_string()),
        };
        table.push_str(&format!("| {} | {value} |\n", escaped(name)));
    }
    table
}

/// Returns a text that Markdown shows as it is, on one line.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in to_one_line(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '|' => escaped.push_str("&#124;"),
            // An address would become a link.
            ':' => escaped.push_str("&#58;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '-' | '!' | '>' => {
                escaped.push('\\');
                escaped.push(character);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_values_have_dotted_names_and_none_is_lost() {
        let mut all = Map::new();
        merge(
            &mut all,
            json!({"lr": 1, "model": {"width": 3, "sizes": [1, 2], "none": {}}, "model.width": 4}),
        );
        merge(&mut all, json!({"lr": 2}));
        merge(&mut all, json!("text"));
        let flat: Vec<_> = flatten(&all)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            flat,
            [
                "lr=2",
                "model.none={}",
                "model.sizes=[1,2]",
                "model.width=3",
                "model.width_=4",
                "value=\"text\""
            ]
        );
    }

    #[test]
    fn a_table_shows_no_markup_of_its_values() {
        let mut all = Map::new();
        merge(&mut all, json!({"a|b": "<b>x</b>\n| [y](http://z)"}));
        let table = table(&flatten(&all));
        assert_eq!(table.lines().count(), 3);
        assert_eq!(
            table.lines().last().unwrap(),
            r"| a&#124;b | &lt;b\>x&lt;/b\>\\n&#124; \[y\]\(http&#58;//z\) |"
        );
    }
}
