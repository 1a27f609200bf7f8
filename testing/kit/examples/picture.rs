//! Draws the README's picture: the screen of a real run in the middle of its training.
//! `cargo xtask picture` builds and runs it: `picture PROGRAM OUTPUT`.

#![allow(clippy::print_stdout, reason = "the program reports its output")]

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::num::NonZero;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

const ROWS: u16 = 24;
const COLUMNS: u16 = 124;
const SCREEN: (NonZero<u16>, NonZero<u16>) = (NonZero::new(ROWS).unwrap(), NonZero::new(COLUMNS).unwrap());
/// Progress of the training at which the picture is taken, in percent.
const AT_PERCENT: u32 = 60;
/// Width and height of a character, in units of the picture.
const CELL: (f64, f64) = (8.43, 18.0);
const MARGIN: f64 = 18.0;
const TITLE_BAR: f64 = 34.0;
const BACKGROUND: &str = "#11151c";
const FOREGROUND: &str = "#d5dae3";
/// The sixteen colors of a terminal, for a dark background.
const PALETTE: [&str; 16] = [
    "#1b2029", "#ef6b73", "#8ccf7e", "#e5c76b", "#67b0e8", "#c47fd5", "#6cd0c8", "#d5dae3", "#5b6472", "#ff8b92",
    "#a6e09a", "#f2da8f", "#8ac6f2", "#d9a0e6", "#8fe3dc", "#ffffff",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, path] = arguments.as_slice() else {
        bail!("picture takes the program of the training and the path of the picture");
    };
    let screen = screen_of_training(program)?;
    fs::write(path, svg(&screen))?;
    println!("{path}");
    Ok(())
}

/// Runs the training in a terminal of its own and returns the screen at the chosen moment.
fn screen_of_training(program: &str) -> Result<vt100::Screen> {
    let size = PtySize {
        rows: ROWS,
        cols: COLUMNS,
        pixel_width: 0,
        pixel_height: 0,
    };
    let pty = native_pty_system().openpty(size)?;
    let mut command = CommandBuilder::new(program);
    command.args(["--fast", "--log-dir", "outputs/picture"]);
    command.cwd(std::env::current_dir()?);
    command.env("TERM", "xterm-256color");
    let mut child = pty.slave.spawn_command(command)?;
    drop(pty.slave);
    let mut reader = pty.master.try_clone_reader()?;
    let mut parser = vt100::Parser::new(SCREEN.0, SCREEN.1, 0);
    let mut taken = None;
    let mut bytes = [0; 4096];
    let start = Instant::now();
    // A pty whose other end is gone answers with an error or with nothing.
    while let Ok(count @ 1..) = reader.read(&mut bytes) {
        parser.process(&bytes[..count]);
        if taken.is_none() && percent(parser.screen()).is_some_and(|percent| percent >= AT_PERCENT) {
            taken = Some(parser.screen().clone());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(120),
            "the training takes longer than two minutes"
        );
    }
    ensure!(child.wait()?.success(), "the training failed");
    taken.context("no bar was seen")
}

/// Returns the percentage of the bar on the screen.
fn percent(screen: &vt100::Screen) -> Option<u32> {
    let text = screen.contents();
    let bar = text.lines().rev().find(|line| line.contains('━'))?;
    bar.split('%').next()?.split_whitespace().next_back()?.parse().ok()
}

fn svg(screen: &vt100::Screen) -> String {
    let rows = used_rows(screen);
    let (width, height) = (
        f64::from(COLUMNS) * CELL.0 + 2.0 * MARGIN,
        f64::from(rows) * CELL.1 + TITLE_BAR + 2.0 * MARGIN,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"{BACKGROUND}\"/>\n"
    );
    for (at, color) in ["#ef6b73", "#e5c76b", "#8ccf7e"].iter().enumerate() {
        let x = 20 + 20 * at;
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"18\" r=\"6\" fill=\"{color}\"/>");
    }
    for row in 0..rows {
        write_row(screen, row, &mut svg);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the number of rows without empty rows at the end.
fn used_rows(screen: &vt100::Screen) -> u16 {
    let used = screen
        .rows(0, COLUMNS)
        .enumerate()
        .filter(|(_, text)| !text.trim().is_empty());
    used.last()
        .map_or(ROWS, |(at, _)| u16::try_from(at + 1).unwrap_or(ROWS))
}

/// Writes a row as runs of characters of the same style.
fn write_row(screen: &vt100::Screen, row: u16, svg: &mut String) {
    let y = TITLE_BAR + MARGIN + f64::from(row) * CELL.1;
    let mut column = 0;
    while column < COLUMNS {
        let start = column;
        let style = CellStyle::of(screen, row, column);
        let mut text = String::new();
        while column < COLUMNS && CellStyle::of(screen, row, column) == style {
            let cell = screen.cell(row, column).map(vt100::Cell::contents).unwrap_or_default();
            text.push_str(if cell.is_empty() { " " } else { cell });
            column += 1;
        }
        if text.trim().is_empty() {
            continue;
        }
        let (x, length) = (MARGIN + f64::from(start) * CELL.0, f64::from(column - start) * CELL.0);
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.0}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
             xml:space=\"preserve\" {}>{text}</text>",
            style.attributes()
        );
    }
}

#[derive(PartialEq)]
struct CellStyle {
    color: String,
    bold: bool,
    dim: bool,
}

impl CellStyle {
    fn of(screen: &vt100::Screen, row: u16, column: u16) -> Self {
        let cell = screen.cell(row, column);
        let color = match cell.map(vt100::Cell::fgcolor) {
            Some(vt100::Color::Idx(at @ 0..16)) => PALETTE[usize::from(at)].to_owned(),
            Some(vt100::Color::Rgb(r, g, b)) => format!("#{r:02x}{g:02x}{b:02x}"),
            _ => FOREGROUND.to_owned(),
        };
        Self {
            color,
            bold: cell.is_some_and(vt100::Cell::bold),
            dim: cell.is_some_and(vt100::Cell::dim),
        }
    }

    fn attributes(&self) -> String {
        let bold = if self.bold { " font-weight=\"bold\"" } else { "" };
        let dim = if self.dim { " opacity=\"0.6\"" } else { "" };
        format!("fill=\"{}\"{bold}{dim}", self.color)
    }
}
