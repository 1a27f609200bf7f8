//! Agreements and events of several processes, some of which are killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use logcore::{AlertLevel, FileRank, StopReason};
use logcore_health::agreement::{StopAgreement, propose, read};
use logcore_health::event::{Event, EventLog, HealthKind, read_events};
use logcore_health::slot::{RankState, SlotFolder};

/// Attempts at which a child proposes, one after the other.
const ATTEMPTS: u32 = 200;

/// Runs one of the tests below as a process of its own, as the rank `rank` of a run.
fn start(test: &str, run: &Path, rank: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("HEALTH_RUN", run)
        .env("HEALTH_RANK", rank.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns folder and rank in a process that [`start`] has started.
fn child() -> Option<(std::path::PathBuf, u32)> {
    let run = std::env::var_os("HEALTH_RUN")?;
    let rank = std::env::var("HEALTH_RANK").ok()?.parse().ok()?;
    Some((run.into(), rank))
}

#[test]
fn eight_processes_agree_on_one_step_of_each_attempt() {
    const NAME: &str = "eight_processes_agree_on_one_step_of_each_attempt";
    if let Some((run, rank)) = child() {
        for attempt in 1..=ATTEMPTS {
            let own = StopAgreement::new(rank, Some(1000 + u64::from(rank)), StopReason::Deadline);
            let agreed = propose(&run, attempt, &own).unwrap();
            let mut event = Event::new(HealthKind::Stop, AlertLevel::Info, "agreed");
            (event.rank, event.attempt, event.step) = (rank, attempt, agreed.step);
            EventLog::new(&run, FileRank(Some(rank))).append(&event).unwrap();
        }
        return;
    }
    let run = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..8).map(|rank| start(NAME, run.path(), rank)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let events = read_events(run.path());
    assert_eq!((events.events.len() as u32, events.bad_lines), (8 * ATTEMPTS, 0));
    for event in events.events {
        let agreed = read(run.path(), event.attempt).unwrap().unwrap();
        assert_eq!(
            event.step, agreed.step,
            "rank {} at attempt {}",
            event.rank, event.attempt
        );
    }
}

#[test]
fn a_killed_process_leaves_no_part_of_an_agreement_an_event_or_a_slot() {
    const NAME: &str = "a_killed_process_leaves_no_part_of_an_agreement_an_event_or_a_slot";
    if let Some((run, rank)) = child() {
        let (mut slots, mut log) = (SlotFolder::new(&run), EventLog::new(&run, FileRank(None)));
        // An end, lest a failing test leaves the process behind.
        for attempt in 1..100_000 {
            let own = StopAgreement::new(rank, Some(attempt.into()), StopReason::Rule("r".repeat(200)));
            let mut state = RankState::new(rank, 1);
            state.step = Some(attempt.into());
            slots.write(&state).unwrap();
            propose(&run, attempt, &own).unwrap();
            log.append(&Event::new(HealthKind::Stop, AlertLevel::Info, "x".repeat(200)))
                .unwrap();
        }
        return;
    }
    let mut agreements = 0;
    for kill_after in [10, 20, 30, 40, 50, 60, 70, 80] {
        let run = tempfile::tempdir().unwrap();
        let mut child = start(NAME, run.path(), 0);
        while read(run.path(), 3).unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(kill_after));
        child.kill().unwrap();
        child.wait().unwrap();

        let slot = SlotFolder::new(run.path()).read_all(1, 1)[0];
        let newest = (1..)
            .find(|attempt| read(run.path(), *attempt).unwrap().is_none())
            .unwrap()
            - 1;
        agreements += newest;
        assert!(slot.step == Some(newest.into()) || slot.step == Some((newest + 1).into()));
        let events = read_events(run.path());
        assert_eq!(events.bad_lines, 0);
        assert!(events.events.len() as u32 + 1 >= newest.min(10_000));
        // The name that the killed process was about to take is free.
        let next = StopAgreement::new(7, None, StopReason::File);
        assert_eq!(propose(run.path(), newest + 1, &next).unwrap(), next);
    }
    assert!(agreements > 100, "{agreements}");
}
