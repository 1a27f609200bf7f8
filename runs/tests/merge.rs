//! Merges of files of ranks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use logcore::FileRank;
use logcore_runs::{MergeError, Merged, merge_ranks};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// Returns a folder with these files, by name and rank.
fn run(files: &[(&str, u32, String)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, rank, text) in files {
        let rank = FileRank(Some(*rank).filter(|rank| *rank > 0));
        fs::write(folder.path().join(rank.file_name(name)), text).unwrap();
    }
    folder
}

fn merge(folder: &TempDir) -> Merged {
    merge_ranks(folder.path(), folder.path()).unwrap()
}

fn line(millis: u32, rest: &str) -> String {
    let (second, minute) = (millis / 1000 % 60, millis / 60_000);
    format!("2026-11-23 14:{minute:02}:{second:02}.{:03} | {rest}\n", millis % 1000)
}

fn text(folder: &TempDir) -> String {
    fs::read_to_string(folder.path().join("training.merged.log")).unwrap()
}

/// Returns rows of these steps and metrics, a second apart.
fn rows(rows: &[(u64, &str)]) -> String {
    rows_from(0.0, rows)
}

fn rows_from(start: f64, rows: &[(u64, &str)]) -> String {
    let mut text = String::new();
    for (at, (step, values)) in rows.iter().enumerate() {
        let comma = if values.is_empty() { "" } else { "," };
        let time = start + at as f64;
        text += &format!("{{\"step\":{step},\"time\":{time},\"logger\":\"trainer\"{comma}{values}}}\n");
    }
    text
}

