//! Everything of the runs as one JSON text of bounded size.
//!
//! Each kind of data has a share of the size: first what describes the runs, then their documents,
//! then events and ranks, then text lines; the curves get the rest.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use logcore::escape::EscapingFormatter;
use logcore::files::read_no_follow;
use serde_json::{Number, Value, json};

use crate::StoredRun;
use crate::curve::{CurveSet, MAX_NAME};
use crate::report::ReportFacts;
use crate::report::curve_data::{encode, encoded_len, whole_len};
use crate::report::health_data::{events_for_page, ranks_for_page};
use crate::report::media_data::{MediaData, MediaSource};
use crate::report::page::escape;
use crate::report::text_lines::{TextLines, clip};

/// Most buckets of a curve: a run of that many steps has every value in the page.
const MAX_BUCKETS: usize = 1 << 16;
/// Bytes of a curve, and of all curves, that are always granted: a chart has fewer columns of
/// pixels.
const THINNED_CURVE: usize = 50_000;
const THINNED: usize = 500_000;
/// Most curves; a page with more is slow.
const MAX_CURVES: usize = 20_000;
/// Most ranks of a run whose curves and lines are shown: the lowest.
pub(super) const MAX_RANKS: usize = 8;
/// Newest text lines of a run.
pub(super) const MAX_LINES: usize = 2000;
/// Newest attempts of a run.
const MAX_ATTEMPTS: usize = 200;
/// Most bytes of what describes one run.
const MAX_HEAD: usize = 64 << 10;
/// Most bytes of a `config.json` or `summary.json` that is read.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Most notes about what is left out, and most bytes of each.
const MAX_NOTES: usize = 100;
const MAX_NOTE: usize = 500;

/// The data of a report.
pub(super) struct ReportData {
    /// Escaped for a `script` element.
    pub(super) json: String,
    pub(super) facts: ReportFacts,
}

impl ReportData {
    /// Reads the runs into at most `limit` bytes.
    pub(super) fn read(runs: &[StoredRun], limit: usize) -> Self {
        let mut notes = Notes::default();
        let mut left = limit.saturating_sub(MAX_NOTES * MAX_NOTE * 2 + 4096);
        let mut parts = describe_all(runs, limit / 4, &mut notes);
        let runs = &runs[..parts.len()];
        left = left.saturating_sub(parts.iter().map(|part| part.head.len() + RunParts::FRAME).sum());
        let documents = fill_documents(runs, &mut parts, (limit / 4).min(left / 2), &mut notes);
        left = left.saturating_sub(documents);
        let health = fill_health(runs, &mut parts, (limit / 8).min(left / 2), &mut notes);
        left = left.saturating_sub(health);
        let lines = fill_lines(runs, &mut parts, (limit / 4).min(left / 2), &mut notes);
        left = left.saturating_sub(lines);
        let curves = read_curves(runs, left, &mut parts, &mut notes);
        left = left.saturating_sub(curves.names.len() + parts.iter().map(RunParts::curve_bytes).sum::<usize>());
        fill_media(runs, &mut parts, MediaSource::Inline, left, &mut notes);

        let mut facts = ReportFacts {
            runs: parts.len(),
            curves: curves.curves,
            widest_bucket: curves.widest_bucket,
            lines: parts.iter().map(|part| part.line_count).sum(),
            ..ReportFacts::default()
        };
        facts.notes = notes.texts();
        let names = ("names", curves.names);
        let json = join_parts(parts, facts.widest_bucket, &facts.notes, names);
        Self { json, facts }
    }
}

/// Returns what describes the runs, without curves and lines, for a page that asks for these. Each
/// run comes with its key, and all with the version of their list.
pub(super) fn live_runs_json(keyed: &[(&str, &StoredRun)], version: u64, limit: usize) -> String {
    let mut notes = Notes::default();
    let runs: Vec<&StoredRun> = keyed.iter().map(|(_, run)| *run).collect();
    let mut parts = describe_all(&runs, limit / 2, &mut notes);
    fill_documents(&runs[..parts.len()], &mut parts, limit / 4, &mut notes);
    fill_media(
        &runs[..parts.len()],
        &mut parts,
        MediaSource::Server,
        limit / 4,
        &mut notes,
    );
    for (part, (key, _)) in parts.iter_mut().zip(keyed) {
        part.documents.insert("key", escape(&Value::from(*key).to_string()));
    }
    join_parts(parts, 1, &notes.texts(), ("list", version.to_string()))
}

