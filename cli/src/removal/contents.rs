//! The content of a run's folder: what logcore and W&B have written there, and what they have not.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use logcore::files::{self, EntryKind, Folder, FolderEntry};
use logcore::log::Level;
use logcore::{FileRank, RunManifest};
use logcore_health::{EVENTS_FILE, INCIDENTS_FOLDER, RANKS_FOLDER};
use serde_json::Value;

/// The content of a run's folder.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RunContents {
    /// Length of all files.
    pub(super) bytes: u64,
    /// A file that logcore has not written, relative to the folder.
    pub(super) foreign: Option<PathBuf>,
    /// `true` if a killed process has left a ring.
    pub(super) has_ring: bool,
    /// A W&B log, the position of a delivery to MLflow, or a spool of another sink, that the server
    /// does not have completely, relative to the folder.
    pub(super) unsent: Option<PathBuf>,
}

/// A folder in which only certain names are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Run,
    /// The folder of the W&B runs.
    Wandb,
    /// The folder of one W&B run, which holds a log and the files of the run.
    WandbRun,
    TensorBoard,
    /// The folder of the reports of bad values and stalls.
    Incidents,
    /// The folder of media, which holds one for each kind.
    Media,
    /// A folder of one kind of media, and those in it that the keys of values make.
    MediaKind,
    /// The folder of what each rank tells of itself.
    Ranks,
    /// The folder of what waits for a receiver of OpenTelemetry, or for a webhook.
    Delivery,
    /// A folder of W&B, for files of any name.
    Files,
}

/// The kind of an entry.
enum Part {
    /// A file, or a link, which is never followed.
    File,
    Folder(Place),
    /// The calls that a killed process has left for the recovery.
    Ring,
}

/// Files of a run to which lines are appended; each rank may have one, they may be rotated, and
/// `logcore merge` writes others beside them.
const LINES: [&str; 5] = [
    "training.log",
    "metrics.jsonl",
    "records.jsonl",
    EVENTS_FILE,
    "media.jsonl",
];
/// Files of a run that are written as a whole; each rank may have one.
const WHOLE: [&str; 4] = ["config.json", "summary.json", "report.html", RunManifest::FILE];
/// The position of a delivery to MLflow, and its lock.
const MLFLOW: [&str; 2] = [MLFLOW_POSITION, ".mlflow.lock"];
pub(super) const MLFLOW_POSITION: &str = "mlflow.json";
/// Begins the names of temporary files and rings.
pub(crate) const HIDDEN: &str = ".logcore-";
/// Folders of W&B runs. A `.wandb` that is there is taken in place of `wandb`.
const WANDB: [&str; 2] = ["wandb", ".wandb"];
/// Folders of media, one for each kind.
const MEDIA_KINDS: [&str; 6] = ["images", "histogram", "table", "html", "text", "files"];
/// Characters of the digest in the name of a media file.
const MEDIA_DIGEST: usize = 20;
/// Begins the name of a file that TensorBoard reads.
const TENSORBOARD_FILE: &str = "events.out.tfevents.";
/// Folders of a W&B run, in which any name may be.
const WANDB_FOLDERS: [&str; 4] = ["files", "artifacts", "logs", "tmp"];
/// Deepest folder that is looked into: each level has an open descriptor.
const MAX_DEPTH: usize = 32;
/// Most bytes of a file that are read to find out how it begins.
const MAX_HEAD: u64 = 256;
/// Characters of a time up to its seconds.
const STAMP: usize = 19;
/// Characters of the column with the level.
const LEVEL: usize = 5;
/// Most bytes of the file with the progress of a delivery.
const MAX_PROGRESS: u64 = 16 << 20;

/// Looks into the folder of a run. `texts` are the names that text files may have, beside the usual
/// one.
pub(super) fn scan(run: &Folder, texts: &BTreeSet<String>) -> io::Result<RunContents> {
    let mut contents = RunContents::default();
    scan_folder(run, Place::Run, Path::new(""), texts, &mut contents)?;
    Ok(contents)
}

