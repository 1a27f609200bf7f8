//! The files, as their readers find them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use logcore::serde_json::{self, Value, json};
use logcore::{
    BuildContext, Deadline, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricSummary, MetricValue, Record,
    RunFacts, RunInfo, RunManifest, Sink, Stats, StopFlag, log, registry,
};
use logcore_jsonl as _;

fn build(folder: &Path, options: Value) -> Result<Box<dyn Sink>, logcore::ConfigError> {
    let config = LogConfig {
        log_dir: folder.into(),
        ..LogConfig::default()
    };
    let run = RunInfo::new("k3v9q2ab", "t", folder, 1);
    run.note_facts(RunFacts {
        pid: 4711,
        argv: ["train", "--lr", "1e-4"].map(str::to_owned).into(),
        ..RunFacts::default()
    });
    let stop = StopFlag::default();
    registry::build_sink("jsonl", &options, &BuildContext::new(&config, &stop).with_run(&run))
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn metrics_writes_one_row_per_step_and_the_books_count_calls() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = build(folder.path(), json!(true)).unwrap();
    let path = folder.path().join("metrics.jsonl");
    sink.metrics(&MetricBatch::new("t", 1, &[("a", MetricValue::Int(1))]))
        .unwrap();
    assert!(!path.exists(), "the row is still open");
    sink.metrics(&MetricBatch::new("t", 1, &[("b", MetricValue::Float(f64::NAN))]))
        .unwrap();
    sink.metrics(&MetricBatch::new("t", 2, &[("a", MetricValue::Int(2))]))
        .unwrap();
    sink.deliver().unwrap();
    assert_eq!(lines(&path).len(), 1);
    assert_eq!(sink.books().unwrap().accepted, 3);
    sink.flush(soon()).unwrap();
    sink.metrics(&MetricBatch::new("t", 2, &[("a", MetricValue::Int(3))]))
        .unwrap();
    sink.finish(soon()).unwrap();
    let rows = lines(&path);
    assert_eq!(
        rows.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 2, 2]
    );
    assert_eq!(
        (&rows[0]["a"], &rows[0]["b"], &rows[2]["a"]),
        (&json!(1), &Value::Null, &json!(3))
    );
    assert_eq!(rows[0]["nonfinite"], "{\"b\":\"NaN\"}");
    let books = sink.books().unwrap();
    assert_eq!((books.accepted, books.delivered), (4, 4));
    assert!(!folder.path().join("records.jsonl").exists());
}

#[test]
fn records_are_written_only_with_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = build(folder.path(), json!({"records": true})).unwrap();
    assert!(sink.wants(logcore::EventKind::Record));
    sink.record(&Record::new(log::Level::Warn, "t", "a\u{2028}b\nc"))
        .unwrap();
    sink.finish(soon()).unwrap();
    let records = lines(&folder.path().join("records.jsonl"));
    assert_eq!(
        (&records[0]["level"], &records[0]["message"]),
        (&json!("WARN"), &json!("a\u{2028}b\nc"))
    );
}

#[test]
fn loggers_of_one_folder_share_their_config_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (
        build(folder.path(), json!(true)).unwrap(),
        build(folder.path(), json!(true)).unwrap(),
    );
    one.config(&json!({"lr": 1, "api_key": "s3cr3t"})).unwrap();
    two.config(&json!({"lr": 2, "seed": 7})).unwrap();
    one.logger_ended(&LoggerEnd::from_exit_code(3), &LoggerSummary::default());
    one.finish(soon()).unwrap();
    let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["config"], json!({"lr": 2, "seed": 7, "api_key": "***"}));
    assert_eq!(document["end"]["exit_code"], 3);
    assert_eq!(document["environment"]["pid"], 4711);
    assert_eq!(document["environment"]["argv"], json!(["train", "--lr", "1e-4"]));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

fn summary() -> LoggerSummary {
    let mut summary = LoggerSummary::default();
    summary.metrics.push(MetricSummary::new("loss", Stats::empty()));
    summary
}

