//! `logcore doctor`: what a person who helps somebody else would ask for.

mod disk;
mod gpu;
mod runs;
mod settings;
mod terminal;
mod test_run;
mod wandb;

use std::path::Path;

use anyhow::Result;
use console::Color;
use serde_json::{Value, json};

use crate::arguments::DoctorArguments;
use crate::output::{Outcome, Output};
use crate::table::{Cell, Column, Table};

/// The result of one look at something.
struct Finding {
    name: &'static str,
    grade: Grade,
    text: String,
    /// The remedy.
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    /// Something works less well than it could.
    Warning,
    /// Something does not work.
    Bad,
}

impl Finding {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Ok,
            text: text.into(),
            remedy: None,
        }
    }

    fn warning(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            grade: Grade::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(name, text)
        }
    }

    fn bad(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            grade: Grade::Bad,
            ..Self::warning(name, text, remedy)
        }
    }
}

impl Grade {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Ok => Color::Green,
            Self::Warning => Color::Yellow,
            Self::Bad => Color::Red,
        }
    }
}

pub(super) fn run(arguments: &DoctorArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let log_dir = arguments.dir.as_deref().unwrap_or(log_dir);
    let mut findings = vec![version()];
    findings.extend(disk::examine(log_dir));
    findings.extend(runs::examine(log_dir));
    findings.push(gpu::examine());
    findings.extend(wandb::examine(log_dir, arguments.offline));
    findings.push(terminal::examine());
    findings.extend(settings::examine());
    print(&findings, output);
    let is_bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    output.member("checks", findings.iter().map(Finding::json).collect());
    Ok(if is_bad { Outcome::LeftUndone } else { Outcome::Done })
}

/// Tells what is installed, and on what.
fn version() -> Finding {
    let kernel = logcore::files::read_to_string(Path::new("/proc/sys/kernel/osrelease"), 4096);
    let text = format!(
        "{} {} on {} {} {}",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        kernel.unwrap_or_default().trim()
    );
    Finding::ok("version", text.trim_end())
}

fn print(findings: &[Finding], output: &mut Output) {
    let columns = [Column::left("check"), Column::left(""), Column::left("finding")];
    let mut table = Table::new(columns.into());
    for finding in findings {
        let grade = Cell::colored(finding.grade.name(), Some(finding.grade.color()));
        table.row([finding.name.into(), grade, finding.text.as_str().into()]);
        if let Some(remedy) = &finding.remedy {
            table.row(["".into(), "".into(), format!("→ {remedy}").into()]);
        }
    }
    // A finding that is cut tells nothing.
    for line in table.format(None, output.has_colors()) {
        output.line(line);
    }
}

impl Finding {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "grade": self.grade.name(),
            "text": self.text,
            "remedy": self.remedy,
        })
    }
}
