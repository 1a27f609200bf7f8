//! Events: what the health of a run had to say, one JSON object a line.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use logcore::files::{EntryKind, Folder, file_size_limit};
use logcore::{AlertLevel, FileRank, MetricValue, epoch_seconds};
use serde::{Deserialize, Serialize};

use crate::EVENTS_FILE;

/// Most events in one file; one line more says that the rest is left out.
const MAX_EVENTS: u64 = 10_000;

/// Longest line in bytes, as written and as read.
const MAX_LINE: usize = 64 << 10;

/// Most bytes of one text in a line that would be too long.
const MAX_TEXT: usize = 4 << 10;

/// Most bytes that are read of one folder, and of one file before lines are appended to the file.
const MAX_BYTES: u64 = 64 << 20;

/// Most events that are read of one folder: those of ten full files. A line of 70 bytes is an event
/// of 250, so that this bound, and not the one on bytes, keeps the memory small.
const MAX_READ: usize = 10 * MAX_EVENTS as usize;

/// Most files that are read of one folder.
const MAX_FILES: usize = 4096;

/// Something that the health of a run had to say: a line of `events.jsonl`.
///
/// Absent fields are left out of the line. The texts come from the program, or from the stranger
/// who sent the folder: escape them before a terminal or a page shows them.
///
/// ```
/// use logcore::AlertLevel;
/// use logcore_health::event::{Event, HealthKind};
///
/// let mut event = Event::new(HealthKind::Rule, AlertLevel::Warn, "loss is NaN at step 7");
/// event.time = 1.5;
/// event.step = Some(7);
/// event.value = Some(f64::NAN.into());
/// assert_eq!(
///     serde_json::to_string(&event)?,
///     r#"{"time":1.5,"step":7,"kind":"rule","level":"warn","rank":0,"attempt":1,"#.to_owned()
///         + r#""value":"NaN","text":"loss is NaN at step 7"}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Time of the event, in seconds since 1970.
    pub time: f64,
    /// Step of the run, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The part of the health that speaks.
    pub kind: HealthKind,
    /// The severity.
    #[serde(with = "level_name")]
    pub level: AlertLevel,
    /// Number of the process in the run.
    pub rank: u32,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Name of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Name of the metric, as it was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Name of the phase that has ended, as the program gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Value of the metric; of a phase its seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<MetricValue>,
    /// The usual value of the metric, or the usual seconds of the phase; finite.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub usual: Option<f64>,
    /// Name of a file in `incidents/`. A name that would lead elsewhere is not read.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "file_name")]
    pub incident: Option<String>,
    /// One line for people.
    #[serde(default)]
    pub text: String,
}

impl Event {
    /// Creates an event of this moment, of rank 0 and of the first attempt.
    #[must_use]
    pub fn new(kind: HealthKind, level: AlertLevel, text: impl Into<String>) -> Self {
        Self {
            time: epoch_seconds(SystemTime::now()),
            step: None,
            kind,
            level,
            rank: 0,
            attempt: 1,
            rule: None,
            metric: None,
            phase: None,
            value: None,
            usual: None,
            incident: None,
            text: text.into(),
        }
    }
}

/// The part of the health that speaks in an [`Event`].
///
/// ```
/// use logcore_health::event::HealthKind;
///
/// assert_eq!(serde_json::to_string(&HealthKind::Stall).unwrap(), r#""stall""#);
/// assert!(serde_json::from_str::<HealthKind>(r#""weather""#).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthKind {
    /// A rule found values of a metric bad, or good again.
    Rule,
    /// Nothing of the run has moved for long, or something moves again.
    Stall,
    /// A rank is slower than the others, or no longer.
    Skew,
    /// The run was asked to stop, or several ranks agreed on a step.
    Stop,
    /// An attempt began or ended.
    Attempt,
    /// A phase has ended that took long: the first of its name, or longer than usual.
    Phase,
}

