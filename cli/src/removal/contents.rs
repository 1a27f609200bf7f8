//! The content of a run's folder: what logcore and W&B have written there, and what they have not.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use logcore::files::{EntryKind, Folder, FolderEntry};
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
    /// The folder of what waits for a receiver of OpenTelemetry, or for a webhook.
    Delivery,
    /// A folder for files of any name.
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

/// Files of a run; each rank may have one, and files may be rotated.
const FILES: [&str; 9] = [
    "training.log",
    "metrics.jsonl",
    "records.jsonl",
    EVENTS_FILE,
    "media.jsonl",
    "config.json",
    "summary.json",
    "report.html",
    RunManifest::FILE,
];
/// The position of a delivery to MLflow, and its lock.
const MLFLOW: [&str; 2] = [MLFLOW_POSITION, ".mlflow.lock"];
pub(super) const MLFLOW_POSITION: &str = "mlflow.json";
/// Begins the names of temporary files and rings.
const HIDDEN: &str = ".logcore-";
/// Folders of W&B runs. A `.wandb` that is there is taken in place of `wandb`.
const WANDB: [&str; 2] = ["wandb", ".wandb"];
/// Folders that logcore reserves for its own files.
const RESERVED: [&str; 3] = [INCIDENTS_FOLDER, "media", RANKS_FOLDER];
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
                name if RESERVED.contains(&name) => Some(Part::Folder(Self::Files)),
                "tensorboard" => Some(Part::Folder(Self::TensorBoard)),
                "otlp" | "webhook" => Some(Part::Folder(Self::Delivery)),
                _ => None,
            },
            (Self::Run, _) if is_temporary(name) => Some(Part::File),
            (Self::Run, _) if name.starts_with(HIDDEN) => Some(Part::Ring),
            (Self::Run, EntryKind::File) if is_text_file(name, texts) => {
                begins_as_text(folder, entry).then_some(Part::File)
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
            (Self::TensorBoard, _) => name.starts_with(TENSORBOARD_FILE).then_some(Part::File),
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
    is_lock || name == RunManifest::STOP_FILE || MLFLOW.contains(&name) || has_form(name, |name| FILES.contains(&name))
}

/// Returns `true` for the name of a file that may be a text file of the run.
fn is_text_file(name: &str, texts: &BTreeSet<String>) -> bool {
    !is_run_file(name) && has_form(name, |name| texts.contains(name))
}

/// Returns `true` for a known name, and for the names that other ranks, a rotation and
/// `logcore merge`, which writes beside the files that it has merged, make of a known one.
fn has_form(name: &str, is_known: impl Fn(&str) -> bool) -> bool {
    let name = match name.rsplit_once('.') {
        Some((rest, number)) if is_number(number) => rest,
        _ => name,
    };
    let first = FileRank::parse(name).map(|(first, _)| first);
    let name = first.unwrap_or_else(|| name.to_owned());
    is_known(&name) || is_known(&name.replacen(".merged.", ".", 1))
}

/// Returns `true` for a file that is empty, or begins with a line of logcore.
fn begins_as_text(folder: &Folder, entry: &FolderEntry) -> bool {
    let read = folder.open_file(Path::new(&entry.name)).and_then(read_head);
    read.is_ok_and(|head| head.is_empty() || is_record(&head))
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
        ] {
            assert!(!is_run_file(foreign) && !is_text_file(foreign, &texts), "{foreign}");
        }
        assert!(is_temporary(".logcore-0123456789abcdef.tmp") && !is_temporary(".logcore-latest.tmp"));
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
