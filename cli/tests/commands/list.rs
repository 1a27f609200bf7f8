//! `logcore ls`: which runs it lists, by which condition, and in which order.

use std::fs;

use crate::common::{error, json, logcore, text};
use crate::support::{row, runs};

#[test]
fn ls_lists_what_can_be_read_and_names_what_cannot() {
    let folder = runs();
    let output = logcore(
        folder.path(),
        &[
            "ls",
            "--columns",
            "id,name,state,last_step,steps_per_sec,summary.loss.last",
        ],
    );
    insta::assert_snapshot!(text(&output), @r"
    id        name             state     last_step  steps_per_sec  summary.loss.last
    x07d9q2a  trainer          killed            7                           0.03125
    k3v9q2ab  trainer          finished        900          136.1              2.481
    e         \x1b[2J<script>  failed
    ");
    let errors = error(&output);
    assert!(
        errors.contains("broken/run.json") && errors.lines().count() == 1,
        "{errors}"
    );
    let listed = json(folder.path(), &["ls"]);
    assert_eq!((&listed["schema"], &listed["command"]), (&1.into(), &"ls".into()));
    assert_eq!(listed["runs"].as_array().unwrap().len(), 3);
    assert_eq!(listed["problems"].as_array().unwrap().len(), 1);
    let two = &listed["runs"][0];
    assert_eq!(
        (&two["id"], &two["attempt"], &two["rows"]),
        (&"x07d9q2a".into(), &2.into(), &1.into())
    );
    assert_eq!(
        (&two["config"]["lr"], &two["summary"]["loss"]["last"]),
        (&1e-4.into(), &0.031_25.into())
    );
}

#[test]
fn ls_bounds_what_it_reads_of_long_rows() {
    let folder = tempfile::tempdir().unwrap();
    let values: String = (0..100_000).map(|metric| format!(",\"m{metric}\":0.25")).collect();
    let rows = row(1, 0.5) + "\n" + &row(2, 0.5).replace('}', &values) + "}\n";
    for number in 0..30 {
        let dir = folder.path().join(format!("run{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(
            dir.join("run.json"),
            format!("{{\"id\":\"{number}\",\"state\":\"killed\"}}"),
        )
        .unwrap();
        fs::write(dir.join("metrics.jsonl"), &rows).unwrap();
    }
    let output = logcore(folder.path(), &["ls", "--columns", "last_step"]);
    let found = text(&output).matches('2').count();
    assert!((5..25).contains(&found), "{found} runs have a last step");
    let error = error(&output);
    let others = format!("and of {} more runs: the last row is too long", 29 - found);
    assert!(error.contains(&others) && error.lines().count() == 1, "{error}");
}

#[test]
fn ls_leaves_out_and_sorts() {
    let folder = runs();
    let ids = |arguments: &[&str]| {
        let listed = json(folder.path(), &[&["ls"], arguments].concat());
        let runs = listed["runs"].as_array().unwrap().clone();
        runs.iter()
            .map(|run| run["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--where", "state", "=", "killed"]), ["x07d9q2a"]);
    assert_eq!(ids(&["--where", "config.lr > 0.0005"]), ["k3v9q2ab"]);
    assert_eq!(
        ids(&["--where", "config.model.depth=12", "--where", "last_step>=7"]),
        ["x07d9q2a", "k3v9q2ab"]
    );
    assert_eq!(ids(&["--sort", "last_step"]), ["k3v9q2ab", "x07d9q2a", "e"]);
    assert_eq!(ids(&["--sort", "-started"]), ["e", "k3v9q2ab", "x07d9q2a"]);
}
