//! The agreement to stop: all ranks of a run stop at one step.
//!
//! The first rank with a reason chooses a step that no rank has reached, and makes
//! `ranks/stop-<attempt>.json` in the folder of the run; the others look for the file once a
//! second. In synchronous training, a rank that stopped at once would leave the others waiting in
//! their next collective.
//!
//! # Limits
//!
//! This is best effort. The step is [three seconds](agreed_step) away; a rank that sees the file
//! later than that is past the step, and stops at once: such as a rank whose thread
//! `logcore-health` waits for a slow server. On NFS, each look opens the folder anew, which asks
//! the server whether the folder has changed; with `nocto` or `lookupcache=all` on other systems, a
//! look may be late by the time of the attribute cache. A program that must be certain reduces the
//! flag over all ranks.
//!
//! Ranks that are not in lock step may be far from the step of the fastest. If the job is about to
//! be killed, one that [would come too late](StopAgreement::is_too_far) stops at its own step.
//! Otherwise it goes on to the agreed one, however long that takes: ranks that meet every hundred
//! steps would wait there for a rank that has stopped.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use logcore::StopReason;
use logcore::files::{Folder, LimitedFile, random_suffix};
use serde::{Deserialize, Serialize};

use crate::RANKS_FOLDER;
use crate::slot::RankState;

/// Most bytes of the file.
const MAX_BYTES: u64 = 4 << 10;

/// Most bytes of the name of a rule or a signal in the file.
const MAX_NAME: usize = 256;

/// Time within which the other ranks see the file: they look once a second, and their slots may be
/// a second old.
const LEAD_SECONDS: f64 = 3.0;

/// Ranks in lock step learn of the agreement at most so many steps before the agreed one, or so
/// many seconds: the pace may be wrong by a factor of two, and more than three steps are within
/// three seconds then.
const FAR_STEPS: u64 = 10;
const FAR_SECONDS: f64 = 30.0;

/// Longest wait for a rank that has begun the file and not ended it, which happens only on file
/// systems without hard links.
const WINNER_WITHIN: Duration = Duration::from_secs(1);

/// The agreement of the ranks of a run to stop: where, and why.
///
/// ```
/// use logcore::StopReason;
/// use logcore_health::agreement::{StopAgreement, propose, read};
///
/// let run = tempfile::tempdir()?;
/// assert_eq!(read(run.path(), 1)?, None);
/// let own = StopAgreement::new(3, Some(130), StopReason::Signal("SIGTERM".into()));
/// assert_eq!(propose(run.path(), 1, &own)?, own);
///
/// // The first proposal wins.
/// let late = StopAgreement::new(5, Some(999), StopReason::File);
/// assert_eq!(propose(run.path(), 1, &late)?, own);
/// assert_eq!(read(run.path(), 1)?, Some(own));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopAgreement {
    /// Step at which all ranks stop; `None` if no rank had a step, so that each stops at once.
    pub step: Option<u64>,
    /// The reason of the rank that was first.
    pub reason: StopReason,
    /// The rank that was first.
    pub rank: u32,
}

impl StopAgreement {
    /// Creates the proposal of a rank.
    #[must_use]
    pub fn new(rank: u32, step: Option<u64>, reason: StopReason) -> Self {
        Self { step, reason, rank }
    }

    /// Returns `true` if a rank that is at `step` is to stop: it has reached the agreed step, or
    /// one of the two is unknown.
    ///
    /// ```
    /// use logcore_health::agreement::StopAgreement;
    ///
    /// let agreement = StopAgreement::new(0, Some(130), logcore::StopReason::File);
    /// assert!(!agreement.is_due(Some(129)) && agreement.is_due(Some(130)));
    /// assert!(agreement.is_due(None) && !agreement.can_keep(None));
    /// ```
    #[must_use]
    pub fn is_due(&self, step: Option<u64>) -> bool {
        !matches!((self.step, step), (Some(agreed), Some(step)) if step < agreed)
    }

    /// Returns `true` if a rank that learns of the agreement at `step` can stop where the others
    /// do. Otherwise the rank stops at once, and an event says that this was not agreed.
    ///
    /// ```
    /// use logcore_health::agreement::StopAgreement;
    ///
    /// let agreement = StopAgreement::new(0, Some(130), logcore::StopReason::File);
    /// assert!(agreement.can_keep(Some(130)) && !agreement.can_keep(Some(131)));
    /// ```
    #[must_use]
    pub fn can_keep(&self, step: Option<u64>) -> bool {
        matches!((self.step, step), (Some(agreed), Some(step)) if step <= agreed)
    }

