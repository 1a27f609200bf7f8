//! Incidents: the rows around an episode, and their file.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use logcore::escape::escape_json;
use logcore::files::{Folder, random_suffix};
use logcore::serde_json;
use logcore::{MetricValue, epoch_seconds};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::finding::{Breach, Episode};
use crate::INCIDENTS_FOLDER;

/// Number of incidents of a run, and of a logger.
pub(super) const MAX_INCIDENTS: usize = 100;

/// Length of the part of a file's name that is made of the rule's.
const MAX_RULE_BYTES: usize = 64;

/// An episode, and the 200 rows before and after its step, of all metrics, at full resolution.
///
/// An episode has two: the first has the rows up to its step, the second all of them. The file of
/// the first is there at once, so that a run that is killed next leaves one, too.
///
/// ```
/// use std::sync::{Arc, mpsc};
/// use std::time::Duration;
///
/// use logcore::{Deadline, MetricBatch, MetricValue, Sink as _};
/// use logcore_health::rules::{Finding, RuleSink};
///
/// let (findings, found) = mpsc::channel();
/// let mut sink = RuleSink::new(&[], "metrics/", findings, Arc::default());
/// for (step, loss) in [(1, 0.5), (2, f32::NAN), (3, 0.25)] {
///     let values = [("metrics/loss", MetricValue::F32(loss)), ("memory/used_gb", MetricValue::Int(3))];
///     sink.metrics(&MetricBatch::new("trainer", step, &values))?;
/// }
/// sink.finish(Deadline::after(Duration::from_secs(1)))?;
///
/// let incident = found.iter().find_map(|finding| match finding {
///     Finding::Incident(incident) if incident.is_complete() => Some(incident),
///     _ => None,
/// });
/// let incident = incident.unwrap();
/// assert_eq!(incident.episode().step, Some(2));
/// let first = incident.rows().next().unwrap();
/// assert_eq!((first.step, first.values[0]), (1, ("loss", MetricValue::F32(0.5))));
/// assert_eq!(incident.rows().count(), 3);
/// # Ok::<(), logcore::SinkError>(())
/// ```
#[derive(Debug)]
pub struct Incident {
    episode: Episode,
    rows: Rows,
    is_complete: bool,
    /// Bytes of the rows, which `in_flight` holds until the incident is dropped.
    bytes: usize,
    in_flight: Arc<AtomicUsize>,
}

/// One row of an [`Incident`].
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentRow<'a> {
    /// Step of the values.
    pub step: u64,
    /// Time of the first values.
    pub time: SystemTime,
    /// Names and values. The names are as the program logs them, without the config's
    /// `metrics_prefix`.
    pub values: Vec<(&'a str, MetricValue)>,
}

/// Copied rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The names of metrics by their numbers.
    pub(super) names: HashMap<u32, Arc<str>>,
    /// Step and time of each batch, and the numbers of its metrics.
    pub(super) batches: Vec<(u64, SystemTime, Arc<[u32]>)>,
    /// The values of all batches.
    pub(super) values: Vec<MetricValue>,
}

impl Incident {
    /// Takes an episode that has just begun and the rows so far; counts their bytes in `in_flight`
    /// until the end of the value.
    pub(super) fn begun(episode: Episode, rows: Rows, in_flight: &Arc<AtomicUsize>) -> Self {
        let mut incident = Self::complete(episode, rows, in_flight);
        incident.is_complete = false;
        incident
    }

    /// Takes an episode and all its rows; counts their bytes in `in_flight` until the end of the
    /// value.
    pub(super) fn complete(episode: Episode, rows: Rows, in_flight: &Arc<AtomicUsize>) -> Self {
        let bytes = rows.values.len() * size_of::<MetricValue>()
            + rows.batches.len() * size_of::<(u64, SystemTime, Arc<[u32]>)>();
        in_flight.fetch_add(bytes, Ordering::Relaxed);
        Self {
            episode,
            rows,
            is_complete: true,
            bytes,
            in_flight: Arc::clone(in_flight),
        }
    }

    /// Returns the episode. It may name more metrics than the [`Finding::Began`](super::Finding) of
    /// the same rule and step: those of later calls for the same step.
    #[must_use]
    pub fn episode(&self) -> &Episode {
        &self.episode
    }

    /// Returns `true` if there are no further rows: 200 have followed, the logger has ended, or
    /// there was no room for more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the rows in the order in which they were logged. Calls for one step are one row,
    /// unless a name occurs again.
    pub fn rows(&self) -> impl Iterator<Item = IncidentRow<'_>> {
        let mut batches = self.rows.batches.iter().peekable();
        let mut values = self.rows.values.iter().copied();
        std::iter::from_fn(move || {
            let mut row: Option<IncidentRow<'_>> = None;
            let mut names = HashSet::new();
            while let Some((step, time, ids)) = batches.peek() {
                let name = |id: &u32| &*self.rows.names[id];
                if let Some(row) = &row
                    && (row.step != *step || ids.iter().any(|id| names.contains(name(id))))
                {
                    break;
                }
                let row = row.get_or_insert_with(|| IncidentRow {
                    step: *step,
                    time: *time,
                    values: Vec::new(),
                });
                names.extend(ids.iter().map(name));
                row.values.extend(ids.iter().map(name).zip(values.by_ref()));
                batches.next();
            }
            row
        })
    }
}

