//! The columns of runs, and conditions on them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use console::{Color, truncate_str};
use regex_lite::Regex;
use serde_json::Value;

use crate::arguments::OPERATORS;
use crate::arguments::parse_time;
use crate::exact_number::ExactNumber;
use crate::run_entry::RunEntry;
use crate::table::Cell;

/// A column: a member of the run's JSON object, `age`, or a path into `config` or `summary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunColumn(String);

/// The columns beside those that begin with `config.` and `summary.`.
const NAMES: [&str; 19] = [
    "id",
    "name",
    "dir",
    "state",
    "age",
    "started",
    "ended",
    "duration",
    "attempt",
    "world_size",
    "last_step",
    "rows",
    "steps_per_sec",
    "samples_per_sec",
    "mfu",
    "gpu_energy_kwh",
    "goodput",
    "wandb_url",
    "resumed_from",
];

/// The statistics of a metric.
const STATISTICS: [&str; 4] = ["last", "min", "max", "mean"];

impl RunColumn {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let name = name.trim();
        let is_path = match name.split_once('.') {
            Some(("config", rest)) => !rest.is_empty(),
            Some(("summary", rest)) => {
                let statistic = rest.rsplit_once('.').map(|(_, statistic)| statistic);
                if !statistic.is_some_and(|statistic| STATISTICS.contains(&statistic)) {
                    bail!("cannot show the column {name}: add one of .{}", STATISTICS.join(", ."));
                }
                true
            }
            _ => false,
        };
        if !is_path && !NAMES.contains(&name) {
            bail!(
                "cannot show the column {name}: there is none of this name. Use config.NAME, summary.NAME.last, or one \
                 of {}",
                NAMES.join(", ")
            );
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Returns `true` if the rows of a run have to be counted.
    pub(crate) fn needs_rows(&self) -> bool {
        self.0 == "rows"
    }

    /// Returns the value of a run; null if it has none.
    pub(crate) fn value(&self, entry: &RunEntry) -> Value {
        let json = &entry.json;
        match self.0.split_once('.') {
            Some(("config", path)) => look_up(&json["config"], path).cloned().unwrap_or_default(),
            Some(("summary", rest)) => {
                let (metric, statistic) = rest.rsplit_once('.').unwrap_or((rest, STATISTICS[0]));
                json["summary"][metric][statistic].clone()
            }
            _ if self.0 == "age" => age(entry).map(Value::from).unwrap_or_default(),
            _ => json[&self.0].clone(),
        }
    }

    /// Returns what a table shows of a run.
    pub(crate) fn cell(&self, entry: &RunEntry) -> Cell {
        let value = self.value(entry);
        match self.0.as_str() {
            "id" => entry.id().into(),
            "state" => {
                let state = value.as_str().unwrap_or_default().to_owned();
                let color = state_color(&state);
                Cell::colored(state, color)
            }
            "age" => value.as_f64().map(shortest_duration).unwrap_or_default().into(),
            "duration" => value.as_f64().map(short_duration).unwrap_or_default().into(),
            "started" | "ended" => value.as_f64().map(local_time).unwrap_or_default().into(),
            "goodput" | "mfu" => value
                .as_f64()
                .map(|part| format!("{:.0}%", part * 100.0))
                .unwrap_or_default()
                .into(),
            _ => short_value(&value).into(),
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        self.kind() != ColumnKind::Text
    }

    /// Returns a value of this column as a number, if it is one. The files have NaN and infinities
    /// as texts.
    fn number_of(&self, value: &Value) -> Option<ExactNumber> {
        let text = || value.as_str().filter(|_| self.kind() == ColumnKind::Number);
        ExactNumber::of(value).or_else(|| ExactNumber::parse(text()?))
    }

    fn kind(&self) -> ColumnKind {
        match self.name() {
            "id" | "name" | "dir" | "state" | "wandb_url" | "resumed_from" => ColumnKind::Text,
            "age" | "duration" => ColumnKind::Duration,
            "started" | "ended" => ColumnKind::Time,
            name if name.starts_with("config.") => ColumnKind::Any,
            _ => ColumnKind::Number,
        }
    }
}

/// The kind of the values in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    Text,
    Number,
    /// Seconds.
    Duration,
    /// Seconds since 1970.
    Time,
    /// A number in one run, and perhaps a text in another.
    Any,
}

impl ColumnKind {
    /// Reads the value of a condition on a column that has numbers only; `None` if it is none.
    fn parse_number(self, text: &str) -> Option<ExactNumber> {
        let seconds = match self {
            Self::Duration => text.parse().ok().or_else(|| Some(parse_time(text).ok()?.as_secs_f64())),
            Self::Time => text.parse().ok().or_else(|| parse_date(text)),
            _ => return ExactNumber::parse(text),
        };
        seconds
            .filter(|seconds: &f64| seconds.is_finite())
            .map(ExactNumber::Float)
    }