#[cfg(unix)]
#[test]
fn the_books_balance_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("metrics.jsonl")).unwrap();
    let mut sink = build(folder.path(), json!(true)).unwrap();
    for step in 0..10 {
        sink.metrics(&MetricBatch::new("t", step, &[("a", MetricValue::Int(1))]))
            .unwrap();
    }
    assert!(sink.finish(soon()).is_err());
    let books = sink.books().unwrap();
    assert_eq!(books.dropped["disk full"], 10);
    assert!(books.balanced());
}

#[test]
fn every_value_of_a_step_has_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = build(folder.path(), json!(true)).unwrap();
    for (second, loss) in [(1, 0.5), (2, 0.4), (3, 0.3)] {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(second);
        let values = [
            ("loss", MetricValue::Float(loss)),
            ("memory/gpu_allocated_gb", MetricValue::Float(loss)),
        ];
        sink.metrics(&MetricBatch::at(time, "t", 7, &values)).unwrap();
    }
    sink.finish(soon()).unwrap();
    let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!(
        text,
        "{\"step\":7,\"time\":1.0,\"logger\":\"t\",\"loss\":0.5,\"nonfinite\":\"\",\"attempt\":1}\n\
         {\"step\":7,\"time\":2.0,\"logger\":\"t\",\"loss\":0.4}\n\
         {\"step\":7,\"time\":3.0,\"logger\":\"t\",\"loss\":0.3,\"memory/gpu_allocated_gb\":0.3}\n"
    );
    let books = sink.books().unwrap();
    assert_eq!((books.accepted, books.delivered), (3, 3));
}

#[test]
fn documents_that_cannot_be_written_are_counted_and_written_later() {
    for passes in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = [folder.path().join("config.json"), folder.path().join("summary.json")];
        in_the_way.iter().for_each(|path| fs::create_dir(path).unwrap());
        let mut sink = build(folder.path(), json!(true)).unwrap();
        let error = sink.config(&json!({"lr": 0.1})).unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        if passes {
            in_the_way.iter().for_each(|path| fs::remove_dir(path).unwrap());
        }
        sink.logger_ended(&LoggerEnd::default(), &summary());
        assert_eq!(sink.finish(soon()).is_ok(), passes);
        let books = sink.books().unwrap();
        assert!(books.balanced(), "{books:?}");
        assert_eq!(books.delivered, u64::from(passes));
        assert_eq!(books.dropped.values().sum::<u64>(), if passes { 0 } else { 2 });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
        if passes {
            assert!(fs::read_to_string(&in_the_way[0]).unwrap().contains("0.1"));
            assert!(fs::read_to_string(&in_the_way[1]).unwrap().contains("finished"));
        }
    }
}

