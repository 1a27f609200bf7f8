//! The files, as a reader finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use logcore::log::Level;
use logcore::serde_json::{Value, json};
use logcore::{
    BuildContext, Deadline, EventKind, LogConfig, LoggerEnd, LoggerSummary, MediaContent, MediaDescription, MediaFile,
    MediaItem, MetricBatch, MetricValue, Record, RunInfo, Sink, SinkBooks, StopFlag, registry,
};
use logcore_tensorboard::{Event, EventContent, EventReader, SessionStatus, TagContent};
use proptest::prelude::*;

/// A logger of a run.
struct Setup<'a> {
    dir: &'a Path,
    logger: &'a str,
    attempt: u32,
    rank: u32,
    options: Value,
    hyper_parameters: BTreeMap<String, Value>,
}

impl<'a> Setup<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            logger: "trainer",
            attempt: 1,
            rank: 0,
            options: json!({}),
            hyper_parameters: BTreeMap::new(),
        }
    }

    fn config(&self) -> LogConfig {
        LogConfig {
            name: self.logger.to_owned(),
            log_dir: self.dir.into(),
            rank: Some(self.rank),
            world_size: Some(2),
            hyper_parameters: self.hyper_parameters.clone(),
            ..LogConfig::default()
        }
    }

    fn build(&self) -> Box<dyn Sink> {
        let (config, stop) = (self.config(), StopFlag::default());
        let run = RunInfo::new("k3v9q2ab", "trainer", self.dir, self.attempt);
        let context = BuildContext::new(&config, &stop).with_run(&run);
        registry::build_sink("tensorboard", &self.options, &context).unwrap()
    }

    fn recover(&self, point: &str) -> Box<dyn Sink> {
        let (config, stop) = (self.config(), StopFlag::default());
        let context = BuildContext::new(&config, &stop);
        registry::recover_sink("tensorboard", point, &context).unwrap()
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn log(sink: &mut dyn Sink, step: u64, values: &[(&str, f64)]) {
    let values: Vec<_> = values
        .iter()
        .map(|(name, value)| (*name, MetricValue::Float(*value)))
        .collect();
    let time = UNIX_EPOCH + Duration::from_secs(1000 + step);
    sink.metrics(&MetricBatch::at(time, "trainer", step, &values)).unwrap();
}

fn finish(mut sink: Box<dyn Sink>, end: &LoggerEnd) -> SinkBooks {
    sink.logger_ended(end, &LoggerSummary::default());
    sink.finish(soon()).unwrap();
    sink.books().unwrap()
}

/// Returns the event files in a folder, in the order in which TensorBoard reads them.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut reader = EventReader::new(&*bytes);
    std::iter::from_fn(|| reader.next_event().unwrap()).collect()
}

fn events(dir: &Path) -> Vec<Event> {
    files(&dir.join("tensorboard"))
        .iter()
        .flat_map(|path| read(path))
        .collect()
}

/// Returns the contents of all tags, as `step tag content`.
fn contents(events: &[Event]) -> Vec<String> {
    let mut all = Vec::new();
    for event in events {
        let EventContent::Values(values) = &event.content else {
            continue;
        };
        for value in values {
            let content = match &value.value {
                TagContent::Scalar(number) => number.as_f64().to_string(),
                TagContent::Text(text) => text.clone(),
                TagContent::HyperParameters(values) => Value::Object(values.clone()).to_string(),
                TagContent::End { status, .. } => format!("{status:?}"),
                other => format!("{other:?}"),
            };
            all.push(format!("{} {} {content}", event.step, value.tag));
        }
    }
    all
}