/// Appends events to the file of this rank: `events.jsonl`, or `events.rank3.jsonl`.
///
/// Each event is one line and one `write` in append mode. A line that a killed process left without
/// its end gets one first. After 10,000 events in a file, one last line says so, and the rest is
/// left out. The file is opened for each event: events are rare, and so nothing is held across
/// a fork. A link, a pipe or a device of that name is refused, never followed and never waited for;
/// a slow disk is waited for, so that only the thread `logcore-health` may append.
///
/// ```
/// use logcore::{AlertLevel, FileRank};
/// use logcore_health::event::{Event, EventLog, HealthKind, read_events};
///
/// let run = tempfile::tempdir()?;
/// let mut log = EventLog::new(run.path(), FileRank(Some(3)));
/// log.append(&Event::new(HealthKind::Skew, AlertLevel::Warn, "rank 3 waits for data"))?;
/// assert!(run.path().join("events.rank3.jsonl").is_file());
/// assert_eq!(read_events(run.path()).events[0].text, "rank 3 waits for data");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EventLog {
    folder: PathBuf,
    name: PathBuf,
    /// Number of lines in the file; `None` before the first event of this process.
    lines: Option<u64>,
}

impl EventLog {
    /// Prepares the file of a rank in the folder of a run. Nothing is opened before the first
    /// event.
    #[must_use]
    pub fn new(folder: &Path, rank: FileRank) -> Self {
        Self {
            folder: folder.to_owned(),
            name: rank.file_name(EVENTS_FILE).into(),
            lines: None,
        }
    }

    /// Appends an event. Texts of a line beyond 64 KiB are cut to 4 KiB each.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or written, is no regular file, or would exceed `ulimit -f`.
    /// The next event is tried anew.
    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut file = Folder::open(&self.folder)?.append(&self.name)?;
        let lines = match self.lines {
            Some(lines) => lines,
            None => count_lines(&mut file)?,
        };
        self.lines = Some(lines);
        let line = match lines {
            0..MAX_EVENTS => format_line(event)?,
            MAX_EVENTS => format_line(&last_event(event))?,
            _ => return Ok(()),
        };
        append_line(&mut file, line)?;
        self.lines = Some(lines + 1);
        Ok(())
    }
}

/// The events in the folder of a run; see [`read_events`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Events {
    /// Events of all ranks, sorted by time; those of one file and time in the order of the file.
    pub events: Vec<Event>,
    /// Number of lines that are no events: damaged, too long, or of a later version.
    pub bad_lines: u64,
    /// `true` if the folder holds more than the bounds allow, and the rest was not read.
    pub is_cut: bool,
    /// Files that could not be read, and why.
    pub problems: Vec<(PathBuf, io::Error)>,
}

/// Reads the events of all ranks in the folder of a run.
///
/// The folder may be a stranger's: at most 64 MiB, 100,000 events and 4096 files are read, links,
/// pipes and devices are refused, and lines that are no events are counted. A last line without an
/// end is skipped and not counted: a process is still writing the line, or was killed. A folder
/// without events has none.
///
/// ```
/// let run = tempfile::tempdir()?;
/// let line = r#"{"time":2,"kind":"stall","level":"error","rank":0,"attempt":1,"text":"no step"}"#;
/// std::fs::write(run.path().join("events.jsonl"), format!("{line}\nnonsense\n{{\"time\":"))?;
///
/// let read = logcore_health::event::read_events(run.path());
/// assert_eq!((read.events[0].time, read.bad_lines), (2.0, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn read_events(folder: &Path) -> Events {
    let mut read = Events::default();
    let opened = Folder::open(folder).and_then(|folder| Ok((folder.entries()?, folder)));
    let (entries, folder) = match opened {
        Ok((entries, folder)) => (entries, folder),
        Err(error) => {
            read.problems.push((folder.to_owned(), error));
            return read;
        }
    };
    let mut names: Vec<(Option<u32>, PathBuf)> = entries
        .iter()
        .filter(|entry| entry.kind != EntryKind::Folder)
        .filter_map(|entry| {
            let name = entry.name.to_str()?;
            let rank = match FileRank::parse(name) {
                Some((stem, rank)) => (stem == EVENTS_FILE).then_some(Some(rank)),
                None => (name == EVENTS_FILE).then_some(None),
            };
            Some((rank?, name.into()))
        })
        .collect();
    names.sort();
    read.is_cut = names.len() > MAX_FILES;
    let mut room = MAX_BYTES;
    for (_, name) in names.into_iter().take(MAX_FILES) {
        if let Err(error) = read.add_file(&folder, &name, &mut room) {
            read.problems.push((name, error));
        }
    }
    // A stable sort: lines of one time stay in their order.
    read.events.sort_by(|a, b| a.time.total_cmp(&b.time));
    read
}

