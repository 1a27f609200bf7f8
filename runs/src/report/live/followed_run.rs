//! A run whose files are read on as they grow.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logcore::StoredRow;
use logcore::files::open_no_follow;
use serde_json::{Map, Value, json};

use crate::curve::CurveSet;
use crate::report::curve_data::encode;
use crate::report::live::followed_health::FollowedHealth;
use crate::report::run_data::{MAX_LINES, MAX_RANKS, span_of};
use crate::report::text_lines::{MAX_PARTS, TextLine, split_lines};
use crate::row_reader::RowReader;
use crate::rows::{NewestAttempts, OpenRows};
use crate::{Curve, CurveBucket, CurvePoint, FollowedFile, RunError, StoredRun};

/// Most buckets of a curve: more than a chart has columns of pixels.
const MAX_BUCKETS: usize = 1 << 10;
/// Most buckets of a rank.
const MAX_RANK_BUCKETS: usize = 40_000;
/// Size of a bucket and of what a line needs beside its text, in bytes.
const BUCKET_BYTES: usize = size_of::<CurveBucket>();
const LINE_BYTES: usize = size_of::<TextLine>();
/// Most curves of a rank.
const MAX_CURVES: usize = 20_000;
/// Most buckets of a part of a curve.
const MAX_PART_BUCKETS: usize = 1 << 12;
/// Most rows and lines, and most values, of one piece of news: with more, it is quicker to load the
/// run again.
const MAX_NEWS: usize = 2000;
const MAX_NEW_VALUES: usize = 10_000;
/// Bytes of a stretch of a file of rows whose steps are known.
const STRETCH: u64 = 1 << 20;
/// Most bytes of text that are read for the newest lines.
const MAX_TEXT: usize = 4 << 20;
/// Time between two readings of a run that logs steps again.
const REREADING: Duration = Duration::from_secs(10);

/// The curves, the newest text lines, and the health of a run.
pub(super) struct FollowedRun {
    run: StoredRun,
    ranks: BTreeMap<u32, FollowedRank>,
    lines: VecDeque<TextLine>,
    has_earlier_lines: bool,
    health: FollowedHealth,
    read_at: Instant,
    /// `true` if the curves have rows that later ones repeat.
    has_repeated_rows: bool,
}

/// News of a run.
pub(super) enum RunNews {
    /// Rows, lines, and the members of the run's health that have changed, as JSON for the page.
    More {
        rows: Vec<Value>,
        lines: Vec<Value>,
        health: Map<String, Value>,
    },
    /// Too much has changed to tell: the page loads the run again.
    Reload,
}

impl FollowedRun {
    /// Reads a run up to its present end.
    pub(super) fn read(run: StoredRun) -> Result<Self, RunError> {
        let mut followed = Self {
            health: FollowedHealth::read(&run),
            run,
            ranks: BTreeMap::new(),
            lines: VecDeque::new(),
            has_earlier_lines: false,
            read_at: Instant::now(),
            has_repeated_rows: false,
        };
        followed.begin_ranks()?;
        let superseded = followed.run.manifest.superseded_rows();
        for (number, rank) in &mut followed.ranks {
            let read = rank.read_rows(None);
            // Few runs have several attempts, or files that are made anew meanwhile. Both cost
            // another reading.
            if (rank.attempt > 1 || read.is_replaced) && rank.rows.obstacle().is_none() {
                let newest = NewestAttempts::read(&rank.path, &superseded)?;
                let text = rank.text.take();
                *rank = FollowedRank::begin(*number, rank.path.clone(), newest);
                rank.text = text;
                followed.has_repeated_rows |= rank.read_rows(None).is_replaced;
            }
        }
        let mut lines = Vec::new();
        for (number, rank) in &mut followed.ranks {
            let (text, has_earlier) = rank.read_last_text();
            followed.has_earlier_lines |= has_earlier;
            lines.extend(split_lines(&text, *number, span_of(&followed.run)));
        }
        if followed.ranks.len() > 1 {
            lines.sort_by_key(|line| line.millis);
        }
        followed.keep_lines(lines);
        Ok(followed)
    }

