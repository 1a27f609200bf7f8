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
use crate::report::run_data::{MAX_LINES, MAX_RANKS, span_of};
use crate::report::text_lines::{TextLine, split_lines};
use crate::rows::{NewestAttempts, OpenRows};
use crate::{Curve, CurvePoint, FollowedFile, RunError, StoredRun};

/// Most buckets of a curve: more than a chart has columns of pixels.
const MAX_BUCKETS: usize = 1 << 10;
/// Most buckets of a run, of 136 bytes each.
const MAX_RUN_BUCKETS: usize = 100_000;
/// Most curves of a rank.
const MAX_CURVES: usize = 20_000;
/// Most buckets of a part of a curve.
const MAX_PART_BUCKETS: usize = 1 << 12;
/// Most rows and lines of one piece of news: with more, it is quicker to load the run again.
const MAX_NEWS: usize = 2000;
/// Bytes of a stretch of a file of rows whose steps are known.
const STRETCH: u64 = 1 << 20;
/// Time between two readings of a run that logs steps again.
const REREADING: Duration = Duration::from_secs(10);

/// The curves and the newest text lines of a run.
pub(super) struct FollowedRun {
    run: StoredRun,
    ranks: BTreeMap<u32, FollowedRank>,
    lines: VecDeque<TextLine>,
    has_earlier_lines: bool,
    read_at: Instant,
}

/// News of a run.
pub(super) enum RunNews {
    /// Rows and lines, as JSON for the page.
    More { rows: Vec<Value>, lines: Vec<Value> },
    /// Too much has changed to tell: the page loads the run again.
    Reload,
}

