//! The terminal: what lines and bars can look like.

use std::env;
use std::io::{self, IsTerminal as _};

use console::Term;

use super::Finding;

pub(super) fn examine() -> Finding {
    let streams = [
        ("stdout", io::stdout().is_terminal()),
        ("stderr", io::stderr().is_terminal()),
    ];
    let on = streams.map(|(name, is_terminal)| match is_terminal {
        true => format!("{name} is a terminal"),
        false => format!("{name} is none"),
    });
    let columns = Term::stdout().size_checked().or_else(|| Term::stderr().size_checked());
    let columns = columns.map_or_else(|| "no window".to_owned(), |(_, columns)| format!("{columns} columns"));
    let colors = match (console::colors_enabled_stderr(), env::var_os("NO_COLOR").is_some()) {
        (true, _) => "colors",
        (false, true) => "no colors (NO_COLOR)",
        (false, false) => "no colors",
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    let is_unicode = locale.as_deref().is_some_and(is_utf8);
    let text = format!(
        "{}, {columns}, {colors}, TERM={}, locale {}",
        on.join(", "),
        env::var("TERM").unwrap_or_default(),
        locale.as_deref().unwrap_or("C")
    );
    match is_unicode || !streams.iter().any(|(_, is_terminal)| *is_terminal) {
        true => Finding::ok("terminal", text),
        false => Finding::warning(
            "terminal",
            format!("{text}: bars may show odd characters"),
            "set a locale with UTF-8, such as LANG=C.UTF-8",
        ),
    }
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