#[test]
fn a_step_is_one_event_with_all_values() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Setup::new(folder.path()).build();
    log(&mut *sink, 3, &[("loss", 0.5), ("acc", f64::NAN)]);
    log(&mut *sink, 3, &[("lr", f64::INFINITY), ("loss", 0.25)]);
    sink.deliver().unwrap();
    assert!(
        files(&folder.path().join("tensorboard")).is_empty(),
        "the row is still open"
    );
    log(&mut *sink, 4, &[("loss", 0.1)]);
    sink.deliver().unwrap();
    assert_eq!(
        contents(&events(folder.path())),
        ["3 loss 0.25", "3 acc NaN", "3 lr inf"]
    );
    let books = finish(sink, &LoggerEnd::default());
    assert_eq!((books.accepted, books.delivered), (3, 3));
    let events = events(folder.path());
    assert!(
        matches!(&events[0].content, EventContent::File { version, writer } if version == "brain.Event:2" && writer == "logcore")
    );
    assert_eq!((&events[1].content, events[1].step), (&EventContent::SessionStart, 3));
    assert_eq!((events[2].time, events[3].time, events.len()), (1003.0, 1004.0, 4));
    // 0.1 in single precision.
    assert_eq!(contents(&events[3..]), ["4 loss 0.10000000149011612"]);
}

#[test]
fn a_value_behind_the_newest_step_of_its_metric_is_late() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Setup::new(folder.path()).build();
    log(&mut *sink, 10, &[("loss", 1.0)]);
    log(&mut *sink, 5, &[("val", 2.0)]);
    log(&mut *sink, 5, &[("loss", 3.0), ("val", 4.0)]);
    log(&mut *sink, 9, &[("loss", 5.0)]);
    sink.flush(soon()).unwrap();
    // The same step again.
    log(&mut *sink, 10, &[("loss", 6.0)]);
    let books = finish(sink, &LoggerEnd::default());
    assert_eq!(contents(&events(folder.path())), ["10 loss 1", "5 val 4", "10 loss 6"]);
    assert_eq!((books.accepted, books.delivered, books.dropped["late"]), (5, 3, 2));
}

#[test]
fn hyper_parameters_come_before_the_first_row_and_the_status_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(folder.path());
    setup.hyper_parameters.insert("seed".into(), json!(7));
    let mut sink = setup.build();
    sink.config(&json!({"lr": 0.1, "model": {"width": 3, "act": "relu"}, "api_key": "s3cr3t"}))
        .unwrap();
    log(&mut *sink, 0, &[("loss", 1.0)]);
    log(&mut *sink, 1, &[("loss", 1.0)]);
    sink.config(&json!({"amp": true})).unwrap();
    let books = finish(sink, &LoggerEnd::from_exit_code(3));
    assert!(books.balanced() && books.delivered == 4, "{books:?}");
    let contents = contents(&events(folder.path()));
    let start = r#"{"api_key":"***","lr":0.1,"model.act":"relu","model.width":3,"seed":7}"#;
    assert_eq!(contents[0], format!("0 _hparams_/session_start_info {start}"));
    assert!(contents[1].starts_with("0 text/config | name | value |\n|---|---|\n| api\\_key | \\*\\*\\* |\n"));
    assert!(contents[3].contains("| amp | true |") && contents[3].contains("| lr | 0.1 |"));
    assert_eq!(contents[5], "0 _hparams_/session_end_info Some(Failure)");
    assert_eq!(contents.len(), 6);
}