impl FollowedRun {
    /// Reads a run up to its present end.
    pub(super) fn read(run: StoredRun) -> Result<Self, RunError> {
        let mut followed = Self {
            run,
            ranks: BTreeMap::new(),
            lines: VecDeque::new(),
            has_earlier_lines: false,
            read_at: Instant::now(),
        };
        followed.begin_ranks()?;
        let superseded = followed.run.manifest.superseded_rows();
        for (number, rank) in &mut followed.ranks {
            rank.read_rows(None);
            // Few runs have several attempts, which cost another reading.
            if rank.attempt > 1 {
                let newest = NewestAttempts::read(&rank.path, &superseded)?;
                let text = rank.text.take();
                *rank = FollowedRank::begin(*number, rank.path.clone(), newest);
                rank.text = text;
                rank.read_rows(None);
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
        let has_other_file = self.ranks.values().any(|rank| rank.rows.is_replaced());
        if is_other(&now, &self.run) || (has_other_file && self.has_rows()) {
            *self = Self::read(now)?;
            return Ok(Some(RunNews::Reload));
        }
        self.run = now;
        self.begin_ranks()?;
        let (mut rows, mut lines) = (Vec::new(), Vec::new());
        let mut repeats = false;
        for (number, rank) in &mut self.ranks {
            let mut own = Vec::new();
            repeats |= rank.read_rows(Some(&mut own));
            rows.extend(own.iter().map(|row| row_for_page(*number, row)));
            let text = rank.read_text();
            lines.extend(split_lines(&text, *number, span_of(&self.run)));
        }
        if repeats && self.read_at.elapsed() >= REREADING {
            *self = Self::read(self.run.clone())?;
            return Ok(Some(RunNews::Reload));
        }
        if rows.is_empty() && lines.is_empty() {
            return Ok(None);
        }
        let news = match rows.len() + lines.len() > MAX_NEWS {
            true => RunNews::Reload,
            false => RunNews::More {
                rows,
                lines: lines.iter().map(line_for_page).collect(),
            },
        };
        self.keep_lines(lines);
        Ok(Some(news))
    }

    /// Returns the number of buckets that are held.
    pub(super) fn buckets(&self) -> usize {
        let curves = self.ranks.values().flat_map(|rank| &rank.curves.curves);
        curves.map(|curve| curve.buckets().len()).sum()
    }

    /// Returns all curves and lines for the page, which tells by `version` what comes later.
    pub(super) fn encode(&self, version: u64) -> Vec<u8> {
        let curves = self.ranks.iter().flat_map(|(number, rank)| rank.read_curves(*number));
        let left_out: u64 = self.ranks.values().map(|rank| rank.curves.left_out).sum();
        let head = json!({
            "version": version,
            "earlier_lines": self.has_earlier_lines,
            "lines": self.lines.iter().map(line_for_page).collect::<Vec<_>>(),
            "left_out": left_out,
        });
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

    fn has_rows(&self) -> bool {
        self.ranks.values().any(|rank| !rank.stretches.is_empty())
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
    /// The greatest step of the attempts before the newest one.
    earlier_step: Option<u64>,
    attempt: u32,
}

/// Neighboring lines of a file of rows.
struct Stretch {
    begin: u64,
    end: u64,
    steps: RangeInclusive<u64>,
}

impl FollowedRank {
    fn begin(number: u32, path: PathBuf, newest: NewestAttempts) -> Self {
        let mut curves = CurveSet::new(MAX_BUCKETS, MAX_RUN_BUCKETS, MAX_CURVES);
        curves.begin(number);
        Self {
            rows: FollowedFile::at_begin_of(&path),
            path,
            text: None,
            newest,
            open: OpenRows::default(),
            curves,
            stretches: Vec::new(),
            earlier_step: None,
            attempt: 1,
        }
    }

    /// Reads the rows that have come, and adds the first of them to the news. Returns `true` if some
    /// repeat steps of an earlier attempt.
    fn read_rows(&mut self, mut news: Option<&mut Vec<StoredRow>>) -> bool {
        let mut repeats = false;
        let (newest, open, curves) = (&self.newest, &mut self.open, &mut self.curves);
        let (stretches, earlier, attempt) = (&mut self.stretches, &mut self.earlier_step, &mut self.attempt);
        self.rows.read_lines(|place, line| {
            let Ok(row) = serde_json::from_slice::<StoredRow>(line) else {
                return;
            };
            let end = place + line.len() as u64 + 1;
            match stretches.last_mut() {
                Some(last) if end - last.begin <= STRETCH => {
                    last.end = end;
                    let (from, to) = (*last.steps.start(), *last.steps.end());
                    last.steps = from.min(row.step)..=to.max(row.step);
                }
                _ => stretches.push(Stretch {
                    begin: place,
                    end,
                    steps: row.step..=row.step,
                }),
            }
            if !newest.has(&row) {
                return;
            }
            if row.attempt > *attempt {
                *attempt = row.attempt;
                *earlier = stretches.iter().map(|stretch| *stretch.steps.end()).max();
            }
            repeats |= row.attempt > 1 && earlier.is_some_and(|earlier| row.step <= earlier);
            if let Some(news) = news.as_deref_mut().filter(|news| news.len() <= MAX_NEWS) {
                news.push(row.clone());
            }
            if let Some(complete) = open.add(row) {
                curves.add(&complete);
            }
        });
        repeats
    }

    /// Reads the last lines of the text, also from rotated parts. Returns whether there are earlier
    /// ones.
    fn read_last_text(&mut self) -> (String, bool) {
        let mut text = self.read_text();
        let Some((_, path)) = &self.text else {
            return (text, false);
        };
        for number in 1.. {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            let part = Path::new(&name);
            if part.symlink_metadata().is_err() {
                return (text, false);
            }
            if text.lines().count() >= MAX_LINES {
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
        let mut use_line = |line: &[u8]| {
            if finder.find(line).is_none() {
                return;
            }
            let Ok(mut row) = serde_json::from_slice::<StoredRow>(line) else {
                return;
            };
            row.values.retain(|(name, _)| name == metric);
            if steps.contains(&row.step)
                && !row.values.is_empty()
                && self.newest.has(&row)
                && let Some(complete) = open.add(row)
            {
                set.add(&complete);
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

/// Returns the length of the JSON in four bytes, the JSON, and then the numbers of the curves.
fn encode_all<'a>(mut head: Value, curves: impl Iterator<Item = Cow<'a, Curve>>) -> Vec<u8> {
    let mut numbers = Vec::new();
    let curves = curves.map(|curve| {
        let mut encoded = encode(&curve, curve.name().into(), curve.logger().into());
        encoded.facts["offset"] = numbers.len().into();
        numbers.append(&mut encoded.bytes);
        encoded.facts
    });
    head["curves"] = curves.collect();
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
