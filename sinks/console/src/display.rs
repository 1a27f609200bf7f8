//! The decision between color and plain text, and between bars and lines.
//!
//! With `color = "auto"` the first rule that applies decides:
//!
//! | condition | color |
//! |---|---|
//! | `NO_COLOR` is set and not empty | no |
//! | `CLICOLOR_FORCE` is set, and neither empty nor `0` | yes |
//! | the stream is not a terminal, or `TERM` is `dumb` | no |
//! | `CLICOLOR` is `0` | no |
//! | otherwise | yes |
//!
//! With `bars = "auto"` bars are drawn on a terminal whose `TERM` is not `dumb`.

use std::env;

use serde::Deserialize;

use crate::output::StdStream;

/// An option of the config that can be left to the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DisplayWhen {
    /// The terminal and the environment decide.
    Auto,
    Always,
    Never,
}

/// The facts that the decision depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamEnvironment {
    /// `true` if the stream is a terminal.
    pub(crate) terminal: bool,
    pub(crate) term: Option<String>,
    pub(crate) no_color: Option<String>,
    pub(crate) clicolor: Option<String>,
    pub(crate) clicolor_force: Option<String>,
}

impl StreamEnvironment {
    pub(crate) fn of(stream: StdStream) -> Self {
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

/// The result of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DisplayMode {
    pub(crate) color: bool,
    pub(crate) bars: bool,
}

impl DisplayMode {
    /// Decides by options, terminal and environment variables (<https://no-color.org>,
    /// <https://bixense.com/clicolors>).
    pub(crate) fn decide(color: DisplayWhen, bars: DisplayWhen, around: &StreamEnvironment) -> Self {
        let set = |variable: &Option<String>| variable.as_deref().is_some_and(|value| !value.is_empty());
        let is = |variable: &Option<String>, wanted: &str| variable.as_deref() == Some(wanted);
        let capable = around.terminal && !is(&around.term, "dumb");
        let auto_color = if set(&around.no_color) {
            false
        } else if set(&around.clicolor_force) && !is(&around.clicolor_force, "0") {
            true
        } else {
            capable && !is(&around.clicolor, "0")
        };
        Self {
            color: color.or(auto_color),
            bars: bars.or(capable),
        }
    }
}

impl DisplayWhen {
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
    fn decide_obeys_options_variables_and_the_terminal() {
        type EnvironmentChange = fn(&mut StreamEnvironment);
        let nothing: EnvironmentChange = |_| {};
        let no_color: EnvironmentChange = |s| s.no_color = Some("1".into());
        let cases: [(bool, EnvironmentChange, DisplayWhen, bool, bool); 12] = [
            (true, nothing, DisplayWhen::Auto, true, true),
            (false, nothing, DisplayWhen::Auto, false, false),
            (true, no_color, DisplayWhen::Auto, false, true),
            (
                true,
                |s| s.no_color = Some(String::new()),
                DisplayWhen::Auto,
                true,
                true,
            ),
            (true, no_color, DisplayWhen::Always, true, true),
            (true, nothing, DisplayWhen::Never, false, true),
            (true, |s| s.term = Some("dumb".into()), DisplayWhen::Auto, false, false),
            (
                false,
                |s| s.clicolor_force = Some("1".into()),
                DisplayWhen::Auto,
                true,
                false,
            ),
            (
                false,
                |s| s.clicolor_force = Some("0".into()),
                DisplayWhen::Auto,
                false,
                false,
            ),
            (true, |s| s.clicolor = Some("0".into()), DisplayWhen::Auto, false, true),
            (
                false,
                |s| (s.no_color, s.clicolor_force) = (Some("1".into()), Some("1".into())),
                DisplayWhen::Auto,
                false,
                false,
            ),
            (
                true,
                |s| s.term = Some("xterm-256color".into()),
                DisplayWhen::Auto,
                true,
                true,
            ),
        ];
        for (at, (terminal, change, when, color, bars)) in cases.into_iter().enumerate() {
            let mut around = StreamEnvironment {
                terminal,
                ..StreamEnvironment::default()
            };
            change(&mut around);
            assert_eq!(
                DisplayMode::decide(when, DisplayWhen::Auto, &around),
                DisplayMode { color, bars },
                "case {at}"
            );
        }
        assert!(DisplayMode::decide(DisplayWhen::Auto, DisplayWhen::Always, &StreamEnvironment::default()).bars);
        assert!(
            !DisplayMode::decide(
                DisplayWhen::Auto,
                DisplayWhen::Never,
                &StreamEnvironment {
                    terminal: true,
                    ..Default::default()
                }
            )
            .bars
        );
    }
}