#[test]
fn a_later_attempt_begins_a_file_and_takes_the_end_of_the_run_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(folder.path());
    // An attempt that ends before its first row has the last word, too.
    let without_rows = folder.path().join("without rows");
    for (attempt, end) in [(1, LoggerEnd::killed()), (2, LoggerEnd::default())] {
        setup.attempt = attempt;
        let mut other = Setup::new(&without_rows);
        other.attempt = attempt;
        let mut sink = other.build();
        sink.config(&json!({"lr": 0.1})).unwrap();
        finish(sink, &end);
        let mut sink = setup.build();
        sink.config(&json!({"lr": 0.1})).unwrap();
        let first = if attempt == 1 { 0 } else { 50 };
        for step in first..first + 60 {
            log(&mut *sink, step, &[("loss", f64::from(attempt))]);
        }
        let books = finish(sink, &end);
        assert_eq!((books.dropped_total(), books.delivered), (0, 61));
    }
    let files = files(&folder.path().join("tensorboard"));
    assert_eq!(files.len(), 2);
    let second = read(&files[1]);
    assert_eq!((&second[1].content, second[1].step), (&EventContent::SessionStart, 50));
    let ends = |path: &Path| {
        contents(&read(path))
            .iter()
            .filter(|line| line.contains("session_end"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(ends(&files[0]).is_empty());
    assert_eq!(ends(&files[1]), ["0 _hparams_/session_end_info Some(Success)"]);
    let all = contents(&events(&without_rows));
    let ends = all.iter().filter(|line| line.contains("session_end"));
    assert_eq!(ends.collect::<Vec<_>>(), ["0 _hparams_/session_end_info Some(Success)"]);
}

#[test]
fn a_logger_that_is_set_up_again_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path());
    for first in [0, 5] {
        let mut sink = setup.build();
        for step in first..10 {
            log(&mut *sink, step, &[("loss", step as f64)]);
        }
        sink.finish(soon()).unwrap();
        let late = sink.books().unwrap().dropped_total();
        assert_eq!(
            late,
            if first == 0 { 0 } else { 4 },
            "steps 5 to 8 are there; 9 is written again"
        );
    }
    let events = events(folder.path());
    let sessions = events
        .iter()
        .filter(|event| event.content == EventContent::SessionStart);
    assert_eq!(sessions.count(), 1);
    assert_eq!(contents(&events).len(), 11);
}

#[test]
fn rank_0_writes_and_each_further_logger_has_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for (logger, rank) in [("trainer", 0), ("app::eval", 0), ("../x", 0), ("other", 1)] {
        let mut setup = Setup::new(folder.path());
        (setup.logger, setup.rank) = (logger, rank);
        let mut sink = setup.build();
        assert_eq!(sink.wants(EventKind::Metrics), rank == 0);
        assert_eq!(sink.destination().is_some(), rank == 0);
        log(&mut *sink, 1, &[("loss", 1.0)]);
        let books = finish(sink, &LoggerEnd::default());
        assert!(books.balanced() && books.delivered == u64::from(rank == 0));
    }
    let mut folders: Vec<_> = fs::read_dir(folder.path().join("tensorboard"))
        .unwrap()
        .flatten()
        .collect();
    folders.retain(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders
        .iter()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(
        names[0].starts_with("_x-") && names[1] == "app.eval" && names.len() == 2,
        "{names:?}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn warnings_of_a_step_are_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(folder.path());
    setup.options = json!({"records": true});
    let mut sink = setup.build();
    let say = |sink: &mut dyn Sink, level, text| {
        sink.record(&Record::at(UNIX_EPOCH, level, "trainer", text)).unwrap();
    };
    say(&mut *sink, Level::Info, "begin");
    say(&mut *sink, Level::Warn, "slow disk\nvery");
    log(&mut *sink, 0, &[("loss", 1.0)]);
    log(&mut *sink, 7, &[("loss", 1.0)]);
    say(&mut *sink, Level::Error, "<b>NaN</b>");
    sink.flush(soon()).unwrap();
    say(&mut *sink, Level::Warn, "again");
    let long = "x".repeat(70_000);
    say(&mut *sink, Level::Warn, &long);
    let books = finish(sink, &LoggerEnd::default());
    assert!(books.balanced());
    assert_eq!((books.delivered, books.dropped["too much text for one step"]), (5, 1));
    let mut texts = contents(&events(folder.path()));
    texts.retain(|line| line.contains("text/log"));
    assert_eq!(
        texts,
        [
            "0 text/log     WARN  trainer: slow disk\\nvery\n",
            "7 text/log     ERROR trainer: <b>NaN</b>\n",
            "7 text/log     ERROR trainer: <b>NaN</b>\n    WARN  trainer: again\n",
        ]
    );
}

#[test]
fn the_books_balance_where_no_file_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tensorboard"), "in the way").unwrap();
    let mut sink = Setup::new(folder.path()).build();
    for step in 0..10 {
        log(&mut *sink, step, &[("loss", 1.0)]);
    }
    let error = sink.deliver().unwrap_err();
    assert!(error.to_string().contains("tensorboard"), "{error}");
    fs::remove_file(folder.path().join("tensorboard")).unwrap();
    sink.deliver().unwrap();
    assert_eq!(contents(&events(folder.path())).len(), 9);
    fs::remove_dir_all(folder.path().join("tensorboard")).unwrap();
    fs::write(folder.path().join("tensorboard"), "in the way").unwrap();
    sink.finish(soon()).ok();
    assert!(sink.books().unwrap().balanced());
    assert_eq!(fs::read(folder.path().join("tensorboard")).unwrap(), b"in the way");
}

