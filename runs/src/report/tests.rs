//! Reports of odd runs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn write_run(folder: &Path, manifest: &Value, rows: &str) -> StoredRun {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("run.json"), manifest.to_string()).unwrap();
    fs::write(folder.join("metrics.jsonl"), rows).unwrap();
    StoredRun::open(folder).unwrap()
}

/// Returns the facts, the page and the data in it.
fn report(runs: &[StoredRun]) -> (ReportFacts, String, Value) {
    let mut page = Vec::new();
    let facts = write_report(runs, &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert_eq!(facts.bytes, page.len() as u64);
    assert!(facts.data_bytes <= MAX_DATA_BYTES as u64, "{facts:?}");
    let data = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap()
        .1;
    let data = data.split_once("</script>").unwrap().0;
    assert_eq!(data.len() as u64, facts.data_bytes);
    let data = serde_json::from_str(data).unwrap();
    (facts, page, data)
}

const ODD: &str = "</script><script>alert(1)</script>\"'\n\u{2028}<!-- {{script}}";

#[test]
fn hostile_names_stay_in_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let row = json!({"step": 1, "time": 1.0, "logger": ODD, ODD: 1.0, "__proto__": 2.0});
    let manifest = json!({"name": ODD, "id": ODD, "state": "finished", "argv": [ODD], "resumed_from": ODD,
        "wandb": [{"logger": "a", "rank": 0, "id": "a", "url": "javascript:alert(1)"}]});
    let run = write_run(folder.path(), &manifest, &format!("{row}\n"));
    fs::write(folder.path().join("training.log"), ODD).unwrap();
    fs::write(
        folder.path().join("config.json"),
        json!({"config": {ODD: ODD}}).to_string(),
    )
    .unwrap();
    fs::write(
        folder.path().join("summary.json"),
        json!({ODD: {"state": ODD}}).to_string(),
    )
    .unwrap();
    let (facts, page, data) = report(&[run]);
    assert_eq!((facts.curves, facts.lines, facts.notes.len()), (2, 2, 0));
    assert_eq!(page.matches("<script").count(), 2, "the data and the script");
    assert_eq!(page.matches("</script>").count(), 2);
    let run = &data["runs"][0];
    assert_eq!(
        (run["name"].as_str(), run["config"][ODD].as_str()),
        (Some(ODD), Some(ODD))
    );
    assert_eq!(data["names"], json!([ODD, ODD, "__proto__"][1..]));
}

/// A browser reads numbers as doubles.
#[test]
fn large_integers_of_a_config_keep_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &json!({"name": "seeds"}), "");
    let config = r#"{"config":{"seed":9007199254740993,"least":-9223372036854775808,"lr":1e300,"deep":[{"a":18446744073709551615}],"last":9007199254740991}}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    let (_, _, data) = report(&[run]);
    let expected = json!({
        "seed": "9007199254740993",
        "least": "-9223372036854775808",
        "lr": 1e300,
        "deep": [{"a": "18446744073709551615"}],
        "last": 9_007_199_254_740_991_u64,
    });
    assert_eq!(data["runs"][0]["config"], expected);
}

#[test]
fn a_page_of_no_run_is_complete() {
    let (facts, page, data) = report(&[]);
    assert_eq!((facts.runs, data["runs"].as_array().unwrap().len()), (0, 0));
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn long_runs_are_thinned_to_the_limit_and_keep_their_spikes() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for step in 0..60_000 {
        let value = if step % 600 == 300 { 9.0 } else { 1.0 };
        write!(rows, "{{\"step\":{step},\"time\":{step}.5,\"logger\":\"a\"").unwrap();
        (0..10).for_each(|name| write!(rows, ",\"m{name}\":{value}").unwrap());
        rows.push_str("}\n");
    }
    let run = write_run(folder.path(), &json!({"state": "finished"}), &rows);
    let (facts, _, data) = report(&[run]);
    assert!(facts.widest_bucket > 1 && facts.curves == 10, "{facts:?}");
    assert_eq!(data["widest"].as_u64(), Some(facts.widest_bucket));
    assert!(facts.data_bytes > MAX_DATA_BYTES as u64 / 8, "{facts:?}");
    let curve = &data["runs"][0]["curves"][9];
    assert_eq!(curve["count"].as_u64(), Some(60_000));
    let bytes = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        curve["data"].as_str().unwrap(),
    );
    let bytes = bytes.unwrap();
    let points = usize::try_from(curve["points"].as_u64().unwrap()).unwrap();
    let values = &bytes[points * 8..points * 16];
    let spikes = values
        .chunks(8)
        .filter(|bytes| f64::from_le_bytes((*bytes).try_into().unwrap()) > 1.0);
    assert_eq!(spikes.count(), 100);
}

