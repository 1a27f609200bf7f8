//! Tables: what logcore, W&B and TensorBoard export, and what a program has written itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail, ensure};
use csv_core::ReadRecordResult;
use logcore::MetricValue;

use super::{MAX_METRICS, MAX_NAMED, RunImporter, SourceFacts, TakenNames, row_name};
use crate::columns::{LAST_TIME, parse_date};

/// Longest line.
const MAX_LINE: usize = 64 << 20;
/// Most columns: those of the metrics, and some for other use.
const MAX_COLUMNS: usize = MAX_METRICS + 16;
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// Names of the column with the step; the first one that is there counts.
const STEPS: [&str; 6] = [
    "step",
    "_step",
    "global_step",
    "trainer/global_step",
    "iteration",
    "epoch",
];
/// Names of the column with the time.
const TIMES: [&str; 5] = ["time", "_timestamp", "timestamp", "wall time", "wall_time"];
/// Names of columns that say nothing about a metric.
const SKIPPED: [&str; 4] = ["", "attempt", "_runtime", "nonfinite"];
/// Times from here on are milliseconds, and a thousand times later microseconds.
const MILLISECONDS: f64 = 1e11;

/// A column by its use.
enum Use {
    Step,
    Time,
    Logger,
    Skipped,
    /// The name in rows.
    Metric(String),
}

/// Reads a table into a run; returns notes about what could not be taken over.
pub(crate) fn read(path: &Path, importer: &mut RunImporter) -> Result<(SourceFacts, Vec<String>)> {
    let file = logcore::files::open(path)?;
    let changed = file.metadata().and_then(|metadata| metadata.modified());
    let changed = changed.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0.0, |since| since.as_secs_f64());
    let mut records = Records::open(file)?;
    ensure!(records.read()?, "the file is empty");
    let mut notes = Vec::new();
    let columns = header(&records, path, &mut notes)?;
    let has_step = columns.iter().any(|column| matches!(column, Use::Step));
    let mut left_out: BTreeMap<usize, u64> = BTreeMap::new();
    let mut values: Vec<(&str, MetricValue)> = Vec::new();
    while records.read()? {
        let line = records.line;
        // An empty line has one empty field.
        if records.len() == 1 && records.field(0).is_empty() && columns.len() > 1 {
            continue;
        }
        ensure!(
            records.len() <= columns.len(),
            "line {line} has {} fields, and the header has {}. Put names with a separator into quotes",
            records.len(),
            columns.len()
        );
        values.clear();
        let (mut step, mut time, mut logger) = (importer.rows(), changed, None);
        let mut has_own_step = !has_step;
        for (place, column) in columns.iter().enumerate().take(records.len()) {
            let field = records.field(place);
            match column {
                Use::Step => {
                    step =
                        parse_step(field).with_context(|| format!("line {line} has no step that is a whole number"))?;
                    has_own_step = true;
                }
                Use::Time if !field.is_empty() => {
                    time = parse_time(field).with_context(|| {
                        format!(
                            "line {line} has a time that cannot be read, or has no date: one before 1970 or after 9999"
                        )
                    })?;
                }
                Use::Logger => logger = std::str::from_utf8(field).ok().filter(|name| !name.is_empty()),
                Use::Metric(name) => match parse_value(field) {
                    Field::Number(value) => values.push((name, value)),
                    Field::Missing => {}
                    Field::Other => *left_out.entry(place).or_default() += 1,
                },
                _ => {}
            }
        }
        ensure!(has_own_step, "line {line} has no step");
        importer.row(logger, step, time, &values)?;
    }
    ensure!(importer.rows() > 0, "the file has a header and no rows");
    for (place, count) in left_out.iter().take(MAX_NAMED) {
        if let Some(Use::Metric(name)) = columns.get(*place) {
            let name = name.strip_prefix("metrics/").unwrap_or(name);
            notes.push(format!(
                "column {name}: {count} values are no numbers, and are left out"
            ));
        }
    }
    if left_out.len() > MAX_NAMED {
        notes.push(format!(
            "{} more columns have values that are no numbers",
            left_out.len() - MAX_NAMED
        ));
    }
    Ok((SourceFacts::default(), notes))
}

