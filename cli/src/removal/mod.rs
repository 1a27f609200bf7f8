//! Deletes runs, and nothing else.
//!
//! A run is moved to `.logcore/pruned` in its `log_dir` before its files are deleted. So no reader
//! sees half a run, and a deletion that was killed is completed by the next one. The folders are
//! reached by descriptor, from the `log_dir` on: no link is followed, even if somebody puts one
//! there meanwhile.

mod contents;
mod links;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use logcore::files::{EntryKind, Folder, lock_within, random_suffix};
use logcore::{RunFacts, RunManifest, RunState};
use logcore_runs::StoredRun;

pub(crate) use self::contents::{HIDDEN, begins_as_text, is_run_file};
use self::contents::{RunContents, scan};

/// A `log_dir` whose runs may be deleted.
pub(crate) struct RunRemover {
    log_dir: PathBuf,
    folder: Folder,
    /// Names that text files may have, beside the usual one.
    texts: BTreeSet<String>,
    /// `true` if a W&B run may be deleted that the server does not have.
    allows_unsent: bool,
}

/// The result for one run.
pub(crate) enum Removal {
    Deleted,
    Kept(KeptBecause),
}

/// The reason why a run is not deleted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KeptBecause {
    Running,
    /// Nobody here can tell whether the run goes on.
    Unknown,
    /// A killed process has left calls that are not in the files.
    Unrecovered,
    /// A part of the run is only on this disk.
    Unsent(PathBuf),
    /// The folder holds something that logcore has not written.
    Foreign(PathBuf),
    /// The run is another one than a moment ago.
    Changed,
}

/// The folder of logcore's own files in a `log_dir`.
const FOLDER: &str = ".logcore";
/// The file that a process locks while it deletes runs.
const LOCK: &str = ".logcore/prune.lock";
/// Where runs lie that are being deleted.
const PRUNED: &str = ".logcore/pruned";
/// Age up to which a lock tells that its process lives, if that is on another machine.
const FRESH: Duration = Duration::from_secs(60);
/// Most bytes of a `run.json`.
const MAX_MANIFEST: u64 = 16 << 20;
/// Time to wait for a lock, which readers have for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

impl RunRemover {
    /// Opens a `log_dir`.
    pub(crate) fn open(log_dir: &Path, allows_unsent: bool) -> Result<Self> {
        let folder = Folder::open(log_dir).with_context(|| format!("cannot open the folder {}", log_dir.display()))?;
        Ok(Self {
            log_dir: log_dir.to_owned(),
            folder,
            texts: links::linked_texts(log_dir),
            allows_unsent,
        })
    }

    /// Makes this process the only one that deletes runs here, until the value is dropped.
    pub(crate) fn begin(&self) -> Result<Option<File>> {
        let cannot = || format!("cannot write into {}", self.log_dir.join(FOLDER).display());
        self.folder.create_dir_all(Path::new(FOLDER)).with_context(cannot)?;
        let file = self.folder.append(Path::new(LOCK)).with_context(cannot)?;
        match lock_within(&file, LOCK_PATIENCE) {
            Ok(true) => Ok(Some(file)),
            Ok(false) => bail!(
                "cannot delete runs in {}: another process is doing so. Wait for its end",
                self.log_dir.display()
            ),
            // Without locks, each step still notices what others have done.
            Err(_) => Ok(None),
        }
    }

