//! The run that the ranks of one launch share.
//!
//! Rank 0 chooses the run and publishes it in `log_dir/.logcore/launch-<hash>`; the other ranks
//! wait for that. The hash is of facts that all ranks of a launch know and no other launch has.
//! With `run_id`, all ranks know the folder, and none waits.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io, thread};

use logcore::{Deadline, LogConfig, Ranks, RunInfo, RunManifest, RunState, files};
use logcore_pipeline::print_notice;
use serde::{Deserialize, Serialize};

use super::choice::{AUTO, ChosenRun, FLAT, RunChoice, attempt_after, folder_of};
use super::folder;
use super::record::EarlierRun;

/// The place where the ranks of one launch meet.
#[derive(Debug)]
pub(super) struct Launch {
    log_dir: PathBuf,
    /// The run that the config names, which may lie anywhere.
    resumed: Option<PathBuf>,
    file: PathBuf,
}

/// Content of the file: the run that rank 0 has made.
#[derive(Serialize, Deserialize)]
struct PublishedRun {
    id: String,
    /// The run's folder, beneath `log_dir` or elsewhere.
    folder: PathBuf,
    attempt: u32,
}

impl Launch {
    /// Returns the launch that started this process, if its ranks meet at a file: a run of one
    /// process, or with a folder that all ranks know, needs none. `number` counts the runs that
    /// this process has opened in the `log_dir`.
    pub(super) fn of_process(config: &LogConfig, choice: &RunChoice, number: u32) -> Option<Self> {
        if choice.run == FLAT || choice.run_id.is_some() {
            return None;
        }
        let ranks = Ranks::from_config(config);
        let world_size = ranks.world_size.filter(|size| *size > 1)?;
        let mut launch = Self::new(&config.log_dir, world_size, number, |name| env::var(name).ok());
        launch.resumed = choice.resume.as_ref().and_then(|run| folder_of(&config.log_dir, run));
        Some(launch)
    }

    fn new(log_dir: &Path, world_size: u32, number: u32, variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut hash = Fnv::default();
        hash.add(&world_size.to_string());
        hash.add(&number.to_string());
        for name in LAUNCH_FACTS {
            hash.add(&variable(name).unwrap_or_default());
        }
        Self {
            log_dir: log_dir.to_owned(),
            resumed: None,
            file: log_dir.join(".logcore").join(format!("launch-{:016x}", hash.0)),
        }
    }

    /// Removes the file of an earlier launch with the same facts, before rank 0 chooses the run.
    pub(super) fn withdraw(&self) {
        // A link in the place of the folder would lead out of the `log_dir`. A file that stays
        // names a run that has ended, which no rank takes.
        if !self.file.parent().is_some_and(Path::is_symlink) {
            let _ = fs::remove_file(&self.file);
        }
    }

    /// Publishes the run that rank 0 has opened.
    pub(super) fn publish(&self, run: &RunInfo) {
        let folder = run.dir().strip_prefix(&self.log_dir).unwrap_or(run.dir());
        let published = PublishedRun {
            id: run.id().to_owned(),
            folder: folder.to_owned(),
            attempt: run.attempt(),
        };
        let write = || {
            self.make_folder()?;
            files::replace(&self.file, &serde_json::to_vec(&published)?)
        };
        if let Err(error) = write() as io::Result<()> {
            print_notice(
                &format!("launch {}", self.file.display()),
                &format!(
                    "cannot write {}: {error}. Other ranks log into folders of their own; set LOGCORE_RUN_ID for all \
                     of them",
                    self.file.display()
                ),
            );
        }
    }

    /// Makes the folder of the file. A link in its place would lead out of the `log_dir`.
    fn make_folder(&self) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(&self.log_dir);
        fs::create_dir_all(folder)?;
        match folder.is_symlink() {
            true => Err(io::Error::other("its folder is a link")),
            false => Ok(()),
        }
    }

    /// Waits for the run of rank 0, at most for `rank_wait`; returns a folder of this rank's own
    /// after that.
    pub(super) fn follow(&self, config: &LogConfig) -> ChosenRun {
        let deadline = Deadline::after(Duration::try_from_secs_f64(config.rank_wait).unwrap_or_default());
        loop {
            if let Some(run) = self.read() {
                return run;
            }
            if deadline.has_passed() {
                break;
            }
            thread::sleep(LOOK_INTERVAL.min(deadline.remaining()));
        }
        let rank = Ranks::from_config(config).rank;
        let id = folder::new_id();
        let dir = config
            .log_dir
            .join(format!("{}-rank{rank}", folder::new_name(&config.name, &id)));
        print_notice(
            &format!("run of rank 0 in {}", self.log_dir.display()),
            &format!(
                "rank 0 has made no run within {} s: rank {rank} goes on in {}. Set LOGCORE_RUN_ID for all ranks, or a \
                 longer `rank_wait`",
                config.rank_wait,
                dir.display()
            ),
        );
        ChosenRun::new(id, dir)
    }

    /// Returns the run of rank 0. A run of an earlier launch, whose rank 0 has ended, does not
    /// count.
    fn read(&self) -> Option<ChosenRun> {
        let text = files::read_no_follow(&self.file, MAX_BYTES).ok()?;
        let published: PublishedRun = serde_json::from_slice(&text).ok()?;
        let dir = self.log_dir.join(published.folder);
        // A user who can write the file must not lead this rank elsewhere.
        let is_beneath = dir.parent() == Some(&self.log_dir) && dir.file_name().is_some();
        if !is_beneath && Some(&dir) != self.resumed.as_ref() {
            return None;
        }
        let run = follow_in(dir)?;
        let is_same = run.id == published.id && attempt_after(&run.earlier.manifest) == published.attempt;
        is_same.then_some(run)
    }
}