impl Events {
    fn add_file(&mut self, folder: &Folder, name: &Path, room: &mut u64) -> io::Result<()> {
        let file = folder.open_file(name)?;
        let length = file.metadata()?.len();
        self.is_cut |= length > *room;
        let mut bytes = Vec::new();
        let read = file.take(*room).read_to_end(&mut bytes);
        *room -= bytes.len() as u64;
        // The piece after the last line end is torn, or empty.
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..complete].split(|byte| *byte == b'\n') {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if self.events.len() == MAX_READ {
                self.is_cut = true;
                break;
            }
            match parse_line(line) {
                Some(event) => self.events.push(event),
                None => self.bad_lines += 1,
            }
        }
        read.map(drop)
    }
}

fn parse_line(line: &[u8]) -> Option<Event> {
    if line.len() > MAX_LINE {
        return None;
    }
    serde_json::from_slice(line).ok()
}

/// Returns the line of an event, with its end.
fn format_line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    if line.len() >= MAX_LINE {
        let cut = |text: &Option<String>| text.as_deref().map(cut_text);
        line = serde_json::to_vec(&Event {
            rule: cut(&event.rule),
            metric: cut(&event.metric),
            phase: cut(&event.phase),
            incident: cut(&event.incident),
            text: cut_text(&event.text),
            ..event.clone()
        })?;
    }
    line.push(b'\n');
    Ok(line)
}

