//! Bars in a real tmux, whose history the emulator of the other tests does not have.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::terminal::{FOLDER, PROGRAM};

/// A tmux server of its own, with one window. Dropping the value ends both.
struct Tmux {
    socket: String,
}

impl Tmux {
    /// Starts a program of these tests; `None` if there is no tmux.
    fn run(program: &str, folder: &Path) -> Option<Self> {
        let is_there = Command::new("tmux").arg("-V").stdout(Stdio::null()).status();
        is_there.ok().filter(|status| status.success())?;
        let tmux = Self {
            socket: folder.join("tmux").to_string_lossy().into_owned(),
        };
        let child = std::env::current_exe().unwrap();
        tmux.call(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "24",
            "-e",
            &format!("{PROGRAM}={program}"),
            "-e",
            &format!("{FOLDER}={}", folder.display()),
            child.to_str().unwrap(),
            "--exact",
            "the_child",
            "--nocapture",
            "--test-threads=1",
        ]);
        Some(tmux)
    }

    /// Returns the window with the 200 lines before it.
    fn capture(&self) -> String {
        self.call(&["capture-pane", "-p", "-S", "-200"])
    }

    fn call(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}

#[test]
fn bars_at_the_top_of_a_cleared_screen_stay_out_of_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tmux) = Tmux::run("bars only", folder.path()) else {
        return;
    };
    let until = Instant::now() + Duration::from_secs(60);
    let through = folder.path().join("through");
    while !through.exists() {
        assert!(Instant::now() < until, "it does not end:\n{}", tmux.capture());
        thread::sleep(Duration::from_millis(20));
    }
    let screen = tmux.capture();
    for bar in ["bar-a", "bar-b"] {
        assert_eq!(screen.matches(bar).count(), 1, "each bar once:\n{screen}");
    }
}