/// Joins the parts of all runs, and one more member.
fn join_parts(parts: Vec<RunParts>, widest_bucket: u64, notes: &[String], (name, member): (&str, String)) -> String {
    let frame = json!({
        "schema": 1,
        "written": seconds_since_1970(),
        "version": env!("CARGO_PKG_VERSION"),
        "widest": widest_bucket,
        "notes": notes,
    });
    let frame = escape(&frame.to_string());
    let mut json = frame.strip_suffix('}').unwrap_or(&frame).to_owned();
    // Writing to a string cannot fail.
    let _ = write!(json, ",\"{name}\":{member},\"runs\":[");
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        part.write(&mut json);
    }
    json.push_str("]}");
    json
}

/// The parts of a run, each as escaped JSON.
struct RunParts {
    head: String,
    documents: BTreeMap<&'static str, String>,
    lines: String,
    has_earlier_lines: bool,
    line_count: usize,
    curves: Vec<String>,
}

impl RunParts {
    /// Most bytes of names and brackets.
    const FRAME: usize = 160;
    /// Most bytes of the name of a document, and of what stands between names.
    const MEMBER: usize = 20;

    fn new(head: String) -> Self {
        Self {
            head,
            documents: BTreeMap::new(),
            lines: "[]".to_owned(),
            has_earlier_lines: false,
            line_count: 0,
            curves: Vec::new(),
        }
    }

    fn curve_bytes(&self) -> usize {
        self.curves.iter().map(|curve| curve.len() + 1).sum()
    }

    fn write(self, json: &mut String) {
        json.push_str(self.head.strip_suffix('}').unwrap_or(&self.head));
        for (name, document) in self.documents {
            // Writing to a string cannot fail, here and below.
            let _ = write!(json, ",\"{name}\":{document}");
        }
        let _ = write!(
            json,
            ",\"earlier_lines\":{},\"lines\":{},\"curves\":[{}]}}",
            self.has_earlier_lines,
            self.lines,
            self.curves.join(",")
        );
    }
}

/// Texts about what is left out, of a bounded number.
#[derive(Default)]
struct Notes {
    texts: Vec<String>,
    others: usize,
}

impl Notes {
    fn add(&mut self, text: impl AsRef<str>) {
        if self.texts.len() < MAX_NOTES - 1 {
            let text = EscapedText(text.as_ref()).to_string();
            // `<` takes six bytes in the page.
            self.texts.push(clip(&text, MAX_NOTE / 3));
        } else {
            self.others += 1;
        }
    }

    fn add_unreadable(&mut self, path: &Path, error: &io::Error) {
        let name = path.file_name().unwrap_or_default();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let path = Path::new(folder).join(name);
        self.add(format!("{error}: {} is left out.", path.display()));
    }

    fn texts(mut self) -> Vec<String> {
        if self.others > 0 {
            self.texts.push(format!("{} more notes.", self.others));
        }
        self.texts
    }
}

/// Foreign text without control characters, for programs that print notes.
struct EscapedText<'a>(&'a str);

impl Display for EscapedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapingFormatter(f).write_str(self.0)
    }
}

fn seconds_since_1970() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Begins the parts of the first runs, as many as fit into `room` bytes.
fn describe_all<R: Borrow<StoredRun>>(runs: &[R], room: usize, notes: &mut Notes) -> Vec<RunParts> {
    let mut parts: Vec<RunParts> = Vec::new();
    let mut left = room;
    for run in runs {
        let head = describe(run.borrow());
        if head.len() > left {
            break;
        }
        left -= head.len();
        parts.push(RunParts::new(head));
    }
    if parts.len() < runs.len() {
        notes.add(format!(
            "{} of {} runs are left out: they do not fit.",
            runs.len() - parts.len(),
            runs.len()
        ));
    }
    parts
}

