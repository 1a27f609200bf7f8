//! Tests of the screen: programs in a real terminal, and the same programs with their output in a
//! file or a pipe.
#![cfg(all(unix, feature = "progress"))]

mod programs;
mod tmux;

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::programs::{BATCHES, CROWD, EPOCHS, HOARD, OUTER, STEADY, THREADS, said};
use testkit::terminal::{CommandBuilder, FOLDER, PROGRAM, TestTerminal};

/// Runs a program if this process is the child of a test.
#[test]
fn the_child() {
    programs::run();
}

/// Screens that showed a bar, with the errors on each of them.
#[derive(Default)]
struct Seen {
    with_bar: usize,
    faults: Vec<String>,
}

/// Checks on each screen that a bar appears at most once, and no log line below a bar.
fn watch(terminal: &mut TestTerminal, bars: &'static [&'static str]) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    terminal.watch(move |screen| {
        let text = screen.contents();
        let is_bar = |line: &str, bar: &str| line.starts_with(bar) && !line.contains(&format!("{bar}:"));
        let counts = bars.map_count(|bar| text.lines().filter(|line| is_bar(line, bar)).count());
        let mut below = text
            .lines()
            .skip_while(|line| !bars.iter().any(|bar| is_bar(line, bar)));
        let mut seen = shared.lock().unwrap();
        if counts.iter().any(|count| *count > 0) {
            seen.with_bar += 1;
        }
        if counts.iter().any(|count| *count > 1) {
            seen.faults.push(format!("a ghost of a bar:\n{text}"));
        }
        if below.any(|line| line.contains("| INFO ")) {
            seen.faults.push(format!("a line below a bar:\n{text}"));
        }
    });
    seen
}

trait MapCount {
    fn map_count(&self, count: impl Fn(&str) -> usize) -> Vec<usize>;
}

impl MapCount for &[&str] {
    fn map_count(&self, count: impl Fn(&str) -> usize) -> Vec<usize> {
        self.iter().map(|bar| count(bar)).collect()
    }
}

fn assert_clean(terminal: &TestTerminal, seen: &Mutex<Seen>) {
    let seen = seen.lock().unwrap();
    assert!(
        seen.faults.is_empty(),
        "{} screens, such as {}",
        seen.faults.len(),
        seen.faults[0]
    );
    assert!(seen.with_bar > 0, "no bar was drawn");
    assert!(
        !terminal.screen().contains('━'),
        "a ghost of a bar:\n{}",
        terminal.screen()
    );
    assert!(!terminal.cursor_is_hidden());
}

/// Removes blanks: a terminal leaves one at the end of a line where a wide character had no room.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn four_threads_at_full_speed_over_three_bars_at_any_width() {
    for columns in [20, 33, 50, 80, 120, 300] {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = TestTerminal::run("crowd", folder.path(), columns, &[]);
        let seen = watch(&mut terminal, &["bar-a", "bar-b", "bar-c"]);
        assert!(terminal.read_to_end().success());
        assert_clean(&terminal, &seen);
        let text = squeezed(&terminal.transcript().concat());
        for thread in 0..THREADS {
            let mut behind = 0;
            for i in 0..CROWD {
                let wanted = format!("|{}", squeezed(&said(thread, i).replace('\t', "\\t")));
                let at = text[behind..].find(&wanted).unwrap_or_else(|| {
                    panic!("torn, lost or out of order at {columns} columns: {wanted}");
                });
                behind += at + wanted.len();
            }
            let count = text.matches(&format!("|<{thread}:")).count();
            assert_eq!(count, CROWD, "doubled at {columns} columns");
        }
    }
}

#[test]
fn a_resized_terminal_shows_no_remains_of_bars() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("stages", folder.path(), 120, &[]);
    let seen = watch(&mut terminal, &["bar-a", "bar-b", "bar-c"]);
    for (stage, columns) in [60, 20, 300, 80, 40, 120].into_iter().enumerate() {
        let last = format!("stage {stage} is over");
        terminal.read_until(|screen| {
            let text = screen.contents().replace('\n', "");
            text.contains(&last) && text.contains("bar-c")
        });
        terminal.resize(columns);
        fs::write(folder.path().join(format!("go-{stage}")), "").unwrap();
    }
    assert!(terminal.read_to_end().success());
    assert_clean(&terminal, &seen);
    assert!(
        terminal.screen().contains("| a | stage 6 is over\n"),
        "{}",
        terminal.screen()
    );
}

