//! What a person sees: a program in a real terminal, and the same program with its output elsewhere. The program is this
//! test program, run again.
#![cfg(all(unix, feature = "console", feature = "progress"))]

use std::io::Read as _;
use std::num::NonZero;
use std::process::Command;
use std::thread;
use std::time::Duration;

use facade::{LogConfig, setup_logging};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

/// Set in the child, to the folder for its files.
const FOLDER: &str = "TERMINAL_FOLDER";
const LINES: u64 = 40;

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let config = LogConfig {
        name: "child".into(),
        log_dir: folder.into(),
        ..LogConfig::default()
    };
    let inner_config = LogConfig {
        name: "child.inner".into(),
        progress_position: 1,
        progress_leave: false,
        ..config.clone()
    };
    let (logger, inner) = (setup_logging(config).unwrap(), setup_logging(inner_config).unwrap());
    logger.start_progress(LINES, "Outer work");
    for i in 1..=LINES {
        inner.start_progress(None, "inner");
        inner.update_progress(1, None);
        // The bars are drawn ten times a second; this is what makes the program last long enough to see them.
        thread::sleep(Duration::from_millis(20));
        logger.log_metrics([("loss", 1.0 / i as f64)]);
        logger.update_progress(1, 8);
        logger.info(format_args!("Starting line {i} of many, with 寛い characters"));
    }
    logger.warning("two\nlines");
    inner.finish();
    logger.finish();
}

struct Seen {
    bytes: Vec<u8>,
    /// The text of every moment at which a bar was on the screen.
    with_bar: Vec<String>,
    last: String,
    cursor_hidden: bool,
}

/// Runs the child in a terminal of this width.
fn in_terminal(columns: u16, variables: &[(&str, &str)]) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let size = PtySize {
        rows: 60,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    };
    let pty = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_child", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder.path());
    command.env("TERM", "xterm-256color");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    for (name, value) in variables {
        command.env(name, value);
    }
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let mut reader = pty.master.try_clone_reader().unwrap();
    let mut parser = vt100::Parser::new(NonZero::new(60).unwrap(), NonZero::new(columns).unwrap(), 0);
    let mut seen = Seen {
        bytes: Vec::new(),
        with_bar: Vec::new(),
        last: String::new(),
        cursor_hidden: false,
    };
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut bytes) {
        parser.process(&bytes[..count]);
        seen.bytes.extend_from_slice(&bytes[..count]);
        let text = parser.screen().contents();
        if text.contains('━') {
            seen.with_bar.push(text);
        }
    }
    assert!(child.wait().unwrap().success());
    seen.last = parser.screen().contents();
    seen.cursor_hidden = parser.screen().hide_cursor();
    seen
}

#[test]
fn lines_stand_whole_and_in_order_above_the_bars_and_no_ghost_is_left() {
    let seen = in_terminal(120, &[]);
    let lines: Vec<&str> = seen
        .last
        .lines()
        .filter(|line| line.contains("| INFO  | child | Starting line"))
        .collect();
    assert_eq!(lines.len() as u64, LINES, "{}", seen.last);
    for (i, line) in lines.iter().enumerate() {
        assert!(
            line.ends_with(&format!("Starting line {} of many, with 寛い characters", i + 1)),
            "{line}"
        );
    }
    assert!(!seen.last.contains('━'), "a ghost of a bar:\n{}", seen.last);
    assert!(seen.last.contains("| WARN  | child | two\n    lines"), "{}", seen.last);
    assert!(seen.last.contains("Outer work: 100% 40/40"), "{}", seen.last);
    assert!(
        !seen.last.contains("inner:"),
        "a bar that does not stay leaves no line:\n{}",
        seen.last
    );
    assert!(!seen.cursor_hidden);
    assert!(seen.with_bar.len() > 3, "bars were drawn");
    for screen in &seen.with_bar {
        let below = screen.lines().skip_while(|line| !line.contains('━')).skip(1);
        for line in below {
            assert!(!line.contains("| INFO "), "a line below a bar:\n{screen}");
        }
    }
    let coloured = String::from_utf8_lossy(&seen.bytes);
    assert!(coloured.contains("\x1b[32mINFO ") && coloured.contains("\x1b[1;36mStarting"));
}

#[test]
fn a_narrow_terminal_shows_no_torn_bar() {
    let seen = in_terminal(64, &[]);
    assert!(!seen.last.contains('━'), "{}", seen.last);
    for screen in &seen.with_bar {
        assert!(
            screen
                .lines()
                .filter(|line| line.contains("Outer work") && !line.contains("INFO"))
                .count()
                <= 1,
            "{screen}"
        );
    }
}

#[test]
fn no_color_is_obeyed() {
    let seen = in_terminal(120, &[("NO_COLOR", "1")]);
    let text = String::from_utf8_lossy(&seen.bytes);
    let colours = text.split("\x1b[").skip(1).filter(|code| {
        code.split(|c: char| c.is_ascii_alphabetic())
            .next()
            .is_some_and(|n| code[n.len()..].starts_with('m') && !matches!(n, "" | "0" | "1"))
    });
    assert_eq!(colours.count(), 0, "{}", text.escape_debug());
    assert!(!seen.with_bar.is_empty(), "bars need no colour");
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let seen = in_terminal(120, &[("TERM", "dumb")]);
    assert!(seen.with_bar.is_empty());
    assert!(!seen.bytes.contains(&0x1b));
}

#[test]
fn off_a_terminal_there_are_no_codes_and_no_carriage_returns() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(['\x1b', '\r', '━']), "{}", text.escape_debug());
    assert!(text.contains("| INFO  | child | Outer work: 100% 40/40"), "{text}");
    assert_eq!(text.matches("Starting line").count() as u64, LINES);
    assert!(text.contains("loss=0.0250"), "the newest metrics are shown: {text}");
}