fn merged_rows(folder: &TempDir) -> Vec<Value> {
    let text = fs::read_to_string(folder.path().join("metrics.merged.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns step, ranks and mean of `loss` of each row, in the order of the file.
fn losses(folder: &TempDir) -> Vec<(u64, u64, f64)> {
    merged_rows(folder)
        .iter()
        .map(|row| {
            (
                row["step"].as_u64().unwrap(),
                row["ranks"].as_u64().unwrap(),
                row["loss"].as_f64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn equal_lines_fold_and_lines_are_sorted() {
    let folder = run(&[
        (
            "training.log",
            0,
            line(0, "INFO  | trainer | Starting") + &line(2_000, "INFO  | trainer | Model\n    layers: 3"),
        ),
        (
            "training.log",
            1,
            line(10, "INFO  | trainer | Starting")
                + &line(1_000, "WARN  | trainer | slow")
                + &line(2_001, "INFO  | trainer | Model\n    layers: 4"),
        ),
        (
            "training.log",
            2,
            line(20, "INFO  | trainer | Starting") + &line(1_999, "INFO  | trainer | Model\n    layers: 3"),
        ),
        // Lines of different levels are not equal.
        (
            "training.log",
            5,
            line(9_999, "INFO  | trainer | Starting") + &line(12_000, "WARN  | trainer | Starting"),
        ),
    ]);
    let merged = merge(&folder);
    assert_eq!(
        text(&folder),
        line(0, "INFO  | trainer | [ranks 0-2,5] Starting")
            + &line(1_000, "WARN  | trainer | [rank 1] slow")
            + &line(1_999, "INFO  | trainer | [ranks 0,2] Model\n    layers: 3")
            + &line(2_001, "INFO  | trainer | [rank 1] Model\n    layers: 4")
            + &line(12_000, "WARN  | trainer | [rank 5] Starting")
    );
    let file = &merged.files[0];
    assert_eq!((file.read, file.written, file.left_out), (9, 5, 0));
    assert_eq!(
        file.to_string(),
        format!(
            "{}: 9 entries of ranks 0-2,5 merged into 5; no file of ranks 3-4",
            folder.path().join("training.merged.log").display()
        )
    );
}

#[test]
fn lines_beyond_the_window_or_of_one_rank_do_not_fold() {
    let beat = "INFO  | trainer | beat";
    let folder = run(&[
        ("training.log", 0, line(0, beat) + &line(5, beat) + &line(20_000, beat)),
        (
            "training.log",
            1,
            line(1, beat) + &line(20_001, beat) + &line(30_002, beat),
        ),
    ]);
    merge(&folder);
    assert_eq!(
        text(&folder),
        line(0, "INFO  | trainer | [ranks 0-1] beat")
            + &line(5, "INFO  | trainer | [rank 0] beat")
            + &line(20_000, "INFO  | trainer | [ranks 0-1] beat")
            + &line(30_002, "INFO  | trainer | [rank 1] beat")
    );
}

#[test]
fn merge_reads_rotated_parts_and_skips_torn_and_foreign_lines() {
    let folder = run(&[
        ("training.log", 0, line(3, "INFO  | a | three") + "2026-11-23 14:48:1"),
        (
            "training.log",
            1,
            "garbage\n".to_owned() + &line(2, "INFO  | a | two") + "printed by somebody\n",
        ),
    ]);
    fs::write(folder.path().join("training.log.1"), line(1, "INFO  | a | one")).unwrap();
    // A foreign line, and half of a row.
    fs::write(
        folder.path().join("metrics.jsonl"),
        rows(&[(1, "\"loss\":1")]) + "[1]\n{\"step\":2,",
    )
    .unwrap();
    let merged = merge(&folder);
    assert_eq!(
        text(&folder),
        line(1, "INFO  | a | [rank 0] one")
            + &line(2, "INFO  | a | [rank 1] two\nprinted by somebody")
            + &line(3, "INFO  | a | [rank 0] three")
    );
    let summary = merged.files[1].to_string();
    assert!(
        summary.contains("; skipped 1 foreign line, the first is line 1 of ") && summary.contains("training.rank1.log"),
        "{summary}"
    );
    assert!(
        summary.ends_with("; skipped the incomplete last line of rank 0"),
        "{summary}"
    );
    let metrics = &merged.files[0];
    assert_eq!((metrics.read, metrics.written, metrics.left_out), (1, 1, 1));
    assert!(metrics.first_left_out.as_ref().unwrap().starts_with("line 2 of "));
    assert!(metrics.torn.contains(&0));
    // A second merge does not read the results of the first.
    assert_eq!(merge(&folder), merged);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
}

#[test]
fn means_are_weighted_by_the_samples_of_each_rank() {
    let row = |loss: f64, samples: u64, millis: f64| {
        format!(
            "\"loss\":{loss:?},\"epoch\":3,\"throughput/accumulated_samples\":{samples},\
             \"throughput/batch_time_ms\":{millis:?}"
        )
    };
    let (a, b, c) = (row(1.0, 32, 10.0), row(2.0, 64, 10.0), row(5.0, 66, 9.0));
    let (d, e) = (row(3.0, 16, 11.0), row(4.0, 24, 9.0));
    let folder = run(&[
        ("metrics.jsonl", 0, rows(&[(1, &a), (2, &b), (3, &c)])),
        // Rank 1 has smaller batches, and stops early.
        ("metrics.jsonl", 1, rows(&[(1, &d), (2, &e)])),
    ]);
    merge(&folder);
    let rows = merged_rows(&folder);
    // (1 * 32 + 3 * 16) / 48, (2 * 32 + 4 * 8) / 40, and alone.
    let expected = [(1, 2, 80.0 / 48.0), (2, 2, 96.0 / 40.0), (3, 1, 5.0)];
    for ((step, ranks, mean), found) in expected.into_iter().zip(losses(&folder)) {
        assert_eq!((step, ranks), (found.0, found.1));
        assert!((mean - found.2).abs() < 1e-12, "{found:?}");
    }
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[1]["loss/min"], &rows[1]["loss/max"]), (&2.0.into(), &4.0.into()));
    assert_eq!(
        (&rows[0]["slowest_rank"], &rows[1]["slowest_rank"]),
        (&1.into(), &0.into())
    );
    assert_eq!((&rows[0]["epoch"], &rows[0]["epoch/min"]), (&3.into(), &3.into()));
    assert_eq!((&rows[0]["time"], &rows[0]["logger"]), (&0.0.into(), &"trainer".into()));
}

#[test]
fn ranks_without_samples_weigh_the_same() {
    let folder = run(&[
        ("metrics.jsonl", 0, rows(&[(1, "\"loss\":1")])),
        ("metrics.jsonl", 1, rows_from(0.5, &[(1, "\"loss\":\"NaN\"")])),
        (
            "metrics.jsonl",
            2,
            rows(&[(1, "\"loss\":4,\"throughput/accumulated_samples\":9")]),
        ),
    ]);
    merge(&folder);
    let rows = merged_rows(&folder);
    assert_eq!((&rows[0]["loss"], &rows[0]["loss/nan"]), (&2.5.into(), &1.into()));
    assert_eq!((&rows[0]["slowest_rank"], &rows[0]["ranks"]), (&1.into(), &3.into()));
}

#[test]
fn late_rows_stay_apart_and_rows_of_one_step_merge() {
    let (first, second, third) = ("\"loss\":1", "\"loss\":2", "\"loss\":3");
    let folder = run(&[
        (
            "metrics.jsonl",
            0,
            rows(&[
                (1, first),
                (2, first),
                (2, "\"accuracy\":0.5"),
                (3, first),
                (1, third),
                (4, first),
            ]),
        ),
        (
            "metrics.jsonl",
            1,
            rows(&[(1, second), (2, second), (3, second), (4, second)]),
        ),
    ]);
    merge(&folder);
    assert_eq!(
        losses(&folder),
        [(1, 2, 1.5), (2, 2, 1.5), (3, 2, 1.5), (4, 2, 1.5), (1, 1, 3.0)]
    );
    assert_eq!(merged_rows(&folder)[1]["accuracy"], 0.5);
}

#[test]
fn restarted_run_is_not_mixed_with_the_run_before() {
    let (old, new) = ("\"loss\":1", "\"loss\":9");
    let steps = |from: u64, to: u64, loss| (from..=to).map(|step| (step, loss)).collect::<Vec<_>>();
    let folder = run(&[
        (
            "metrics.jsonl",
            0,
            rows(&steps(1, 6, old)) + &rows_from(100.0, &steps(3, 8, new)),
        ),
        (
            "metrics.jsonl",
            1,
            rows(&steps(1, 4, old)) + &rows_from(100.2, &steps(3, 8, new)),
        ),
    ]);
    merge(&folder);
    let expected: Vec<_> = (1..=4)
        .map(|step| (step, 2, 1.0))
        .chain([(5, 1, 1.0), (6, 1, 1.0)])
        .chain((3..=8).map(|step| (step, 2, 9.0)))
        .collect();
    assert_eq!(losses(&folder), expected);
}

#[test]
fn loggers_stay_apart_and_wait_for_no_missing_rank() {
    let mut texts = [String::new(), String::new()];
    for step in 0..2_000 {
        for (rank, text) in texts.iter_mut().enumerate() {
            *text += &format!("{{\"step\":{step},\"time\":{step},\"logger\":\"a\",\"loss\":{rank}}}\n");
        }
        texts[0] += &format!("{{\"step\":{step},\"time\":{step},\"logger\":\"only 0\",\"loss\":7}}\n");
    }
    let [first, second] = texts;
    let folder = run(&[("metrics.jsonl", 0, first), ("metrics.jsonl", 1, second)]);
    merge(&folder);
    let mut by_logger: BTreeMap<String, Vec<(u64, u64, f64)>> = BTreeMap::new();
    for (row, loss) in merged_rows(&folder).iter().zip(losses(&folder)) {
        by_logger
            .entry(row["logger"].as_str().unwrap().to_owned())
            .or_default()
            .push(loss);
    }
    assert!(by_logger["a"].iter().copied().eq((0..2_000).map(|step| (step, 2, 0.5))));
    assert!(
        by_logger["only 0"]
            .iter()
            .copied()
            .eq((0..2_000).map(|step| (step, 1, 7.0)))
    );
}

#[test]
fn errors_name_the_file_and_leave_no_partial_result() {
    let empty = tempfile::tempdir().unwrap();
    let error = merge_ranks(empty.path(), empty.path()).unwrap_err();
    assert!(matches!(error, MergeError::Nothing { .. }), "{error}");
    let error = merge_ranks(&empty.path().join("not there"), empty.path()).unwrap_err();
    assert!(error.to_string().contains("not there: "), "{error}");

    let folder = run(&[("training.log", 0, line(1, "INFO  | a | x"))]);
    fs::create_dir(folder.path().join("training.rank1.log.1")).unwrap();
    fs::write(folder.path().join("training.rank1.log"), line(1, "INFO  | a | x")).unwrap();
    let error = merge_ranks(folder.path(), folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("training.rank1.log.1: it is a folder"),
        "{error}"
    );
    assert_eq!(
        names(folder.path()),
        ["training.log", "training.rank1.log", "training.rank1.log.1"]
    );

    fs::remove_dir(folder.path().join("training.rank1.log.1")).unwrap();
    let file = folder.path().join("training.log");
    let error = merge_ranks(folder.path(), &file).unwrap_err();
    assert!(matches!(error, MergeError::Unwritable { .. }), "{error}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Returns the ranks in the mark of a line.
fn marked(line: &str) -> Vec<u32> {
    let mark = line.split_once("| [rank").unwrap().1.split_once(']').unwrap().0;
    let mut ranks = Vec::new();
    for span in mark.trim_start_matches('s').trim().split(',') {
        let (first, last) = span.split_once('-').unwrap_or((span, span));
        ranks.extend(first.parse::<u32>().unwrap()..=last.parse().unwrap());
    }
    ranks
}

proptest! {
    /// Each line of each rank is in exactly one merged line, and the merged lines are sorted.
    #[test]
    fn each_line_of_each_rank_is_merged_once(
        said in prop::collection::vec(prop::collection::vec((0_u32..9_000, 0_u8..4), 0..40), 1..5),
    ) {
        let mut expected: BTreeMap<(u32, String), usize> = BTreeMap::new();
        let files: Vec<_> = said
            .iter()
            .enumerate()
            .map(|(rank, said)| {
                let (mut now, mut text) = (0, String::new());
                for (later, what) in said {
                    now += later;
                    text += &line(now, &format!("INFO  | a | {what}\n    more {what}"));
                    *expected.entry((rank as u32, what.to_string())).or_default() += 1;
                }
                ("training.log", rank as u32, text)
            })
            .collect();
        let folder = run(&files);
        let merged = merge(&folder);
        let text = text(&folder);
        let mut found: BTreeMap<(u32, String), usize> = BTreeMap::new();
        let lines: Vec<_> = text.lines().collect();
        prop_assert_eq!(lines.len() as u64, 2 * merged.files[0].written);
        let mut last = "";
        for pair in lines.chunks(2) {
            let what = pair[0].split_once("] ").unwrap().1;
            prop_assert_eq!(pair[1], format!("    more {what}"));
            for rank in marked(pair[0]) {
                *found.entry((rank, what.to_owned())).or_default() += 1;
            }
            prop_assert!(last <= &pair[0][..23]);
            last = &pair[0][..23];
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn repeated_hour_is_merged_in_true_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, stamps: &[&str]| {
        let lines = stamps
            .iter()
            .enumerate()
            .map(|(at, stamp)| format!("2026-10-25 {stamp} | INFO  | t | {name} {at}\n"));
        fs::write(folder.path().join(name), lines.collect::<String>()).unwrap();
    };
    write(
        "training.log",
        &[
            "02:59:58.000",
            "02:59:59.000",
            "02:00:00.000",
            "02:00:01.000",
            "03:10:00.000",
        ],
    );
    write(
        "training.rank1.log",
        &["02:59:58.700", "02:59:59.700", "02:00:00.700", "02:00:01.700"],
    );
    // This rank starts after the repeated hour, so its own file does not show it.
    write("training.rank2.log", &["03:05:00.000", "03:15:00.000"]);
    merge_ranks(folder.path(), folder.path()).unwrap();
    let text = fs::read_to_string(folder.path().join("training.merged.log")).unwrap();
    let order: Vec<_> = text.lines().map(|line| line.rsplit_once(']').unwrap().1).collect();
    assert_eq!(
        order,
        [
            " training.log 0",
            " training.rank1.log 0",
            " training.log 1",
            " training.rank1.log 1",
            " training.log 2",
            " training.rank1.log 2",
            " training.log 3",
            " training.rank1.log 3",
            " training.rank2.log 0",
            " training.log 4",
            " training.rank2.log 1"
        ]
    );
}

#[cfg(unix)]
#[test]
fn socket_in_place_of_a_file_is_an_error() {
    let line = "2026-11-23 14:48:15.123 | INFO  | trainer | Starting\n";
    for name in ["training.rank1.log", "training.log.1", "metrics.jsonl"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("training.log"), line).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join(name)).unwrap();
        let error = merge_ranks(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("it is a socket"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn result_replaces_a_link_and_keeps_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let (precious, merged) = (
        folder.path().join("precious"),
        folder.path().join("training.merged.log"),
    );
    fs::write(&precious, "precious").unwrap();
    fs::write(
        folder.path().join("training.log"),
        "2026-11-23 14:48:15.123 | INFO  | trainer | Starting\n",
    )
    .unwrap();
    std::os::unix::fs::symlink(&precious, &merged).unwrap();
    merge_ranks(folder.path(), folder.path()).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(merged.symlink_metadata().unwrap().is_file());
    fs::remove_file(&merged).unwrap();
    fs::create_dir(&merged).unwrap();
    let error = merge_ranks(folder.path(), folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write "), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn last_of_several_values_of_a_step_counts() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "{\"step\":7,\"time\":1.0,\"logger\":\"t\",\"loss\":0.5}\n\
                {\"step\":7,\"time\":2.0,\"logger\":\"t\",\"loss\":0.25,\"lr\":0.1}\n";
    fs::write(folder.path().join("metrics.jsonl"), rows).unwrap();
    merge_ranks(folder.path(), folder.path()).unwrap();
    let text = fs::read_to_string(folder.path().join("metrics.merged.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&row["loss"], &row["lr"], &row["time"]),
        (&0.25.into(), &0.1.into(), &2.0.into())
    );
}

#[test]
fn weights_of_ranks_are_no_texts() {
    let folder = run(&[("training.log", 0, line(0, "one")), ("training.log", 1, line(1, "two"))]);
    for name in ["model.rank0.pt", "model.rank1.pt", "model.merged.pt"] {
        fs::write(folder.path().join(name), "weights").unwrap();
    }
    let merged = merge_ranks(folder.path(), folder.path()).unwrap();
    assert_eq!(merged.files.len(), 1);
    assert_eq!(
        fs::read_to_string(folder.path().join("model.merged.pt")).unwrap(),
        "weights"
    );
}

#[test]
fn rows_of_a_run_whose_attempts_cannot_be_read_are_not_merged() {
    let folder = run(&[("training.log", 0, line(0, "one"))]);
    fs::write(folder.path().join("run.json"), "{\"id\":\"a").unwrap();
    let error = merge_ranks(folder.path(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("run.json"), "{error}");
}

#[cfg(unix)]
#[test]
fn pipe_in_place_of_a_result_is_an_error() {
    use std::os::unix::fs::FileTypeExt as _;
    let folder = run(&[("training.log", 0, line(0, "one"))]);
    let pipe = folder.path().join("training.merged.log");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let error = merge_ranks(folder.path(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("something else than a file"), "{error}");
    assert!(pipe.metadata().unwrap().file_type().is_fifo());
}

#[cfg(unix)]
#[test]
fn pipe_in_place_of_a_file_is_an_error() {
    for name in ["training.log", "metrics.jsonl"] {
        let folder = run(&[(name, 0, line(0, "one")), (name, 2, line(1, "two"))]);
        let pipe = folder.path().join(FileRank(Some(1)).file_name(name));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = merge_ranks(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("pipe") && error.contains("rank1"), "{error}");
    }
}

#[test]
fn a_log_dir_stands_for_its_newest_run_without_its_superseded_rows() {
    let log_dir = tempfile::tempdir().unwrap();
    let manifest = |started: u32, attempts: &str| {
        format!("{{\"started\":{started},\"state\":\"finished\",\"attempts\":[{attempts}]}}")
    };
    for (name, text) in [
        ("older", manifest(1, "{}")),
        ("newer", manifest(2, "{}, {\"first_step\":{\"trainer\":2}}")),
    ] {
        let folder = log_dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("run.json"), text).unwrap();
        let first = rows(&[(1, "\"loss\":1"), (2, "\"loss\":100"), (3, "\"loss\":100")]);
        let second = rows_from(9.0, &[(2, "\"loss\":2,\"attempt\":2")]);
        for rank in [FileRank(None), FileRank(Some(1))] {
            fs::write(folder.join(rank.file_name("metrics.jsonl")), format!("{first}{second}")).unwrap();
        }
    }
    let merged = merge_ranks(log_dir.path(), log_dir.path()).unwrap();
    assert_eq!(merged.files[0].path, log_dir.path().join("newer/metrics.merged.jsonl"));
    let text = fs::read_to_string(&merged.files[0].path).unwrap();
    let losses: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (row["step"].as_u64().unwrap(), row["loss"].as_f64().unwrap()))
        .collect();
    assert_eq!(losses, [(1, 1.0), (2, 2.0)]);
}

/// Readers of events read the files of all ranks.
#[test]
fn events_are_no_text_to_merge() {
    let event = |rank| format!("{{\"time\":1,\"kind\":\"skew\",\"level\":\"warn\",\"rank\":{rank},\"attempt\":1}}\n");
    let folder = run(&[
        ("events.jsonl", 0, event(0)),
        ("events.jsonl", 1, event(1)),
        ("training.log", 0, line(0, "INFO  | a | one")),
    ]);
    let merged = merge(&folder);
    assert_eq!(merged.files.len(), 1, "{merged:?}");
    assert!(!folder.path().join("events.merged.jsonl").exists());
}