#[cfg(unix)]
#[test]
fn a_recovery_follows_no_link_and_leaves_foreign_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path());
    let mut killed = setup.build();
    let point_before = killed.resume_point().unwrap();
    log(&mut *killed, 1, &[("loss", 1.0)]);
    log(&mut *killed, 2, &[("loss", 1.0)]);
    killed.deliver().unwrap();
    let point = killed.resume_point().unwrap();
    drop(killed);
    let path = files(&folder.path().join("tensorboard")).remove(0);
    for point in [&point_before, &point] {
        // Something else has the name.
        fs::write(&path, "a file of somebody").unwrap();
        let mut next = setup.recover(point.text());
        log(&mut *next, 3, &[("loss", 3.0)]);
        next.finish(soon()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a file of somebody");
        let newest = files(&folder.path().join("tensorboard")).pop().unwrap();
        let expected = if point == &point_before {
            &["3 loss 3"][..]
        } else {
            &["2 loss 1", "3 loss 3"]
        };
        assert_eq!(contents(&read(&newest)), expected);
        fs::remove_file(newest).unwrap();
    }
    fs::rename(folder.path().join("tensorboard"), outside.path().join("real")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("real"), folder.path().join("tensorboard")).unwrap();
    let (config, stop) = (setup.config(), StopFlag::default());
    let context = BuildContext::new(&config, &stop);
    assert!(registry::recover_sink("tensorboard", point.text(), &context).is_err());
    let elsewhere = point
        .text()
        .replace("\"folder\":\"tensorboard\"", "\"folder\":\"../elsewhere\"");
    assert_ne!(elsewhere, point.text());
    assert!(registry::recover_sink("tensorboard", &elsewhere, &context).is_err());
}

#[test]
fn a_recovery_of_a_run_that_had_ended_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path());
    let mut killed = setup.build();
    killed.config(&json!({"lr": 0.1})).unwrap();
    log(&mut *killed, 1, &[("loss", 1.0)]);
    killed.deliver().unwrap();
    let point = killed.resume_point().unwrap();
    log(&mut *killed, 2, &[("loss", 1.0)]);
    finish(killed, &LoggerEnd::default());
    let path = files(&folder.path().join("tensorboard")).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut next = setup.recover(point.text());
    log(&mut *next, 2, &[("loss", 1.0)]);
    let books = finish(next, &LoggerEnd::killed());
    assert!(books.balanced() && books.delivered == 3, "{books:?}");
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(files(&folder.path().join("tensorboard")).len(), 1);
}