fn scan_folder(
    folder: &Folder,
    place: Place,
    path: &Path,
    texts: &BTreeSet<String>,
    contents: &mut RunContents,
) -> io::Result<()> {
    for entry in folder.entries()? {
        let entry_path = path.join(&entry.name);
        match place.part(folder, &entry, texts) {
            Some(Part::File) => {
                contents.bytes += entry.bytes;
                let is_unsent = match place {
                    Place::Run => entry.name == MLFLOW_POSITION && !is_complete(folder, Path::new(MLFLOW_POSITION)),
                    Place::WandbRun => is_log(&entry) && !is_delivered(folder, &entry),
                    Place::Delivery => has_unsent(folder, &entry),
                    _ => false,
                };
                if is_unsent {
                    contents.unsent.get_or_insert(entry_path);
                }
            }
            Some(Part::Ring) => contents.has_ring = true,
            Some(Part::Folder(within)) if path.components().count() < MAX_DEPTH => {
                let inner = folder.folder(Path::new(&entry.name))?;
                scan_folder(&inner, within, &entry_path, texts, contents)?;
            }
            _ => {
                contents.foreign.get_or_insert(entry_path);
            }
        }
    }
    Ok(())
}

/// Deletes the content of a run's folder. Stops at the first thing that is not ours.
pub(super) fn delete(run: &Folder, texts: &BTreeSet<String>) -> io::Result<()> {
    delete_in(run, Place::Run, 0, texts)
}

fn delete_in(folder: &Folder, place: Place, depth: usize, texts: &BTreeSet<String>) -> io::Result<()> {
    for entry in folder.entries()? {
        let name = Path::new(&entry.name);
        let deleted = match place.part(folder, &entry, texts) {
            Some(Part::File) => folder.remove_file(name),
            Some(Part::Folder(within)) if depth < MAX_DEPTH => {
                delete_in(&folder.folder(name)?, within, depth + 1, texts)?;
                folder.remove_dir(name)
            }
            _ => Err(io::Error::other(format!("{} is no file of logcore", name.display()))),
        };
        match deleted {
            // Another process deletes the same run.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            deleted => deleted?,
        }
    }
    Ok(())
}

impl Place {
    /// Tells what an entry of this folder is; `None` if logcore does not write such a thing.
    fn part(self, folder: &Folder, entry: &FolderEntry, texts: &BTreeSet<String>) -> Option<Part> {
        let name = entry.name.to_str();
        if self == Self::Files {
            // Names come from the user's program here, and need not be text.
            return match entry.kind {
                EntryKind::Folder => Some(Part::Folder(Self::Files)),
                EntryKind::File | EntryKind::Link => Some(Part::File),
                EntryKind::Other => None,
            };
        }
        let name = name?;
        match (self, entry.kind) {
            (_, EntryKind::Other) => None,
            (Self::Run, EntryKind::Folder) => match name {
                name if WANDB.contains(&name) => Some(Part::Folder(Self::Wandb)),
                INCIDENTS_FOLDER => Some(Part::Folder(Self::Incidents)),
                "media" => Some(Part::Folder(Self::Media)),
                RANKS_FOLDER => Some(Part::Folder(Self::Ranks)),
                "tensorboard" => Some(Part::Folder(Self::TensorBoard)),
                "otlp" | "webhook" => Some(Part::Folder(Self::Delivery)),
                _ => None,
            },
            (Self::Run, _) if is_temporary(name) => Some(Part::File),
            (Self::Run, _) if name.starts_with(HIDDEN) => Some(Part::Ring),
            (Self::Run, EntryKind::File) if is_text_file(name, texts) => {
                is_text(folder, Path::new(name)).then_some(Part::File)
            }
            (Self::Run, _) => is_run_file(name).then_some(Part::File),
            (Self::Wandb, EntryKind::Folder) => {
                let is_run = name.starts_with("run-") || name.starts_with("offline-run-");
                is_run.then_some(Part::Folder(Self::WandbRun))
            }
            (Self::Wandb, EntryKind::Link) => name.contains("latest-run").then_some(Part::File),
            (Self::Wandb, _) => None,
            (Self::WandbRun, EntryKind::Folder) => WANDB_FOLDERS.contains(&name).then_some(Part::Folder(Self::Files)),
            (Self::WandbRun, _) => {
                let is_own = name.starts_with("run-") && name.contains(".wandb");
                (is_own || is_temporary(name)).then_some(Part::File)
            }
            (Self::TensorBoard, EntryKind::Folder) => Some(Part::Folder(Self::TensorBoard)),
            (Self::TensorBoard, _) => is_event_file(name).then_some(Part::File),
            (Self::Media, EntryKind::Folder) => MEDIA_KINDS.contains(&name).then_some(Part::Folder(Self::MediaKind)),
            (Self::MediaKind, EntryKind::Folder) => Some(Part::Folder(Self::MediaKind)),
            (Self::MediaKind, _) => is_media_file(name).then_some(Part::File),
            (Self::Incidents | Self::Ranks, EntryKind::Folder) => None,
            (Self::Media, _) => is_temporary(name).then_some(Part::File),
            (Self::Incidents, _) => (is_temporary(name) || is_incident(name)).then_some(Part::File),
            (Self::Ranks, _) => (is_temporary(name) || is_rank_file(name)).then_some(Part::File),
            (Self::Delivery, EntryKind::File) => is_delivery_file(name).then_some(Part::File),
            (Self::Delivery, _) | (Self::Files, _) => None,
        }
    }
}