#[test]
fn a_stalled_terminal_delays_nothing_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("steady", folder.path(), 100, &[]);
    let seen = watch(&mut terminal, &["bar-steady"]);
    terminal.read_until(|screen| screen.contents().contains("line 5 of the training"));
    terminal.type_keys(b"\x13");
    let through = folder.path().join("through");
    let in_file = || {
        let text = fs::read_to_string(folder.path().join("training.log")).unwrap_or_default();
        text.matches("of the training").count() as u64
    };
    // The bytes that were on their way arrive, and then no more.
    while !through.exists() || in_file() < STEADY {
        terminal.read_for(Duration::from_millis(20));
    }
    assert!(
        !terminal.screen().contains("line 199 of"),
        "the terminal was not stopped"
    );
    terminal.type_keys(b"\x11");
    assert!(terminal.read_to_end().success());
    assert_clean(&terminal, &seen);
    let shown: Vec<String> = terminal
        .transcript()
        .into_iter()
        .filter(|line| line.contains("of the training"))
        .collect();
    assert_eq!(shown.len() as u64, STEADY);
    for (i, line) in shown.iter().enumerate() {
        assert!(
            line.ends_with(&format!("| steady | line {i} of the training")),
            "{line}"
        );
    }
}

#[test]
fn a_terminal_that_is_stalled_at_the_end_takes_no_time_from_other_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("ends stopped", folder.path(), 100, &[]);
    terminal.read_until(|screen| screen.contents().contains("the first line"));
    terminal.type_keys(b"\x13");
    // The line discipline needs a moment to handle the key. Too short a sleep would fail the check
    // below.
    terminal.read_for(Duration::from_millis(100));
    fs::write(folder.path().join("go"), "").unwrap();
    let ended = folder.path().join("report");
    while !ended.exists() {
        terminal.read_for(Duration::from_millis(20));
    }
    assert!(
        !terminal.screen().contains("of the training"),
        "the terminal was not stopped"
    );
    let status = terminal.read_to_end();
    assert!(status.success(), "{status:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&ended).unwrap()).unwrap();
    assert_eq!(report["problem"], serde_json::Value::Null, "{report}");
    let sinks = &report["sinks"];
    assert_eq!(sinks["file"]["delivered"], STEADY + 1, "{report}");
    assert_eq!(sinks["jsonl"]["delivered"], STEADY, "{report}");
    assert_eq!(sinks["console"]["delivered"], 1, "{report}");
    assert_eq!(sinks["console"]["dropped"]["terminal stalled"], STEADY, "{report}");
}

/// The lines that wait are neither lost nor a stalled terminal.
#[test]
fn a_flush_does_not_wait_for_the_end_of_suspend() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("flushes suspended", folder.path(), 100, &[]);
    let flushed = folder.path().join("flushed");
    while !flushed.exists() {
        terminal.read_for(Duration::from_millis(20));
    }
    assert!(
        !terminal.screen().contains("a line that waits"),
        "{}",
        terminal.screen()
    );
    fs::write(folder.path().join("go"), "").unwrap();
    assert!(terminal.read_to_end().success());
    assert_eq!(fs::read_to_string(&flushed).unwrap(), "Ok(())");
    assert!(
        terminal.screen().contains("| flushes | a line that waits"),
        "{}",
        terminal.screen()
    );
}

#[test]
fn loggers_that_finish_within_suspend_write_their_lines_and_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("finishes suspended", folder.path(), 100, &[]);
    let reports = folder.path().join("reports");
    while !reports.exists() {
        terminal.read_for(Duration::from_millis(20));
    }
    terminal.read_until(|screen| {
        let text = screen.contents();
        let shown = ["| here | a last line", "| elsewhere | a last line", "✓ "];
        shown.iter().all(|part| text.contains(part))
    });
    fs::write(folder.path().join("go"), "").unwrap();
    assert!(terminal.read_to_end().success());
    let reports: serde_json::Value = serde_json::from_slice(&fs::read(&reports).unwrap()).unwrap();
    for report in reports.as_array().unwrap() {
        assert_eq!(report["sinks"]["console"]["delivered"], 1, "{report}");
        assert_eq!(report["sinks"]["console"]["dropped"], serde_json::json!({}), "{report}");
    }
}

