//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The arguments of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// File of the page.
    pub(crate) output: PathBuf,
    pub(crate) candle: Candle,
    /// Name of the only section to run, in this process.
    pub(crate) section: Option<String>,
    /// Time for which the readers of the machine are watched.
    pub(crate) watched: Duration,
}

/// The program that allocates with candle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candle {
    /// The path of the program.
    Program(PathBuf),
    /// The reason why there is none.
    Missing(String),
}

impl Options {
    /// Parses arguments without the name of the program.
    ///
    /// # Errors
    ///
    /// If an argument is unknown or lacks its value.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            output: "docs/gpu-proof.md".into(),
            candle: Candle::Missing("no program that uses candle was given with `--candle`".to_owned()),
            section: None,
            watched: Duration::from_secs(20),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--output" => options.output = value()?.into(),
                "--candle" => options.candle = Candle::Program(value()?.into()),
                "--without-candle" => options.candle = Candle::Missing(value()?),
                "--section" => options.section = Some(value()?),
                "--seconds" => options.watched = seconds(&value()?)?,
                _ => bail!(
                    "unknown argument `{argument}`: there are --output FILE, --candle PROGRAM, --without-candle \
                     REASON, --section NAME and --seconds S"
                ),
            }
        }
        Ok(options)
    }
}

/// Parses the time for which the readers are watched. They rest for 2 s between two readings: a
/// shorter time could pass between them, and a longer one would leave no time for the rest.
fn seconds(text: &str) -> Result<Duration> {
    match text.parse() {
        Ok(seconds @ 5..=30) => Ok(Duration::from_secs(seconds)),
        _ => bail!("cannot take `{text}` as seconds: a whole number from 5 to 30 is needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn arguments_have_their_values() {
        let options = parse(&["--output", "here.md", "--candle", "known", "--seconds", "6"]).unwrap();
        assert_eq!(options.output, PathBuf::from("here.md"));
        assert_eq!(options.candle, Candle::Program("known".into()));
        assert_eq!(options.watched, Duration::from_secs(6));
        assert_eq!(parse(&[]).unwrap().output, PathBuf::from("docs/gpu-proof.md"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (arguments, named) in [
            (&["--outptu", "a"][..], "--outptu"),
            (&["--output"], "--output needs a value"),
            (&["--seconds", "31"], "`31`"),
            (&["--seconds", "4"], "`4`"),
            (&["--seconds", "many"], "`many`"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
