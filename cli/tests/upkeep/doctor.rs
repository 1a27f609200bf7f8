//! `logcore doctor`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{command, error, text};
use crate::support::{names, write_run};

/// Makes a command with these variables and a home without files.
fn doctor(log_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut doctor = command(log_dir, &[&["doctor"], arguments].concat());
    doctor.env("HOME", log_dir).envs(variables.iter().copied());
    doctor
}

fn checks(output: &Output) -> Vec<Value> {
    let object: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", error(output)));
    object["checks"].as_array().unwrap().clone()
}

fn check<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str) {
    let found = checks.iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} in {checks:?}"));
    (found["grade"].as_str().unwrap(), found["text"].as_str().unwrap())
}

#[test]
fn a_usual_folder_is_in_order() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), "a", "finished", 1000);
    let shown = text(&doctor(folder.path(), &["--offline"], &[]).output().unwrap());
    assert!(shown.starts_with("check") && shown.contains("logcore-cli"), "{shown}");
    assert_eq!(names(folder.path()), ["a"], "nothing is left");
    let checks = checks(&doctor(folder.path(), &["--offline", "--json"], &[]).output().unwrap());
    for name in [
        "version", "log_dir", "locks", "clock", "ring", "runs", "gpu", "terminal", "variable",
    ] {
        assert_ne!(check(&checks, name).0, "bad", "{checks:?}");
    }
    assert!(check(&checks, "runs").1.starts_with("1 in "));
}

#[test]
fn a_folder_that_cannot_be_used_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let output = doctor(folder.path(), &["file", "--offline", "--json"], &[])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let all = checks(&output);
    assert_eq!(check(&all, "log_dir").0, "bad");
    assert!(all[1]["remedy"].as_str().unwrap().starts_with("name a folder"));
    let missing = doctor(folder.path(), &["a/b", "--offline", "--json"], &[])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(0));
    assert_eq!(check(&checks(&missing), "log_dir").0, "ok");
    assert_eq!(names(folder.path()), ["file"], "no folder is made");
}

#[test]
fn what_waits_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let killed = write_run(folder.path(), "killed", "killed", 1000);
    fs::write(killed.join(".logcore-12-0123abcd.ring"), "").unwrap();
    let unsent = write_run(folder.path(), "unsent", "finished", 1000).join("wandb/offline-run-1-a");
    fs::create_dir_all(&unsent).unwrap();
    fs::write(unsent.join("run-a.wandb"), "").unwrap();
    fs::create_dir(folder.path().join("broken")).unwrap();
    fs::write(folder.path().join("broken/run.json"), "{").unwrap();
    let all = checks(&doctor(folder.path(), &["--offline", "--json"], &[]).output().unwrap());
    assert_eq!(check(&all, "runs").0, "warning");
    assert!(check(&all, "killed runs").1.starts_with("1 with lines"));
    assert!(check(&all, "unsent runs").1.starts_with("1 that their server"));
}

#[test]
fn variables_are_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let key = "a0b1".repeat(10);
    let variables = [
        ("WANDB_API_KEY", key.as_str()),
        ("LOGCORE_FILE_LEVEL", "LOUD"),
        ("LOGCORE_RESUME", "latest"),
        ("WANDB_NOTES", "\u{1b}[2J<script>"),
        ("https_proxy", "http://user:pa55word@127.0.0.1:9"),
        ("RANK", "7"),
        (
            "LOGCORE_SINKS",
            r#"{"webhook":{"url":"https://hooks.slack.com/services/T000/B000/pa55word"}}"#,
        ),
    ];
    let output = doctor(folder.path(), &["--offline"], &variables).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        !shown.contains(&key) && !shown.contains("pa55word") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    assert!(
        shown.contains("WANDB_API_KEY=***") && shown.contains("\\x1b[2J<script>"),
        "{shown}"
    );
    assert!(
        shown.contains("file_level") || shown.contains("LOGCORE_FILE_LEVEL"),
        "{shown}"
    );
    let ring = shown.lines().find(|line| line.starts_with("ring")).unwrap();
    assert!(
        ring.contains("ok"),
        "a variable for other runs is not for the test run: {ring}"
    );
}

#[test]
fn the_token_of_the_live_page_is_no_bad_setting() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("LOGCORE_TOKEN", "0123456789abcdef")];
    let output = doctor(folder.path(), &["--offline", "--json"], &variables)
        .output()
        .unwrap();
    let all = checks(&output);
    let has = |member: &str, wanted: &str| all.iter().any(|check| check[member] == wanted);
    assert!(has("text", "LOGCORE_TOKEN=***") && !has("name", "settings"), "{all:?}");
}

#[cfg(feature = "sync")]
mod server {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request, and returns the address and the request.
    fn serve(status: &'static str, body: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 64 << 10];
            let mut length = 0;
            while !String::from_utf8_lossy(&request[..length]).contains("viewer { id }") {
                let read = stream.read(&mut request[length..]).unwrap();
                assert!(read > 0, "the request is not complete");
                length += read;
            }
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let server = thread::Builder::new().name("server".to_owned()).spawn(serve).unwrap();
        (url, server)
    }

    #[test]
    fn the_server_is_asked_with_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = "a0b1".repeat(10);
        for (status, body, grade) in [
            ("200 OK", "{\"data\":{\"viewer\":{\"id\":\"x\"}}}", "ok"),
            ("401 Unauthorized", "{}", "bad"),
        ] {
            let (url, server) = serve(status, body);
            let netrc = format!(
                "machine {} login user password {key}\n",
                url.strip_prefix("http://").unwrap()
            );
            fs::write(folder.path().join(".netrc"), netrc).unwrap();
            let output = doctor(folder.path(), &["--json"], &[("WANDB_BASE_URL", &url)])
                .output()
                .unwrap();
            assert!(server.join().unwrap().to_lowercase().contains("authorization: basic"));
            let all = checks(&output);
            assert_eq!(check(&all, "wandb server").0, grade, "{all:?}");
            assert_eq!(check(&all, "wandb key").1, "in netrc or a settings file");
            assert!(!String::from_utf8_lossy(&output.stdout).contains(&key));
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_bad_only_for_runs_that_need_it() {
        let folder = tempfile::tempdir().unwrap();
        // Nobody listens there any more.
        let url = format!(
            "http://{}",
            TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
        );
        let key = "a0b1".repeat(10);
        let grade = |variables: &[(&str, &str)]| {
            let all = checks(&doctor(folder.path(), &["--json"], variables).output().unwrap());
            check(&all, "wandb server").0.to_owned()
        };
        assert_eq!(grade(&[("WANDB_BASE_URL", &url)]), "warning");
        assert_eq!(grade(&[("WANDB_BASE_URL", &url), ("WANDB_API_KEY", &key)]), "bad");
    }
}
