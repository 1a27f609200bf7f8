//! A program in a real terminal. An emulator reads every byte that the program writes.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, MasterPty, PtySize, native_pty_system};

pub use portable_pty::{CommandBuilder, ExitStatus};
pub use vt100::Screen;

/// Environment variable that names the program of the child.
pub const PROGRAM: &str = "TERMINAL_PROGRAM";
/// Environment variable that names the folder for the files of the child.
pub const FOLDER: &str = "TERMINAL_FOLDER";

/// Limit for anything that should happen soon.
const SOON: Duration = Duration::from_secs(60);

/// Limit for the bytes of a program that has ended: on a busy machine nobody may have read any of
/// them yet.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Sees the screen whenever something was read.
type ScreenObserver = dyn FnMut(&Screen);

/// A terminal and the program in it, which is killed when this is dropped.
pub struct TestTerminal {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn std::io::Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    arrived: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// All bytes that were read.
    pub bytes: Vec<u8>,
    observers: Vec<Box<ScreenObserver>>,
}

impl TestTerminal {
    /// Starts one of the programs of this test program: its test `the_child` runs the program that
    /// [`PROGRAM`] names.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn run(program: &str, folder: &Path, columns: u16, variables: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_child", "--nocapture", "--test-threads=1"]);
        command.env(PROGRAM, program);
        command.env(FOLDER, folder);
        Self::spawn(command, columns, variables)
    }

    /// Starts any command in a terminal with so many columns.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn spawn(mut command: CommandBuilder, columns: u16, variables: &[(&str, &str)]) -> Self {
        let pty = native_pty_system().openpty(size(columns)).unwrap();
        command.env("TERM", "xterm-256color");
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let mut reader = pty.master.try_clone_reader().unwrap();
        let (sender, arrived) = mpsc::channel();
        let read = move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("pty".to_owned()).spawn(read).unwrap();
        Self {
            keys: pty.master.take_writer().unwrap(),
            master: pty.master,
            child,
            arrived,
            parser: vt100::Parser::new(NonZero::new(ROWS).unwrap(), NonZero::new(columns).unwrap(), 1_000_000),
            bytes: Vec::new(),
            observers: Vec::new(),
        }
    }

    /// Has `observer` see the screen whenever something was read.
    pub fn watch(&mut self, observer: impl FnMut(&Screen) + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// Types keys.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn type_keys(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
        self.keys.flush().unwrap();
    }

    /// Changes the number of columns.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn resize(&mut self, columns: u16) {
        self.master.resize(size(columns)).unwrap();
        self.parser
            .screen_mut()
            .set_size(NonZero::new(ROWS).unwrap(), NonZero::new(columns).unwrap());
    }

    /// Reads until `is_reached` returns `true`.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn read_until(&mut self, is_reached: impl Fn(&Screen) -> bool) {
        let until = Instant::now() + SOON;
        while !is_reached(self.parser.screen()) {
            assert!(Instant::now() < until, "not seen:\n{}", self.screen());
            self.take(Duration::from_millis(50));
        }
    }

    /// Reads for a while.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn read_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.take(Duration::from_millis(10));
        }
    }

    /// Reads until the program has ended, and returns its exit code.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn read_to_end(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < until, "it does not end:\n{}", self.screen());
            if !self.take(Duration::from_millis(50))
                && let Some(status) = self.child.try_wait().unwrap()
            {
                // The channel closes behind the last byte, unless a child of the program lives on.
                while self.take(LAST_BYTES) {}
                return status;
            }
        }
    }

    /// Returns the text of the screen.
    pub fn screen(&self) -> String {
        self.parser.screen().contents()
    }

    /// Returns all lines, also those that were scrolled away; lines that the terminal has wrapped
    /// are whole.
    ///
    /// # Panics
    ///
    /// If the terminal fails, or the wait takes longer than a minute.
    pub fn transcript(&mut self) -> Vec<String> {
        let screen = self.parser.screen_mut();
        let (rows, columns) = screen.size();
        let back = screen.scrollback_len();
        let mut lines = vec![String::new()];
        let mut add = |text: String, wrapped: bool| {
            lines.last_mut().unwrap().push_str(&text);
            if !wrapped {
                lines.push(String::new());
            }
        };
        for at in (1..=back).rev() {
            screen.set_scrollback(at);
            let text = screen.rows(0, columns.get()).next().unwrap();
            add(text, screen.row_wrapped(0));
        }
        screen.set_scrollback(0);
        for row in 0..rows.get() {
            let text = screen.rows(0, columns.get()).nth(usize::from(row)).unwrap();
            add(text, screen.row_wrapped(row));
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Returns `true` if the cursor is hidden.
    pub fn cursor_is_hidden(&self) -> bool {
        self.parser.screen().hide_cursor()
    }

    /// Processes the bytes that arrive within `time`; returns `true` if there were some.
    fn take(&mut self, time: Duration) -> bool {
        let Ok(bytes) = self.arrived.recv_timeout(time) else {
            return false;
        };
        self.parser.process(&bytes);
        self.bytes.extend_from_slice(&bytes);
        for observer in &mut self.observers {
            observer(self.parser.screen());
        }
        true
    }
}

impl Drop for TestTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

const ROWS: u16 = 50;

fn size(columns: u16) -> PtySize {
    PtySize {
        rows: ROWS,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}
