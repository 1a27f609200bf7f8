//! The output of a command: text or one JSON object, problems, and the exit code.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use console::{Term, colors_enabled};
use logcore::escape::{escape_except_styles, escape_json, to_one_line};
use serde_json::{Map, Value, json};

/// The version of the form of all JSON objects.
const SCHEMA: u32 = 1;

/// Whether a command has done what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Something is left undone, which the output names.
    LeftUndone,
    /// The command could do only a part of its work; the output names the rest.
    DoneInPart,
    /// The command has seen what it waited for, which has this exit code.
    Seen(u8),
}

/// The output of one command. All text goes out at the end, so that a reader that closes the pipe
/// ends no command in the middle of its work.
pub(crate) struct Output {
    command: &'static str,
    has_json: bool,
    text: String,
    members: Map<String, Value>,
    problems: Vec<Value>,
    /// Width of the terminal in columns; `None` if the output is no terminal.
    width: Option<usize>,
    has_colors: bool,
    /// `true` if the command prints one object a line, and none at its end.
    is_streamed: bool,
}

impl Output {
    pub(crate) fn new(command: &'static str, has_json: bool) -> Self {
        let term = Term::stdout();
        let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        Self {
            command,
            has_json,
            text: String::new(),
            members: Map::new(),
            problems: Vec::new(),
            width: named.or_else(|| term.size_checked().map(|(_, columns)| columns.into())),
            has_colors: term.is_term() && colors_enabled(),
            is_streamed: false,
        }
    }

    /// Returns the width that lines fit; `None` if any will do.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    pub(crate) fn has_json(&self) -> bool {
        self.has_json
    }

    pub(crate) fn has_colors(&self) -> bool {
        self.has_colors
    }

    /// Adds a line of text, which JSON does not have.
    pub(crate) fn line(&mut self, line: impl Display) {
        // The names in runs can be anybody's.
        self.text.push_str(&escape_except_styles(&line.to_string()));
        self.text.push('\n');
    }

    /// Prints the text so far at once, before a question; returns `false` if nobody reads any more.
    pub(crate) fn print_text(&mut self) -> Result<bool> {
        if self.has_json {
            return Ok(true);
        }
        let text = std::mem::take(&mut self.text);
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write the output"),
        }
    }

    /// Prints a line at once, as text or as one JSON object; returns `false` if nobody reads any
    /// more.
    pub(crate) fn print(&mut self, line: &str, object: &Value) -> Result<bool> {
        match self.has_json {
            true => self.print_object(object),
            false => self.print_line(&to_one_line(line)),
        }
    }

    /// Prints one JSON object at once; returns `false` if nobody reads any more.
    pub(crate) fn print_object(&mut self, object: &Value) -> Result<bool> {
        let mut members = json!({"schema": SCHEMA, "command": self.command});
        for (name, value) in object.as_object().into_iter().flatten() {
            members[name] = value.clone();
        }
        self.print_line(&escape_json(&members.to_string()))
    }

    fn print_line(&mut self, line: &str) -> Result<bool> {
        self.is_streamed = true;
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write the output"),
        }
    }

    /// Adds a member of the JSON object.
    pub(crate) fn member(&mut self, name: &str, value: Value) {
        self.members.insert(name.to_owned(), value);
    }

    /// Reports what could not be read or done: on stderr, and among the problems of the JSON
    /// object.
    pub(crate) fn problem(&mut self, path: Option<&str>, error: &str) {
        eprint_line(error);
        self.problems.push(json!({"path": path, "error": error}));
    }

    /// Tells people on stderr what goes on, which no program needs to know.
    #[expect(clippy::unused_self, reason = "all that a command prints goes through its output")]
    pub(crate) fn note(&self, text: &str) {
        eprint_line(text);
    }

    /// Prints the output, and returns the exit code of the command.
    pub(crate) fn end(mut self, result: Result<Outcome>) -> ExitCode {
        let code = match result {
            Ok(Outcome::Done) => ExitCode::SUCCESS,
            Ok(Outcome::LeftUndone) => ExitCode::from(1),
            Ok(Outcome::DoneInPart) => ExitCode::from(2),
            Ok(Outcome::Seen(code)) => ExitCode::from(code),
            Err(error) => {
                self.problem(None, &format!("{error:#}"));
                ExitCode::from(2)
            }
        };
        match self.print_all() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprint_line(&format!("cannot write the output: {error}"));
                ExitCode::from(2)
            }
            _ => code,
        }
    }

    fn print_all(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.has_json && !(self.is_streamed && self.problems.is_empty()) {
            let mut object = json!({"schema": SCHEMA, "command": self.command});
            for (name, value) in std::mem::take(&mut self.members) {
                object[name] = value;
            }
            object["problems"] = std::mem::take(&mut self.problems).into();
            self.text = escape_json(&object.to_string()).into_owned() + "\n";
        }
        stdout.write_all(self.text.as_bytes())?;
        stdout.flush()
    }
}

fn eprint_line(error: &str) {
    // Nobody is left to be told.
    let _ = writeln!(io::stderr(), "logcore: {}", to_one_line(error));
}