/// Returns the run in a folder that all ranks know without rank 0, for a rank above 0: with
/// `run_id` or without folders. Rank 0 may come before or after this rank.
pub(super) fn follow_known(config: &LogConfig, choice: &RunChoice) -> ChosenRun {
    let dir = match (choice.run.as_str(), &choice.run_id) {
        (FLAT, _) => config.log_dir.clone(),
        (AUTO, Some(id)) => config.log_dir.join(folder::name_with_id(&config.name, id)),
        (name, _) => config.log_dir.join(name),
    };
    let resumes = choice.run != FLAT || choice.resume.is_some();
    match (follow_in(dir.clone()), RunManifest::read(&dir)) {
        (Some(run), _) => run,
        // Rank 0 will go on with this run.
        (None, Ok(manifest)) if resumes => ChosenRun {
            id: manifest.id.clone(),
            dir,
            earlier: EarlierRun { manifest, lock: None },
        },
        _ => ChosenRun::new(choice.run_id.clone().unwrap_or_else(folder::new_id), dir),
    }
}

/// Returns the run in a folder if its rank 0 lives, as rank 0 found the run.
fn follow_in(dir: PathBuf) -> Option<ChosenRun> {
    if !dir.symlink_metadata().ok()?.is_dir() {
        return None;
    }
    let mut manifest = RunManifest::read(&dir).ok()?;
    if manifest.read_state(&dir) != RunState::Running {
        return None;
    }
    // The newest attempt is the one that this rank takes part in.
    manifest.attempts.pop();
    Some(ChosenRun {
        id: manifest.id.clone(),
        dir,
        earlier: EarlierRun { manifest, lock: None },
    })
}

/// Variables that are the same for all ranks of a launch, and together unlike those of any other
/// launch that may run at the same time.
const LAUNCH_FACTS: [&str; 10] = [
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "PMIX_NAMESPACE",
    "OMPI_MCA_ess_base_jobid",
    "PMI_JOBID",
    "MASTER_ADDR",
    "MASTER_PORT",
];

/// Time between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Most bytes of the file.
const MAX_BYTES: u64 = 64 << 10;

/// The hash FNV-1a, which is the same on every machine and in every version.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, text: &str) {
        // A byte that is in no text separates the texts.
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(log_dir: &Path, number: u32, port: &str) -> Launch {
        Launch::new(log_dir, 8, number, |name| {
            (name == "MASTER_PORT").then(|| port.to_owned())
        })
    }

    #[test]
    fn the_ranks_of_one_launch_meet_at_one_file() {
        let log_dir = Path::new("/logs");
        let file = launch(log_dir, 0, "29500").file;
        assert_eq!(file, launch(log_dir, 0, "29500").file);
        for other in [launch(log_dir, 1, "29500"), launch(log_dir, 0, "29501")] {
            assert_ne!(file, other.file);
        }
        assert!(file.starts_with("/logs/.logcore"));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_published_or_removed_through_a_link() {
        let (log_dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), log_dir.path().join(".logcore")).unwrap();
        let launch = launch(log_dir.path(), 0, "29500");
        launch.publish(&RunInfo::new("k3v9q2ab", "trainer", log_dir.path().join("run"), 1));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        fs::write(&launch.file, "precious").unwrap();
        launch.withdraw();
        assert!(launch.file.exists());
    }

    #[test]
    fn only_the_live_run_that_was_published_is_followed() {
        let log_dir = tempfile::tempdir().unwrap();
        let dir = log_dir.path().join("trainer-k3v9");
        fs::create_dir(&dir).unwrap();
        let launch = launch(log_dir.path(), 0, "29500");
        let config = LogConfig {
            log_dir: log_dir.path().to_owned(),
            rank: Some(3),
            world_size: Some(8),
            rank_wait: 0.0,
            ..LogConfig::default()
        };
        let attempts = |count: usize| {
            let mut manifest = RunManifest::default();
            (manifest.id, manifest.state) = ("k3v9q2ab".to_owned(), RunState::Running);
            manifest.facts.host = logcore::RunFacts::own_host().unwrap_or_default();
            manifest.attempts.resize_with(count, Default::default);
            manifest.write(&dir).unwrap();
        };
        attempts(1);
        launch.publish(&RunInfo::new("k3v9q2ab", "trainer", &dir, 1));
        assert!(launch.read().is_none(), "rank 0 does not live");
        let own = launch.follow(&config);
        assert!(own.dir.to_string_lossy().ends_with("-rank3"), "{}", own.dir.display());

        let lock = fs::File::create(dir.join(RunManifest::LOCK)).unwrap();
        lock.lock().unwrap();
        let run = launch.follow(&config);
        assert_eq!((run.id.as_str(), &run.dir), ("k3v9q2ab", &dir));
        assert_eq!(attempt_after(&run.earlier.manifest), 1);
        attempts(2);
        assert!(
            launch.read().is_none(),
            "rank 0 goes on with the run in a launch of its own"
        );
        launch.publish(&RunInfo::new("k3v9q2ab", "trainer", &dir, 2));
        assert_eq!(attempt_after(&launch.read().unwrap().earlier.manifest), 2);
        launch.withdraw();
        assert!(launch.read().is_none());
    }
}