#[test]
fn many_metrics_and_long_names_fit() {
    let folder = tempfile::tempdir().unwrap();
    let mut row = "{\"step\":1,\"time\":1.0,\"logger\":\"a\"".to_owned();
    (0..100_000).for_each(|name| write!(row, ",\"metrics/<<<<{name}\":1").unwrap());
    writeln!(row, ",\"{}\":1}}", "long".repeat(1000)).unwrap();
    let run = write_run(folder.path(), &json!({"state": "finished"}), &row);
    let (facts, _, _) = report(&[run]);
    assert!(facts.curves > 10_000, "{facts:?}");
    assert!(facts.notes[0].contains("curves are left out: too many"), "{facts:?}");
    assert_eq!(
        facts.notes[1], "1 curve is left out: its name has more than 1024 bytes.",
        "{facts:?}"
    );
}

#[test]
fn large_documents_and_texts_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({"state": "finished", "name": "<".repeat(100_000), "argv": vec!["<"; 100_000]});
    let runs: Vec<_> = (0..3)
        .map(|at| {
            let folder = folder.path().join(at.to_string());
            let run = write_run(&folder, &manifest, "");
            let large = json!({"config": {"a": "<".repeat(1_000_000)}}).to_string();
            fs::write(folder.join("config.json"), &large).unwrap();
            fs::write(folder.join("summary.json"), "[".repeat(1_000_000)).unwrap();
            fs::write(
                folder.join("training.log"),
                "<".repeat(1000) + "\n" + &"<\n".repeat(3_000_000),
            )
            .unwrap();
            run
        })
        .collect();
    let (facts, _, data) = report(&runs);
    assert_eq!(facts.runs, 3);
    assert!(
        data["runs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|run| run.get("config").is_none())
    );
    assert!(facts.notes.iter().any(|note| note.contains("too large")), "{facts:?}");
    assert_eq!(data["runs"][0]["earlier_lines"].as_bool(), Some(true));
}

#[cfg(unix)]
#[test]
fn links_in_the_place_of_files_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(
        &secret,
        "{\"step\":1,\"time\":1.0,\"logger\":\"secret\",\"config\":1,\"loss\":1}\n",
    )
    .unwrap();
    let dir = folder.path().join("run");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("run.json"), "{}").unwrap();
    for name in ["metrics.jsonl", "training.log", "config.json", "summary.json"] {
        std::os::unix::fs::symlink(&secret, dir.join(name)).unwrap();
    }
    let (facts, page, _) = report(&[StoredRun::open(&dir).unwrap()]);
    assert_eq!((facts.curves, facts.lines, facts.notes.len()), (0, 0, 4), "{facts:?}");
    assert!(!page.contains("secret"));
}

#[test]
fn an_output_that_fails_is_an_error() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = write_report(&[], &mut Full).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the report: "), "{error}");
}

/// Writes images of `bytes` bytes at so many steps.
fn write_images(folder: &Path, steps: u64, bytes: usize) {
    fs::create_dir_all(folder.join("media/images")).unwrap();
    let mut index = String::new();
    for step in 0..steps {
        let path = format!("media/images/a_{step}.png");
        fs::write(folder.join(&path), vec![7; bytes]).unwrap();
        let line = json!({"time": 1.0, "logger": "trainer", "key": "a", "step": step, "path": path, "size": bytes,
            "sha256": "", "kind": "image", "format": "png", "width": 1, "height": 1});
        writeln!(index, "{line}").unwrap();
    }
    fs::write(folder.join("media.jsonl"), index).unwrap();
}

#[test]
fn media_are_thinned_before_the_page_gets_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &json!({"name": "a"}), "");
    for (steps, bytes, kept) in [(3, 10, 3..=3), (300, 10, 100..=100), (30, 1_000_000, 5..=6)] {
        write_images(folder.path(), steps, bytes);
        let (facts, _, data) = report(std::slice::from_ref(&run));
        let items = data["runs"][0]["media"][0]["items"].as_array().unwrap();
        assert!(kept.contains(&items.len()), "{} of {steps}", items.len());
        let step = |at: usize| items[at]["step"].as_u64().unwrap();
        assert_eq!((step(0), step(items.len() - 1)), (0, steps - 1));
        assert!(
            items
                .windows(2)
                .all(|two| two[0]["step"].as_u64() < two[1]["step"].as_u64())
        );
        let note = format!("{} of {steps} media values are left out", steps - items.len() as u64);
        let is_noted = facts.notes.iter().any(|text| text.starts_with(&note));
        assert_eq!(is_noted, items.len() < steps as usize, "{:?}", facts.notes);
        assert!(
            items[0]["url"]
                .as_str()
                .unwrap()
                .starts_with("data:image/png;base64,BwcH")
        );
    }
}

