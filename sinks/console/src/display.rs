//! What is shown: color or not, bars or lines.

use std::env;

use serde::Deserialize;

use crate::output::Stream;

/// When something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// What a decision is taken from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) terminal: bool,
    pub(crate) term: Option<String>,
    pub(crate) no_color: Option<String>,
    pub(crate) clicolor: Option<String>,
    pub(crate) clicolor_force: Option<String>,
}

impl Surroundings {
    pub(crate) fn of(stream: Stream) -> Self {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            terminal: stream.is_terminal(),
            term: variable("TERM"),
            no_color: variable("NO_COLOR"),
            clicolor: variable("CLICOLOR"),
            clicolor_force: variable("CLICOLOR_FORCE"),
        }
    }
}

/// How the stream is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Display {
    pub(crate) color: bool,
    pub(crate) bars: bool,
}

impl Display {
    /// Decides, once. For the variables see <https://no-color.org> and <https://bixense.com/clicolors>.
    pub(crate) fn decide(color: When, bars: When, around: &Surroundings) -> Self {
        let set = |variable: &Option<String>| variable.as_deref().is_some_and(|value| !value.is_empty());
        let is = |variable: &Option<String>, wanted: &str| variable.as_deref() == Some(wanted);
        let capable = around.terminal && !is(&around.term, "dumb");
        let auto_colour = if set(&around.no_color) {
            false
        } else if set(&around.clicolor_force) && !is(&around.clicolor_force, "0") {
            true
        } else {
            capable && !is(&around.clicolor, "0")
        };
        Self {
            color: color.or(auto_colour),
            bars: bars.or(capable),
        }
    }
}

impl When {
    fn or(self, auto: bool) -> bool {
        match self {
            Self::Auto => auto,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_it() {
        type Change = fn(&mut Surroundings);
        let nothing: Change = |_| {};
        let no_color: Change = |s| s.no_color = Some("1".into());
        let cases: [(bool, Change, When, bool, bool); 12] = [
            (true, nothing, When::Auto, true, true),
            (false, nothing, When::Auto, false, false),
            (true, no_color, When::Auto, false, true),
            (true, |s| s.no_color = Some(String::new()), When::Auto, true, true),
            (true, no_color, When::Always, true, true),
            (true, nothing, When::Never, false, true),
            (true, |s| s.term = Some("dumb".into()), When::Auto, false, false),
            (false, |s| s.clicolor_force = Some("1".into()), When::Auto, true, false),
            (false, |s| s.clicolor_force = Some("0".into()), When::Auto, false, false),
            (true, |s| s.clicolor = Some("0".into()), When::Auto, false, true),
            (
                false,
                |s| (s.no_color, s.clicolor_force) = (Some("1".into()), Some("1".into())),
                When::Auto,
                false,
                false,
            ),
            (true, |s| s.term = Some("xterm-256color".into()), When::Auto, true, true),
        ];
        for (at, (terminal, change, when, color, bars)) in cases.into_iter().enumerate() {
            let mut around = Surroundings {
                terminal,
                ..Surroundings::default()
            };
            change(&mut around);
            assert_eq!(
                Display::decide(when, When::Auto, &around),
                Display { color, bars },
                "case {at}"
            );
        }
        assert!(Display::decide(When::Auto, When::Always, &Surroundings::default()).bars);
        assert!(
            !Display::decide(
                When::Auto,
                When::Never,
                &Surroundings {
                    terminal: true,
                    ..Default::default()
                }
            )
            .bars
        );
    }
}