    /// Reads what has come since.
    pub(super) fn read_on(&mut self) -> Result<Option<RunNews>, RunError> {
        let now = StoredRun::open(&self.run.dir)?;
        let is_other = |one: &StoredRun, other: &StoredRun| {
            one.manifest.id != other.manifest.id
                || one.manifest.attempts.len() != other.manifest.attempts.len()
                || one.manifest.superseded_rows() != other.manifest.superseded_rows()
        };
        let has_other_file = |rank: &FollowedRank| !rank.stretches.is_empty() && rank.rows.is_replaced();
        let is_late = self.has_repeated_rows && self.read_at.elapsed() >= REREADING;
        if is_other(&now, &self.run) || is_late || self.ranks.values().any(has_other_file) {
            *self = Self::read(now)?;
            return Ok(Some(RunNews::Reload));
        }
        self.run = now;
        self.begin_ranks()?;
        let (mut rows, mut lines, mut values) = (Vec::new(), Vec::new(), 0);
        for (number, rank) in &mut self.ranks {
            let mut own = Vec::new();
            let read = rank.read_rows(Some(&mut own));
            self.has_repeated_rows |= read.has_repeated_rows || read.is_replaced;
            values += own.iter().map(|row| row.values.len()).sum::<usize>();
            rows.extend(own.iter().map(|row| row_for_page(*number, row)));
            let text = rank.read_text();
            lines.extend(split_lines(&text, *number, span_of(&self.run)));
        }
        let health = self.health.read_on(&self.run);
        if rows.is_empty() && lines.is_empty() && health.is_empty() {
            return Ok(None);
        }
        let news = match rows.len() + lines.len() > MAX_NEWS || values > MAX_NEW_VALUES {
            true => RunNews::Reload,
            false => RunNews::More {
                rows,
                lines: lines.iter().map(line_for_page).collect(),
                health,
            },
        };
        self.keep_lines(lines);
        Ok(Some(news))
    }

    /// Returns the bytes of all that is held.
    pub(super) fn bytes(&self) -> usize {
        let curves = self.ranks.values().flat_map(|rank| &rank.curves.curves);
        let buckets: usize = curves.map(Curve::capacity).sum();
        let lines = self.lines.iter().map(|line| LINE_BYTES + line.text.capacity());
        buckets * BUCKET_BYTES + lines.sum::<usize>() + self.health.bytes()
    }

    #[cfg(test)]
    pub(super) fn is_inexact(&self) -> bool {
        self.has_repeated_rows
    }

    #[cfg(test)]
    pub(super) fn make_late(&mut self) {
        self.read_at -= REREADING;
        self.health.make_late();
    }

    /// Thins the curves to half as many buckets.
    pub(super) fn thin(&mut self) {
        self.ranks.values_mut().for_each(|rank| rank.curves.halve());
    }

    /// Returns all curves, lines and the health for the page, which tells by `version` what comes
    /// later.
    pub(super) fn encode(&self, version: u64) -> Vec<u8> {
        let curves = self.ranks.iter().flat_map(|(number, rank)| rank.read_curves(*number));
        let left_out: u64 = self.ranks.values().map(|rank| rank.curves.left_out).sum();
        let mut head = json!({
            "version": version,
            "earlier_lines": self.has_earlier_lines,
            "lines": self.lines.iter().map(line_for_page).collect::<Vec<_>>(),
            "left_out": left_out,
        });
        for (name, member) in self.health.members() {
            head[name] = member.clone();
        }
        encode_all(head, curves)
    }

    /// Returns the part of the curves of one metric between two steps.
    pub(super) fn encode_part(&self, metric: &str, steps: &RangeInclusive<u64>) -> Result<Vec<u8>, RunError> {
        let mut curves = Vec::new();
        for (number, rank) in &self.ranks {
            rank.read_part(*number, metric, steps, &mut curves)?;
        }
        Ok(encode_all(json!({}), curves.iter().map(Cow::Borrowed)))
    }

    /// Begins with the ranks whose files are new.
    fn begin_ranks(&mut self) -> Result<(), RunError> {
        let (rows, texts) = (self.run.row_files()?, self.run.text_files()?);
        let numbers = rows.keys().chain(texts.keys()).copied();
        let new: BTreeSet<u32> = numbers.filter(|number| !self.ranks.contains_key(number)).collect();
        for number in new {
            if self.ranks.len() >= MAX_RANKS {
                break;
            }
            let path = match rows.get(&number) {
                Some(path) => path.clone(),
                None if number == 0 => self.run.dir.join("metrics.jsonl"),
                None => self.run.dir.join(format!("metrics.rank{number}.jsonl")),
            };
            let newest = NewestAttempts::without_file(&self.run.manifest.superseded_rows());
            self.ranks.insert(number, FollowedRank::begin(number, path, newest));
        }
        for (number, path) in texts {
            if let Some(rank) = self.ranks.get_mut(&number) {
                rank.text.get_or_insert_with(|| (FollowedFile::at_end_of(&path), path));
            }
        }
        Ok(())
    }

