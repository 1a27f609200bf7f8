//! The terminal: no logged text moves the cursor or overwrites another line, in lines, bars,
//! notices and the summary of a run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use facade::setup_logging;
use logcore::escape::needs_escape;
use logcore::registry::build_sink;
use logcore::{BuildContext, Deadline, LogConfig, MetricBatch, ProgressEvent, ProgressKind, RingPlace, Sink, StopFlag};
use serde_json::json;

use crate::arbitrary_call::{ArbitraryNumber, ArbitraryRecord};
use crate::text::check_one_record;

#[derive(Debug, Arbitrary)]
enum Shown {
    Record(ArbitraryRecord),
    Metrics(String, ArbitraryNumber),
    ShownProgress(ShownProgress),
}

#[derive(Debug, Arbitrary)]
struct ShownProgress {
    kind: u8,
    id: u8,
    slot: u8,
    logger: String,
    description: String,
    position: u64,
    total: Option<u64>,
    samples: Option<u64>,
    elapsed_nanos: u64,
    eta_nanos: Option<u64>,
    rate: Option<f64>,
    samples_per_sec: Option<f64>,
    leave: bool,
}

#[derive(Debug, Arbitrary)]
struct EmulatedTerminal {
    color: bool,
    bars: bool,
    keywords: bool,
    calls: Vec<Shown>,
    notices: Vec<String>,
    run: Option<ShownRun>,
}

/// A run that ends with its summary.
#[derive(Debug, Arbitrary)]
struct ShownRun {
    name: String,
    metrics: Vec<(String, ArbitraryNumber)>,
    description: String,
    config: BTreeMap<String, FailsToSerialize>,
}

/// A hyper-parameter that cannot be serialized, with an error text of its own.
#[derive(Debug, Arbitrary)]
struct FailsToSerialize(String);

impl serde::Serialize for FailsToSerialize {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(&self.0))
    }
}

pub(crate) fn run(input: &[u8]) {
    let Ok(terminal) = EmulatedTerminal::arbitrary(&mut Unstructured::new(input)) else {
        return;
    };
    let when = |on: bool| if on { "always" } else { "never" };
    let options = json!({"color": when(terminal.color), "bars": when(terminal.bars), "keywords": terminal.keywords});
    let (config, stop) = (LogConfig::default(), StopFlag::default());
    let mut sink = build_sink("console", &options, &BuildContext::new(&config, &stop)).expect("it can be built");
    for call in &terminal.calls {
        call.give(sink.as_mut());
    }
    sink.finish(Deadline::after(Duration::from_secs(5)))
        .expect("the terminal takes everything");
    drop(sink);
    let text = take_output();
    match terminal.bars {
        true => check_codes(&text),
        false => check_lines(&text),
    }
    catch_notices();
    for (number, text) in terminal.notices.iter().enumerate() {
        // One of each kind is record.
        logcore_pipeline::print_notice(&format!("{number} {text}"), text);
    }
    if let Some(run) = &terminal.run {
        run.end(&options);
        check_codes(&take_output());
    }
    check_notices();
}

impl ShownRun {
    fn end(&self, console: &serde_json::Value) {
        let config = LogConfig {
            name: self.name.clone(),
            enable_file: false,
            capture_warnings: false,
            handle_signals: false,
            ring_place: RingPlace::Memory,
            sinks: [
                ("jsonl".to_owned(), json!(false)),
                ("console".to_owned(), console.clone()),
            ]
            .into(),
            ..LogConfig::default()
        };
        let Ok(logger) = setup_logging(config) else { return };
        logger.start_progress(1, self.description.as_str());
        logger.log_metrics(self.metrics.iter().map(|(name, value)| (name, value.0)));
        logger.log_config(&self.config);
        logger.finish();
    }
}

/// Returns notices that are collected instead of printed.
static NOTICES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn catch_notices() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        logcore_pipeline::set_notice_writer(|line| {
            NOTICES
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line.to_owned());
            true
        });
    });
}

/// Checks that each notice is one line without control characters.
fn check_notices() {
    let notices = std::mem::take(&mut *NOTICES.lock().unwrap_or_else(PoisonError::into_inner));
    for line in notices {
        let text = line.strip_suffix('\n').expect("a notice ends its line");
        assert!(
            text.starts_with("logcore: ") && !text.contains(char::is_control),
            "{line:?}"
        );
        assert_eq!(logcore::escape::to_one_line(text), text);
    }
}

impl Shown {
    fn give(&self, sink: &mut dyn Sink) {
        let given = match self {
            Self::Record(record) => record.with(|record| sink.record(record)),
            // Only metrics of the user stand beside a bar.
            Self::Metrics(name, value) => {
                let name = format!("{}{name}", LogConfig::default().metrics_prefix);
                sink.metrics(&MetricBatch::new("run", 1, &[(&name, value.0)]))
            }
            Self::ShownProgress(progress) => sink.progress(&progress.event()),
        };
        given.and_then(|()| sink.deliver()).expect("it takes everything");
    }
}

impl ShownProgress {
    fn event(&self) -> ProgressEvent<'_> {
        let kind = match self.kind % 3 {
            0 => ProgressKind::Started,
            1 => ProgressKind::Advanced,
            _ => ProgressKind::Finished,
        };
        let mut event = ProgressEvent::new(kind, u64::from(self.id % 4), &self.logger, &self.description);
        (event.line, event.position, event.total) = (u32::from(self.slot), self.position, self.total);
        (event.samples, event.leave) = (self.samples, self.leave);
        event.elapsed = Duration::from_nanos(self.elapsed_nanos);
        event.eta = self.eta_nanos.map(Duration::from_nanos);
        (event.rate, event.samples_per_sec) = (self.rate, self.samples_per_sec);
        event
    }
}

/// Returns and removes the content of the file that is the standard output of this process.
fn take_output() -> String {
    const OUTPUT: &str = "/proc/self/fd/1";
    let text = fs::read(OUTPUT).expect("the standard output of a target is a file");
    File::options()
        .write(true)
        .open(OUTPUT)
        .and_then(|file| file.set_len(0))
        .expect("it can be emptied");
    String::from_utf8(text).expect("a terminal gets text")
}

/// Checks the lines of a console without bars, where a progress is a line, too.
fn check_lines(text: &str) {
    if !text.is_empty() {
        let first = text.split_once('\n').expect("a line has an end").0;
        assert!(!first.trim_start_matches("\u{1b}[2m").starts_with("    "), "{text:?}");
    }
    for line in text.split_inclusive('\n') {
        check_one_record(
            &format!("first\n{}{line}", if line.starts_with("    ") { "" } else { "    " }),
            "console",
        );
    }
}

/// Checks that the only codes on a console with bars draw and delete lines; none sets a title or
/// the clipboard.
fn check_codes(text: &str) {
    let mut parts = text.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .strip_prefix('[')
            .unwrap_or_else(|| panic!("a foreign code in {text:?}"));
        let after = code.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | '?'));
        let rest = after.strip_prefix(['m', 'A', 'B', 'C', 'D', 'G', 'H', 'J', 'K', 'h', 'l']);
        plain.push_str(rest.unwrap_or_else(|| panic!("a foreign code in {text:?}")));
    }
    let harmful = |c: char| needs_escape(c) && !matches!(c, '\n' | '\r' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
    assert!(!plain.contains(harmful), "a harmful character in {text:?}");
}