/// Checks the last lines of a program whose process has ended within `suspend`.
fn assert_complete(terminal: &mut TestTerminal, end: &[&str]) {
    let text = terminal.transcript().join("\n");
    let lines = ["| ends | a line that waits", "| ends | bar-ends: ", "5/10"];
    for part in lines.iter().chain(end) {
        assert!(text.contains(part), "without {part:?}:\n{text}");
    }
    assert!(!text.contains("logcore:"), "a loss is reported:\n{text}");
}

#[test]
fn a_process_that_exits_within_suspend_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("exits suspended", folder.path(), 100, &[]);
    assert!(terminal.read_to_end().success());
    assert_complete(&mut terminal, &["✓ ends finished after "]);
}

#[test]
fn a_process_that_a_signal_ends_within_suspend_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("terminated suspended", folder.path(), 100, &[]);
    let status = terminal.read_to_end();
    assert_eq!(status.signal(), Some("Terminated"), "{status:?}");
    let end = [
        "| WARN  | ends | Interrupted by SIGTERM",
        "✗ ends interrupted by SIGTERM after ",
    ];
    assert_complete(&mut terminal, &end);
}

#[test]
fn notices_after_the_end_of_a_logger_appear_within_suspend() {
    for program in ["late suspended", "ended suspended"] {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = TestTerminal::run(program, folder.path(), 200, &[]);
        assert!(terminal.read_to_end().success());
        let text = terminal.screen();
        for notice in ["logcore: logger `late` has ended", "logcore: 1 call came after the end"] {
            assert!(text.contains(notice), "{program}: without {notice:?}:\n{text}");
        }
    }
}

#[test]
fn a_pipe_gets_more_lines_within_suspend_than_the_backlog_holds() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(PROGRAM, "hoards suspended")
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("| INFO  | hoards | x").count(), HOARD);
}

#[test]
fn a_panic_is_one_line_above_the_bars() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("panics", folder.path(), 200, &[("RUST_BACKTRACE", "0")]);
    let seen = watch(&mut terminal, &["bar-panics"]);
    assert!(terminal.read_to_end().success());
    assert_clean(&terminal, &seen);
    let transcript = terminal.transcript();
    let lines = transcript.iter().filter(|line| line.contains("panicked at"));
    let lines: Vec<&String> = lines.collect();
    assert_eq!(lines.len(), 1, "{}", transcript.join("\n"));
    assert!(
        lines[0].contains("| ERROR | panic | thread `worker` panicked at")
            && lines[0].ends_with(": the data are not there"),
        "{}",
        lines[0]
    );
    assert!(
        transcript
            .iter()
            .any(|line| line.ends_with("| INFO  | panics | still here"))
    );
}

#[test]
fn ctrl_c_leaves_a_clean_screen() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("forever", folder.path(), 100, &[]);
    let seen = watch(&mut terminal, &["bar-forever"]);
    terminal.read_until(|screen| screen.contents().contains("line 20 of the training"));
    terminal.type_keys(b"\x03");
    let status = terminal.read_to_end();
    assert_eq!(status.signal(), Some("Interrupt"), "{status:?}");
    assert_clean(&terminal, &seen);
    let transcript = terminal.transcript();
    let bars = transcript
        .iter()
        .filter(|line| line.contains("| INFO  | forever | bar-forever:"));
    assert_eq!(bars.count(), 1, "the bar's last line: {}", transcript.join("\n"));
    assert!(
        transcript
            .iter()
            .any(|line| line.ends_with("| WARN  | forever | Interrupted by SIGINT"))
    );
}

#[test]
fn ctrl_z_and_fg_leave_no_remains_of_bars() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = CommandBuilder::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    shell.env("PS1", "$ ");
    shell.env(PROGRAM, "forever");
    shell.env(FOLDER, folder.path());
    shell.env("TEST", std::env::current_exe().unwrap());
    let mut terminal = TestTerminal::spawn(shell, 100, &[]);
    let seen = watch(&mut terminal, &["bar-forever"]);
    terminal.type_keys(b"\"$TEST\" --exact the_child --nocapture --test-threads=1\n");
    for round in 0..3 {
        let stopped = |text: &str| text.matches("Stopped").count();
        terminal.read_until(|screen| screen.contents().contains("bar-forever"));
        let before = stopped(&terminal.transcript().join("\n"));
        terminal.type_keys(b"\x1a");
        terminal.read_until(|screen| {
            let text = screen.contents();
            text.trim_end().ends_with('$') && text.contains("Stopped")
        });
        assert_eq!(stopped(&terminal.transcript().join("\n")), before + 1, "round {round}");
        assert!(
            !terminal.screen().contains('━'),
            "a ghost of a bar:\n{}",
            terminal.screen()
        );
        terminal.type_keys(b"fg\n");
    }
    terminal.read_until(|screen| screen.contents().contains("bar-forever"));
    terminal.type_keys(b"\x03");
    terminal.read_until(|screen| screen.contents().contains("Interrupted by SIGINT"));
    terminal.type_keys(b"exit\n");
    terminal.read_to_end();
    assert_clean(&terminal, &seen);
    let numbers: Vec<u64> = terminal
        .transcript()
        .iter()
        .filter_map(|line| line.split_once("| forever | line ")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert!(
        !numbers.is_empty() && numbers.iter().copied().eq(0..numbers.len() as u64),
        "{numbers:?}"
    );
}