    /// Returns `true` if the job may be killed before a rank that is at `step` and makes `pace`
    /// steps a second reaches the agreed step: the reason is a signal or the end of the job, and
    /// the rank needs more time than `grace`. Ranks in lock step are never too far: only more than
    /// ten steps and more than 30 seconds count.
    ///
    /// ```
    /// use std::time::Duration;
    /// use logcore::StopReason;
    /// use logcore_health::agreement::StopAgreement;
    ///
    /// let mut agreement = StopAgreement::new(0, Some(1000), StopReason::Deadline);
    /// let grace = Duration::from_secs(60);
    /// assert!(agreement.is_too_far(Some(100), 1.0, grace));
    /// assert!(!agreement.is_too_far(Some(100), 20.0, grace));
    /// assert!(!agreement.is_too_far(Some(995), 0.01, grace));
    /// agreement.reason = StopReason::File;
    /// assert!(!agreement.is_too_far(Some(100), 1.0, grace));
    /// ```
    #[must_use]
    pub fn is_too_far(&self, step: Option<u64>, pace: f32, grace: Duration) -> bool {
        let has_end = matches!(self.reason, StopReason::Signal(_) | StopReason::Deadline);
        let (Some(agreed), Some(step)) = (self.step, step) else {
            return false;
        };
        let steps = agreed.saturating_sub(step);
        let seconds = steps as f64 / f64::from(pace);
        has_end && pace > 0.0 && steps > FAR_STEPS && seconds > grace.as_secs_f64().max(FAR_SECONDS)
    }
}

/// Proposes to stop, and returns what the ranks agree on: this proposal, or an earlier one.
///
/// The file is written under a random name and then linked: of several ranks just one succeeds, and
/// nobody sees part of the file. A rank that is killed between the two leaves a file that nobody
/// reads. Where the file system has no hard links (vfat, some of FUSE), the file is made under its
/// final name; there a rank that is killed in the middle of this one write leaves a file that keeps
/// the attempt from an agreement. Names of rules are cut to 256 bytes, without control characters.
///
/// # Errors
///
/// If the file cannot be made, or those of [`read`]. An earlier proposal that is not complete
/// within a second is [`io::ErrorKind::TimedOut`]. This rank then stops alone.
pub fn propose(run_dir: &Path, attempt: u32, proposal: &StopAgreement) -> io::Result<StopAgreement> {
    propose_with(run_dir, attempt, proposal, Folder::link)
}

