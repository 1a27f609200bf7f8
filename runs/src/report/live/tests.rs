use std::fs::{self, File};
use std::io::Write as _;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// A `log_dir` with one run.
struct OneRun {
    folder: TempDir,
    runs: LiveRuns,
}

impl OneRun {
    fn new(rows: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runs = LiveRuns::new(folder.path());
        let one = Self { folder, runs };
        fs::create_dir(one.path("")).unwrap();
        one.describe(r#"{"id":"a1","name":"mnist","state":"finished","attempts":[{}]}"#);
        fs::write(one.path("metrics.jsonl"), rows).unwrap();
        one.runs.read_list().unwrap();
        one
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("one").join(name)
    }

    fn describe(&self, manifest: &str) {
        fs::write(self.path("run.json"), manifest).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn load(&self) -> Value {
        head(&self.runs.load("one").unwrap().unwrap())
    }

    fn news(&self) -> Option<(&'static str, Value)> {
        let news = self.runs.read_run("one").unwrap()?;
        Some((news.kind, serde_json::from_str(&news.json).unwrap()))
    }
}

fn row(step: u64, rest: &str) -> String {
    format!("{{\"step\":{step},\"time\":{step}.5,\"logger\":\"a\"{rest}}}\n")
}

/// Returns the JSON of an answer.
fn head(bytes: &[u8]) -> Value {
    let (length, rest) = bytes.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap());
    serde_json::from_slice(&rest[..usize::try_from(length).unwrap()]).unwrap()
}

#[test]
fn rows_and_lines_come_once_and_whole() {
    let one = OneRun::new(&(row(1, ",\"loss\":0.5") + "{\"step\":2,\"time\":2"));
    let loaded = one.load();
    assert_eq!(
        (&loaded["curves"][0]["name"], &loaded["curves"][0]["count"]),
        (&"loss".into(), &1.into())
    );
    assert_eq!(one.news(), None);
    one.append(
        "metrics.jsonl",
        ".5,\"logger\":\"a\",\"loss\":null,\"nonfinite\":\"{\\\"loss\\\":\\\"NaN\\\"}\"}\n",
    );
    one.append("training.log", "2026-11-29 12:00:00 | INFO  | a | hello\n");
    let (kind, news) = one.news().unwrap();
    assert_eq!((kind, &news["from"]), ("rows", &loaded["version"]));
    assert_eq!(news["rows"], json!([[0, "a", 2, 2.5, {"loss": "NaN"}]]));
    assert_eq!(news["lines"][0][2], "2026-11-29 12:00:00 | INFO  | a | hello");
    assert_eq!(one.news(), None);
    let again = one.load();
    assert_eq!(
        (&again["version"], &again["curves"][0]["count"]),
        (&news["version"], &2.into())
    );
    assert_eq!(again["lines"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_step_has_its_last_value_before_and_after_it_is_complete() {
    let one = OneRun::new(&(row(1, ",\"loss\":3") + &row(1, ",\"loss\":2")));
    let last_value = || {
        let bytes = one.runs.load("one").unwrap().unwrap();
        f64::from_le_bytes(bytes[bytes.len() - 8..].try_into().unwrap())
    };
    assert_eq!((last_value(), &one.load()["curves"][0]["count"]), (2.0, &1.into()));
    one.append("metrics.jsonl", &(row(1, ",\"loss\":1") + &row(2, ",\"lr\":7")));
    assert!(one.news().is_some());
    let loaded = one.load();
    assert_eq!(
        (&loaded["curves"][0]["count"], &loaded["curves"][1]["name"]),
        (&1.into(), &"lr".into())
    );
}

#[test]
fn a_later_attempt_is_loaded_again() {
    let one = OneRun::new(&[1, 2, 3].map(|step| row(step, ",\"loss\":1")).concat());
    one.load();
    one.describe(r#"{"id":"a1","state":"finished","attempts":[{},{"first_step":{"a":2}}]}"#);
    assert_eq!(one.news().map(|(kind, _)| kind), Some("reload"));
    assert_eq!(one.load()["curves"][0]["count"], 1);
    one.append("metrics.jsonl", &row(2, ",\"loss\":2,\"attempt\":2"));
    assert_eq!(one.news().map(|(kind, _)| kind), Some("rows"));
    assert_eq!(one.load()["curves"][0]["count"], 2);
}

#[test]
fn files_made_anew_are_loaded_again() {
    let one = OneRun::new(&[1, 2, 3].map(|step| row(step, ",\"loss\":1")).concat());
    one.load();
    fs::write(one.path("metrics.jsonl"), row(1, ",\"loss\":1")).unwrap();
    assert_eq!(one.news().map(|(kind, _)| kind), Some("reload"));
    assert_eq!(one.load()["curves"][0]["count"], 1);
}

#[test]
fn more_than_a_stream_should_carry_is_loaded_instead() {
    let one = OneRun::new("");
    one.load();
    one.append(
        "metrics.jsonl",
        &(0..3000).map(|step| row(step, ",\"loss\":1")).collect::<String>(),
    );
    assert_eq!(one.news().map(|(kind, _)| kind), Some("reload"));
    assert_eq!(one.load()["curves"][0]["count"], 3000);
}

#[test]
fn the_list_tells_of_runs_that_come_change_and_go() {
    let one = OneRun::new("");
    let kinds = || {
        let news = one.runs.read_list().unwrap();
        news.into_iter().map(|news| (news.kind, news.key)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(), []);
    let other = one.folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("run.json"), r#"{"name":"b","state":"finished"}"#).unwrap();
    assert_eq!(kinds(), [("run", "other".to_owned())]);
    fs::write(other.join("run.json"), r#"{"name":"b","state":"failed"}"#).unwrap();
    let news = one.runs.read_list().unwrap();
    let told: Value = serde_json::from_str(&news[0].json).unwrap();
    assert_eq!(
        (&told["runs"][0]["key"], &told["runs"][0]["state"]),
        (&"other".into(), &"failed".into())
    );
    one.load();
    fs::remove_dir_all(one.path("")).unwrap();
    assert!(one.runs.read_run("one").is_err(), "its folder is gone");
    assert_eq!(kinds(), [("gone", "one".to_owned())]);
    assert_eq!(one.runs.load("one").unwrap(), None);
}

#[test]
fn a_page_that_has_missed_news_knows_by_the_versions() {
    let one = OneRun::new(&row(1, ",\"loss\":1"));
    let list = || serde_json::from_str::<Value>(&one.runs.describe().unwrap()).unwrap()["list"].clone();
    let before = list();
    assert_eq!((&before, list()), (&one.runs.list_version().into(), before.clone()));
    one.describe(r#"{"id":"a1","state":"failed","attempts":[{}]}"#);
    let news = one.runs.read_list().unwrap();
    let told: Value = serde_json::from_str(&news[0].json).unwrap();
    assert!(told["list"] != before && told["list"] == list());
    let version = one.load()["version"].as_u64().unwrap();
    let restarted = LiveRuns::new(one.folder.path());
    restarted.read_list().unwrap();
    restarted.load("one").unwrap();
    assert!(
        restarted.version("one").unwrap() > version,
        "versions go on in the next server"
    );
    for number in 0..60 {
        let folder = one.folder.path().join(number.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("run.json"), "{}").unwrap();
    }
    let news = one.runs.read_list().unwrap();
    assert_eq!((news.len(), news[0].kind), (1, "list"));
    assert_eq!(list(), one.runs.list_version());
}

#[test]
fn rows_of_an_attempt_that_repeats_steps_replace_the_earlier_ones() {
    let mut rows = String::new();
    for step in 0..100 {
        rows += &row(step, ",\"loss\":1");
    }
    let one = OneRun::new(&rows);
    one.describe(r#"{"id":"a1","state":"finished","attempts":[{},{}]}"#);
    one.runs.read_list().unwrap();
    one.load();
    for step in 50..110 {
        one.append("metrics.jsonl", &row(step, ",\"loss\":2,\"attempt\":2"));
    }
    assert_eq!(one.news().map(|(kind, _)| kind), Some("rows"));
    let followed = one.runs.find("one").unwrap();
    let mut followed = lock(&followed.followed);
    let followed = followed.as_mut().unwrap();
    assert!(followed.is_inexact() && followed.read_on().unwrap().is_none(), "later");
    followed.make_late();
    assert!(matches!(followed.read_on().unwrap(), Some(RunNews::Reload)));
    assert!(!followed.is_inexact());
}

#[test]
fn an_attempt_that_names_its_first_step_repeats_nothing() {
    let one = OneRun::new(&[1, 2, 3].map(|step| row(step, ",\"loss\":1")).concat());
    one.describe(r#"{"id":"a1","state":"finished","attempts":[{},{"first_step":{"a":2}}]}"#);
    one.runs.read_list().unwrap();
    one.load();
    one.append("metrics.jsonl", &row(2, ",\"loss\":2,\"attempt\":2"));
    assert_eq!(one.news().map(|(kind, _)| kind), Some("rows"));
    let followed = one.runs.find("one").unwrap();
    assert!(!lock(&followed.followed).as_ref().unwrap().is_inexact());
}

#[test]
fn a_run_that_comes_back_is_another_one() {
    let one = OneRun::new(&row(1, ",\"loss\":1"));
    one.load();
    fs::remove_dir_all(one.path("")).unwrap();
    one.runs.read_list().unwrap();
    fs::create_dir(one.path("")).unwrap();
    one.describe(r#"{"id":"a2","state":"finished","attempts":[{}]}"#);
    let kinds: Vec<_> = one
        .runs
        .read_list()
        .unwrap()
        .into_iter()
        .map(|news| news.kind)
        .collect();
    assert_eq!((kinds, one.runs.version("one")), (vec!["run"], None));
    assert_eq!(one.load()["curves"], json!([]));
}

#[test]
fn hyper_parameters_that_come_later_are_news() {
    let one = OneRun::new("");
    assert_eq!(one.runs.read_list().unwrap(), []);
    fs::write(one.path("config.json"), r#"{"config":{"lr":0.1}}"#).unwrap();
    let news = one.runs.read_list().unwrap();
    assert!(
        news[0].kind == "run" && news[0].json.contains(r#""lr":0.1"#),
        "{news:?}"
    );
    assert_eq!(one.runs.read_list().unwrap(), []);
}

#[cfg(unix)]
#[test]
fn rows_that_are_a_link_are_no_rows_made_anew() {
    let one = OneRun::new("");
    fs::remove_file(one.path("metrics.jsonl")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", one.path("metrics.jsonl")).unwrap();
    fs::write(one.path("metrics.rank1.jsonl"), row(1, ",\"loss\":1")).unwrap();
    assert_eq!(one.load()["curves"][0]["rank"], 1);
    assert_eq!(one.news(), None);
}

#[test]
fn keys_are_looked_up_and_links_are_not_followed() {
    let one = OneRun::new("");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("one", one.folder.path().join("latest")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", one.path("training.log")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", one.path("training.log.1")).unwrap();
    }
    one.runs.read_list().unwrap();
    for key in ["latest", "", "..", "../one", "one/", "/etc", "one\0"] {
        assert_eq!(one.runs.load(key).unwrap(), None, "{key}");
    }
    assert_eq!(one.load()["lines"], json!([]));
}

#[test]
fn a_part_has_the_values_that_the_whole_has_thinned() {
    let rows: Vec<String> = (0..100_000)
        .map(|step| row(step, if step == 61_717 { ",\"loss\":9" } else { ",\"loss\":1" }))
        .collect();
    let one = OneRun::new(&rows.concat());
    assert_eq!(one.load()["curves"][0]["width"], 128);
    let bytes = one.runs.load_part("one", "loss", &(61_700..=61_730)).unwrap().unwrap();
    let part = head(&bytes);
    let curve = &part["curves"][0];
    assert_eq!(
        (&curve["step0"], &curve["points"], &curve["width"]),
        (&61_700.into(), &31.into(), &Value::Null)
    );
    let spike = bytes.len() - 8 * 14;
    assert_eq!(bytes[spike..spike + 8], 9_f64.to_le_bytes());
    let none = one.runs.load_part("one", "lr", &(0..=u64::MAX)).unwrap().unwrap();
    assert_eq!(head(&none)["curves"], json!([]));
}

#[test]
fn the_runs_that_were_used_least_lately_are_forgotten() {
    let one = OneRun::new(&row(1, ",\"loss\":1"));
    one.load();
    assert!(one.runs.version("one").is_some());
    one.runs.keep_small("one", MAX_HELD_BYTES + 1);
    assert!(one.runs.version("one").is_some(), "the run in use stays");
    lock(&one.runs.held).insert("other".to_owned(), HeldRun::new());
    let fill = |key: &str| {
        lock(&one.runs.held).get_mut("one").unwrap().bytes = 1;
        one.runs.keep_small(key, MAX_HELD_BYTES);
    };
    assert_eq!(one.news(), None);
    fill("other");
    assert!(one.runs.version("one").is_some(), "a run that somebody watches stays");
    lock(&one.runs.held).get_mut("one").unwrap().watched = None;
    fill("other");
    assert!(one.runs.version("one").is_none());
    assert_eq!(
        one.news().map(|(kind, _)| kind),
        Some("reload"),
        "a page loads the run again"
    );
    assert_eq!(one.news(), None);
}

#[test]
fn media_are_news_and_their_files_have_types() {
    let one = OneRun::new("");
    fs::create_dir_all(one.path("media/files")).unwrap();
    fs::write(one.path("media/page.html"), "<b>x</b>").unwrap();
    fs::write(one.path("media/files/page.html"), "<b>x</b>").unwrap();
    let line =
        r#"{"time":1,"logger":"a","key":"k","step":3,"path":"media/page.html","size":8,"sha256":"","kind":"html"}"#;
    one.append("media.jsonl", &format!("{line}\n"));
    let news = one.runs.read_list().unwrap();
    let json: Value = serde_json::from_str(&news[0].json).unwrap();
    let group = &json["runs"][0]["media"][0];
    assert_eq!(
        (&group["key"], &group["kind"], &group["rank"]),
        (&"k".into(), &"html".into(), &0.into())
    );
    assert_eq!(
        group["items"][0],
        json!({"step": 3, "time": 1.0, "path": "media/page.html"})
    );

    let load = |key: &str, path: &str| one.runs.load_media(key, path).unwrap();
    let page = load("one", "media/page.html").unwrap();
    assert_eq!(
        (&*page.bytes, page.content_type),
        (&b"<b>x</b>"[..], "text/html; charset=utf-8")
    );
    let own = load("one", "media/files/page.html").unwrap();
    assert_eq!(own.content_type, "application/octet-stream");
    for (key, path) in [
        ("one", "run.json"),
        ("one", "media/../run.json"),
        ("two", "media/page.html"),
        ("one", "media"),
    ] {
        assert_eq!(load(key, path), None, "{key} {path}");
    }
    let large = File::create(one.path("media/large.png")).unwrap();
    large.set_len(MAX_MEDIA_BYTES + 1).unwrap();
    let error = one.runs.load_media("one", "media/large.png").unwrap_err();
    assert!(error.to_string().contains("it is longer than"), "{error}");
}

#[test]
fn events_and_ranks_come_whole_when_they_have_changed() {
    use logcore_health::slot::{RankState, SlotFolder};

    let one = OneRun::new(&row(1, ",\"loss\":1"));
    one.describe(r#"{"id":"a1","state":"finished","world_size":2,"attempts":[{}]}"#);
    let event = |step: u64| {
        format!(
            "{{\"time\":{step},\"step\":{step},\"kind\":\"stall\",\"level\":\"warn\",\"rank\":0,\"attempt\":1,\
             \"text\":\"<b>{step}\"}}\n"
        )
    };
    one.append("events.jsonl", &event(1));
    one.runs.read_list().unwrap();
    let loaded = one.load();
    assert_eq!(
        (&loaded["events"][0]["text"], &loaded["ranks"]),
        (&"<b>1".into(), &json!([]))
    );
    let make_late = || {
        let slot = one.runs.find("one").unwrap();
        lock(&slot.followed).as_mut().unwrap().make_late();
    };

    one.append("events.rank1.jsonl", &event(2));
    SlotFolder::new(&one.path("")).write(&RankState::new(1, 1)).unwrap();
    assert_eq!(one.news(), None, "a look is seldom");
    make_late();
    let (kind, news) = one.news().unwrap();
    assert_eq!(
        (kind, &news["from"], &news["rows"]),
        ("rows", &loaded["version"], &json!([]))
    );
    let steps: Vec<_> = news["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["step"].as_u64())
        .collect();
    assert_eq!((steps, &news["ranks"][0]["rank"]), (vec![Some(1), Some(2)], &1.into()));
    assert_eq!(news.get("earlier_events"), None, "they are as many as before");
    make_late();
    assert_eq!(one.news(), None);

    fs::remove_dir_all(one.path("ranks")).unwrap();
    make_late();
    let (_, news) = one.news().unwrap();
    assert_eq!((&news["ranks"], news.get("events")), (&json!([]), None));
    let again = one.load();
    assert_eq!(
        (again["events"].as_array().map(Vec::len), &again["version"]),
        (Some(2), &news["version"])
    );
}