    /// Returns the remedy for a value that is no number.
    fn remedy(self) -> &'static str {
        match self {
            Self::Duration => "Write a number of seconds, or a time such as 90s, 10m, 12h or 30d",
            Self::Time => {
                "Write a date such as 2026-01-31 or 2026-01-31T12:00:00, in local time, or seconds since 1970"
            }
            _ => "Write a number, such as 1000 or 1e-4",
        }
    }
}

/// Reads a date, with or without a time of day: a local one, unless the text has an offset or `Z`.
/// Returns seconds since 1970.
pub(crate) fn parse_date(text: &str) -> Option<f64> {
    let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        logcore::local_time_zone().to_timestamp(civil).ok()
    })?;
    Some(timestamp.as_microsecond() as f64 / 1e6)
}

/// Returns the value at a path of names with dots between them, which may be in the names, too.
fn look_up<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    if let Some(found) = members.get(path) {
        return Some(found);
    }
    let dots = path.match_indices('.').map(|(at, _)| at);
    dots.into_iter()
        .find_map(|at| look_up(members.get(&path[..at])?, &path[at + 1..]))
}

/// Returns the seconds since the start.
fn age(entry: &RunEntry) -> Option<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let started = entry.json["started"].as_f64().filter(|started| *started <= LAST_TIME)?;
    Some((now - started).max(0.0))
}

/// Returns the colour of a state.
pub(crate) fn state_color(state: &str) -> Option<Color> {
    match state {
        "running" => Some(Color::Cyan),
        "finished" => Some(Color::Green),
        "failed" | "killed" => Some(Color::Red),
        _ => Some(Color::Yellow),
    }
}

/// Widest name of a metric or hyper-parameter in a table, so that one name of a megabyte does not
/// put the values out of sight. `--json` has whole names.
const MAX_NAME: usize = 100;

/// Cuts a name that is too wide for a table.
pub(crate) fn short_name(name: &str) -> Cow<'_, str> {
    truncate_str(name, MAX_NAME, "…")
}

/// Formats a value for people: numbers with four significant digits.
pub(crate) fn short_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => short_number(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// Formats a number with four significant digits.
pub(crate) fn short_number(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    if !(1e-4..1e7).contains(&magnitude) {
        return format!("{number:.3e}");
    }
    let digits = (3 - magnitude.log10().floor() as i32).clamp(0, 7) as usize;
    let text = format!("{number:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Formats a number of seconds by its two greatest units.
pub(crate) fn short_duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86400, whole / 3600 % 24),
    }
}