#[test]
fn output_of_the_program_itself_appears_complete() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("prints", folder.path(), 100, &[]);
    let seen = watch(&mut terminal, &["bar-prints"]);
    assert!(terminal.read_to_end().success());
    assert_clean(&terminal, &seen);
    let transcript = terminal.transcript();
    for i in 0..10 {
        let own = format!("a line {i} of my own");
        assert_eq!(
            transcript.iter().filter(|line| **line == own).count(),
            1,
            "{}",
            transcript.join("\n")
        );
        for j in 0..5 {
            let away = format!("line {i}.{j} while the bars are away");
            assert_eq!(transcript.iter().filter(|line| **line == away).count(), 1);
        }
    }
}

#[test]
fn lines_appear_complete_and_in_order_above_nested_bars() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("outer", folder.path(), 120, &[]);
    let seen = watch(&mut terminal, &["Outer work", "inner"]);
    assert!(terminal.read_to_end().success());
    assert_clean(&terminal, &seen);
    let transcript = terminal.transcript();
    let lines: Vec<&String> = transcript
        .iter()
        .filter(|line| line.contains("| INFO  | child | Starting line"))
        .collect();
    assert_eq!(lines.len() as u64, OUTER, "{}", terminal.screen());
    for (i, line) in lines.iter().enumerate() {
        let end = format!("Starting line {} of many, with 寛い characters", i + 1);
        assert!(line.ends_with(&end), "{line}");
    }
    let last = transcript.join("\n");
    assert!(last.contains("| WARN  | child | two\n    lines"), "{last}");
    assert!(last.contains("Outer work: 100% 40/40"), "{last}");
    assert!(
        !last.contains("inner:"),
        "a bar that does not stay leaves no line:\n{last}"
    );
    let colored = String::from_utf8_lossy(&terminal.bytes);
    assert!(colored.contains("\x1b[32mINFO ") && colored.contains("\x1b[1;36mStarting"));
}

/// Returns the line that a bar has left behind, from its description on.
fn line_of_bar<'a>(transcript: &'a [String], description: &str) -> &'a str {
    let begin = format!("| trainer | {description}:");
    let line = transcript.iter().find(|line| line.contains(&begin));
    let line = line.unwrap_or_else(|| panic!("no line of {description}:\n{}", transcript.join("\n")));
    &line[line.find(description).unwrap()..]
}

#[test]
fn a_bar_leaves_a_line_with_the_newest_metrics_that_fits_the_window() {
    for columns in [60, 80, 100, 120, 140, 200] {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = TestTerminal::run("epochs", folder.path(), columns, &[]);
        assert!(terminal.read_to_end().success());
        let transcript = terminal.transcript();
        for epoch in 1..=EPOCHS {
            let line = line_of_bar(&transcript, &format!("Epoch {epoch}"));
            assert!(line.contains(&format!("{BATCHES}/{BATCHES}")), "{line}");
            if columns >= 100 {
                let loss = facade::logcore::text::format_value(1.0 / (epoch * BATCHES) as f64);
                assert!(line.contains(&format!("loss={loss}")), "at {columns} columns: {line}");
            }
        }
        let line = line_of_bar(&transcript, "Epochs");
        if columns >= 100 {
            assert!(line.contains("] val/loss=0.3333"), "at {columns} columns: {line}");
        }
        let wrapped = transcript
            .iter()
            .filter(|line| line.contains("Epoch") && line.chars().count() >= usize::from(columns));
        assert_eq!(wrapped.collect::<Vec<_>>(), [""; 0], "at {columns} columns");
    }
}

