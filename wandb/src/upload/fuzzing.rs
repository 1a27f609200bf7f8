//! Entry points of the fuzzer: logs, replies of a server, and the files beside a log. Each function
//! panics if a promise is broken.

use std::path::Path;

use logcore_delivery::{Backoff, DeliveryError, parse_retry_after, quote};
use serde_json::Value;

use crate::folder::staged_copy;
use crate::log_format::json;
use crate::log_format::proto::{ExitRecord, RecordKind};
use crate::log_format::{LogEnd, LogEntry, LogReader};
use crate::run_log::reopen::reopen;
use crate::upload::client::api::server_message;
use crate::upload::state::progress_file::UploadProgress;
use crate::upload::state::resume;
use crate::upload::stream::assembler::Assembler;
use crate::upload::stream::unsent_lines::StreamLines;

/// Reads a log as a delivery does, then continues the log behind one of its records, as a recovery
/// does.
///
/// # Panics
///
/// If the content for a server is not JSON, or an added record cannot be read back.
pub fn read_log(path: &Path, record: usize) {
    let mut assembler = Assembler::default();
    assembler.derive_summary();
    let ends = read(path, |record| assembler.read(record));
    assembler.add_tail_summary();
    check(&mut assembler);
    for entry in assembler
        .artifacts
        .iter()
        .flat_map(|artifact| &artifact.manifest)
        .flat_map(|manifest| &manifest.contents)
    {
        let copy = staged_copy(&entry.local_path);
        assert!(
            copy.is_none_or(|copy| logcore::files::is_plain_relative(&copy)),
            "{}",
            entry.local_path
        );
    }
    let Some(end) = ends.get(record % ends.len().max(1)) else {
        return;
    };
    if let Ok(Some((mut log, _))) = reopen(path, *end) {
        log.append(RecordKind::Exit(ExitRecord::default()));
        log.write_out().expect("the disk takes it");
        let mut last = None;
        let again = read(path, |record| last = record.kind);
        assert_eq!(again.len(), record % ends.len() + 2);
        assert!(matches!(last, Some(RecordKind::Exit(_))));
    }
}

/// Reads the reply about a resumed run, and starts a delivery there.
///
/// # Panics
///
/// If the saved progress is read back differently, or the content for the server is not JSON.
pub fn read_resumed(text: &str) {
    let reply: Value = serde_json::from_str(text).unwrap_or_default();
    let Ok(Some(existing)) = resume::read(reply) else {
        return;
    };
    let progress = UploadProgress::at_start(Some(&existing), None);
    let kept = serde_json::to_string(&progress).expect("it has a form in JSON");
    assert_eq!(
        serde_json::from_str::<UploadProgress>(&kept).ok(),
        Some(progress.clone())
    );
    let mut assembler = Assembler::default();
    assembler.begin_at(&progress);
    assembler.inherit(&existing.config, &existing.summary);
    check(&mut assembler);
}

/// Reads the message of an error and its retry time.
///
/// # Panics
///
/// If the message has control characters, or the wait is not between a second and an hour.
pub fn read_refusal(text: &str) {
    let shown = quote(&server_message(text));
    assert!(!shown.chars().any(char::is_control), "{shown:?} reaches a terminal");
    let error = DeliveryError::from_status(429, None, &shown, parse_retry_after(text));
    let wait = Backoff::default().next(&error, false);
    assert!((1..=3600).contains(&wait.as_secs()), "{wait:?}");
}

/// Reads the progress of a delivery, and continues the delivery.
pub fn read_progress(text: &str) {
    if let Ok(progress) = serde_json::from_str(text) {
        Assembler::default().begin_at(&progress);
    }
}

/// Returns the end of the header and of each record.
fn read(path: &Path, mut each: impl FnMut(crate::log_format::proto::LogRecord)) -> Vec<LogEnd> {
    let Ok(mut reader) = LogReader::open(path) else {
        return Vec::new();
    };
    let mut ends = vec![LogEnd {
        length: reader.position(),
        num: 0,
    }];
    while let Ok(LogEntry::Record(record)) = reader.next() {
        ends.push(LogEnd {
            length: reader.position(),
            num: record.num,
        });
        each(record);
    }
    ends
}

/// Checks that all content for the server is valid JSON.
fn check(assembler: &mut Assembler) {
    for lines in [&assembler.history, &assembler.events] {
        for line in texts(lines) {
            assert!(json::is_valid(&line), "a line is {line}");
        }
    }
    let _ = texts(&assembler.output);
    let (summary, config) = (assembler.summary_text(), assembler.take_config());
    assert!(json::is_valid(&summary), "the summary is {summary}");
    assert!(
        config.iter().all(|config| json::is_valid(config)),
        "the config is {config:?}"
    );
    let _ = assembler.config_yaml();
    let _ = assembler.metadata();
}

/// Returns the lines as they are sent.
fn texts(lines: &StreamLines) -> Vec<String> {
    let (_, content) = lines.portion(usize::MAX);
    serde_json::from_str(&format!("[{content}]")).expect("lines are sent as JSON strings")
}
