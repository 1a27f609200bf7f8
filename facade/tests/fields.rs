//! Structured fields, from the macros of `log` to the files.
#![cfg(all(feature = "file", feature = "jsonl"))]

use facade::logcore::log;
use facade::logcore::serde_json::{Value, json};
use facade::{LogConfig, setup_logging};

#[derive(Debug, serde::Serialize)]
struct Batch {
    id: u32,
    tokens: Vec<u32>,
    text: Option<String>,
}

/// The record in `records.jsonl`, and the text files of the three formatters.
fn logged(change: impl Fn(&mut LogConfig), say: impl Fn()) -> (Value, [String; 3]) {
    let mut record = Value::Null;
    let texts = ["plain", "json", "logfmt"].map(|formatter| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = LogConfig {
            name: "fields".into(),
            log_dir: folder.path().into(),
            enable_console: false,
            sinks: [
                ("jsonl".into(), json!({"records": true})),
                ("file".into(), json!({"formatter": formatter})),
            ]
            .into(),
            ..LogConfig::default()
        };
        change(&mut config);
        let logger = setup_logging(config).unwrap();
        say();
        logger.finish();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        record = serde_json::from_str(&read("latest/records.jsonl")).unwrap();
        read("training.log")
    });
    (record, texts)
}

fn say_all() {
    let batch = Batch {
        id: 1,
        tokens: vec![3, 4],
        text: None,
    };
    let error = std::io::Error::other("disk on fire");
    log::info!(
        target: "fields",
        batch:serde = batch, none:serde = None::<u8>, map:serde = json!({"a": null}), lr = 0.5, warm = true, big = u64::MAX,
        nan = f64::NAN, debug:? = Some(1), display:% = 'x', error:err = error;
        "step"
    );
}

#[test]
fn fields_keep_their_types_in_json_and_are_readable_in_text() {
    testkit::own_process!();
    let (record, [plain, in_json, logfmt]) = logged(|_| {}, say_all);
    let expected = json!({
        "batch": {"id": 1, "tokens": [3, 4], "text": null},
        "none": null,
        "map": {"a": null},
        "lr": 0.5,
        "warm": true,
        "big": u64::MAX,
        "nan": "NaN",
        "debug": "Some(1)",
        "display": "x",
        "error": "disk on fire",
    });
    assert_eq!(record["fields"], expected);
    let line: Value = serde_json::from_str(&in_json).unwrap();
    assert_eq!(line["fields"], expected);
    let shown = r#"| batch={"id":1,"tokens":[3,4],"text":null} none=null map={"a":null} lr=0.5 warm=true big=18446744073709551615 nan=NaN debug=Some(1) display=x error="disk on fire""#;
    assert!(plain.trim_end().ends_with(shown), "{plain}");
    assert!(
        logfmt.contains(r#" batch="{\"id\":1,\"tokens\":[3,4],\"text\":null}" none=null "#),
        "{logfmt}"
    );
}

#[test]
fn a_field_name_that_appears_twice_loses_no_value() {
    testkit::own_process!();
    let say = || log::info!(target: "fields", message = 1, level = 2, time = 3, msg = 4, a = 5, a = 6, a_ = 7; "hello");
    let (record, [_, in_json, logfmt]) = logged(|_| {}, say);
    let line: Value = serde_json::from_str(&in_json).unwrap();
    let expected = json!({"message": 1, "level": 2, "time": 3, "msg": 4, "a": 5, "a_": 6, "a__": 7});
    for read in [&record, &line] {
        assert_eq!(read["fields"], expected);
        assert_eq!((&read["message"], &read["level"]), (&json!("hello"), &json!("INFO")));
    }
    assert!(
        logfmt.ends_with(" message=1 level_=2 time_=3 msg_=4 a=5 a_=6 a__=7\n"),
        "{logfmt}"
    );
}

#[test]
fn redaction_hides_matches_in_structured_fields() {
    testkit::own_process!();
    let batch = json!({"list": ["token=s3cr3t"]});
    let say = || log::info!(target: "fields", batch:serde = batch; "hello");
    let (record, texts) = logged(|config| config.redact = vec![r"s3cr\dt".into()], say);
    assert_eq!(record["fields"]["batch"], json!({"list": ["token=***"]}));
    assert!(texts.iter().all(|text| !text.contains("s3cr3t")), "{texts:?}");
}