#[test]
fn curves_come_before_media() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &json!({"name": "a"}), "");
    write_images(folder.path(), 1, MAX_DATA_BYTES * 3 / 4);
    let (facts, _, data) = report(&[run]);
    assert_eq!(data["runs"][0].get("media"), None, "it does not fit");
    assert_eq!(facts.notes.len(), 1);
}

#[test]
fn an_odd_index_of_media_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &json!({"name": "a"}), "");
    let histogram = |key: &str, counts: usize, edges: usize| {
        let (counts, edges) = (vec![1; counts], vec![0.5; edges]);
        json!({"time": 1.0, "logger": ODD, "key": key, "step": 1, "kind": "histogram", "counts": counts, "edges": edges})
    };
    let mut index = String::new();
    for (counts, edges) in [(2, 2), (2, 4), (100_000, 100_001)] {
        writeln!(index, "{}", histogram(ODD, counts, edges)).unwrap();
    }
    for key in 0..1000 {
        writeln!(index, "{}", histogram(&format!("key {key}"), 2, 3)).unwrap();
    }
    fs::write(folder.path().join("media.jsonl"), index).unwrap();
    let (facts, _, data) = report(&[run]);
    let groups = data["runs"][0]["media"].as_array().unwrap();
    assert!(groups.len() >= 299, "{}", groups.len());
    assert!(
        groups.iter().all(|group| group["key"] != ODD),
        "its histograms are malformed"
    );
    let left_out = 1003 - groups.len();
    assert!(
        facts.notes[0].starts_with(&format!("{left_out} of 1003 media values")),
        "{:?}",
        facts.notes
    );
}

/// Returns a line of `events.jsonl`.
fn event_line(step: u64, text: &str) -> String {
    let event = json!({"time": step, "step": step, "kind": "rule", "level": "error", "rank": 0, "attempt": 1,
        "metric": text, "incident": "../../etc/passwd", "text": text});
    format!("{event}\n")
}

#[test]
fn events_and_ranks_are_data_of_bounded_size() {
    use logcore_health::slot::{RankState, SlotFolder};

    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<StoredRun> = (0..3)
        .map(|number| {
            let folder = folder.path().join(number.to_string());
            let run = write_run(&folder, &json!({"world_size": 2, "attempts": [{}]}), "");
            let long = "<".repeat(30_000);
            let lines: String = (0..300)
                .map(|step| event_line(step, if step == 299 { ODD } else { &long }))
                .collect();
            fs::write(folder.join("events.jsonl"), lines).unwrap();
            SlotFolder::new(&folder).write(&RankState::new(1, 1)).unwrap();
            run
        })
        .collect();
    let (facts, page, data) = report(&runs);
    assert_eq!(page.matches("<script").count(), 2, "the data and the script");
    assert!(facts.data_bytes < MAX_DATA_BYTES as u64 / 4, "{facts:?}");
    for run in data["runs"].as_array().unwrap() {
        let events = run["events"].as_array().unwrap();
        let last = events.last().unwrap();
        assert_eq!((last["text"].as_str(), last.get("incident")), (Some(ODD), None));
        assert!(events.len() > 10, "{}", events.len());
        assert_eq!(run["earlier_events"], 300 - events.len());
        assert_eq!(
            (&run["ranks"][0]["rank"], &run["ranks"][0]["phase"]),
            (&1.into(), &"startup".into())
        );
    }
}

#[cfg(unix)]
#[test]
fn events_that_are_a_link_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, event_line(1, "secret text")).unwrap();
    let run = write_run(&folder.path().join("run"), &json!({}), "");
    std::os::unix::fs::symlink(&secret, run.dir.join("events.jsonl")).unwrap();
    let (facts, page, _) = report(&[run]);
    assert!(!page.contains("secret text"));
    assert!(
        facts.notes.len() == 1 && facts.notes[0].contains("run/events.jsonl is left out"),
        "{facts:?}"
    );
}
