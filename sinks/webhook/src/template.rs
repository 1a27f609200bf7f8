//! Templates: JSON texts with placeholders.

use std::ops::Range;

use serde_json::{Number, Value};

/// A JSON text with placeholders such as `{title}`. Within a string, a placeholder is replaced by
/// the text of its value, escaped. Elsewhere it is replaced by the value: a text in quotes, a
/// number, or `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder { name: String, in_string: bool },
}

/// The reason why a text is no template, with its place. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) problem: String,
}

impl Template {
    /// Parses a template whose placeholders have these names.
    pub(crate) fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        // The text with stand-ins of the same length, so that errors have the place in the
        // template.
        let mut stand_in = String::with_capacity(text.len());
        let mut literal = String::new();
        let (mut at, mut in_string) = (0, false);
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            let mut taken = c.len_utf8();
            match c {
                '\\' if in_string => {
                    taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                    literal.push_str(&rest[..taken]);
                    stand_in.push_str(&rest[..taken]);
                }
                '"' => {
                    in_string = !in_string;
                    literal.push(c);
                    stand_in.push(c);
                }
                '{' | '}' if in_string && rest[1..].starts_with(c) => {
                    taken = 2;
                    literal.push(c);
                    stand_in.push_str("xx");
                }
                '{' if in_string || name_at(rest).is_some() => {
                    let Some(name) = name_at(rest) else {
                        let problem = "write `{{` for a brace, or a placeholder such as `{title}`";
                        return Err(TemplateError::at(text, at, problem));
                    };
                    if !names.contains(&&rest[name.clone()]) {
                        let problem = format!("no placeholder `{}`; there are {}", &rest[name], names.join(", "));
                        return Err(TemplateError::at(text, at, problem));
                    }
                    taken = name.end + 1;
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(Piece::Placeholder {
                        name: rest[name].to_owned(),
                        in_string,
                    });
                    stand_in.push_str(&match in_string {
                        true => "x".repeat(taken),
                        // A list is a value, and neither a name nor a part of a number.
                        false => format!("[{}]", " ".repeat(taken - 2)),
                    });
                }
                '}' if in_string => {
                    return Err(TemplateError::at(text, at, "write `}}` for a brace"));
                }
                other => {
                    literal.push(other);
                    stand_in.push(other);
                }
            }
            at += taken;
        }
        pieces.push(Piece::Text(literal));
        match serde_json::from_str::<Value>(&stand_in) {
            Ok(_) => Ok(Self { pieces }),
            Err(error) => Err(TemplateError {
                line: error.line(),
                column: error.column(),
                problem: format!("the text is no JSON: {error}"),
            }),
        }
    }

    /// Replaces the placeholders. `value` has a text, a number or null for each name.
    pub(crate) fn render(&self, value: impl Fn(&str) -> Value) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Placeholder { name, in_string: false } => out.push_str(&value(name).to_string()),
                Piece::Placeholder { name, in_string: true } => {
                    let text = match value(name) {
                        Value::String(text) => text,
                        Value::Null => String::new(),
                        other => other.to_string(),
                    };
                    let quoted = Value::String(text).to_string();
                    out.push_str(&quoted[1..quoted.len() - 1]);
                }
            }
        }
        out
    }
}

impl TemplateError {
    /// Creates the error of a place in bytes.
    fn at(text: &str, at: usize, problem: impl Into<String>) -> Self {
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: problem.into(),
        }
    }
}

/// Returns the place of the name in a placeholder at the beginning of a text: `{name}`.
fn name_at(text: &str) -> Option<Range<usize>> {
    let name = text.strip_prefix('{')?.split_once('}')?.0;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then(|| 1..1 + name.len())
}

/// Returns a number as a value; `null` for one that JSON does not have.
pub(crate) fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NAMES: &[&str] = &["title", "step"];

    fn problem(text: &str) -> (usize, usize, String) {
        let error = Template::parse(text, NAMES).unwrap_err();
        (error.line, error.column, error.problem)
    }

    #[test]
    fn a_value_outside_of_strings_keeps_its_type() {
        let template = r#"{"t": {title}, "s": {step}, "both": "{title} {{at}} {step}\n\"", "list": [{step}]}"#;
        let template = Template::parse(template, NAMES).unwrap();
        let rendered = template.render(|name| if name == "step" { json!(7) } else { json!("a \"b\"") });
        let value: Value = serde_json::from_str(&rendered).unwrap();
        let expected = json!({"t": "a \"b\"", "s": 7, "both": "a \"b\" {at} 7\n\"", "list": [7]});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_mistake_has_its_place() {
        let (line, column, text) = problem("{\n  \"t\": {titles}\n}");
        assert_eq!((line, column), (2, 8));
        assert!(
            text.contains("no placeholder `titles`; there are title, step"),
            "{text}"
        );
        assert_eq!(problem("{\"t\": \"a } b\"}").1, 10);
        assert_eq!(problem("{\"t\": \"a { b\"}").1, 10);
        let (line, column, text) = problem("{\"t\": {title}\n \"s\": {step}}");
        assert_eq!((line, column), (2, 2));
        assert!(text.contains("no JSON"), "{text}");
        assert!(problem("").2.contains("no JSON"));
        assert!(problem("{title}: {step}").2.contains("no JSON"));
    }

    proptest! {
        #[test]
        fn any_value_gives_valid_json(title in "\\PC*|[\\x00-\\x20\"\\\\{}\u{2028}]*", step in any::<u64>()) {
            let text = r#"{"t": {title}, "u": "<{title}> {title}", "s": {step}, "v": "{step}"}"#;
            let template = Template::parse(text, NAMES).unwrap();
            let rendered = template.render(|name| if name == "step" { json!(step) } else { json!(title) });
            let value: Value = serde_json::from_str(&rendered).unwrap();
            prop_assert_eq!(&value["t"], &json!(title));
            prop_assert_eq!(&value["u"], &json!(format!("<{title}> {title}")));
            prop_assert_eq!(&value["s"], &json!(step));
        }

        /// An accepted template gives valid JSON, and nothing panics.
        #[test]
        fn an_accepted_template_gives_valid_json(
            text in "(\\{|\\}|\"|\\\\|\\{title\\}|\\{step\\}|,|:|\\[|\\]|a|1|\n|é){0,16}",
        ) {
            if let Ok(template) = Template::parse(&text, NAMES) {
                let rendered = template.render(|name| if name == "step" { Value::Null } else { json!("\"}\\") });
                prop_assert!(serde_json::from_str::<Value>(&rendered).is_ok(), "{text} gives {rendered}");
            }
        }
    }
}
