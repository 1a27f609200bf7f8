//! Hostile text: a record never forges another one, and no name leads out of its folder.

use std::fs;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use logcore::registry::build_sink;
use logcore::{BuildContext, Deadline, LogConfig, StopFlag, Style};
use serde_json::{Value, json};

use crate::arbitrary_call::ArbitraryRecord;
use crate::folder;

#[derive(Debug, Arbitrary)]
struct Evil {
    record: ArbitraryRecord,
    color: bool,
    keywords: bool,
    utc: bool,
    millis: bool,
    name: String,
    filename: String,
}

pub(crate) fn run(input: &[u8]) {
    let Ok(evil) = Evil::arbitrary(&mut Unstructured::new(input)) else {
        return;
    };
    check_formatters(&evil);
    check_file(&evil);
}

fn check_formatters(evil: &Evil) {
    let mut style = Style::default();
    (style.color, style.keywords) = (evil.color, evil.keywords);
    (style.utc, style.millis) = (evil.utc, evil.millis);
    let config = LogConfig::default();
    let stop = StopFlag::default();
    let context = BuildContext::new(&config, &stop);
    for name in ["plain", "colored", "json", "logfmt"] {
        let mut formatter = context.build_formatter(&name.into()).expect("it is linked");
        // A formatter gets a buffer that has something in it.
        let mut out = String::from("before\n");
        evil.record.with(|record| formatter.format(record, &style, &mut out));
        let text = out.strip_prefix("before\n").expect("what was there is left alone");
        check_one_record(text, name);
        match name {
            "json" => check_json(text, &evil.record),
            "logfmt" => assert_eq!(text.matches('\n').count(), 1, "{text:?}"),
            _ => {}
        }
    }
}

/// Checks that later lines are indented and that no line moves the cursor.
pub(crate) fn check_one_record(text: &str, formatter: &str) {
    assert!(text.ends_with('\n'), "{formatter}: {text:?}");
    for (number, line) in text.split_terminator('\n').enumerate() {
        let plain = without_colours(line);
        assert!(
            number == 0 || plain.starts_with("    "),
            "{formatter}: a line of its own in {text:?}"
        );
        let harmful = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!plain.contains(harmful), "{formatter}: a harmful character in {text:?}");
    }
}

/// Returns the text without codes for colors.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match after.strip_prefix('m') {
            Some(text) => plain.push_str(text),
            // Kept, so that it is found.
            None => plain.push_str(&format!("\u{1b}[{part}")),
        }
    }
    plain
}

fn check_json(line: &str, record: &ArbitraryRecord) {
    let read: Value = serde_json::from_str(line).expect("it is JSON");
    assert_eq!(read["message"], *record.message);
    assert_eq!(read["logger"], *record.logger);
    assert_eq!(read["target"], *record.target);
    assert_eq!(line.matches('\n').count(), 1);
}

/// A config with these names is refused, or its file is the one that it names.
fn check_file(evil: &Evil) {
    let config = LogConfig {
        name: evil.name.clone(),
        filename: evil.filename.clone(),
        log_dir: folder::path().join("logs"),
        ..LogConfig::default()
    };
    if config.validate().is_err() {
        return;
    }
    let stop = StopFlag::default();
    // A name may still be too long for the file system, or one that it does not take.
    if let Ok(mut sink) = build_sink("file", &json!({}), &BuildContext::new(&config, &stop)) {
        evil.record
            .with(|record| sink.record(record))
            .expect("it takes a record");
        sink.finish(Deadline::after(Duration::from_secs(5)))
            .expect("it writes everything");
        let files: Vec<_> = folder::files();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(files[0].0, format!("logs/{}", evil.filename));
        let text = fs::read_to_string(config.log_dir.join(&config.filename)).expect("it is text");
        check_one_record(&text, "file");
    }
    folder::clear();
}