/// Reads what the ranks agreed on; `None` if there is no agreement to stop.
///
/// A file that is being written, on a file system without hard links, is none yet.
///
/// # Errors
///
/// If the file cannot be read, is a link, a pipe or a device, has more than 4 KiB, or does not hold
/// an agreement of this attempt with a known reason.
pub fn read(run_dir: &Path, attempt: u32) -> io::Result<Option<StopAgreement>> {
    let bytes = Folder::open(run_dir)?
        // Opened anew each time: NFS then asks the server for what is new in the folder.
        .folder(Path::new(RANKS_FOLDER))
        .and_then(|ranks| ranks.read(&file_name(attempt), MAX_BYTES));
    match bytes {
        Ok(bytes) if bytes.ends_with(b"\n") => parse(&bytes, attempt).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the step at which all ranks can stop: the highest of any slot, plus the steps of the
/// fastest rank in three seconds, plus one. `None` if no slot has a step.
///
/// The slots are those of the attempt, with the caller's own brought up to date.
///
/// ```
/// use logcore_health::agreement::agreed_step;
/// use logcore_health::slot::RankState;
///
/// let mut slots = [RankState::new(0, 1), RankState::new(1, 1)];
/// assert_eq!(agreed_step(&slots), None);
/// (slots[0].step, slots[0].pace) = (Some(100), 2.5);
/// slots[1].step = Some(101);
/// assert_eq!(agreed_step(&slots), Some(101 + 8 + 1));
/// ```
#[must_use]
pub fn agreed_step(slots: &[RankState]) -> Option<u64> {
    let highest = slots.iter().filter_map(|slot| slot.step).max()?;
    let pace = slots.iter().map(|slot| slot.pace).fold(0.0, f32::max);
    let lead = (f64::from(pace) * LEAD_SECONDS).ceil() as u64;
    Some(highest.saturating_add(lead).saturating_add(1))
}

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct StoredAgreement {
    attempt: u32,
    step: Option<u64>,
    reason: StoredReason,
    /// Name of the rule or the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    rank: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredReason {
    Button,
    File,
    Rule,
    Deadline,
    Signal,
}

/// A way to give a file a second name, which fails if the name is taken.
type Link = fn(&Folder, &Path, &Folder, &Path) -> io::Result<()>;

fn propose_with(run_dir: &Path, attempt: u32, proposal: &StopAgreement, link: Link) -> io::Result<StopAgreement> {
    if let Some(earlier) = read(run_dir, attempt)? {
        return Ok(earlier);
    }
    let content = format(attempt, proposal)?;
    let run = Folder::open(run_dir)?;
    run.create_dir_all(Path::new(RANKS_FOLDER))?;
    let ranks = run.folder(Path::new(RANKS_FOLDER))?;
    match make(&ranks, &file_name(attempt), &content, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Even the winner reads: a server of NFS may say that the name is taken by this very file.
        _ => wait_for_winner(run_dir, attempt),
    }
}

/// Makes the file with its whole content, unless there is one.
fn make(ranks: &Folder, name: &Path, content: &[u8], link: Link) -> io::Result<()> {
    let temporary = PathBuf::from(format!(".logcore-{}.tmp", random_suffix()));
    write_new(ranks, &temporary, content)?;
    let linked = link(ranks, &temporary, ranks, name);
    let _ = ranks.remove_file(&temporary);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // Whatever the error is: file systems without links give several.
            write_new(ranks, name, content)
        }
        linked => linked,
    }
}

/// Creates a file with this content. The file is closed at the end, so that other hosts see the
/// content as soon as they see the name.
fn write_new(ranks: &Folder, name: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = ranks.create_new(name)?;
    let written = LimitedFile::new(&mut file).write_all(content);
    if written.is_err() {
        let _ = ranks.remove_file(name);
    }
    written
}

fn wait_for_winner(run_dir: &Path, attempt: u32) -> io::Result<StopAgreement> {
    let start = Instant::now();
    loop {
        if let Some(winner) = read(run_dir, attempt)? {
            return Ok(winner);
        }
        if start.elapsed() >= WINNER_WITHIN {
            let text = "another rank began the agreement to stop and did not end it";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        sleep(Duration::from_millis(10));
    }
}

fn file_name(attempt: u32) -> PathBuf {
    format!("stop-{attempt}.json").into()
}

fn format(attempt: u32, proposal: &StopAgreement) -> io::Result<Vec<u8>> {
    let (reason, name) = match &proposal.reason {
        StopReason::Button => (StoredReason::Button, None),
        StopReason::File => (StoredReason::File, None),
        StopReason::Deadline => (StoredReason::Deadline, None),
        StopReason::Rule(name) => (StoredReason::Rule, Some(name)),
        StopReason::Signal(name) => (StoredReason::Signal, Some(name)),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the reason to stop has no name",
            ));
        }
    };
    let stored = StoredAgreement {
        attempt,
        step: proposal.step,
        reason,
        name: name.map(|name| clean_name(name)),
        rank: proposal.rank,
    };
    let mut content = serde_json::to_vec(&stored)?;
    content.push(b'\n');
    Ok(content)
}

fn parse(bytes: &[u8], attempt: u32) -> io::Result<StopAgreement> {
    let refuse = |cause: &str| io::Error::new(io::ErrorKind::InvalidData, cause);
    let stored: StoredAgreement = serde_json::from_slice(bytes)?;
    if stored.attempt != attempt {
        return Err(refuse("the agreement is of another attempt"));
    }
    if stored.name.as_ref().is_some_and(|name| *name != clean_name(name)) {
        return Err(refuse("the name of the reason is none"));
    }
    let reason = match (stored.reason, stored.name) {
        (StoredReason::Button, None) => StopReason::Button,
        (StoredReason::File, None) => StopReason::File,
        (StoredReason::Deadline, None) => StopReason::Deadline,
        (StoredReason::Rule, Some(name)) => StopReason::Rule(name),
        (StoredReason::Signal, Some(name)) => StopReason::Signal(name),
        _ => return Err(refuse("the reason and its name do not fit")),
    };
    Ok(StopAgreement::new(stored.rank, stored.step, reason))
}