/// Returns `true` for a file that logcore writes into the folder of a run, apart from text files
/// with other names than the usual one.
pub(crate) fn is_run_file(name: &str) -> bool {
    let is_lock = name
        .strip_prefix(RunManifest::LOCK)
        .is_some_and(|rest| rest.is_empty() || rest.strip_prefix(".rank").is_some_and(is_number));
    is_lock
        || name == RunManifest::STOP_FILE
        || MLFLOW.contains(&name)
        || is_whole(name)
        || is_of_lines(name, |name| LINES.contains(&name))
}

/// Returns `true` for the file of a rank that is written as a whole: never rotated, never merged.
fn is_whole(name: &str) -> bool {
    let first = FileRank::parse(name).map(|(first, _)| first);
    WHOLE.contains(&first.as_deref().unwrap_or(name))
}

/// Returns `true` for the name of a file that may be a text file of the run.
fn is_text_file(name: &str, texts: &BTreeSet<String>) -> bool {
    !is_run_file(name) && is_of_lines(name, |name| texts.contains(name))
}

/// Returns `true` for a known name of a file of lines, and for the names that other ranks, a
/// rotation and `logcore merge`, which writes beside the files that it has merged, make of a known
/// one.
fn is_of_lines(name: &str, is_known: impl Fn(&str) -> bool) -> bool {
    let name = match name.rsplit_once('.') {
        Some((rest, number)) if is_number(number) => rest,
        _ => name,
    };
    let first = FileRank::parse(name).map(|(first, _)| first);
    let name = first.unwrap_or_else(|| name.to_owned());
    is_known(&name) || is_known(&name.replacen(".merged.", ".", 1))
}

/// Returns `true` for a file that begins with a line of logcore.
pub(crate) fn begins_as_text(path: &Path) -> bool {
    let head = files::open(path).and_then(read_head);
    head.is_ok_and(|head| is_record(&head))
}

/// Returns `true` for a file that is empty, or begins with a line of logcore.
fn is_text(folder: &Folder, name: &Path) -> bool {
    let head = folder.open_file(name).and_then(read_head);
    head.is_ok_and(|head| head.is_empty() || is_record(&head))
}

