//! `logcore plot`: curves, and why there are none.

use std::fs;

use crate::common::{error, json, logcore, text};
use crate::support::{assert_refused, in_window, row, runs};

#[test]
fn plot_draws_the_metrics_of_runs() {
    let folder = runs();
    let rows = (0..100).map(|step| {
        let loss = if step == 50 { 9.0 } else { 1.0 - f64::from(step) / 100.0 };
        format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"trainer\",\"metrics/loss\":{loss}}}\n")
    });
    fs::write(folder.path().join("one/metrics.jsonl"), rows.collect::<String>()).unwrap();
    let plot = in_window(folder.path(), "40", &["plot", "one", "loss", "--height", "4"]);
    insta::assert_snapshot!(plot);
    assert!(plot.lines().all(|line| line.chars().count() <= 40), "{plot}");
    let plots = json(folder.path(), &["plot", "one", "two", "loss"]);
    let curves = plots["plots"][0]["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 2);
    assert!(
        curves[0]["points"]
            .as_array()
            .unwrap()
            .contains(&serde_json::json!([50, 9.0])),
        "the spike is there"
    );
    let unknown = logcore(folder.path(), &["plot", "one", "lsos"]);
    assert!(error(&unknown).contains("metrics/loss"));
}

#[test]
fn a_plot_without_values_says_why() {
    let folder = runs();
    let file = folder.path().join("one/metrics.jsonl");
    fs::write(&file, "no row\n").unwrap();
    let part = "1 line is no row, and is left out: line 1 of one/metrics.jsonl";
    assert_refused(folder.path(), &["plot", "one"], part);

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(folder.path().join("two/metrics.jsonl"), format!("{}\n", row(1, 8.0))).unwrap();
    // A folder of that name is no file of the run.
    assert!(text(&logcore(folder.path(), &["plot", "one"])).contains("there is nothing to plot. Name a run"));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "").unwrap();
    assert!(text(&logcore(folder.path(), &["plot", "one"])).contains("there is nothing to plot. Name a run"));
}

#[cfg(unix)]
#[test]
fn a_plot_names_the_rows_that_it_cannot_read() {
    let folder = runs();
    let pipe = folder.path().join("one/metrics.jsonl");
    fs::remove_file(&pipe).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&pipe).unwrap();
    let part = "one/metrics.jsonl: it is a socket";
    let plotted = assert_refused(folder.path(), &["plot", "one", "two"], part);
    assert!(!plotted.stdout.is_empty(), "the other run is drawn");
}