    fn keep_lines(&mut self, lines: Vec<TextLine>) {
        self.lines.extend(lines);
        let surplus = self.lines.len().saturating_sub(MAX_LINES);
        self.has_earlier_lines |= surplus > 0;
        self.lines.drain(..surplus);
    }
}

/// The files of one rank, and the curves in them.
struct FollowedRank {
    path: PathBuf,
    rows: FollowedFile,
    text: Option<(FollowedFile, PathBuf)>,
    newest: NewestAttempts,
    open: OpenRows,
    curves: CurveSet,
    stretches: Vec<Stretch>,
    /// The greatest step in the curves, and that of the attempts before the newest one.
    last_step: Option<u64>,
    earlier_step: Option<u64>,
    attempt: u32,
}

/// The rows that a reading has met.
#[derive(Default)]
struct ReadRows {
    /// `true` if some repeat steps that the curves have from an earlier attempt.
    has_repeated_rows: bool,
    /// `true` if the file was made anew meanwhile.
    is_replaced: bool,
}

/// Neighboring lines of a file of rows.
struct Stretch {
    begin: u64,
    end: u64,
    steps: RangeInclusive<u64>,
}

impl Stretch {
    /// Adds a line to the last stretch, or begins another one.
    fn extend(stretches: &mut Vec<Self>, begin: u64, end: u64, step: u64) {
        match stretches.last_mut() {
            // A file that was made anew begins at 0 again.
            Some(last) if begin >= last.end && end - last.begin <= STRETCH => {
                last.end = end;
                last.steps = step.min(*last.steps.start())..=step.max(*last.steps.end());
            }
            _ => stretches.push(Self {
                begin,
                end,
                steps: step..=step,
            }),
        }
    }
}

impl FollowedRank {
    fn begin(number: u32, path: PathBuf, newest: NewestAttempts) -> Self {
        let mut curves = CurveSet::new(MAX_BUCKETS, MAX_RANK_BUCKETS, MAX_CURVES);
        curves.begin(number);
        Self {
            rows: FollowedFile::at_begin_of(&path),
            path,
            text: None,
            newest,
            open: OpenRows::default(),
            curves,
            stretches: Vec::new(),
            last_step: None,
            earlier_step: None,
            attempt: 1,
        }
    }

    /// Reads the rows that have come, and adds the first of them to the news.
    fn read_rows(&mut self, mut news: Option<&mut Vec<StoredRow>>) -> ReadRows {
        let mut read = ReadRows::default();
        let (newest, open, curves) = (&self.newest, &mut self.open, &mut self.curves);
        let (last, earlier, attempt) = (&mut self.last_step, &mut self.earlier_step, &mut self.attempt);
        let stretches = &mut self.stretches;
        let mut reader = RowReader::default();
        read.is_replaced = self.rows.read_lines(|place, line| {
            let Some(row) = reader.read(line) else { return };
            Stretch::extend(stretches, place, place + line.len() as u64 + 1, row.step);
            if !newest.has(row) {
                return;
            }
            if row.attempt > *attempt {
                *attempt = row.attempt;
                *earlier = *last;
            }
            read.has_repeated_rows |= earlier.is_some_and(|earlier| row.step <= earlier);
            *last = (*last).max(Some(row.step));
            if let Some(news) = news.as_deref_mut().filter(|news| news.len() <= MAX_NEWS) {
                news.push(row.clone());
            }
            if open.add(row) {
                curves.add(row);
            }
        });
        read
    }

    /// Reads the last lines of the text, also from rotated parts. Returns whether there are earlier
    /// ones.
    fn read_last_text(&mut self) -> (String, bool) {
        let mut text = self.read_text();
        let Some((_, path)) = &self.text else {
            return (text, false);
        };
        for number in 1..MAX_PARTS {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            let part = Path::new(&name);
            if part.symlink_metadata().is_err() {
                return (text, false);
            }
            if text.lines().count() >= MAX_LINES || text.len() >= MAX_TEXT {
                break;
            }
            let mut earlier = String::new();
            add_lines(&mut FollowedFile::at_end_of(part), &mut earlier);
            text.insert_str(0, &earlier);
        }
        (text, true)
    }

    fn read_text(&mut self) -> String {
        let mut text = String::new();
        if let Some((file, _)) = &mut self.text {
            // As much may have come since somebody watched the run as the disk holds.
            file.skip_ahead();
            add_lines(file, &mut text);
        }
        text
    }