/// Returns the bytes that a terminal got, without the codes that draw bars and color lines.
fn without_our_codes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\x1b');
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let code = part
            .strip_prefix('[')
            .unwrap_or_else(|| panic!("a foreign code: {part:?}"));
        let behind = code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        let behind = behind
            .strip_prefix(['m', 'A', 'C', 'J', 'K'])
            .unwrap_or_else(|| panic!("a foreign code: {code:?}"));
        // The text must not contain a code that clears the screen.
        assert!(!code.starts_with("2J"), "{code:?}");
        plain.push_str(behind);
    }
    plain
}

/// Names of loggers, metrics and progresses, messages, the text of a panic, and an error of the
/// program, on a real terminal.
#[test]
fn control_codes_in_texts_do_not_reach_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("hostile", folder.path(), 400, &[]);
    assert!(!terminal.read_to_end().success());
    let plain = without_our_codes(&terminal.bytes);
    let harmful = |c: char| facade::logcore::escape::needs_escape(c) && !matches!(c, '\n' | '\r');
    assert!(!plain.contains(harmful), "{plain:?}");
    let transcript = terminal.transcript();
    assert!(
        !transcript.iter().any(|line| line.starts_with("2026-01-01")),
        "{transcript:#?}"
    );
    assert!(
        transcript
            .iter()
            .any(|line| line.starts_with("logcore: log_config of logger `run \\x1b]0;")),
        "{transcript:#?}"
    );
    let run = folder.path().join(fs::read_link(folder.path().join("latest")).unwrap());
    let last_word = transcript.iter().skip_while(|line| !line.starts_with('✗'));
    let shown: Vec<String> = last_word
        .take_while(|line| !line.is_empty())
        // The rates and the times differ from run to run.
        .filter(|line| !line.starts_with("  step ") && !line.starts_with("  time "))
        .map(|line| line.replace(&*run.to_string_lossy(), "RUN"))
        .map(|line| match line.split_once(" failed after ") {
            Some((name, behind)) => format!("{name} failed{}", &behind[behind.find(": bad").unwrap()..]),
            None => line,
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    ✗ run \x1b]0;t\x07\x1b]52;c;ZQ==\x07\x1b[2J\x1b[H\n2026-01-01 00:00:00 | ERROR | x | forged\r\u{9b}2J\u{202e}\u{2028}\u{200b}\u{e0041} failed: bad token \x1b]0;t\x07\x1b]52;c;ZQ==\x07\x1b[2J\x1b[H\n2026-01-01 00:00:00 | ERROR | x | forged\r\u{9b}2J\u{202e}\u{2028}\u{200b}\u{e0041}
      logged    1 warning, 1 error
      metric                                                        last  mean  min  max
      loss \x1b]0;t\x07\x1b]52;c;ZQ==\x07\x1b[2J\x1b[H\n2026-01-0…     1     1    1    1
      nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…     2     2    2    2
      console   2 lines  stdout
      file      2 lines  RUN/training.log
      jsonl     4 calls  RUN/metrics.jsonl
    ");
}

#[test]
fn no_color_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("outer", folder.path(), 120, &[("NO_COLOR", "1")]);
    let seen = watch(&mut terminal, &["Outer work"]);
    assert!(terminal.read_to_end().success());
    // Bars are drawn without color.
    assert_clean(&terminal, &seen);
    let text = String::from_utf8_lossy(&terminal.bytes);
    let styles = text.split("\x1b[").skip(1).filter(|code| {
        let end = code.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        code[end..].starts_with('m')
    });
    assert_eq!(styles.count(), 0, "{}", text.escape_debug());
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = TestTerminal::run("outer", folder.path(), 120, &[("TERM", "dumb")]);
    assert!(terminal.read_to_end().success());
    assert!(!terminal.bytes.contains(&0x1b));
    assert!(terminal.screen().contains("Outer work: 100% 40/40"));
}

#[test]
fn a_file_gets_no_codes_and_no_carriage_returns() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(PROGRAM, "outer")
        .env(FOLDER, folder.path())
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(['\x1b', '\r', '━']), "{}", text.escape_debug());
    assert!(text.contains("| INFO  | child | Outer work: 100% 40/40"), "{text}");
    assert_eq!(text.matches("Starting line").count() as u64, OUTER);
    let last = text.lines().find(|line| line.contains("Outer work: 100%")).unwrap();
    assert!(last.ends_with("loss=0.0250"), "the newest metrics are shown: {text}");
}