#[cfg(unix)]
#[test]
fn a_document_is_not_written_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    for name in ["config.json", "summary.json"] {
        std::os::unix::fs::symlink(&precious, run.join(name)).unwrap();
        let known = run.join(format!("{name}.{}", std::process::id()));
        std::os::unix::fs::symlink(&precious, known).unwrap();
    }
    let mut sink = build(&run, json!(true)).unwrap();
    sink.config(&json!({"lr": 0.1})).unwrap();
    sink.logger_ended(&LoggerEnd::default(), &summary());
    sink.finish(soon()).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(run.join("config.json").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_later_logger_of_the_process_continues_the_documents() {
    let folder = tempfile::tempdir().unwrap();
    let read = || fs::read_to_string(folder.path().join("config.json")).unwrap();
    let mut one = build(folder.path(), json!(true)).unwrap();
    one.config(&json!({"one": 1})).unwrap();
    let mut two = build(folder.path(), json!(true)).unwrap();
    drop(one);
    two.config(&json!({"two": 2})).unwrap();
    assert!(read().contains("\"one\": 1"), "they share a run");
    drop(two);
    let mut next = build(folder.path(), json!(true)).unwrap();
    next.config(&json!({"three": 3})).unwrap();
    let all = read();
    assert!(["one", "two", "three"].iter().all(|name| all.contains(name)), "{all}");
}

#[test]
fn a_run_without_a_folder_of_its_own_leaves_the_documents_of_a_later_run_alone() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let begin = |id: &str| {
        let mut manifest = RunManifest::default();
        id.clone_into(&mut manifest.id);
        manifest.write(folder.path()).unwrap();
    };
    begin("k3v9q2ab");
    let mut earlier = build(folder.path(), json!(true)).unwrap();
    earlier.config(&json!({"lr": 1})).unwrap();
    assert!(read("config.json").contains("\"lr\": 1"), "the file is its own");
    earlier.deliver().unwrap();
    let point = earlier.resume_point().unwrap();

    begin("aaaa0000");
    fs::write(folder.path().join("config.json"), "the later run's").unwrap();
    fs::write(folder.path().join("summary.json"), "the later run's").unwrap();
    let error = earlier.config(&json!({"lr": 2})).unwrap_err();
    assert_eq!(error.reason(), "file of a later run");
    earlier.logger_ended(&LoggerEnd::from_exit_code(0), &summary());
    assert_eq!(earlier.finish(soon()).unwrap_err().reason(), "file of a later run");
    let books = earlier.books().unwrap();
    assert!(
        books.balanced() && books.dropped["file of a later run"] == 2,
        "{books:?}"
    );
    drop(earlier);

    // Nor does whoever delivers what the earlier run has left.
    let config = LogConfig {
        log_dir: folder.path().into(),
        ..LogConfig::default()
    };
    let stop = StopFlag::default();
    let mut killed = registry::recover_sink("jsonl", point.text(), &BuildContext::new(&config, &stop)).unwrap();
    killed.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
    killed.finish(soon()).unwrap();
    for name in ["config.json", "summary.json"] {
        assert_eq!(read(name), "the later run's");
    }
}

#[test]
fn recover_continues_at_the_resume_point() {
    let folder = tempfile::tempdir().unwrap();
    let batch = |step, name: &'static str| {
        let values = vec![(name, MetricValue::Float(0.5))];
        move |sink: &mut dyn Sink| {
            let batch = MetricBatch::at(std::time::UNIX_EPOCH, "t", step, &values);
            sink.metrics(&batch).unwrap();
        }
    };
    let hello = |sink: &mut dyn Sink| {
        let record = Record::at(std::time::UNIX_EPOCH, log::Level::Info, "t", "hello");
        sink.record(&record).unwrap();
    };
    let mut killed = build(folder.path(), json!({"records": true})).unwrap();
    batch(1, "a")(&mut *killed);
    killed.config(&json!({"lr": 0.1})).unwrap();
    killed.deliver().unwrap();
    let point = killed.resume_point().unwrap();
    assert!(point.is_complete(), "the open row is part of the resume point");
    // The kill came in the middle: the file has a part of the rows after the resume point.
    batch(1, "b")(&mut *killed);
    batch(2, "a")(&mut *killed);
    killed.deliver().unwrap();
    drop(killed);

    for _ in 0..2 {
        let config = LogConfig {
            log_dir: folder.path().into(),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop);
        let mut next = registry::recover_sink("jsonl", point.text(), &context).unwrap();
        batch(1, "b")(&mut *next);
        batch(2, "a")(&mut *next);
        hello(&mut *next);
        next.config(&json!({"seed": 1})).unwrap();
        next.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
        next.finish(soon()).unwrap();
        let rows = lines(&folder.path().join("metrics.jsonl"));
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (&rows[0]["a"], &rows[0]["b"], &rows[1]["step"]),
            (&json!(0.5), &json!(0.5), &json!(2))
        );
        assert_eq!(lines(&folder.path().join("records.jsonl")).len(), 1);
        let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["config"], json!({"lr": 0.1, "seed": 1}));
        assert_eq!(document["end"]["exit_code"], 137);
    }
}