    /// Tells how many bytes a run has, and why it has to stay.
    pub(crate) fn look_at(&self, run: &StoredRun) -> Result<(u64, Option<KeptBecause>)> {
        let contents = match self.open_run(run).and_then(|folder| scan(&folder, &self.texts)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, Some(KeptBecause::Changed))),
            contents => contents.with_context(|| format!("cannot look into {}", run.dir.display()))?,
        };
        let kept = because_of_state(run).or_else(|| self.because_of(&contents));
        Ok((contents.bytes, kept))
    }

    /// Tells what of a run is not in its files, or not on a server.
    pub(crate) fn waiting(&self, run: &StoredRun) -> Result<Option<KeptBecause>> {
        let contents = match run.dir == self.log_dir {
            true => scan(&self.folder, &self.texts),
            false => self.open_run(run).and_then(|folder| scan(&folder, &self.texts)),
        };
        let contents = contents.with_context(|| format!("cannot look into {}", run.dir.display()))?;
        Ok(match contents.has_ring {
            true => Some(KeptBecause::Unrecovered),
            false => contents.unsent.map(KeptBecause::Unsent),
        })
    }

    /// Deletes a run that is still as it was when it was listed.
    pub(crate) fn remove(&self, run: &StoredRun) -> Result<Removal> {
        let cannot = || format!("cannot delete {}", run.dir.display());
        if let Some(kept) = because_of_state(run) {
            return Ok(Removal::Kept(kept));
        }
        let folder = match self.open_run(run) {
            // Somebody else has deleted the run.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Kept(KeptBecause::Changed)),
            opened => opened.with_context(cannot)?,
        };
        // Looked at before the lock, whose file a folder with foreign files must not get.
        let kept = |contents: RunContents| self.because_of(&contents).map(Removal::Kept);
        if let Some(kept) = kept(scan(&folder, &self.texts).with_context(cannot)?) {
            return Ok(kept);
        }
        let locks = RunLocks::take(&folder, &run.manifest).with_context(cannot)?;
        let locks = match locks {
            Ok(locks) => locks,
            Err(kept) => return Ok(Removal::Kept(kept)),
        };
        // Nobody begins an attempt from here on, and somebody may have until here.
        if !is_unchanged(&folder, run, locks.are_held) {
            return Ok(Removal::Kept(KeptBecause::Changed));
        }
        let moved = match self.put_aside(run, &folder).with_context(cannot)? {
            Some(moved) => moved,
            None => return Ok(Removal::Kept(KeptBecause::Changed)),
        };
        // Files may have come until the folder was out of reach.
        if let Some(kept) = kept(scan(&folder, &self.texts).with_context(cannot)?) {
            self.put_back(&moved, run).with_context(cannot)?;
            return Ok(kept);
        }
        self.delete_aside(&folder, &moved)
            .with_context(|| self.describe_rest(&moved))?;
        Ok(Removal::Deleted)
    }

    /// Returns the runs that an earlier deletion has not completed.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let pruned = self.folder.folder(Path::new(PRUNED));
        let entries = pruned.and_then(|pruned| pruned.entries()).unwrap_or_default();
        let is_own = |name: &str| name.len() == random_suffix().len() && name.bytes().all(|b| b.is_ascii_hexdigit());
        entries
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::Folder && entry.name.to_str().is_some_and(is_own))
            .map(|entry| Path::new(PRUNED).join(entry.name))
            .collect()
    }

    /// Completes an earlier deletion.
    pub(crate) fn complete(&self, leftover: &Path) -> Result<()> {
        let delete = || {
            let folder = match self.folder.folder(leftover) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            self.delete_aside(&folder, leftover)
        };
        delete().with_context(|| self.describe_rest(leftover))
    }

    /// Lets the links that led to deleted runs lead to the newest run, or removes them.
    pub(crate) fn mend_links(&self, newest: Option<&StoredRun>) {
        links::mend(&self.log_dir, newest.and_then(|run| run.dir.file_name()));
    }

    fn open_run(&self, run: &StoredRun) -> io::Result<Folder> {
        self.folder.folder(name_of(run)?)
    }

    fn because_of(&self, contents: &RunContents) -> Option<KeptBecause> {
        if contents.has_ring {
            return Some(KeptBecause::Unrecovered);
        }
        if let Some(foreign) = &contents.foreign {
            return Some(KeptBecause::Foreign(foreign.clone()));
        }
        let unsent = contents.unsent.as_ref().filter(|_| !self.allows_unsent);
        unsent.cloned().map(KeptBecause::Unsent)
    }

    /// Moves a run to where nobody looks for one. Returns `None` if its name leads to another
    /// folder by now.
    fn put_aside(&self, run: &StoredRun, folder: &Folder) -> io::Result<Option<PathBuf>> {
        let moved = Path::new(PRUNED).join(random_suffix());
        self.folder.create_dir_all(Path::new(PRUNED))?;
        match self.folder.rename(name_of(run)?, &moved) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            renamed => renamed?,
        }
        let is_same = self.folder.folder(&moved).is_ok_and(|there| there.is_same_as(folder));
        if !is_same {
            self.put_back(&moved, run)?;
        }
        Ok(is_same.then_some(moved))
    }

    fn put_back(&self, moved: &Path, run: &StoredRun) -> io::Result<()> {
        self.folder.rename(moved, name_of(run)?)
    }

    fn delete_aside(&self, folder: &Folder, moved: &Path) -> io::Result<()> {
        contents::delete(folder, &self.texts)?;
        match self.folder.remove_dir(moved) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Others may have runs there.
        let _ = self.folder.remove_dir(Path::new(PRUNED));
        Ok(())
    }

    fn describe_rest(&self, moved: &Path) -> String {
        format!(
            "cannot delete all of a run. The rest lies in {}, and the next `logcore prune` goes on with that",
            self.log_dir.join(moved).display()
        )
    }
}

