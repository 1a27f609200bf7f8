//! Removes comments and white space that browsers do not need, so that a report stays small.
//!
//! The page's own scripts are read as what they are: each statement ends with a semicolon or a
//! block, and there is no regular expression after a `)`, no tagged template, and no loop without a
//! body.

/// Returns a script without comments and needless white space.
pub(super) fn compact_script(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut has_gap = false;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            has_gap = true;
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
            continue;
        }
        let before = out.chars().next_back();
        let length = match c {
            '"' | '\'' => quoted_len(rest, c),
            '`' => template_len(rest),
            '/' if before.is_none_or(|before| "(,=:[!&|?{};".contains(before)) => regex_len(rest),
            c => c.len_utf8(),
        };
        let is_needed = |before| (is_word(before) && is_word(c)) || (before == c && "+-/".contains(c));
        if has_gap && before.is_some_and(is_needed) {
            out.push(' ');
        }
        has_gap = false;
        // The last statement of a block needs no semicolon.
        if c == '}' && out.ends_with(';') {
            out.pop();
        }
        // A script that runs does not write to its constants.
        if rest.starts_with("const ") && !out.ends_with(is_word) {
            out.push_str("let");
            rest = &rest["const".len()..];
            continue;
        }
        let (token, after) = rest.split_at(length.min(rest.len()));
        out.push_str(token);
        if out.ends_with(")=>") {
            open_parameter(&mut out);
        }
        rest = after;
    }
    out.push('\n');
    out
}

/// Removes the parentheses of a single parameter: `(a)=>` becomes `a=>`.
fn open_parameter(out: &mut String) {
    let end = out.len() - ")=>".len();
    let begin = out[..end].rfind(|c| !is_word(c)).unwrap_or(0);
    if begin + 1 < end && out[begin..].starts_with('(') && !out[..begin].ends_with(is_word) {
        out.replace_range(begin.., &format!("{}=>", &out[begin + 1..end]));
    }
}

/// Returns a style sheet without comments and needless white space.
pub(super) fn compact_style(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut has_gap = false;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            has_gap = true;
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
            continue;
        }
        let before = out.chars().next_back();
        // A colon ends the name of a property; selectors have no space after it.
        if has_gap && before.is_some_and(|before| !"{};,:>".contains(before)) && !"{};,>".contains(c) {
            out.push(' ');
        }
        has_gap = false;
        if c == '}' && before == Some(';') {
            out.pop();
        }
        let length = if c == '"' { quoted_len(rest, c) } else { c.len_utf8() };
        let (token, after) = rest.split_at(length.min(rest.len()));
        out.push_str(token);
        rest = after;
    }
    out
}

/// Returns a template without the white space at the beginning of its lines, and without quotes
/// around simple values. Quotes stand in its attributes only.
pub(super) fn compact_template(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for line in source.lines() {
        for (at, piece) in line.trim_start().split('"').enumerate() {
            let is_simple = !piece.is_empty() && piece.chars().all(|c| is_word(c) || c == '-');
            match at % 2 {
                1 if !is_simple => {
                    out.push('"');
                    out.push_str(piece);
                    out.push('"');
                }
                _ => out.push_str(piece),
            }
        }
        out.push('\n');
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// Returns the length of a text in quotes at the beginning of `rest`.
fn quoted_len(rest: &str, quote: char) -> usize {
    let mut is_escaped = true;
    for (at, c) in rest.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a template and the templates in it.
fn template_len(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 1;
    while let Some(c) = rest[at..].chars().next() {
        match c {
            '\\' => at += 1,
            '$' if rest[at..].starts_with("${") => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '`' if depth == 0 => return at + 1,
            '`' => at += template_len(&rest[at..]) - 1,
            '"' if depth > 0 => at += quoted_len(&rest[at..], '"') - 1,
            _ => {}
        }
        at += rest[at..].chars().next().map_or(1, char::len_utf8);
    }
    rest.len()
}

/// Returns the length of a regular expression without its flags.
fn regex_len(rest: &str) -> usize {
    let (mut is_escaped, mut is_in_class) = (true, false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => is_in_class = true,
            ']' => is_in_class = false,
            '/' if !is_in_class => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_keep_what_has_a_meaning() {
        for (source, compact) in [
            ("const aconst = 1;\n\n  b( a, 2 ) ;", "let aconst=1;b(a,2);\n"),
            ("a();\n/* why */\nb()", "a();b()\n"),
            ("x + +y - -z", "x+ +y- -z\n"),
            ("f(\"a  \\\" b\", 'c  d')", "f(\"a  \\\" b\",'c  d')\n"),
            (
                "`a  ${ b ? `  ${c}` : \"} `\" }  d` + e",
                "`a  ${ b ? `  ${c}` : \"} `\" }  d`+e\n",
            ),
            ("g(/[/ ]  \\/ \"/i) / 2", "g(/[/ ]  \\/ \"/i)/2\n"),
            (
                "if (a) {\n  return x;\n} else {\n  y\n}\nz",
                "if(a){return x}else{y}z\n",
            ),
            ("a((b) => c, () => d, (e, f) => g)", "a(b=>c,()=>d,(e,f)=>g)\n"),
            ("a\n  .b()\n  ? c\n  : d", "a.b()?c:d\n"),
        ] {
            assert_eq!(compact_script(source), compact);
        }
    }

    #[test]
    fn templates_keep_what_has_a_meaning() {
        let source = "<p>\n  <a id=\"x-1\" title=\"a b\" alt=\"\" hidden>it's</a>\n</p>\n";
        assert_eq!(
            compact_template(source),
            "<p>\n<a id=x-1 title=\"a b\" alt=\"\" hidden>it's</a>\n</p>\n"
        );
    }

    #[test]
    fn styles_keep_what_has_a_meaning() {
        let source = "/* why */\na > b , c :hover {\n  margin: 0 calc(1px + 2px);\n  content: \"a  b\";\n}\n@media (x: 1) and (y) { d { e: f !important; } }";
        let compact = "a>b,c :hover{margin:0 calc(1px + 2px);content:\"a  b\"}@media (x:1) and (y){d{e:f !important}}";
        assert_eq!(compact_style(source), compact);
    }
}