/// A call of a program.
#[derive(Debug, Clone)]
enum Call {
    Metrics(u64, Vec<(&'static str, f64)>),
    Config(i64),
    Warn(String),
    Media(u64, MediaContent),
    Flush,
}

fn call() -> impl Strategy<Value = Call> {
    let name = prop::sample::select(vec!["a", "b", "throughput/a", "text/config"]);
    let value = prop_oneof![any::<f64>(), Just(f64::NAN), -1.0..1.0];
    prop_oneof![
        8 => (0_u64..12, prop::collection::vec((name, value), 0..4)).prop_map(|(step, mut values)| {
            values.sort_by_key(|(name, _)| *name);
            values.dedup_by_key(|(name, _)| *name);
            Call::Metrics(step, values)
        }),
        1 => any::<i64>().prop_map(Call::Config),
        1 => "[a-c]{1,3}".prop_map(Call::Warn),
        2 => (0_u64..12, media()).prop_map(|(step, content)| Call::Media(step, content)),
        1 => Just(Call::Flush),
    ]
}

fn media() -> impl Strategy<Value = MediaContent> {
    prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(first, second)| MediaContent::Histogram {
            counts: vec![first, second],
            edges: vec![-1.0, 0.0, 0.5],
        }),
        Just(MediaContent::Image {
            format: "png".into(),
            width: 3,
            height: 2
        }),
        Just(MediaContent::Text),
        Just(MediaContent::Html),
    ]
}

/// The file of every value in these tests.
const MEDIA_FILE: &str = "media/value";

fn write_media_file(folder: &Path) {
    fs::create_dir_all(folder.join("media")).unwrap();
    fs::write(folder.join(MEDIA_FILE), "the content").unwrap();
}

fn log_media(sink: &mut dyn Sink, step: u64, content: &MediaContent) {
    let mut about = MediaDescription::new("sample", step, content.clone());
    about.file = Some(MediaFile::new(MEDIA_FILE, 11, ""));
    sink.media(&MediaItem::new(UNIX_EPOCH, "trainer", &about)).unwrap();
}