/// Returns what `run.json` says of the run, as escaped JSON.
fn describe(run: &StoredRun) -> String {
    let manifest = &run.manifest;
    let clipped = |text: &str| clip(text, 1000);
    let folder = run.dir.file_name().unwrap_or(run.dir.as_os_str()).to_string_lossy();
    let mut head = json!({
        "id": clipped(&manifest.id),
        "name": clipped(&manifest.name),
        "dir": clipped(&folder),
        "state": run.state.as_str(),
        "started": manifest.started,
        "ended": manifest.ended,
        "exit_code": manifest.exit_code,
        "world_size": manifest.world_size,
        "attempt_count": manifest.attempts.len(),
    });
    let mut more = json!({
        "resumed_from": manifest.resumed_from,
        "wandb": manifest.wandb.iter().take(20).map(|run| &run.url).collect::<Vec<_>>(),
        "attempts": &manifest.attempts[manifest.attempts.len().saturating_sub(MAX_ATTEMPTS)..],
        "environment": manifest.facts,
    });
    if more.to_string().len() < MAX_HEAD / 6
        && let (Value::Object(head), Value::Object(more)) = (&mut head, &mut more)
    {
        head.append(more);
    }
    escape(&head.to_string())
}

/// Adds the documents of the runs with at most `room` bytes, those of the first runs first. Returns
/// the bytes that they take.
fn fill_documents<R: Borrow<StoredRun>>(runs: &[R], parts: &mut [RunParts], room: usize, notes: &mut Notes) -> usize {
    let mut left = room;
    let mut left_out = 0;
    for (run, part) in runs.iter().zip(parts) {
        for (file, name) in [("summary.json", "summary"), ("config.json", "config")] {
            let path = run.borrow().dir.join(file);
            let document =
                read_no_follow(&path, MAX_DOCUMENT).and_then(|bytes| Ok(serde_json::from_slice::<Value>(&bytes)?));
            let document = match document {
                Ok(mut document) if name == "config" => with_all_digits(document["config"].take()),
                Ok(document) => document,
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        notes.add_unreadable(&path, &error);
                    }
                    continue;
                }
            };
            let text = escape(&document.to_string());
            if text.len() > left.min(room / 2) {
                left_out += 1;
                continue;
            }
            left -= text.len();
            part.documents.insert(name, text);
        }
    }
    if left_out > 0 {
        notes.add(format!("{left_out} configs and summaries are left out: too large."));
    }
    room - left
}

/// Greatest integer up to which each integer is a number of its own in a browser.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Turns integers beyond [`MAX_SAFE_INTEGER`] into texts: a seed of 64 bits would lose its last
/// digits in a browser, and equal another seed.
fn with_all_digits(value: Value) -> Value {
    match value {
        Value::Number(number) if !number.is_f64() && !is_safe(&number) => number.to_string().into(),
        Value::Array(items) => items.into_iter().map(with_all_digits).collect(),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, with_all_digits(value)));
            Value::Object(members.collect())
        }
        other => other,
    }
}

fn is_safe(integer: &Number) -> bool {
    let magnitude = integer.as_i64().map(i64::unsigned_abs).or_else(|| integer.as_u64());
    magnitude.is_some_and(|magnitude| magnitude <= MAX_SAFE_INTEGER)
}

/// Adds the newest events and the ranks, with an equal share of `room` for each run that may have
/// some. Returns the bytes that they take.
fn fill_health(runs: &[StoredRun], parts: &mut [RunParts], room: usize, notes: &mut Notes) -> usize {
    let has_events = |run: &StoredRun| run.event_files().is_ok_and(|files| !files.is_empty());
    let has_health = |run: &StoredRun| run.manifest.world_size > Some(1) || has_events(run);
    let share = room / runs.iter().filter(|run| has_health(run)).count().max(1);
    let mut taken = 0;
    for (run, part) in runs.iter().zip(parts).filter(|(run, _)| has_health(run)) {
        let read = run.events();
        for (path, error) in &read.problems {
            notes.add_unreadable(&run.dir.join(path), error);
        }
        let events = events_for_page(&read.events, share / 2);
        let earlier = read.events.len() - events.len();
        let members = [
            ("events", escape(&Value::from(events).to_string())),
            ("earlier_events", earlier.to_string()),
            ("ranks", Value::from(ranks_for_page(run)).to_string()),
        ];
        for (name, json) in members {
            if !["[]", "0"].contains(&&*json) && json.len() <= share / 2 + 1 {
                taken += json.len() + RunParts::MEMBER;
                part.documents.insert(name, json);
            }
        }
    }
    taken
}

