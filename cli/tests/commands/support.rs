//! Folders of runs, windows and refusals.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::{command, error, logcore, text};

/// Makes a folder with runs of every kind.
pub(crate) fn runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |run: &str, name: &str, text: &str| {
        let dir = folder.path().join(run);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), text).unwrap();
    };
    let manifest = |id: &str, started: u32, state: &str, attempts: &str| {
        format!(
            "{{\"id\":\"{id}\",\"name\":\"trainer\",\"started\":{started},\"ended\":{},\"state\":\"{state}\",\
             \"world_size\":1,\"attempts\":{attempts}}}",
            started + 3725
        )
    };
    write(
        "one",
        "run.json",
        &manifest(
            "k3v9q2ab",
            1000,
            "finished",
            r#"[{"last_step":900,"ledger":{"step":3,"data":1}}]"#,
        ),
    );
    write(
        "one",
        "config.json",
        r#"{"config":{"lr":0.001,"model":{"depth":12},"seed":1}}"#,
    );
    write(
        "one",
        "summary.json",
        r#"{"trainer":{"state":"finished","last_step":900,"steps_per_sec":136.14,"samples_per_sec":17400.0,"goodput":0.79,
            "metrics":[{"name":"loss","last":2.4811,"mean":2.6926,"min":2.1872,"max":8.0,"count":900}]}}"#,
    );
    write(
        "one",
        "metrics.jsonl",
        "{\"step\":1,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":8.0,\"nonfinite\":\"\",\"attempt\":1}\n\
         {\"step\":2,\"time\":2.5,\"logger\":\"trainer\",\"metrics/loss\":null,\"nonfinite\":\"{\\\"metrics/loss\\\":\\\"NaN\\\"}\"}\n",
    );
    write(
        "two",
        "run.json",
        &manifest(
            "x07d9q2a",
            2000,
            "killed",
            r#"[{"started":2000,"ended":2010,"state":"killed"},{"started":2020}]"#,
        ),
    );
    write(
        "two",
        "config.json",
        r#"{"config":{"lr":0.0001,"model":{"depth":12},"seed":2}}"#,
    );
    write(
        "two",
        "metrics.jsonl",
        "{\"step\":7,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":0.03125}\n",
    );
    write(
        "evil",
        "run.json",
        "{\"id\":\"e\",\"name\":\"\\u001b[2J<script>\",\"started\":500,\"state\":\"failed\"}",
    );
    write("broken", "run.json", "{");
    fs::create_dir(folder.path().join("checkpoints")).unwrap();
    folder
}

/// Makes a row of a run, without its line end.
pub(crate) fn row(step: u32, loss: f64) -> String {
    format!("{{\"step\":{step},\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":{loss}}}")
}

/// Runs a command in a window of so many columns.
pub(crate) fn in_window(folder: &Path, columns: &str, arguments: &[&str]) -> String {
    text(&command(folder, arguments).env("COLUMNS", columns).output().unwrap())
}

/// Runs a command that is refused for a reason with this part; returns its output.
pub(crate) fn assert_refused(folder: &Path, arguments: &[&str], part: &str) -> Output {
    let output = logcore(folder, arguments);
    let error = error(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(error.contains(part), "{arguments:?}: {error}");
    output
}