impl Drop for Incident {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Serialize for IncidentRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Values<'a>(&'a [(&'a str, MetricValue)]);
        impl Serialize for Values<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().copied())
            }
        }
        let mut row = serializer.serialize_map(Some(3))?;
        row.serialize_entry("step", &self.step)?;
        row.serialize_entry("time", &epoch_seconds(self.time))?;
        row.serialize_entry("values", &Values(&self.values))?;
        row.end()
    }
}

/// Counts an incident of a logger; returns `false` if the logger has had all that it may have.
pub(super) fn count_incident(incidents: &AtomicUsize) -> bool {
    incidents.fetch_add(1, Ordering::Relaxed) < MAX_INCIDENTS
}

/// Writes an incident to the folder of a run, and returns the name of the file in its subfolder
/// `incidents`: `<step>-<rule>.json` with the rank above 0, the attempt above 1, and a number where
/// the name is taken, all of the characters `a-z0-9_-`. The second incident of an episode replaces
/// the first.
///
/// `lines` are the lines of the text file around the episode. The file is an object: `rule`,
/// `metric`, `value` and `usual` of the first metric, `step`, `time` (seconds since 1970), `rank`,
/// `attempt`, `text` (one line for people), `metrics` (the first ten), `count` (of all), `complete`
/// (`false` if the rows after the step are still to come), `rows` (each with `step`, `time` and
/// `values`) and `lines`. Numbers that are not finite are strings.
///
/// ```
/// # use std::sync::{Arc, mpsc};
/// # use std::time::Duration;
/// # use logcore::{Deadline, MetricBatch, MetricValue, Sink as _};
/// # use logcore_health::rules::{Finding, RuleSink};
/// use logcore_health::rules::write_incident;
///
/// # let (findings, found) = mpsc::channel();
/// # let mut sink = RuleSink::new(&[], "", findings, Arc::default());
/// # sink.metrics(&MetricBatch::new("trainer", 7, &[("loss", MetricValue::F32(f32::NAN))]))?;
/// # sink.finish(Deadline::after(Duration::from_secs(1)))?;
/// let run = tempfile::tempdir()?;
/// for finding in found.try_iter() {
///     if let Finding::Incident(incident) = finding {
///         let name = write_incident(run.path(), &incident, &[], 0, 1)?;
///         assert_eq!(name, "7-any-nan.json");
///         let text = std::fs::read_to_string(run.path().join("incidents").join(name))?;
///         let file: serde_json::Value = serde_json::from_str(&text)?;
///         assert_eq!(file["rows"][0]["values"]["loss"], "NaN");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If the folder of the run is not there or `incidents` is no folder, if the system refuses, or if
/// the run has 100 incidents. No other file is overwritten and no link followed.
pub fn write_incident(
    run_dir: &Path,
    incident: &Incident,
    lines: &[String],
    rank: u32,
    attempt: u32,
) -> io::Result<String> {
    let run = Folder::open(run_dir)?;
    run.create_dir_all(Path::new(INCIDENTS_FOLDER))?;
    let folder = run.folder(Path::new(INCIDENTS_FOLDER))?;
    let episode = &incident.episode;
    if episode.incident_file().is_none() {
        check_room(&folder)?;
    }
    // A reader never finds a part of a file under its final name.
    let temporary = PathBuf::from(format!(".logcore-{}.tmp", random_suffix()));
    let written = write_file(&folder, &temporary, incident, lines, rank, attempt).and_then(|()| {
        if let Some(name) = episode.incident_file() {
            folder.rename(&temporary, Path::new(name))?;
            return Ok(name.to_owned());
        }
        let name = give_name(&folder, &temporary, episode, rank, attempt)?;
        Ok(episode.file.get_or_init(|| name).clone())
    });
    if written.is_err() {
        // The error that is returned matters more than one of this call.
        let _ = folder.remove_file(&temporary);
    }
    written
}

/// Refuses a further incident of a run that has all that it may have.
fn check_room(folder: &Folder) -> io::Result<()> {
    let is_incident = |name: &Path| name.extension().is_some_and(|extension| extension == "json");
    let entries = folder.entries()?;
    let incidents = entries.iter().filter(|entry| is_incident(Path::new(&entry.name)));
    if incidents.count() >= MAX_INCIDENTS {
        return Err(io::Error::other(format!(
            "the run has {MAX_INCIDENTS} incidents; remove some files of its folder {INCIDENTS_FOLDER} to see further ones"
        )));
    }
    Ok(())
}

