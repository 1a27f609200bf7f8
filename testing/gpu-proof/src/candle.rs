//! The rows of frameworks, which are programs of their own: this one must not build a framework.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child;
use crate::options::Candle;
use crate::row::Row;

const LONGEST: Duration = Duration::from_secs(60);

/// Runs the program that allocates with candle, if there is one.
pub(crate) fn rows(candle: &Candle, deadline: Instant) -> Vec<Row> {
    let subject = "5: a tensor of candle has its size to the byte";
    let candle = match candle {
        Candle::Missing(reason) => Row::not_tried(subject, reason.as_str()),
        Candle::Program(program) => run(subject, program, deadline.min(Instant::now() + LONGEST)),
    };
    let torch = Row::not_tried(
        "5: torch with `cudaMallocAsync` has torch's own numbers",
        "libtorch is no part of this program; `examples/frameworks/tch` shows both numbers",
    );
    vec![candle, torch]
}

fn run(subject: &str, program: &Path, deadline: Instant) -> Row {
    match child::run(&mut Command::new(program), deadline) {
        Ok(output) => {
            let last = output.stdout.lines().last().unwrap_or("no output").to_owned();
            let answer = format!("{last} ({})", output.end);
            Row::check(subject, answer, output.code == Some(0), "the program ends with success")
        }
        Err(error) => Row::failed(subject, format!("{error:#}")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::row::Verdict;

    #[test]
    fn status_of_the_program_decides() {
        let row_of = |candle| rows(&candle, Instant::now() + Duration::from_secs(60)).remove(0);
        let program = |path: &str| row_of(Candle::Program(path.into()));
        assert_eq!(program("true").verdict, Verdict::Holds);
        assert!(matches!(program("false").verdict, Verdict::Fails(_)));
        assert!(matches!(program("/nowhere/known_tensor").verdict, Verdict::Fails(_)));
        let missing = row_of(Candle::Missing("no nvcc".to_owned()));
        assert_eq!(missing.verdict, Verdict::NotTried("no nvcc".to_owned()));
    }
}
