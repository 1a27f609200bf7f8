//! The lines of all formatters, and properties that hold for any text.

use std::time::{Duration, UNIX_EPOCH};

use logcore::log::Level;
use logcore::{FieldValue, Formatter, Record, Style};
use logcore_formatters::{Json, Logfmt, Plain};
use proptest::prelude::*;

fn style(color: bool) -> Style {
    let mut style = Style::default();
    (style.color, style.keywords, style.utc, style.millis) = (color, true, true, true);
    style
}

fn format(formatter: &mut dyn Formatter, record: &Record<'_>, color: bool) -> String {
    let mut out = String::new();
    formatter.format(record, &style(color), &mut out);
    out
}

fn record<'a>(level: Level, message: &'a str, fields: &'a [(&'a str, FieldValue<'a>)]) -> Record<'a> {
    Record::at(
        UNIX_EPOCH + Duration::from_millis(1_795_445_295_123),
        level,
        "my_module",
        message,
    )
    .with_fields(fields)
}

#[test]
fn lines_of_all_formatters() {
    let fields = [("key", FieldValue::Text("value".into())), ("other", FieldValue::Int(2))];
    let starting = record(Level::Info, "Starting process...", &fields);
    assert_eq!(
        format(&mut Plain::default(), &starting, false),
        "2026-11-23 14:48:15.123 | INFO  | my_module | Starting process... | key=value other=2\n"
    );
    assert_eq!(
        format(&mut Logfmt::default(), &starting, false),
        "time=2026-11-23T14:48:15.123+00:00 level=info logger=my_module target=my_module \
         msg=\"Starting process...\" key=value other=2\n"
    );
    assert_eq!(
        format(&mut Json::default(), &starting, false),
        concat!(
            r#"{"time":1795445295.123,"level":"INFO","logger":"my_module","target":"my_module","#,
            r#""message":"Starting process...","fields":{"key":"value","other":2}}"#,
            "\n"
        )
    );
}

#[test]
fn rank_stands_before_the_message() {
    let record = record(Level::Warn, "two\nlines", &[]);
    let line_with_rank = |formatter: &mut dyn Formatter| {
        let (mut out, mut style) = (String::new(), style(false));
        style.rank = Some(3);
        formatter.format(&record, &style, &mut out);
        out
    };
    assert!(line_with_rank(&mut Plain::default()).ends_with("| my_module | [rank 3] two\n    lines\n"));
    assert!(line_with_rank(&mut Logfmt::default()).ends_with(" msg=\"two\\nlines\" rank=3\n"));
    assert!(line_with_rank(&mut Json::default()).ends_with("\"message\":\"two\\nlines\",\"rank\":3}\n"));
}

#[test]
fn third_column_is_the_target_only_for_records_of_the_log_facade() {
    let from_facade = record(Level::Warn, "m", &[]).with_facade_target("hyper::client");
    assert!(format(&mut Plain::default(), &from_facade, false).contains("| WARN  | hyper::client | m\n"));
    let addressed = record(Level::Warn, "m", &[]).with_target("hyper::client");
    assert!(format(&mut Plain::default(), &addressed, false).contains("| WARN  | my_module | m\n"));
}

#[cfg(feature = "color")]
mod color {
    use logcore_formatters::Colored;

    use super::*;

    #[test]
    fn lines_in_color() {
        let line_of = |level, message| {
            let line = format(&mut Colored::default(), &record(level, message, &[]), true);
            line.replace('\x1b', "␛")
        };
        assert_eq!(
            line_of(Level::Info, "Loading data: done"),
            "␛[2m2026-11-23 14:48:15.123␛[0m␛[2m | ␛[0m␛[32mINFO ␛[0m␛[2m | ␛[0m␛[36mmy_module␛[0m␛[2m | ␛[0m\
             ␛[1;36mLoading␛[0m data: ␛[1;32mdone␛[0m\n"
        );
        assert_eq!(
            line_of(Level::Error, "Failed"),
            "␛[2m2026-11-23 14:48:15.123␛[0m␛[2m | ␛[0m␛[1;31mERROR␛[0m␛[2m | ␛[0m␛[36mmy_module␛[0m␛[2m | ␛[0m\
             ␛[31mFailed␛[0m\n"
        );
    }

    /// Returns the text without color codes.
    fn strip_codes(text: &str) -> String {
        let mut parts = text.split("\x1b[");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |plain, part| {
            plain + part.split_once('m').map_or(part, |(_, rest)| rest)
        })
    }

    proptest! {
        #[test]
        fn colored_line_without_codes_is_the_plain_line(
            message in "(\\PC|\\pC|[\n\r\t]|Starting|failed ){0,20}",
            index in 0_usize..5,
        ) {
            let level = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace][index];
            let record = record(level, &message, &[]);
            let plain = format(&mut Plain::default(), &record, false);
            let colored = format(&mut Colored::default(), &record, true);
            prop_assert_eq!(&format(&mut Colored::default(), &record, false), &plain);
            prop_assert_eq!(&strip_codes(&colored), &plain);
            // Every line resets its color.
            for line in colored.lines() {
                prop_assert!(line.rfind("\x1b[").is_none_or(|at| line[at..].starts_with("\x1b[0m")));
            }
        }
    }
}

proptest! {
    #[test]
    fn record_stays_one_record(
        message in "(\\PC|\\pC|[\n\r\t\u{2028}\u{85}]){0,40}",
        name in "(\\PC|\n){1,5}",
        value in "(\\PC|[\n\"= ]){0,9}",
    ) {
        let fields = [(name.as_str(), FieldValue::Text(value.as_str().into()))];
        let record = record(Level::Info, &message, &fields);
        let plain = format(&mut Plain::default(), &record, false);
        prop_assert!(plain.ends_with('\n'));
        prop_assert!(plain.lines().skip(1).all(|line| line.starts_with("    ")));
        prop_assert!(!plain.contains("\r"));
        prop_assert_eq!(format(&mut Logfmt::default(), &record, false).lines().count(), 1);
        let json = format(&mut Json::default(), &record, false);
        prop_assert_eq!(json.lines().count(), 1);
        let split_by_some_readers = json.contains(['\u{2028}', '\u{2029}']);
        prop_assert!(!split_by_some_readers);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(read["message"].as_str(), Some(message.as_str()));
        prop_assert_eq!(read["fields"][&name].as_str(), Some(value.as_str()));
    }
}