/// Adds the media, with an equal share of `room` for each run that has some.
fn fill_media<R: Borrow<StoredRun>>(
    runs: &[R],
    parts: &mut [RunParts],
    source: MediaSource,
    room: usize,
    notes: &mut Notes,
) {
    let has_media = |run: &R| run.borrow().media_files().is_ok_and(|files| !files.is_empty());
    let mut waiting = runs.iter().filter(|run| has_media(run)).count();
    let (mut left, mut all, mut left_out) = (room, 0, 0);
    for (run, part) in runs.iter().zip(parts).filter(|(run, _)| has_media(run)) {
        let media = MediaData::read(run.borrow(), source, left / waiting);
        waiting -= 1;
        all += media.values + media.left_out;
        left_out += media.left_out;
        if !media.json.is_empty() {
            left = left.saturating_sub(media.json.len() + RunParts::FRAME);
            part.documents.insert("media", media.json);
        }
    }
    if left_out > 0 {
        notes.add(format!(
            "{left_out} of {all} media values are left out: they do not fit, or cannot be read."
        ));
    }
}

/// Adds the newest text lines, with an equal share of `room` for each run. Returns the bytes that
/// they take.
fn fill_lines(runs: &[StoredRun], parts: &mut [RunParts], room: usize, notes: &mut Notes) -> usize {
    let mut taken = 0;
    let share = room / runs.len().max(1);
    for (run, part) in runs.iter().zip(parts) {
        let Ok(mut files) = run.text_files() else {
            continue;
        };
        note_ranks(&mut files, run, "lines", notes);
        let read = TextLines::read(&files, MAX_LINES, share, span_of(run));
        for (path, error) in &read.problems {
            notes.add_unreadable(path, error);
        }
        let lines = read.lines.iter().map(|line| {
            let line = json!([line.millis, line.rank, line.text]);
            escape(&line.to_string())
        });
        // Escapes make some texts six times as long.
        let mut kept: Vec<String> = Vec::new();
        let mut size = 2;
        for line in lines.rev() {
            if size + line.len() + 1 > share {
                break;
            }
            size += line.len() + 1;
            kept.push(line);
        }
        kept.reverse();
        part.has_earlier_lines = read.has_earlier || kept.len() < read.lines.len();
        part.line_count = kept.len();
        part.lines = format!("[{}]", kept.join(","));
        taken += part.lines.len();
    }
    taken
}

/// Returns the milliseconds since 1970 of the run's start and of its end, which may be now.
pub(super) fn span_of(run: &StoredRun) -> (i64, i64) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a time beyond the range becomes its limit"
    )]
    let to_millis = |seconds: f64| (seconds * 1000.0).clamp(-9e15, 9e15) as i64;
    let end = run.manifest.ended.unwrap_or_else(seconds_since_1970);
    (to_millis(run.manifest.started), to_millis(end))
}

/// Keeps the files of the lowest ranks.
fn note_ranks(files: &mut BTreeMap<u32, PathBuf>, run: &StoredRun, noun: &str, notes: &mut Notes) {
    if let Some(first) = files.keys().nth(MAX_RANKS).copied() {
        let others = files.split_off(&first).len();
        let name = clip(&run.manifest.name, 30);
        notes.add(format!("{name}: the {noun} of {others} higher ranks are left out."));
    }
}

struct CurveCounts {
    /// The names that the curves refer to, as escaped JSON.
    names: String,
    curves: usize,
    widest_bucket: u64,
}