/// Cuts a text so that five of them fit into a line, even if each byte is escaped as `\u001b`.
fn cut_text(text: &str) -> String {
    let is_escaped = text.bytes().any(|byte| byte.is_ascii_control());
    let bound = if is_escaped { MAX_TEXT / 2 } else { MAX_TEXT };
    let mut end = bound.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Returns the event that stands in place of one too many.
fn last_event(event: &Event) -> Event {
    let text = format!("this file has {MAX_EVENTS} events: later ones are left out");
    Event {
        time: event.time,
        step: event.step,
        rank: event.rank,
        attempt: event.attempt,
        ..Event::new(event.kind, AlertLevel::Warn, text)
    }
}

/// Counts the lines of a file from its beginning. A file beyond the bound counts as full.
fn count_lines(file: &mut File) -> io::Result<u64> {
    if file.metadata()?.len() > MAX_BYTES {
        return Ok(u64::MAX);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut lines = 0;
    let mut block = [0; 16 << 10];
    let mut reader = file.take(MAX_BYTES);
    loop {
        match reader.read(&mut block)? {
            0 => return Ok(lines),
            read => lines += block[..read].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

/// Appends a line in one write, after the end of a torn one.
fn append_line(file: &mut File, mut line: Vec<u8>) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(length - 1))?;
        if file.read(&mut last)? == 1 && last[0] != b'\n' {
            line.insert(0, b'\n');
        }
    }
    // Beyond the limit the system would kill the process by SIGXFSZ.
    if length.saturating_add(line.len() as u64) > file_size_limit() {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let written = file.write(&line)?;
    if written == line.len() {
        return Ok(());
    }
    // A part, on a full disk: the caller may try the event again, again and again. A part that
    // stays is completed by the next event.
    let _ = file.set_len(length);
    Err(io::ErrorKind::StorageFull.into())
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn is_unknown(usual: &Option<f64>) -> bool {
    !usual.is_some_and(f64::is_finite)
}

/// Parses a name of a file in `incidents/`; another text counts as absent.
fn file_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    Ok(name.filter(|name| (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain)))
}

/// The severity in small letters, as `level` of a record in JSON is not: `events.jsonl` is read by
/// programs first.
mod level_name {
    use logcore::AlertLevel;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(level: &AlertLevel, serializer: S) -> Result<S::Ok, S::Error> {
        level.name().to_ascii_lowercase().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AlertLevel, D::Error> {
        match &*String::deserialize(deserializer)? {
            "info" => Ok(AlertLevel::Info),
            "warn" => Ok(AlertLevel::Warn),
            "error" => Ok(AlertLevel::Error),
            other => Err(D::Error::unknown_variant(other, &["info", "warn", "error"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn event(text: &str) -> Event {
        Event::new(HealthKind::Rule, AlertLevel::Warn, text)
    }

    fn texts(read: &Events) -> Vec<&str> {
        read.events.iter().map(|event| &*event.text).collect()
    }

    #[test]
    fn a_torn_line_is_completed_before_the_next_event() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(EVENTS_FILE);
        fs::write(&path, "{\"time\":1,\"ki").unwrap();
        let mut log = EventLog::new(run.path(), FileRank(None));
        log.append(&event("one")).unwrap();
        log.append(&event("two")).unwrap();
        let read = read_events(run.path());
        assert_eq!((texts(&read), read.bad_lines), (vec!["one", "two"], 1));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn events_of_all_ranks_are_sorted_by_time() {
        let run = tempfile::tempdir().unwrap();
        for (rank, time) in [(0, 3.0), (2, 1.0), (10, 2.0)] {
            let mut log = EventLog::new(run.path(), FileRank((rank > 0).then_some(rank)));
            let (mut first, mut second) = (event("first"), event("second"));
            (first.time, second.time) = (time, time);
            (first.rank, second.rank) = (rank, rank);
            log.append(&first).unwrap();
            log.append(&second).unwrap();
        }
        fs::write(run.path().join("events.rank02.jsonl"), "no name of a rank\n").unwrap();
        fs::write(run.path().join("metrics.jsonl"), "no events\n").unwrap();
        let read = read_events(run.path());
        let order: Vec<(u32, &str)> = read.events.iter().map(|event| (event.rank, &*event.text)).collect();
        let expected = [2, 10, 0].map(|rank| [(rank, "first"), (rank, "second")]);
        assert_eq!((order, read.bad_lines), (expected.concat(), 0));
    }

    #[test]
    fn the_file_ends_with_a_line_that_says_so() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(EVENTS_FILE);
        let line = String::from_utf8(format_line(&event("old")).unwrap()).unwrap();
        fs::write(&path, line.repeat(MAX_EVENTS as usize - 1)).unwrap();
        // A restart counts what is there.
        for text in ["last", "left out", "left out"] {
            EventLog::new(run.path(), FileRank(None)).append(&event(text)).unwrap();
        }
        let read = read_events(run.path());
        assert_eq!(read.events.len() as u64, MAX_EVENTS + 1);
        assert_eq!(read.events[MAX_EVENTS as usize - 1].text, "last");
        assert!(read.events.last().unwrap().text.contains("later ones are left out"));
    }

    #[test]
    fn a_line_of_any_texts_is_read_back_or_cut() {
        let run = tempfile::tempdir().unwrap();
        let mut log = EventLog::new(run.path(), FileRank(None));
        for text in [
            "\u{1b}".repeat(1 << 20),
            "é\n\"".repeat(1 << 20),
            "€".repeat(1 << 20),
            "\"\\".repeat(1 << 20),
        ] {
            let mut event = event(&text);
            (event.metric, event.phase, event.rule) = (Some(text.clone()), Some(text.clone()), Some(text));
            log.append(&event).unwrap();
        }
        let read = read_events(run.path());
        assert_eq!((read.events.len(), read.bad_lines), (4, 0));
        assert!(read.events.iter().all(|event| event.text.len() > 1000));
    }

    #[test]
    fn a_rule_without_a_usual_value_leaves_it_out() {
        let mut event = event("");
        event.usual = Some(f64::INFINITY);
        assert!(!serde_json::to_string(&event).unwrap().contains("usual"));
    }

    #[test]
    fn hostile_lines_are_counted() {
        let run = tempfile::tempdir().unwrap();
        let good = r#"{"time":1,"kind":"rule","level":"warn","rank":0,"attempt":1,"incident":"../../key","x":[1]}"#;
        let lines = [
            good.to_owned(),
            "\0".repeat(100),
            "[".repeat(5000),
            "null".into(),
            "{}".into(),
            good.replace("\"time\":1", "\"time\":\"1\""),
            good.replace("\"time\":1", "\"time\":1e999"),
            good.replace("\"rank\":0", "\"rank\":-1"),
            good.replace("\"rank\":0", "\"rank\":4294967296"),
            good.replace("rule", "weather"),
            good.replace("[1]", &format!("{:?}", "x".repeat(MAX_LINE))),
        ];
        fs::write(run.path().join(EVENTS_FILE), lines.join("\n") + "\n \r\n\n").unwrap();
        let read = read_events(run.path());
        assert_eq!((read.events.len(), read.bad_lines), (1, lines.len() as u64 - 1));
        assert_eq!(read.events[0].incident, None);
    }

    #[test]
    fn a_huge_sparse_file_is_cut() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(EVENTS_FILE);
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        fs::write(
            run.path().join("events.rank1.jsonl"),
            format_line(&event("lost")).unwrap(),
        )
        .unwrap();
        let read = read_events(run.path());
        assert!(read.is_cut && read.events.is_empty());
        // The file is full: nothing more goes there, and nothing is read of the file.
        EventLog::new(run.path(), FileRank(None)).append(&event("x")).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 1 << 40);
    }

    #[test]
    fn more_events_than_the_bound_are_cut() {
        let run = tempfile::tempdir().unwrap();
        let line = r#"{"time":1,"kind":"rule","level":"warn","rank":0,"attempt":1}"#.to_owned() + "\n";
        fs::write(run.path().join(EVENTS_FILE), line.repeat(MAX_READ + 1)).unwrap();
        let read = read_events(run.path());
        assert!(read.is_cut);
        assert_eq!(read.events.len(), MAX_READ);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_folders_are_neither_read_nor_written() {
        let outside = tempfile::tempdir().unwrap();
        let run = outside.path().join("run");
        fs::create_dir_all(run.join("events.rank1.jsonl")).unwrap();
        let precious = outside.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, run.join(EVENTS_FILE)).unwrap();
        let error = EventLog::new(&run, FileRank(None)).append(&event("x")).unwrap_err();
        assert!(error.to_string().contains("link"), "{error}");
        assert!(EventLog::new(&run, FileRank(Some(1))).append(&event("x")).is_err());
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        let read = read_events(&run);
        assert!(read.events.is_empty());
        assert_eq!(read.problems[0].0, Path::new(EVENTS_FILE));
    }

    #[test]
    fn several_processes_append_whole_lines_to_one_file() {
        let run = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let folder = run.path();
                scope.spawn(move || {
                    // Each log stands for a process: no state is shared.
                    let mut log = EventLog::new(folder, FileRank(None));
                    (0..50).for_each(|number| log.append(&event(&format!("{writer}-{number}"))).unwrap());
                });
            }
        });
        let read = read_events(run.path());
        assert_eq!((read.events.len(), read.bad_lines), (400, 0));
    }

    proptest! {
        #[test]
        fn an_event_is_read_back_as_it_was(
            time in 0.0..4e9_f64,
            step in proptest::option::of(any::<u64>()),
            value in proptest::option::of(any::<f64>().prop_filter("equal to itself", |value| !value.is_nan())),
            usual in proptest::option::of(-1e300..1e300_f64),
            texts in proptest::collection::vec(any::<String>(), 3),
            incident in proptest::option::of("[a-z0-9_-]{1,80}\\.json"),
        ) {
            let run = tempfile::tempdir().unwrap();
            let event = Event {
                time,
                step,
                value: value.map(MetricValue::Float),
                usual,
                rule: Some(texts[0].clone()),
                metric: Some(texts[1].clone()),
                phase: Some(texts[2].clone()),
                incident,
                ..event(&texts[2])
            };
            EventLog::new(run.path(), FileRank(Some(7))).append(&event).unwrap();
            let read = read_events(run.path());
            prop_assert_eq!(read.events, vec![event]);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let run = tempfile::tempdir().unwrap();
            fs::write(run.path().join(EVENTS_FILE), bytes).unwrap();
            let _ = read_events(run.path());
        }
    }
}