/// Reads the names of the columns.
fn header(records: &Records, path: &Path, notes: &mut Vec<String>) -> Result<Vec<Use>> {
    let mut names = Vec::with_capacity(records.len());
    for place in 0..records.len() {
        let name = std::str::from_utf8(records.field(place));
        let name =
            name.with_context(|| format!("the name of column {} is not UTF-8. Save the file as UTF-8", place + 1))?;
        names.push(name.trim());
    }
    let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let first_of = |wanted: &[&str]| {
        let mut found = wanted.iter();
        found.find_map(|wanted| lower.iter().position(|name| name == wanted))
    };
    let (step, time) = (first_of(&STEPS), first_of(&TIMES));
    let mut known = TakenNames::default();
    let mut columns = Vec::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        columns.push(match lower[place].as_str() {
            _ if Some(place) == step => Use::Step,
            _ if Some(place) == time => Use::Time,
            "logger" => Use::Logger,
            lower if SKIPPED.contains(&lower) => Use::Skipped,
            _ => {
                // TensorBoard has the name of the metric in that of the file only.
                let is_tag = *name == "Value" && names.len() == 3 && step.is_some() && time.is_some();
                let tag = is_tag.then(|| tag_of(path)).flatten();
                let wanted = row_name(tag.as_deref().unwrap_or(name));
                let own = known.take(&wanted);
                if own != wanted {
                    notes.push(format!("column {name} is there twice: the later one is {own}"));
                }
                Use::Metric(own)
            }
        });
    }
    ensure!(
        columns.iter().any(|column| matches!(column, Use::Metric(_))),
        "the header has no column for a metric, beside those for steps and times"
    );
    let renamed = notes.len();
    notes.truncate(MAX_NAMED);
    if renamed > MAX_NAMED {
        notes.push(format!("{} more columns are there twice", renamed - MAX_NAMED));
    }
    Ok(columns)
}

/// Returns the metric in the name of a file that TensorBoard has exported:
/// `run-x-tag-train_loss.csv`.
fn tag_of(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let (_, tag) = stem.rsplit_once("-tag-")?;
    (!tag.is_empty()).then(|| tag.to_owned())
}

/// A value of a metric.
#[derive(Debug, PartialEq)]
enum Field {
    Number(MetricValue),
    Missing,
    Other,
}

fn parse_value(field: &[u8]) -> Field {
    let Ok(text) = std::str::from_utf8(field) else {
        return Field::Other;
    };
    let text = text.trim();
    if ["", "null", "none", "na", "n/a"]
        .iter()
        .any(|missing| text.eq_ignore_ascii_case(missing))
    {
        return Field::Missing;
    }
    // Integers keep all of their digits.
    let integer = text.parse::<i64>().map(MetricValue::Int);
    let integer = integer.or_else(|_| text.parse::<u64>().map(MetricValue::UInt));
    match integer.or_else(|_| text.parse::<f64>().map(MetricValue::Float)) {
        Ok(value) => Field::Number(value),
        Err(_) => Field::Other,
    }
}

/// Reads a step, which some programs write as a float.
fn parse_step(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim();
    text.parse().ok().or_else(|| {
        let number = text.parse::<f64>().ok()?;
        // 2^53: integers beyond are not exact.
        let is_whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        is_whole.then_some(number as u64)
    })
}

/// Reads a time: seconds, milliseconds or microseconds since 1970, or a date.
fn parse_time(field: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(field).ok()?.trim();
    if let Ok(number) = text.parse::<f64>() {
        let seconds = match number {
            _ if number >= MILLISECONDS * 1e3 => number / 1e6,
            _ if number >= MILLISECONDS => number / 1e3,
            _ => number,
        };
        return (0.0..=LAST_TIME).contains(&seconds).then_some(seconds);
    }
    parse_date(text).filter(|seconds| *seconds >= 0.0)
}