/// Returns a name that readers accept: not empty, of at most 256 bytes, without control characters.
fn clean_name(name: &str) -> String {
    let mut clean = String::new();
    for character in name.chars().filter(|character| !character.is_control()) {
        if clean.len() + character.len_utf8() > MAX_NAME {
            break;
        }
        clean.push(character);
    }
    match clean.is_empty() {
        true => "?".to_owned(),
        false => clean,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Barrier;

    use proptest::prelude::*;

    use super::*;

    const LINKS: [Link; 2] = [Folder::link, refuse_links];

    /// A file system without hard links, such as vfat.
    fn refuse_links(_: &Folder, _: &Path, _: &Folder, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn proposal(rank: u32) -> StopAgreement {
        StopAgreement::new(
            rank,
            Some(100 + u64::from(rank)),
            StopReason::Rule(format!("rule {rank}")),
        )
    }

    fn stop_file(run: &Path, content: &[u8]) {
        fs::create_dir_all(run.join("ranks")).unwrap();
        fs::write(run.join("ranks/stop-1.json"), content).unwrap();
    }

    #[test]
    fn all_ranks_that_propose_at_once_agree() {
        for (ranks, link) in [8, 64].into_iter().flat_map(|ranks| LINKS.map(|link| (ranks, link))) {
            for _ in 0..10 {
                let run = tempfile::tempdir().unwrap();
                let barrier = Barrier::new(ranks as usize);
                let agreed: Vec<StopAgreement> = std::thread::scope(|scope| {
                    let handles: Vec<_> = (0..ranks)
                        .map(|rank| {
                            let (run, barrier) = (run.path(), &barrier);
                            scope.spawn(move || {
                                barrier.wait();
                                propose_with(run, 1, &proposal(rank), link).unwrap()
                            })
                        })
                        .collect();
                    handles.into_iter().map(|handle| handle.join().unwrap()).collect()
                });
                assert_eq!(agreed[0], proposal(agreed[0].rank));
                assert!(agreed.iter().all(|one| *one == agreed[0]));
                assert_eq!(read(run.path(), 1).unwrap().as_ref(), agreed.first());
                // No temporary file stays.
                assert_eq!(fs::read_dir(run.path().join("ranks")).unwrap().count(), 1);
            }
        }
    }

    #[test]
    fn each_attempt_has_an_agreement_of_its_own() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(propose(run.path(), 1, &proposal(1)).unwrap(), proposal(1));
        assert_eq!(read(run.path(), 2).unwrap(), None);
        assert_eq!(propose(run.path(), 2, &proposal(2)).unwrap(), proposal(2));
    }

    #[test]
    fn what_a_killed_rank_left_changes_nothing() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("ranks")).unwrap();
        fs::write(run.path().join("ranks/.logcore-0123456789abcdef.tmp"), "{\"atte").unwrap();
        assert_eq!(propose(run.path(), 1, &proposal(4)).unwrap(), proposal(4));
    }

    #[test]
    fn a_file_that_is_being_written_is_awaited_for_a_second() {
        let run = tempfile::tempdir().unwrap();
        stop_file(run.path(), b"{\"attempt\":1,");
        assert_eq!(read(run.path(), 1).unwrap(), None);
        let error = propose(run.path(), 1, &proposal(4)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        std::thread::scope(|scope| {
            let loser = scope.spawn(|| propose(run.path(), 1, &proposal(4)).unwrap());
            stop_file(run.path(), &format(1, &proposal(2)).unwrap());
            assert_eq!(loser.join().unwrap(), proposal(2));
        });
    }

    #[test]
    fn every_reason_is_read_back() {
        let reasons = [
            StopReason::Button,
            StopReason::File,
            StopReason::Deadline,
            StopReason::Rule("loss spike".into()),
            StopReason::Signal("SIGUSR1".into()),
        ];
        for reason in reasons {
            for step in [None, Some(0), Some(u64::MAX)] {
                let run = tempfile::tempdir().unwrap();
                let own = StopAgreement::new(u32::MAX, step, reason.clone());
                assert_eq!(propose(run.path(), 1, &own).unwrap(), own);
            }
        }
    }

    #[test]
    fn hostile_content_is_an_error() {
        let good = r#"{"attempt":1,"step":5,"reason":"signal","name":"SIGTERM","rank":2}"#;
        let bad = [
            "null".to_owned(),
            "[".repeat(4000),
            good.replace("\"attempt\":1", "\"attempt\":2"),
            good.replace("\"step\":5", "\"step\":-5"),
            good.replace("\"step\":5", "\"step\":5.5"),
            good.replace("\"step\":5", "\"step\":18446744073709551616"),
            good.replace("signal", "weather"),
            good.replace("signal", "button"),
            good.replace("SIGTERM", ""),
            good.replace("SIGTERM", "\\u001b[31m"),
            good.replace("SIGTERM", &"x".repeat(MAX_NAME + 1)),
            good.replace("\"rank\":2", "\"rank\":4294967296"),
            good.to_owned() + &" ".repeat(MAX_BYTES as usize),
        ];
        let run = tempfile::tempdir().unwrap();
        for content in bad {
            stop_file(run.path(), (content.clone() + "\n").as_bytes());
            assert!(read(run.path(), 1).is_err(), "{content}");
            assert!(propose(run.path(), 1, &proposal(0)).is_err(), "{content}");
        }
        stop_file(run.path(), good.as_bytes());
        assert_eq!(read(run.path(), 1).unwrap(), None);
        // A later version may say more.
        stop_file(run.path(), (good.replace('}', ",\"more\":[1]}") + "\n").as_bytes());
        assert_eq!(read(run.path(), 1).unwrap().unwrap().step, Some(5));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_folders_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        let run = outside.path().join("run");
        fs::create_dir_all(run.join("ranks")).unwrap();
        let precious = outside.path().join("precious");
        fs::write(&precious, format(1, &proposal(0)).unwrap()).unwrap();
        std::os::unix::fs::symlink(&precious, run.join("ranks/stop-1.json")).unwrap();
        assert!(read(&run, 1).is_err() && propose(&run, 1, &proposal(0)).is_err());
        // A link to nothing leads nowhere, either.
        std::os::unix::fs::symlink(outside.path().join("new"), run.join("ranks/stop-2.json")).unwrap();
        for link in LINKS {
            assert!(propose_with(&run, 2, &proposal(0), link).is_err());
        }
        assert!(!outside.path().join("new").exists());
        fs::create_dir(run.join("ranks/stop-3.json")).unwrap();
        assert!(propose(&run, 3, &proposal(0)).is_err());
    }

    #[test]
    fn absurd_slots_give_a_step_within_bounds() {
        let mut slot = RankState::new(0, 1);
        (slot.step, slot.pace) = (Some(u64::MAX - 1), 1e6);
        assert_eq!(agreed_step(&[slot]), Some(u64::MAX));
        (slot.step, slot.pace) = (Some(7), f32::NAN);
        assert_eq!(agreed_step(&[slot]), Some(8));
        assert_eq!(agreed_step(&[]), None);
    }

    proptest! {
        #[test]
        fn a_proposal_with_any_name_is_read_back(name in any::<String>(), step in any::<Option<u64>>()) {
            let run = tempfile::tempdir().unwrap();
            let own = StopAgreement::new(1, step, StopReason::Rule(name.clone()));
            let agreed = propose(run.path(), 1, &own).unwrap();
            prop_assert_eq!(agreed.step, step);
            let StopReason::Rule(kept) = agreed.reason else { panic!("another reason") };
            prop_assert_eq!(kept, clean_name(&name));
        }

        #[test]
        fn a_rank_that_learns_in_time_stops_at_the_agreed_step(agreed in 1..1000_u64, now in 0..1000_u64) {
            let agreement = StopAgreement::new(0, Some(agreed), StopReason::Deadline);
            let stops_at = (now..).find(|step| agreement.is_due(Some(*step))).unwrap();
            prop_assert_eq!(stops_at == agreed, agreement.can_keep(Some(now)));
            prop_assert_eq!(stops_at, agreed.max(now));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let run = tempfile::tempdir().unwrap();
            stop_file(run.path(), &[&bytes[..], b"\n"].concat());
            prop_assert!(read(run.path(), 1).is_err());
        }
    }
}