/// The name of the run's folder in its `log_dir`.
fn name_of(run: &StoredRun) -> io::Result<&Path> {
    let name = run.dir.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Path::new(name))
}

/// Tells why a run has to stay, whatever its folder holds.
fn because_of_state(run: &StoredRun) -> Option<KeptBecause> {
    let manifest = &run.manifest;
    let is_ours = !manifest.id.is_empty() && manifest.started > 0.0 && !manifest.attempts.is_empty();
    match run.state {
        RunState::Running => Some(KeptBecause::Running),
        RunState::Finished | RunState::Failed | RunState::Interrupted | RunState::Preempted | RunState::Killed
            if is_ours =>
        {
            None
        }
        _ => Some(KeptBecause::Unknown),
    }
}

/// Returns `true` if the folder holds the run that was listed, which has had no attempt since.
fn is_unchanged(folder: &Folder, run: &StoredRun, is_locked: bool) -> bool {
    let read = folder.read(Path::new(RunManifest::FILE), MAX_MANIFEST);
    let Some(now) = read
        .ok()
        .and_then(|bytes| serde_json::from_slice::<RunManifest>(&bytes).ok())
    else {
        return false;
    };
    let identity = |manifest: &RunManifest| {
        (
            manifest.id.clone(),
            manifest.started.to_bits(),
            manifest.attempts.len(),
            manifest.facts.pid,
        )
    };
    // A killed process has not written its end, and only its lock tells that.
    let has_ended = now.state != RunState::Running || is_locked;
    has_ended && identity(&now) == identity(&run.manifest)
}

/// The locks that the processes of a run have while they live.
struct RunLocks {
    _files: Vec<File>,
    /// `false` on a file system without locks.
    are_held: bool,
}

impl RunLocks {
    /// Takes the locks of all ranks; the inner error tells why that cannot be.
    fn take(run: &Folder, manifest: &RunManifest) -> io::Result<Result<Self, KeptBecause>> {
        let is_elsewhere = RunFacts::own_host().is_none_or(|host| host != manifest.facts.host);
        let names = run.entries()?.into_iter().map(|entry| entry.name);
        let mut names: Vec<_> = names
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with(RunManifest::LOCK)))
            .collect();
        if is_elsewhere {
            for name in &names {
                let touched = run
                    .open_file(Path::new(name))
                    .and_then(|file| file.metadata()?.modified());
                let age = touched.map(|touched| SystemTime::now().duration_since(touched).unwrap_or_default());
                if age.is_ok_and(|age| age < FRESH) {
                    return Ok(Err(KeptBecause::Unknown));
                }
            }
        }
        if !names.iter().any(|name| name == RunManifest::LOCK) {
            names.push(RunManifest::LOCK.into());
        }
        let mut locks = Self {
            _files: Vec::new(),
            are_held: true,
        };
        for name in names {
            let file = run.append(Path::new(&name))?;
            match lock_within(&file, LOCK_PATIENCE) {
                Ok(true) => locks._files.push(file),
                Ok(false) => return Ok(Err(KeptBecause::Running)),
                Err(_) => locks.are_held = false,
            }
        }
        Ok(Ok(locks))
    }
}

impl KeptBecause {
    /// Returns the name of the reason in JSON output.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Unrecovered => "unrecovered",
            Self::Unsent(_) => "unsent",
            Self::Foreign(_) => "foreign",
            Self::Changed => "changed",
        }
    }
}

impl Display for KeptBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("is running"),
            Self::Unknown => f.write_str("may be running, or its run.json is not complete"),
            Self::Unrecovered => {
                f.write_str("was killed, and its last lines are not in its files: run `logcore repair` first")
            }
            Self::Unsent(file) => {
                let remedy = match file.extension().and_then(|extension| extension.to_str()) {
                    Some("wandb") => "run `logcore sync` first, or ",
                    _ if file == Path::new(contents::MLFLOW_POSITION) => "run `logcore sync --to mlflow` first, or ",
                    _ => "",
                };
                write!(
                    f,
                    "is not delivered completely ({}): {remedy}add --unsent",
                    file.display()
                )
            }
            Self::Foreign(file) => write!(
                f,
                "holds {}, which logcore has not written: move that away, or delete the folder yourself",
                file.display()
            ),
            Self::Changed => f.write_str("is gone, or has changed since it was listed"),
        }
    }
}