/// The lines of a table. The longest line has 64 MiB, however long the file is.
struct Records {
    input: BufReader<File>,
    reader: csv_core::Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Number of fields of the current line.
    fields: usize,
    /// Number of the current line, from 1.
    line: u64,
}

impl Records {
    fn open(file: File) -> Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER, file);
        let start = input.fill_buf()?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || start.iter().take(4).any(|b| *b == 0)
        {
            bail!("the file is no text in UTF-8. Save it as UTF-8");
        }
        let has_mark = start.starts_with(b"\xef\xbb\xbf");
        let separator = separator(start.split(|byte| *byte == b'\n').next().unwrap_or_default());
        if has_mark {
            input.consume(3);
        }
        Ok(Self {
            input,
            reader: csv_core::ReaderBuilder::new().delimiter(separator).build(),
            bytes: vec![0; BUFFER],
            ends: vec![0; 64],
            fields: 0,
            line: 0,
        })
    }

    /// Reads the next line; returns `false` at the end.
    fn read(&mut self) -> Result<bool> {
        let (mut length, mut fields) = (0, 0);
        self.line = self.reader.line();
        loop {
            let input = self.input.fill_buf()?;
            let (bytes, ends) = (&mut self.bytes[length..], &mut self.ends[fields..]);
            let (result, read, written, ended) = self.reader.read_record(input, bytes, ends);
            self.input.consume(read);
            (length, fields) = (length + written, fields + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    let line = self.line;
                    ensure!(
                        length < MAX_LINE,
                        "line {line} is longer than {MAX_LINE} bytes. Close the quotes in it"
                    );
                    self.bytes.resize((self.bytes.len() * 2).min(MAX_LINE), 0);
                }
                ReadRecordResult::OutputEndsFull => {
                    ensure!(
                        fields < MAX_COLUMNS,
                        "line {} has more than {MAX_METRICS} columns. Leave some out",
                        self.line
                    );
                    self.ends.resize((self.ends.len() * 2).min(MAX_COLUMNS), 0);
                }
                ReadRecordResult::Record => {
                    self.fields = fields;
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    fn len(&self) -> usize {
        self.fields
    }

    fn field(&self, place: usize) -> &[u8] {
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[place]]
    }
}

/// Returns what separates the names in a header.
fn separator(header: &[u8]) -> u8 {
    let mut is_quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in header {
        is_quoted ^= *byte == b'"';
        for (separator, count) in &mut counts {
            *count += usize::from(!is_quoted && byte == separator);
        }
    }
    // Of equally frequent ones, the first.
    counts
        .into_iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map_or(b',', |(separator, _)| separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_numbers_or_nothing() {
        let number = |value| Field::Number(value);
        assert_eq!(parse_value(b" 0.5 "), number(MetricValue::Float(0.5)));
        assert_eq!(
            parse_value(b"9007199254740993"),
            number(MetricValue::Int(9_007_199_254_740_993))
        );
        assert_eq!(
            parse_value(b"18446744073709551615"),
            number(MetricValue::UInt(u64::MAX))
        );
        assert_eq!(parse_value(b"-inf"), number(MetricValue::Float(f64::NEG_INFINITY)));
        assert_eq!(parse_value(b"None"), Field::Missing);
        assert_eq!(parse_value(b"\xff"), Field::Other);
        assert_eq!(parse_value(b"0,5"), Field::Other);
        assert_eq!(
            ["12", "12.0", "-1", "0.5", "nan", ""].map(|text| parse_step(text.as_bytes())),
            [Some(12), Some(12), None, None, None, None]
        );
        let seconds = Some(1_700_000_000.5);
        for text in [
            "1700000000.5",
            "1700000000500",
            "1700000000500000",
            "2023-11-14T22:13:20.5Z",
        ] {
            assert_eq!(parse_time(text.as_bytes()), seconds, "{text}");
        }
        for text in ["yesterday", "-1", "1e19", "1e25", "nan", "inf"] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
        assert_eq!(
            [&b"a;b"[..], b"a", b"\"a;b\",c", b"a\tb"].map(separator),
            [b';', b',', b',', b'\t']
        );
    }
}