    /// Returns the curves with the values of the newest rows, which later lines may complete.
    fn read_curves(&self, rank: u32) -> Vec<Cow<'_, Curve>> {
        let mut all: Vec<Cow<'_, Curve>> = self.curves.curves.iter().map(Cow::Borrowed).collect();
        for row in self.open.rows() {
            let own = all.iter().enumerate().filter(|(_, curve)| curve.logger() == row.logger);
            let places: HashMap<String, usize> = own.map(|(at, curve)| (curve.name().to_owned(), at)).collect();
            for (name, value) in &row.values {
                let point = CurvePoint {
                    step: row.step,
                    time: row.time,
                    value: value.as_f64(),
                };
                match places.get(name) {
                    Some(at) => all[*at].to_mut().add(point),
                    None if all.len() < MAX_CURVES => {
                        let mut curve = Curve::new(&*row.logger, &**name, rank, MAX_BUCKETS);
                        curve.add(point);
                        all.push(Cow::Owned(curve));
                    }
                    None => {}
                }
            }
        }
        all
    }

    fn read_part(
        &self,
        number: u32,
        metric: &str,
        steps: &RangeInclusive<u64>,
        curves: &mut Vec<Curve>,
    ) -> Result<(), RunError> {
        let unreadable = |error| RunError::unreadable(&self.path, error);
        let is_inside =
            |stretch: &&Stretch| stretch.steps.start() <= steps.end() && stretch.steps.end() >= steps.start();
        let mut stretches = self.stretches.iter().filter(is_inside).peekable();
        if stretches.peek().is_none() {
            return Ok(());
        }
        let key = Value::from(metric).to_string();
        let finder = memchr::memmem::Finder::new(&key);
        let mut set = CurveSet::new(MAX_PART_BUCKETS, usize::MAX, usize::MAX);
        set.begin(number);
        let mut open = OpenRows::default();
        let mut reader = RowReader::default();
        let mut use_line = |line: &[u8]| {
            if finder.find(line).is_none() {
                return;
            }
            let Some(row) = reader.read(line) else { return };
            row.values.retain(|(name, _)| name == metric);
            if steps.contains(&row.step) && !row.values.is_empty() && self.newest.has(row) && open.add(row) {
                set.add(row);
            }
        };
        let mut file = open_no_follow(&self.path).map_err(unreadable)?;
        for stretch in stretches {
            read_stretch(&mut file, stretch, &mut use_line).map_err(unreadable)?;
        }
        for row in open.rows() {
            set.add(row);
        }
        curves.append(&mut set.curves);
        Ok(())
    }
}

fn add_lines(file: &mut FollowedFile, text: &mut String) {
    file.read_lines(|_, line| {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    });
}

fn read_stretch(file: &mut File, stretch: &Stretch, use_line: &mut impl FnMut(&[u8])) -> io::Result<()> {
    file.seek(SeekFrom::Start(stretch.begin))?;
    let mut reader = BufReader::new(&*file);
    let mut left = stretch.end - stretch.begin;
    let mut line = Vec::new();
    while left > 0 {
        line.clear();
        match reader.read_until(b'\n', &mut line)? {
            0 => break,
            length => left = left.saturating_sub(length as u64),
        }
        use_line(&line);
    }
    Ok(())
}

/// Returns the length of the JSON in four bytes, the JSON, and then the numbers of the curves,
/// whose size is in the JSON.
fn encode_all<'a>(mut head: Value, curves: impl Iterator<Item = Cow<'a, Curve>>) -> Vec<u8> {
    let mut numbers = Vec::new();
    let curves = curves.map(|curve| {
        let mut encoded = encode(&curve, curve.name().into(), curve.logger().into());
        encoded.facts["offset"] = numbers.len().into();
        numbers.append(&mut encoded.bytes);
        encoded.facts
    });
    head["curves"] = curves.collect();
    head["size"] = numbers.len().into();
    let head = head.to_string();
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), head.as_bytes(), &numbers].concat()
}

/// Returns a row as the page adds it to the curves. JSON has no NaN, so values that are not finite
/// are texts.
fn row_for_page(rank: u32, row: &StoredRow) -> Value {
    let values = row.values.iter().map(|(name, value)| {
        let value = value.as_f64();
        let value = match value {
            value if value.is_finite() => value.into(),
            value if value.is_nan() => "NaN".into(),
            value if value > 0.0 => "Infinity".into(),
            _ => "-Infinity".into(),
        };
        (name.clone(), value)
    });
    json!([
        rank,
        row.logger,
        row.step,
        row.time,
        values.collect::<Map<String, Value>>()
    ])
}

fn line_for_page(line: &TextLine) -> Value {
    json!([line.millis, line.rank, line.text])
}