impl Call {
    fn make(&self, sink: &mut dyn Sink) {
        match self {
            Self::Metrics(step, values) => log(sink, *step, values),
            Self::Config(seed) => sink.config(&json!({"seed": seed})).unwrap(),
            Self::Warn(text) => {
                let record = Record::at(UNIX_EPOCH, Level::Warn, "trainer", text);
                sink.record(&record).unwrap();
            }
            Self::Media(step, content) => log_media(sink, *step, content),
            Self::Flush => sink.flush(soon()).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A process that is killed anywhere and recovered, twice, leaves the file that it would have
    /// left without the kill, to the byte.
    #[test]
    fn a_recovered_file_is_that_of_a_process_that_lived(
        calls in prop::collection::vec(call(), 1..40),
        checkpoint in 0.0..1.0,
        cut in 0.0..1.0,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut setup = Setup::new(folder.path());
        setup.options = json!({"records": true});
        write_media_file(folder.path());
        let checkpoint = (calls.len() as f64 * checkpoint) as usize;
        let mut sink = setup.build();
        calls[..checkpoint].iter().for_each(|call| call.make(&mut *sink));
        sink.deliver().unwrap();
        let point = sink.resume_point().unwrap();
        prop_assert!(point.is_complete());
        let at_point = files(&folder.path().join("tensorboard")).pop().map_or(0, |path| fs::metadata(path).unwrap().len());
        calls[checkpoint..].iter().for_each(|call| call.make(&mut *sink));
        sink.flush(soon()).unwrap();
        let books = sink.books().unwrap();
        prop_assert!(books.balanced(), "{:?}", books);
        drop(sink);
        let Some(path) = files(&folder.path().join("tensorboard")).pop() else { return Ok(()) };
        let whole = fs::read(&path).unwrap();
        let kept = at_point + ((whole.len() as u64 - at_point) as f64 * cut) as u64;
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();
        for _ in 0..2 {
            let mut next = setup.recover(point.text());
            calls[checkpoint..].iter().for_each(|call| call.make(&mut *next));
            next.flush(soon()).unwrap();
            let books = next.books().unwrap();
            prop_assert!(books.balanced(), "{:?}", books);
            drop(next);
            prop_assert!(fs::read(&path).unwrap() == whole);
            prop_assert_eq!(files(&folder.path().join("tensorboard")).len(), 1);
        }
    }

    /// Each metric has rising steps, and at each the last of its values.
    #[test]
    fn the_steps_of_a_metric_rise_and_no_value_in_time_is_missing(calls in prop::collection::vec(call(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        write_media_file(folder.path());
        let mut sink = Setup::new(folder.path()).build();
        let mut expected: BTreeMap<String, Vec<(i64, u32)>> = BTreeMap::new();
        for call in &calls {
            call.make(&mut *sink);
            let Call::Metrics(step, values) = call else { continue };
            for (name, value) in values {
                let tag = if *name == "text/config" { "text/config_" } else { name };
                let points = expected.entry(tag.to_owned()).or_default();
                let (step, value) = (*step as i64, (*value as f32).to_bits());
                match points.last_mut() {
                    Some(last) if last.0 == step => last.1 = value,
                    Some(last) if last.0 > step => {}
                    _ => points.push((step, value)),
                }
            }
        }
        finish(sink, &LoggerEnd::default());
        let mut found: BTreeMap<String, Vec<(i64, u32)>> = BTreeMap::new();
        for event in events(folder.path()) {
            let EventContent::Values(values) = event.content else { continue };
            for value in values {
                let TagContent::Scalar(number) = value.value else { continue };
                let points = found.entry(value.tag).or_default();
                if points.last().is_some_and(|last| last.0 == event.step) {
                    points.pop();
                }
                prop_assert!(points.last().is_none_or(|last| last.0 < event.step));
                points.push((event.step, (number.as_f64() as f32).to_bits()));
            }
        }
        // The bits of a NaN may change on their way through a double.
        let quiet = |all: BTreeMap<String, Vec<(i64, u32)>>| -> Vec<_> {
            let points = all.into_iter().flat_map(|(tag, points)| points.into_iter().map(move |point| (tag.clone(), point)));
            points.map(|(tag, (step, bits))| (tag, step, format!("{:?}", f32::from_bits(bits)))).collect()
        };
        prop_assert_eq!(quiet(found), quiet(expected));
    }
}

#[test]
fn media_that_cannot_be_read_or_come_late_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Setup::new(folder.path()).build();
    let mut about = MediaDescription::new("sample", 3, MediaContent::Text);
    about.file = Some(MediaFile::new("media/missing", 11, ""));
    let error = sink.media(&MediaItem::new(UNIX_EPOCH, "trainer", &about)).unwrap_err();
    assert!(error.to_string().contains("read the file of `sample`"), "{error}");
    // A file that a link leads to, or that is too long for an event.
    fs::create_dir(folder.path().join("media")).unwrap();
    let long = fs::File::create(folder.path().join("long")).unwrap();
    long.set_len((8 << 20) + 1).unwrap();
    std::os::unix::fs::symlink("../long", folder.path().join("media/missing")).unwrap();
    assert!(sink.media(&MediaItem::new(UNIX_EPOCH, "trainer", &about)).is_err());
    fs::rename(folder.path().join("long"), folder.path().join("media/missing")).unwrap();
    assert!(sink.media(&MediaItem::new(UNIX_EPOCH, "trainer", &about)).is_err());

    write_media_file(folder.path());
    for step in [3, 5, 4] {
        log_media(&mut *sink, step, &MediaContent::Text);
    }
    let books = finish(sink, &LoggerEnd::default());
    assert!(books.balanced(), "{books:?}");
    assert_eq!((books.accepted, books.dropped["late"]), (6, 1));
    let contents = contents(&events(folder.path()));
    let shown = contents.iter().filter(|line| line.contains("text/sample")).count();
    assert_eq!(shown, 2, "{contents:?}");
}

#[test]
fn an_end_says_how_the_run_ended() {
    for (end, status) in [
        (LoggerEnd::default(), SessionStatus::Success),
        (LoggerEnd::from_exit_code(1), SessionStatus::Failure),
        (LoggerEnd::killed(), SessionStatus::Failure),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Setup::new(folder.path()).build();
        sink.config(&json!({"lr": 0.1})).unwrap();
        finish(sink, &end);
        let contents = contents(&events(folder.path()));
        assert_eq!(
            contents.last().unwrap(),
            &format!("0 _hparams_/session_end_info Some({status:?})")
        );
    }
}