fn write_file(
    folder: &Folder,
    path: &Path,
    incident: &Incident,
    lines: &[String],
    rank: u32,
    attempt: u32,
) -> io::Result<()> {
    let episode = &incident.episode;
    let first = episode.breaches.first();
    let head = Head {
        rule: &episode.rule,
        metric: first.map(|breach| &*breach.metric),
        value: first.and_then(|breach| breach.value),
        usual: first.and_then(|breach| breach.usual),
        step: episode.step,
        time: epoch_seconds(episode.time),
        rank,
        attempt,
        text: episode.text(),
        metrics: episode.breaches.iter().map(HeadMetric::from).collect(),
        count: episode.count,
        complete: incident.is_complete,
    };
    let head = serde_json::to_string(&head)?;
    let mut file = BufWriter::new(folder.create_new(path)?);
    // The object stays open for the rows, which need not be in memory as text.
    file.write_all(escape_json(head.strip_suffix('}').unwrap_or(&head)).as_bytes())?;
    file.write_all(b",\n\"rows\":[")?;
    for (at, row) in incident.rows().enumerate() {
        let separator = if at == 0 { "\n" } else { ",\n" };
        file.write_all(separator.as_bytes())?;
        file.write_all(escape_json(&serde_json::to_string(&row)?).as_bytes())?;
    }
    file.write_all(b"],\n\"lines\":")?;
    file.write_all(escape_json(&serde_json::to_string(lines)?).as_bytes())?;
    file.write_all(b"}\n")?;
    file.flush()
}

/// The members of a file before its rows.
#[derive(Serialize)]
struct Head<'a> {
    rule: &'a str,
    metric: Option<&'a str>,
    value: Option<MetricValue>,
    usual: Option<f64>,
    step: Option<u64>,
    time: f64,
    rank: u32,
    attempt: u32,
    text: String,
    metrics: Vec<HeadMetric<'a>>,
    count: usize,
    complete: bool,
}

#[derive(Serialize)]
struct HeadMetric<'a> {
    metric: &'a str,
    value: Option<MetricValue>,
    usual: Option<f64>,
}

impl<'a> From<&'a Breach> for HeadMetric<'a> {
    fn from(breach: &'a Breach) -> Self {
        Self {
            metric: &breach.metric,
            value: breach.value,
            usual: breach.usual,
        }
    }
}

/// Renames a file to the first name that nothing has, and returns the name.
fn give_name(folder: &Folder, temporary: &Path, episode: &Episode, rank: u32, attempt: u32) -> io::Result<String> {
    // Several loggers may have found the same; there are not many more files than incidents.
    for number in 1..=10 * MAX_INCIDENTS {
        let name = file_name(episode.step, &episode.rule, rank, attempt, number);
        match folder.rename_new(temporary, Path::new(&name)) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Returns the name of an incident's file: `<step>-<rule>.json`, of the characters `a-z0-9_-`.
/// Ranks above 0 have theirs in the name, and so have later attempts, which may come to the same
/// step again.
fn file_name(step: Option<u64>, rule: &str, rank: u32, attempt: u32, number: usize) -> String {
    let mut name = step.map_or_else(|| "start".to_owned(), |step| step.to_string());
    name.push('-');
    let mut rule_name = String::new();
    for c in rule.chars() {
        match c {
            '*' => rule_name.push_str("any"),
            'a'..='z' | '0'..='9' | '_' | '-' => rule_name.push(c),
            'A'..='Z' => rule_name.push(c.to_ascii_lowercase()),
            _ => rule_name.push('_'),
        }
    }
    // All characters are of one byte. The end holds the condition.
    name += &rule_name[rule_name.len().saturating_sub(MAX_RULE_BYTES)..];
    if rank > 0 {
        name += &format!("-rank{rank}");
    }
    if attempt > 1 {
        name += &format!("-attempt{attempt}");
    }
    if number > 1 {
        name += &format!("-{number}");
    }
    name + ".json"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_only_harmless_characters() {
        assert_eq!(file_name(Some(5120), "loss-spike", 0, 1, 1), "5120-loss-spike.json");
        assert_eq!(file_name(Some(7), "*-nan", 3, 2, 2), "7-any-nan-rank3-attempt2-2.json");
        let name = file_name(None, "Val/../Loss\u{202e}-missing", 0, 1, 1);
        assert_eq!(name, "start-val____loss_-missing.json");
    }

    proptest! {
        #[test]
        fn the_name_of_any_rule_is_a_short_plain_one(step in any::<Option<u64>>(), rule in "\\PC{0,200}|.{0,200}", rank in any::<u32>()) {
            let name = file_name(step, &rule, rank, 2, 7);
            let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
            prop_assert!(name.len() < 150 && name.strip_suffix(".json").unwrap().bytes().all(is_plain), "{}", name);
        }
    }
}
