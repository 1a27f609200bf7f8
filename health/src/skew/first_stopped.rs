//! The rank that stopped first.

use std::time::Duration;

use super::is_later;
use crate::slot::{RankPhase, RankState};

/// Ranks that are no more steps apart wait for each other. More than one, because the calls of
/// a program may run ahead of its accelerator.
const LOCK_STEP: u64 = 3;

/// Time by which clocks of hosts may differ, and slots be late, when moments of two ranks are
/// compared.
const CLOCKS: Duration = Duration::from_secs(5);

/// Age of a slot, beside the newest, after which its process is taken for dead or stopped.
/// Attribute caches of NFS make no slot as old.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// Returns the rank that stopped first in a run in which nothing moves, or `None` if this cannot be
/// known. Ranks in phases in which no steps go on are left out, and so are ranks without a step if
/// others have one: not every rank may report its progress.
///
/// The clues, the surest first; a later one decides among the ranks that the earlier ones leave:
///
/// 1. A process that is dead or stopped: its slot ends about when the last rank moved, and more
///    than a minute before the newest slot.
/// 2. Of ranks in lock step, no more than three steps apart, the one at the lowest step: the others
///    wait for it.
/// 3. Of ranks at one step, the only one that waits for data: the others are past that.
/// 4. The rank that has not moved for longest, by its own clock and by that of this host, if all
///    others moved more than five seconds and two steps later.
/// 5. Of three ranks or more at one step, the only one that waits for something else in the kernel
///    ([`RankState::wait`]), while all others wait for the same.
///
/// ```
/// use logcore_health::skew::first_stopped;
/// use logcore_health::slot::{RankPhase, RankState};
///
/// let mut slots = [0, 1, 2].map(|rank| RankState::new(rank, 1));
/// for slot in &mut slots {
///     (slot.step, slot.phase) = (Some(130), RankPhase::Step);
/// }
/// assert_eq!(first_stopped(&slots), None);
/// slots[1].step = Some(129);
/// assert_eq!(first_stopped(&slots).unwrap().rank, 1);
/// ```
#[must_use]
pub fn first_stopped(slots: &[RankState]) -> Option<&RankState> {
    let mut suspects: Vec<&RankState> = slots
        .iter()
        .filter(|slot| slot.phase.is_moving() || slot.phase == RankPhase::Startup)
        .collect();
    keep(&mut suspects, |suspect, _| suspect.step.is_some());
    if suspects.len() < 2 {
        return None;
    }
    let newest = slots.iter().map(|slot| slot.time).max();
    let last_moved = suspects.iter().map(|suspect| suspect.moved).max();
    keep(&mut suspects, |suspect, _| {
        // A process that died long after the run had stopped is not the one that stopped the run.
        let died_at_the_end = !is_later(suspect.time, last_moved, margin_of(suspect));
        died_at_the_end && newest.is_some_and(|newest| is_later(newest, Some(suspect.time), DEAD_AFTER))
    });
    let lowest = suspects.iter().filter_map(|suspect| suspect.step).min();
    let highest = suspects.iter().filter_map(|suspect| suspect.step).max();
    let apart = highest.unwrap_or_default() - lowest.unwrap_or_default();
    if apart <= LOCK_STEP {
        keep(&mut suspects, |suspect, _| suspect.step == lowest);
        keep(&mut suspects, is_only_reader);
    }
    keep(&mut suspects, stands_longest);
    if apart <= LOCK_STEP {
        keep(&mut suspects, waits_alone);
    }
    match suspects[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// Keeps the suspects that have a clue against them; all, if none has.
fn keep(suspects: &mut Vec<&RankState>, has_clue: impl Fn(&RankState, &[&RankState]) -> bool) {
    let all = suspects.clone();
    suspects.retain(|suspect| has_clue(suspect, &all));
    if suspects.is_empty() {
        *suspects = all;
    }
}

fn is_only_reader(suspect: &RankState, suspects: &[&RankState]) -> bool {
    let reads = |suspect: &RankState| suspect.phase == RankPhase::Data;
    reads(suspect) && suspects.iter().filter(|suspect| reads(suspect)).count() == 1
}

fn stands_longest(suspect: &RankState, suspects: &[&RankState]) -> bool {
    let margin = margin_of(suspect);
    // Before the first step, the moment is that of the start, which differs by nature.
    suspect.step.is_some()
        && suspects.iter().all(|other| {
            let is_longer = quiet_of(suspect) > quiet_of(other).saturating_add(margin);
            other.rank == suspect.rank || (is_longer && is_later(other.moved, Some(suspect.moved), margin))
        })
}

fn waits_alone(suspect: &RankState, suspects: &[&RankState]) -> bool {
    let mut others = suspects
        .iter()
        .filter(|other| other.rank != suspect.rank)
        .map(|other| other.wait);
    let Some(usual) = others.next() else { return false };
    let is_known = suspect.wait != 0 && usual != 0;
    is_known && suspects.len() > 2 && usual != suspect.wait && others.all(|wait| wait == usual)
}

/// Returns the time without a movement by the rank's own clock.
fn quiet_of(slot: &RankState) -> Duration {
    slot.time.duration_since(slot.moved).unwrap_or_default()
}

/// Returns the time by which moments of two ranks differ by chance.
fn margin_of(slot: &RankState) -> Duration {
    let steps = Duration::try_from_secs_f32(slot.step_seconds * 2.0).unwrap_or(Duration::MAX);
    steps.saturating_add(CLOCKS)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    /// Returns the slots of ranks that stand in lock step since ten minutes.
    fn standing(ranks: u32) -> Vec<RankState> {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let stand = |rank| RankState {
            step: Some(130),
            time: now,
            moved: now - Duration::from_secs(600),
            step_seconds: 0.5,
            phase: RankPhase::Step,
            wait: 7,
            ..RankState::new(rank, 1)
        };
        (0..ranks).map(stand).collect()
    }

    fn first_rank(slots: &[RankState]) -> Option<u32> {
        first_stopped(slots).map(|slot| slot.rank)
    }

    #[test]
    fn ranks_that_stand_alike_leave_the_first_unknown() {
        assert_eq!(first_rank(&[]), None);
        for ranks in [1, 2, 8] {
            assert_eq!(first_rank(&standing(ranks)), None);
        }
        // Clocks of hosts differ; a rank may be at the same step in other ways.
        let mut slots = standing(8);
        slots[3].moved += Duration::from_secs(4);
        for slot in &mut slots[4..] {
            (slot.time, slot.moved) = (
                slot.time - Duration::from_secs(50),
                slot.moved - Duration::from_secs(50),
            );
        }
        slots[4].time += Duration::from_secs(3);
        assert_eq!(first_rank(&slots), None);
        slots.truncate(5);
        assert_eq!(first_rank(&slots), None, "the clock of a host with one rank");
    }

    #[test]
    fn the_lowest_step_tells_the_first_in_lock_step() {
        let mut slots = standing(8);
        slots[5].step = Some(129);
        assert_eq!(first_rank(&slots), Some(5));
        // The others are in several phases, and one is far ahead because nobody waits for it.
        (slots[0].phase, slots[1].phase) = (RankPhase::Checkpoint, RankPhase::Data);
        assert_eq!(first_rank(&slots), Some(5));
        slots[2].step = Some(129);
        assert_eq!(first_rank(&slots), None, "two are at the lowest step");
        slots[2].phase = RankPhase::Data;
        assert_eq!(first_rank(&slots), Some(2));
    }

    #[test]
    fn the_only_rank_that_waits_for_data_is_the_first() {
        let mut slots = standing(3);
        slots[1].phase = RankPhase::Data;
        assert_eq!(first_rank(&slots), Some(1));
        slots[2].phase = RankPhase::Data;
        assert_eq!(first_rank(&slots), None);
    }

    #[test]
    fn a_dead_process_is_the_first_if_it_died_when_the_run_stopped() {
        let mut slots = standing(8);
        slots[6].time = slots[6].moved + Duration::from_secs(2);
        assert_eq!(first_rank(&slots), Some(6));
        // Nobody waits for a process that was killed minutes later.
        slots[6].time = slots[6].moved + Duration::from_secs(300);
        assert_eq!(first_rank(&slots), None);
        // A whole host is gone.
        for slot in &mut slots[4..] {
            slot.time = slot.moved + Duration::from_secs(2);
        }
        assert_eq!(first_rank(&slots), None);
    }

    #[test]
    fn the_last_movement_tells_the_first_where_nobody_waits() {
        let mut slots = standing(4);
        for (slot, step) in slots.iter_mut().zip([900, 1000, 1400, 1200]) {
            slot.step = Some(step);
        }
        assert_eq!(first_rank(&slots), None);
        slots[3].moved -= Duration::from_secs(7);
        assert_eq!(first_rank(&slots), Some(3));
        slots[3].step_seconds = 1.5;
        assert_eq!(first_rank(&slots), None, "within two steps");
    }

    #[test]
    fn the_only_other_wait_tells_the_first() {
        let mut slots = standing(8);
        slots[2].wait = 9;
        assert_eq!(first_rank(&slots), Some(2));
        slots[3].wait = 0;
        assert_eq!(first_rank(&slots), None, "one wait is unknown");
        slots[3].wait = 8;
        assert_eq!(first_rank(&slots), None, "three waits");
        let mut pair = standing(2);
        pair[0].wait = 9;
        assert_eq!(first_rank(&pair), None, "which of two is the other");
        let mut startup = standing(3);
        for slot in &mut startup {
            (slot.step, slot.phase) = (None, RankPhase::Startup);
        }
        startup[0].moved -= Duration::from_secs(60);
        assert_eq!(first_rank(&startup), None, "started earlier");
        startup[1].wait = 9;
        assert_eq!(first_rank(&startup), Some(1));
    }

    proptest! {
        #[test]
        fn the_order_of_the_slots_decides_nothing(
            numbers in proptest::collection::vec((0..5_u64, 0..8_u8, 0..3_u16, 0..700_u64, 0..90_u64), 0..9),
            turn in any::<prop::sample::Index>(),
        ) {
            let mut slots = standing(numbers.len() as u32);
            for (slot, (step, phase, wait, quiet, age)) in slots.iter_mut().zip(&numbers) {
                slot.step = step.checked_sub(1);
                slot.phase = RankPhase::ALL[usize::from(*phase)];
                slot.wait = *wait;
                slot.time -= Duration::from_secs(*age);
                slot.moved = slot.time - Duration::from_secs(*quiet);
            }
            let first = first_stopped(&slots).copied();
            if let Some(first) = first {
                prop_assert!(first.phase.is_moving() || first.phase == RankPhase::Startup);
            }
            if !slots.is_empty() {
                let by = turn.index(slots.len());
                slots.rotate_left(by);
            }
            prop_assert_eq!(first_stopped(&slots).copied(), first);
        }
    }
}