/// Formats a number of seconds by its greatest unit.
fn shortest_duration(seconds: f64) -> String {
    let text = short_duration(seconds);
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Formats a number of bytes; MB = 1e6.
pub(crate) fn format_bytes(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// The last time that has a date, in seconds since 1970: the end of the year 9999, less a day for
/// time zones.
pub(crate) const LAST_TIME: f64 = 253_402_207_200.0;

/// Formats a time in seconds since 1970 as local time; `unknown` if it has no date, as files that
/// are damaged or written by others may have it.
pub(crate) fn local_time(seconds: f64) -> String {
    let since = Duration::try_from_secs_f64(seconds).ok();
    let time = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    let Some(time) = time.and_then(|time| jiff::Timestamp::try_from(time).ok()) else {
        return "unknown".to_owned();
    };
    let local = jiff::ZonedDateTime::new(time, logcore::local_time_zone());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Formats a time as local time with milliseconds.
pub(crate) fn local_time_millis(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    let local = jiff::ZonedDateTime::new(time, logcore::local_time_zone());
    local.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// A condition on a column of a run.
pub(crate) struct Condition {
    column: RunColumn,
    operator: &'static str,
    value: String,
    operand: Operand,
}

/// The value of a condition, as the column needs it.
enum Operand {
    Pattern(Regex),
    Number(ExactNumber),
    /// A text, and a number beside one.
    Text,
}

impl Condition {
    /// Reads `COLUMN OP VALUE`; spaces around the operator do not matter.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let places = (0..text.len()).filter(|at| text.is_char_boundary(*at));
        let found = places.into_iter().find_map(|at| {
            let operator = OPERATORS
                .into_iter()
                .find(|operator| text[at..].starts_with(operator))?;
            Some((at, operator))
        });
        let Some((at, operator)) = found else {
            bail!(
                "cannot read the condition `{text}`: there is no operator. Write a column, one of {}, and a value, in \
                 quotes: --where 'state = killed'",
                OPERATORS.join(" ")
            );
        };
        let rest = &text[at + operator.len()..];
        // A pattern may begin with the sign.
        ensure!(
            operator == "~" || !rest.starts_with('='),
            "cannot read the condition `{text}`: `{operator}=` is no operator. Write {operator}"
        );
        let column = RunColumn::parse(&text[..at])?;
        let value = rest.trim().to_owned();
        let operand = match (operator, column.kind()) {
            ("~", _) => {
                Operand::Pattern(Regex::new(&value).with_context(|| format!("cannot read the pattern `{value}`"))?)
            }
            (_, ColumnKind::Text | ColumnKind::Any) => Operand::Text,
            (_, kind) => {
                let number = kind.parse_number(&value).with_context(|| {
                    let name = column.name();
                    format!(
                        "cannot compare the column {name} with `{value}`: it is no number. {}",
                        kind.remedy()
                    )
                })?;
                Operand::Number(number)
            }
        };
        Ok(Self {
            column,
            operator,
            value,
            operand,
        })
    }

    pub(crate) fn needs_rows(&self) -> bool {
        self.column.needs_rows()
    }

    /// Returns `true` if the condition holds. A run without a value in the column only differs.
    pub(crate) fn holds(&self, entry: &RunEntry) -> bool {
        let value = self.column.value(entry);
        let text = match &value {
            Value::Null => return self.operator == "!=",
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let order = match &self.operand {
            Operand::Pattern(pattern) => return pattern.is_match(&text),
            // The files have `NaN` and infinities as texts.
            Operand::Number(other) => {
                let own = self.column.number_of(&value);
                own.and_then(|own| own.compare(*other))
            }
            Operand::Text => match (ExactNumber::of(&value), ExactNumber::parse(&self.value)) {
                (Some(own), Some(other)) => own.compare(other),
                // As texts, 500 would be greater than `1k`.
                (Some(_), None) => None,
                (None, _) => Some(text.as_str().cmp(&self.value)),
            },
        };
        match self.operator {
            "=" => order == Some(Ordering::Equal),
            "!=" => order != Some(Ordering::Equal),
            "<" => order == Some(Ordering::Less),
            "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            ">" => order == Some(Ordering::Greater),
            _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.column.name(), self.operator, self.value)
    }
}

/// Sorts runs by a column, the greatest value first; with a `-` before the name, the least first.
/// A NaN is greater than other numbers, and a text is greater than a number. Runs without a value
/// come last.
pub(crate) fn sort(entries: &mut [RunEntry], by: &str) -> Result<()> {
    let (is_ascending, name) = match by.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, by),
    };
    let column = RunColumn::parse(name)?;
    entries.sort_by(|one, other| {
        let (one, other) = (column.value(one), column.value(other));
        let order = match (column.number_of(&one), column.number_of(&other)) {
            (Some(one), Some(other)) => {
                let nan_last = || one.is_nan().cmp(&other.is_nan());
                one.compare(other).unwrap_or_else(nan_last)
            }
            (None, None) => short_value(&one).cmp(&short_value(&other)),
            (one, other) => other.is_some().cmp(&one.is_some()),
        };
        let order = if is_ascending { order } else { order.reverse() };
        one.is_null().cmp(&other.is_null()).then(order)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use logcore_runs::StoredRun;
    use serde_json::json;

    use super::*;

    fn entry(json: Value) -> RunEntry {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.json"), "{}").unwrap();
        let mut entry = RunEntry::read(StoredRun::open(folder.path()).unwrap(), false);
        entry.json = json;
        entry
    }

    #[test]
    fn conditions_compare_numbers_and_texts() {
        let entry = entry(json!({
            "state": "killed",
            "config": {
                "lr": 1e-4,
                "model": {"name": "vit-b"},
                "a.b": 3,
                "seed": 9_007_199_254_740_993_u64,
                "big": u64::MAX,
            },
            "summary": {
                "val/loss": {"min": 0.25},
                "x.y": {"last": 2},
                "nan": {"last": "NaN"},
                "inf": {"last": "Infinity"},
            },
            "last_step": 500,
        }));
        for (condition, holds) in [
            ("state = killed", true),
            ("state!=killed", false),
            ("config.lr = 0.0001", true),
            ("config.lr > 1e-4", false),
            ("config.lr >= 1e-4", true),
            ("config.model.name ~ ^vit", true),
            ("config.a.b = 3", true),
            ("summary.val/loss.min < 0.3", true),
            ("summary.x.y.last <= 1", false),
            ("summary.none.last < 1", false),
            ("summary.none.last != 1", true),
            ("summary.nan.last = NaN", true),
            ("summary.nan.last > 1", false),
            ("summary.inf.last > 1", true),
            ("config.lr > 1k", false),
            ("config.lr < 1k", false),
            ("config.model.name > vit-a", true),
            ("config.model.name > 5", true),
            ("config.model.name = =x", false),
            ("last_step > 1000", false),
            ("last_step < 1e3", true),
            ("config.seed = 9007199254740993", true),
            ("config.seed = 9007199254740992", false),
            ("config.seed > 9007199254740992", true),
            ("config.big != 18446744073709551614", true),
            ("config.big = 18446744073709551000", false),
        ] {
            assert_eq!(Condition::parse(condition).unwrap().holds(&entry), holds, "{condition}");
        }
    }

    #[test]
    fn times_in_conditions_are_durations_and_dates() {
        let now = logcore::epoch_seconds(SystemTime::now());
        // 2023-11-14 22:13:20 UTC: on the 14th or 15th in every time zone.
        let old = entry(json!({"started": 1_700_000_000.0, "ended": 1_700_000_090.0, "duration": 90.0}));
        let young = entry(json!({"started": now - 3600.0}));
        for (condition, of_old, of_young) in [
            ("age > 30d", true, false),
            ("age < 2h", false, true),
            ("age > 59m", true, true),
            ("age >= 1800", true, true),
            ("duration = 90s", true, false),
            ("duration = 1.5m", true, false),
            ("duration != 90", false, true),
            ("started < 2026-01-01", true, false),
            ("started > 2023-11-13", true, true),
            ("started >= 2023-11-16", false, true),
            ("started = 2023-11-14T22:13:20Z", true, false),
            ("ended > 2023-11-14T22:14Z", true, false),
            ("ended <= 2023-11-16 12:00", true, false),
            ("ended < 1700000091", true, false),
        ] {
            let condition = Condition::parse(condition).unwrap();
            assert_eq!(
                (condition.holds(&old), condition.holds(&young)),
                (of_old, of_young),
                "{condition:?}"
            );
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_a_remedy() {
        for (condition, part) in [
            ("state", "no operator"),
            ("colour = red", "one of id, name"),
            ("summary.loss = 1", ".last"),
            ("name ~ (", "pattern"),
            ("state == killed", "`==` is no operator. Write ="),
            ("state !== killed", "`!==` is no operator. Write !="),
            (
                "last_step > 1k",
                "the column last_step with `1k`: it is no number. Write a number",
            ),
            ("rows =", "the column rows with ``"),
            ("summary.loss.last < low", "the column summary.loss.last with `low`"),
            (
                "age > 3w",
                "the column age with `3w`: it is no number. Write a number of seconds, or a time such as 90s",
            ),
            ("duration < 2026-01-01", "such as 90s"),
            ("age > inf", "such as 90s"),
            (
                "started < 30d",
                "the column started with `30d`: it is no number. Write a date such as 2026-01-31",
            ),
            ("ended < 2026-13-01", "Write a date"),
        ] {
            let error = format!("{:#}", Condition::parse(condition).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn sorted_runs_have_the_greatest_first_and_the_unknown_last() {
        let steps = |step: Option<u64>| entry(json!({"last_step": step}));
        let mut entries = [steps(Some(5)), steps(None), steps(Some(12))];
        let shown =
            |entries: &[RunEntry]| -> Vec<_> { entries.iter().map(|entry| entry.json["last_step"].as_u64()).collect() };
        sort(&mut entries, "last_step").unwrap();
        assert_eq!(shown(&entries), [Some(12), Some(5), None]);
        sort(&mut entries, "-last_step").unwrap();
        assert_eq!(shown(&entries), [Some(5), Some(12), None]);
    }

    #[test]
    fn sorted_runs_have_texts_before_nan_before_numbers() {
        let values = [
            json!(10),
            json!("5x"),
            json!(9),
            json!("NaN"),
            json!("-Infinity"),
            json!(-1.5),
        ];
        let mut entries: Vec<_> = values
            .into_iter()
            .map(|last| entry(json!({"summary": {"x": {"last": last}}})))
            .collect();
        sort(&mut entries, "summary.x.last").unwrap();
        let sorted: Vec<_> = entries
            .iter()
            .map(|entry| &entry.json["summary"]["x"]["last"])
            .collect();
        let expected = [
            json!("5x"),
            json!("NaN"),
            json!(10),
            json!(9),
            json!(-1.5),
            json!("-Infinity"),
        ];
        assert!(sorted.iter().copied().eq(&expected), "{sorted:?}");
    }

    #[test]
    fn times_without_a_date_are_unknown() {
        for seconds in [-1.0, 1e12, 1e15, 9.2e18, 1e19, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(local_time(seconds), "unknown", "{seconds}");
        }
        assert!(local_time(0.0).starts_with("19") && local_time(LAST_TIME).starts_with("9999-12-3"));
        assert_eq!(jiff::Timestamp::MAX.as_second() as f64, LAST_TIME);
        assert_eq!(age(&entry(json!({"started": 1e19}))), None);
    }

    #[test]
    fn numbers_and_times_are_short() {
        for (number, text) in [
            (0.1, "0.1"),
            (0.032_151_2, "0.03215"),
            (1234.56, "1235"),
            (99_999.0, "99999"),
            (1e-5, "1.000e-5"),
            (2.0, "2"),
        ] {
            assert_eq!(short_number(number), text);
        }
        for (seconds, text) in [
            (0.25, "0.2s"),
            (59.0, "59s"),
            (61.0, "1m 01s"),
            (7260.0, "2h 01m"),
            (90_000.0, "1d 01h"),
        ] {
            assert_eq!(short_duration(seconds), text);
        }
    }
}