/// Returns the beginning of a file.
fn read_head(file: File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(MAX_HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// Returns `true` for the beginning of a line of logcore's formatters: `plain`, `colored`, `json`
/// or `logfmt`. A line of another formatter cannot be told from what others write.
fn is_record(head: &[u8]) -> bool {
    let is_stamp = |stamp: &str, between: char| {
        let has_form = |(at, c): (usize, char)| match at {
            4 | 7 => c == '-',
            10 => c == between,
            13 | 16 => c == ':',
            _ => c.is_ascii_digit(),
        };
        stamp.chars().count() == STAMP && stamp.chars().enumerate().all(has_form)
    };
    let head = String::from_utf8_lossy(head);
    if let Some(rest) = head.strip_prefix("time=") {
        return rest.get(..STAMP).is_some_and(|stamp| is_stamp(stamp, 'T')) && rest.contains(" level=");
    }
    if let Some(rest) = head.strip_prefix("{\"time\":") {
        return rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(",\"level\":\"");
    }
    let line = without_colors(&head);
    let mut columns = line.split(" | ");
    let stamp = columns.next().and_then(|stamp| stamp.get(..STAMP));
    let is_level = |column: &str| column.trim_end().parse::<Level>().is_ok() && column.len() == LEVEL;
    stamp.is_some_and(|stamp| is_stamp(stamp, ' ')) && columns.next().is_some_and(is_level)
}

/// Removes the codes of colors.
fn without_colors(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

/// Returns `true` for the name of a file that is about to replace another.
fn is_temporary(name: &str) -> bool {
    let digits = name.strip_prefix(HIDDEN).and_then(|name| name.strip_suffix(".tmp"));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_log(entry: &FolderEntry) -> bool {
    Path::new(&entry.name)
        .extension()
        .is_some_and(|extension| extension == "wandb")
}

/// Returns `true` if the server has all of a W&B log: so says a file beside the log, which logcore
/// or the official client has written.
fn is_delivered(folder: &Folder, log: &FolderEntry) -> bool {
    let beside = |suffix: &str| {
        let mut name = log.name.clone();
        name.push(suffix);
        PathBuf::from(name)
    };
    folder.open_file(&beside(".synced")).is_ok() || is_complete(folder, &beside(".upload"))
}

/// Returns `true` if the file with the progress of a delivery says that the server has everything.
fn is_complete(folder: &Folder, progress: &Path) -> bool {
    let has_all = |progress: Value| progress["complete"] == true;
    folder
        .read(progress, MAX_PROGRESS)
        .is_ok_and(|bytes| serde_json::from_slice(&bytes).is_ok_and(has_all))
}

/// Returns `true` for the name of an event file of logcore:
/// `events.out.tfevents.<seconds>.<run>.<process>.<attempt>.<number>`. Other writers have the name
/// of the host in place of the process, which is a number only for hosts named by their address.
fn is_event_file(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(TENSORBOARD_FILE) else {
        return false;
    };
    let mut parts = rest.rsplitn(4, '.');
    let has_numbers = parts.by_ref().take(3).filter(|part| is_number(part)).count() == 3;
    let run = parts.next().and_then(|rest| rest.split_once('.'));
    has_numbers && run.is_some_and(|(seconds, run)| is_number(seconds) && !run.is_empty())
}

/// Returns `true` for the name of a media file: `<key>_<step>_<digest>.<extension>`, or
/// `<key>_<step>_<digest>-<number>.<extension>`.
fn is_media_file(name: &str) -> bool {
    let is_digest = |part: &str| {
        let (digest, rest) = part.split_at_checked(MEDIA_DIGEST).unwrap_or_default();
        let is_hex = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex && (rest.is_empty() || rest.starts_with(['.', '-']))
    };
    let parts: Vec<_> = name.split('_').skip(1).collect();
    parts.windows(2).any(|pair| is_number(pair[0]) && is_digest(pair[1]))
}

/// Returns `true` for the name of an incident, `<step>-<rule>….json`, and of the report of a stall,
/// `stall-<date>-<time>….txt`.
fn is_incident(name: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if let Some(stem) = name.strip_suffix(".json") {
        let step = stem.split_once('-').map_or("", |(step, _)| step);
        return (step == "start" || is_number(step)) && stem.bytes().all(is_plain);
    }
    let stall = name.strip_prefix("stall-").and_then(|name| name.strip_suffix(".txt"));
    let mut parts = stall.unwrap_or_default().split('-');
    let (date, time) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let has_time = (date.len(), time.len()) == (8, 6) && is_number(date) && is_number(time);
    has_time && parts.all(|part| is_number(part.strip_prefix("rank").unwrap_or(part)))
}

/// Returns `true` for the slot of a rank, one that is being made, and the step at which an attempt
/// stops, `stop-<attempt>.json`.
fn is_rank_file(name: &str) -> bool {
    let stop = name.strip_prefix("stop-").and_then(|name| name.strip_suffix(".json"));
    is_number(stop.unwrap_or_else(|| name.strip_suffix(".tmp").unwrap_or(name)))
}

/// Returns `true` for the name of a spool, or of the state of a delivery.
fn is_delivery_file(name: &str) -> bool {
    name.ends_with(".spool") || name.ends_with(".json") || is_temporary(name)
}

/// Returns `true` for a spool that its receiver does not have completely, and for the state of a
/// webhook with messages.
fn has_unsent(folder: &Folder, entry: &FolderEntry) -> bool {
    let path = Path::new(&entry.name);
    let read_state = |path: &Path| {
        let bytes = folder.read(path, MAX_PROGRESS).unwrap_or_default();
        serde_json::from_slice::<Value>(&bytes).unwrap_or_default()
    };
    if path.extension().is_some_and(|extension| extension == "json") {
        return read_state(path)["unsent"]
            .as_array()
            .is_some_and(|messages| !messages.is_empty());
    }
    // The mark of the format, and the position of the first byte behind both.
    let mut head = [0; 16];
    let read = folder.open_file(path).and_then(|mut file| file.read_exact(&mut head));
    let [_, _, _, _, _, _, _, _, base @ ..] = head;
    let end = u64::from_le_bytes(base).saturating_add(entry.bytes.saturating_sub(16));
    read.is_ok() && read_state(&path.with_extension("json"))["sent"].as_u64().unwrap_or(0) < end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_are_told_from_others() {
        let texts = BTreeSet::from(["eval.txt".to_owned()]);
        for own in [
            "run.json",
            "training.log",
            "training.log.12",
            "training.rank3.log.1",
            "training.merged.log",
            "metrics.rank1.jsonl",
            "metrics.merged.jsonl",
            "report.html",
            "eval.txt",
            "eval.rank2.txt.1",
            ".lock",
            ".lock.rank17",
            "STOP",
            "config.rank2.json",
            "events.jsonl.1",
        ] {
            assert!(is_run_file(own) || is_text_file(own, &texts), "{own}");
        }
        for foreign in [
            "model.pt",
            "notes.log",
            "training.log.bak",
            "run.json.orig",
            ".lock.rank",
            ".locked",
            "eval.log",
            "stop",
            "",
            "config.json.1",
            "run.json.2",
            "summary.merged.json",
            "report.html.1",
        ] {
            assert!(!is_run_file(foreign) && !is_text_file(foreign, &texts), "{foreign}");
        }
        assert!(is_temporary(".logcore-0123456789abcdef.tmp") && !is_temporary(".logcore-latest.tmp"));
    }

    #[test]
    fn each_folder_of_a_run_has_names_of_its_own() {
        let digest = "0123456789abcdef0123";
        let media = |key: &str, end: &str| format!("media/{key}_12_{digest}{end}");
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "content").unwrap();
        };
        let foreign = || {
            scan(&Folder::open(root.path()).unwrap(), &BTreeSet::new())
                .unwrap()
                .foreign
        };
        for own in [
            "incidents/5120-loss-spike.json",
            "incidents/start-any-nan-rank3-attempt2-2.json",
            "incidents/stall-20261123-144815.txt",
            "incidents/stall-20261123-144815-rank3-2.txt",
            "incidents/.logcore-0123456789abcdef.tmp",
            &media("images/val/a_b", ".png"),
            &media("table/t", "-2.table.json"),
            &media("files/my_model", ".a_b"),
            &media("files/README", ""),
            "media/.logcore-0123456789abcdef.tmp",
            "ranks/0",
            "ranks/12.tmp",
            "ranks/stop-1.json",
            "tensorboard/events.out.tfevents.1763909295.k3v9q2ab.4711.2.0",
            "tensorboard/eval/events.out.tfevents.1763909295.a.run.4711.2.0",
        ] {
            write(own);
        }
        assert_eq!(foreign(), None);
        for other in [
            "incidents/notes/mine.txt",
            "incidents/mine.txt",
            "incidents/mine.json",
            "incidents/stall-notes.txt",
            "media/ckpt/model.pt",
            "media/model.pt",
            "media/images/cat.png",
            "media/files/model_12_0123.pt",
            &media("ckpt/model", ".pt"),
            "ranks/notes",
            "ranks/0.json",
            "tensorboard/events.out.tfevents.1.pytorch",
            "tensorboard/events.out.tfevents.1763909295.node7.4711.0",
            "tensorboard/events.out.tfevents.1763909295.node7.4711.0.v2",
            "config.json.1",
        ] {
            write(other);
            let found = foreign().unwrap_or_else(|| panic!("{other}"));
            assert!(Path::new(other).starts_with(&found), "{other}: {}", found.display());
            let error = delete(&Folder::open(root.path()).unwrap(), &BTreeSet::new()).unwrap_err();
            assert!(error.to_string().contains("no file of logcore"), "{error}");
            assert!(root.path().join(other).is_file(), "{other}");
            let kept = root.path().join(other);
            std::fs::remove_file(&kept).unwrap();
            if let Some(folder) = kept.parent().filter(|folder| *folder != root.path()) {
                let _ = std::fs::remove_dir(folder);
            }
        }
        delete(&Folder::open(root.path()).unwrap(), &BTreeSet::new()).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn lines_of_each_formatter_are_told_from_others() {
        for own in [
            "2026-11-23 14:48:15.123 | INFO  | trainer | Starting",
            "2026-11-23 14:48:15 | ERROR | trainer | Starting",
            "\u{1b}[2m2026-11-23 14:48:15.123\u{1b}[0m\u{1b}[2m | \u{1b}[0m\u{1b}[33mWARN \u{1b}[0m\u{1b}[2m | \u{1b}[0m",
            "{\"time\":1763909295.123,\"level\":\"INFO\",\"logger\":\"trainer\"",
            "time=2026-11-23T14:48:15.123+00:00 level=info logger=trainer",
        ] {
            assert!(is_record(own.as_bytes()), "{own}");
        }
        for foreign in [
            "",
            "notes",
            "PK\u{3}\u{4}",
            "2026-11-23 14:48:15,123 - root - INFO - epoch 1",
            "2026-11-23 | INFO  | a table",
            "2026-11-23 14:48:15.123 | hello | INFO ",
            "{\"time\":1763909295.123,\"loss\":0.5}",
            "time=12 level=info",
        ] {
            assert!(!is_record(foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn what_waits_for_a_server_is_unsent() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let scanned = || scan(&Folder::open(root.path()).unwrap(), &BTreeSet::new()).unwrap();
        let spool = [&b"LCOTLP1\n"[..], &100_u64.to_le_bytes(), b"record"].concat();
        write("otlp/logs.spool", &spool);
        write("otlp/logs.json", br#"{"sent":106}"#);
        write("webhook/0123.json", br#"{"sent":1,"unsent":[]}"#);
        assert_eq!((scanned().unsent, scanned().foreign), (None, None));
        write("webhook/0123.json", br#"{"sent":1,"unsent":[{}]}"#);
        assert_eq!(scanned().unsent, Some(PathBuf::from("webhook/0123.json")));
        std::fs::remove_dir_all(root.path().join("webhook")).unwrap();
        write("otlp/logs.json", br#"{"sent":105}"#);
        assert_eq!(scanned().unsent, Some(PathBuf::from("otlp/logs.spool")));
        write("otlp/notes.txt", b"mine");
        assert_eq!(scanned().foreign, Some(PathBuf::from("otlp/notes.txt")));
    }
}