/// Adds the curves of all runs with at most `room` bytes.
fn read_curves(runs: &[StoredRun], room: usize, parts: &mut [RunParts], notes: &mut Notes) -> CurveCounts {
    // A value of a curve that is not thinned takes 16 bytes in base64.
    let mut set = CurveSet::new(MAX_BUCKETS, room / 21 + 1, MAX_CURVES);
    // The number of curves up to the end of each run.
    let mut ends: Vec<usize> = Vec::new();
    for run in runs {
        let mut files = run.row_files().unwrap_or_default();
        note_ranks(&mut files, run, "curves", notes);
        for (rank, path) in files {
            match path.symlink_metadata() {
                Ok(metadata) if !metadata.is_file() => {
                    let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
                    notes.add_unreadable(&path, &error);
                    continue;
                }
                _ => set.begin(rank),
            }
            let mut rows = match run.rows(rank) {
                Ok(rows) => rows,
                Err(error) => {
                    notes.add(error.to_string());
                    continue;
                }
            };
            for row in &mut rows {
                match row {
                    Ok(row) => set.add(&row),
                    Err(error) => notes.add(error.to_string()),
                }
            }
            if !rows.left_out().is_empty() {
                notes.add(format!("Rows are missing: {}.", rows.left_out()));
            }
        }
        ends.push(set.curves.len());
    }
    let names: HashSet<String> = set.curves.iter().map(|curve| curve.name().to_owned()).collect();
    let names_len: usize = names
        .iter()
        .map(|name| escape(&Value::from(&**name).to_string()).len() + 1)
        .sum();
    let size = |set: &CurveSet| names_len + set.curves.iter().map(encoded_len).sum::<usize>();
    let whole = names_len + set.curves.iter().map(whole_len).sum::<usize>();
    if whole > room {
        let enough = thinned_room(whole, set.curves.len(), room);
        while size(&set) > enough && set.limit > 1 {
            set.halve();
        }
    }
    let mut counts = CurveCounts {
        names: String::new(),
        curves: 0,
        widest_bucket: 1,
    };
    let mut left = room;
    let mut left_out = set.left_out;
    let mut names = NameTable::default();
    for (at, curve) in set.curves.iter().enumerate() {
        let (name, logger) = (names.number(curve.name()), names.number(curve.logger()));
        let text = encode(curve, name.into(), logger.into()).into_text();
        if text.len() + 1 + names.new_bytes > left {
            names.forget_new();
            left_out += 1;
            continue;
        }
        left -= text.len() + 1 + names.new_bytes;
        names.keep_new();
        counts.curves += 1;
        counts.widest_bucket = counts.widest_bucket.max(curve.width());
        parts[ends.partition_point(|end| *end <= at)].curves.push(text);
    }
    match left_out {
        0 => {}
        1 => notes.add("1 curve is left out: too many."),
        _ => notes.add(format!("{left_out} curves are left out: too many.")),
    }
    match set.too_long {
        0 => {}
        1 => notes.add(format!("1 curve is left out: its name has more than {MAX_NAME} bytes.")),
        many => notes.add(format!(
            "{many} curves are left out: their names have more than {MAX_NAME} bytes."
        )),
    }
    counts.names = format!("[{}]", names.texts.join(","));
    counts
}

/// Returns the bytes for curves that would take `whole` bytes, which is more than there is room
/// for.
///
/// The more they exceed the room, the more they are thinned, so that a mail takes the page of a
/// long run: the live page has every value.
fn thinned_room(whole: usize, curves: usize, room: usize) -> usize {
    let share = room.saturating_mul(room) / whole.max(1);
    let granted = (curves.saturating_mul(THINNED_CURVE)).max(THINNED);
    share.max(granted).min(room)
}

/// The names of metrics and loggers, each once, as escaped JSON.
#[derive(Default)]
struct NameTable<'a> {
    texts: Vec<String>,
    numbers: HashMap<&'a str, usize>,
    /// Names that the newest curve has added, and the bytes that they take.
    new: Vec<&'a str>,
    new_bytes: usize,
}

impl<'a> NameTable<'a> {
    fn number(&mut self, name: &'a str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let text = escape(&Value::from(name).to_string());
        self.new_bytes += text.len() + 1;
        self.new.push(name);
        self.texts.push(text);
        self.numbers.insert(name, self.texts.len() - 1);
        self.texts.len() - 1
    }

    fn keep_new(&mut self) {
        self.new.clear();
        self.new_bytes = 0;
    }

    fn forget_new(&mut self) {
        for name in self.new.drain(..) {
            self.numbers.remove(name);
            self.texts.pop();
        }
        self.new_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_a_run_is_the_more_it_is_thinned() {
        let room = 8_000_000;
        assert_eq!(thinned_room(8_000_001, 10, room), 7_999_999);
        assert_eq!(thinned_room(16_000_000, 10, room), 4_000_000);
        // Ten metrics of a million steps, and a hundred of them.
        assert_eq!(thinned_room(213_000_000, 10, room), 500_000);
        assert_eq!(thinned_room(2_130_000_000, 100, room), 5_000_000);
        assert_eq!(thinned_room(213_000_000, 1000, room), room);
        assert_eq!(thinned_room(1_000_000, 10, 300_000), 300_000);
    }
}
