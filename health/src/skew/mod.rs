//! Ranks that are slower than the others, and the rank that stopped first.
//!
//! # Which slowness can be seen
//!
//! In synchronous training all ranks do the same number of steps in a second: the first
//! that is ready waits in the next collective for the last. So a rank that holds the others up is
//! not seen by its steps, but by what it does while the others wait:
//!
//! - A rank that **waits for data** spends a larger share of the step in the phase `data` than the
//!   median rank. Always seen, if the program has this phase (`logger.data` makes it).
//! - A rank that **computes longer** is seen if the program gives the collective a phase of its own
//!   whose name [says so](is_exchange), such as `phase("allreduce")`: the time of a step in the
//!   slot is then what the rank does itself, and the rank for which the others wait, which is the
//!   one with the least time in that phase, has the longest. Otherwise the time of a step includes
//!   the wait for the others, and is the same for all; nothing is said then. The times alone do not
//!   tell which phase waits: a rank that ends one phase early looks like a rank for which others
//!   wait.
//! - Ranks that do not wait for each other (asynchronous training, local steps) have times of their
//!   own, and both causes are seen.
//!
//! A rank with the largest wait for data is not certainly the one that all others wait for: another
//! rank may compute longer still, unseen. The wait itself is true.
//!
//! Of two middle ranks, the median is the faster: of two ranks, the slower one is compared with the
//! other. If most ranks are slow, none is slower than the median.

mod course;
mod first_stopped;
mod gauge;
mod look;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use self::course::Course;
pub use self::first_stopped::first_stopped;
pub use self::gauge::StepGauge;
use self::look::{Look, Pace, find_median};
use crate::slot::{RankPhase, RankState};

/// Parts of the names of phases in which ranks wait for each other.
const EXCHANGES: [&str; 9] = [
    "sync",
    "reduce",
    "gather",
    "scatter",
    "broadcast",
    "barrier",
    "collective",
    "exchange",
    "communication",
];

/// Returns `true` if the name of a phase says that ranks wait for each other there: if the name has
/// `sync`, `reduce`, `gather`, `scatter`, `broadcast`, `barrier`, `collective`, `exchange` or
/// `communication` in it, in any case, and not `async`.
///
/// ```
/// use logcore_health::skew::is_exchange;
///
/// assert!(["allreduce", "All-Gather", "grad_sync", "communication"].into_iter().all(is_exchange));
/// assert!(!["forward", "data", "async_save"].into_iter().any(is_exchange));
/// ```
#[must_use]
pub fn is_exchange(phase: &str) -> bool {
    let name = phase.to_lowercase();
    !name.contains("async") && EXCHANGES.iter().any(|part| name.contains(part))
}

/// Finds ranks that are slower than the median rank for 200 steps.
///
/// Each look takes the slots of all ranks, and is cheap: once a second is a good rhythm, and once
/// in ten seconds will do for a thousand ranks. The first 100 steps of a rank say nothing, and
/// nothing is judged while a rank is in a phase in which no steps go on, because the others may be
/// waiting for it. Slots that are [old](RankState::is_fresh) are passed over. If pauses are less
/// than about twenty looks apart, or slots are seen late by as long, a slow rank may stay untold.
///
/// ```
/// use std::time::Duration;
/// use logcore_health::skew::{SkewCause, SkewChange, SkewWatch};
/// use logcore_health::slot::{RankPhase, RankState};
///
/// let mut watch = SkewWatch::new();
/// let mut slots = [0, 1, 2].map(|rank| RankState::new(rank, 1));
/// let start = slots[0].time;
/// let mut told = Vec::new();
/// for second in 0..60 {
///     for slot in &mut slots {
///         slot.time = start + Duration::from_secs(second);
///         slot.step = Some(second * 10);
///         slot.step_seconds = 0.1;
///         slot.phase = RankPhase::Step;
///     }
///     slots[2].data_share = 0.5;
///     told.extend(watch.observe(&slots, slots[0].time));
/// }
/// let [SkewChange::Began(skew)] = &told[..] else { panic!("{told:?}") };
/// assert_eq!((skew.rank, skew.cause), (2, SkewCause::Data { share: 0.5 }));
/// assert_eq!(
///     skew.to_string(),
///     "rank 2 is slower than the others by a factor of 2.0 for 200 steps: \
///      it waits for data 50 % of the time"
/// );
/// ```
#[derive(Debug, Default)]
pub struct SkewWatch {
    ranks: BTreeMap<u32, Course>,
    /// `true` if the last look found a rank in a phase in which no steps go on.
    was_held_up: bool,
}

/// News of a rank; see [`SkewWatch::observe`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SkewChange {
    /// The rank has been slower than the median for 200 steps.
    Began(Skew),
    /// The rank is as fast as the others again. The value describes the whole episode.
    Ended(Skew),
}

/// A rank that is slower than the others, and why.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Skew {
    /// Number of the rank.
    pub rank: u32,
    /// How many times as long a step takes as that of the median rank, or as it would with the
    /// median's wait for data, whichever is more; the mean over these steps.
    pub factor: f32,
    /// Number of steps since the rank became slow.
    pub steps: u64,
    /// The cause.
    pub cause: SkewCause,
}

/// The cause of a [`Skew`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SkewCause {
    /// The rank waits for data.
    Data {
        /// Share of a step, from 0 to 1.
        share: f32,
    },
    /// The step itself takes longer.
    Step,
}

impl SkewWatch {
    /// Creates a watch that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the slots of all ranks at the time `now`, and returns what has changed. An episode
    /// is told once, and its end once. A rank that ends while it is slow ends its episode in
    /// silence.
    pub fn observe(&mut self, slots: &[RankState], now: SystemTime) -> Vec<SkewChange> {
        let mut judged = Vec::new();
        let mut is_held_up = false;
        for slot in slots {
            if slot.phase == RankPhase::Ended {
                self.ranks.remove(&slot.rank);
                continue;
            }
            let Some(step) = slot.step.filter(|_| slot.is_fresh(now)) else {
                continue;
            };
            let course = self.ranks.entry(slot.rank).or_insert_with(|| Course::starting_at(step));
            let done = course.advance(step);
            if course.warm_up > 0 {
                continue;
            }
            is_held_up |= !slot.phase.is_moving();
            judged.extend(Pace::of(slot).map(|pace| (slot.rank, done, pace)));
        }
        if is_held_up && !self.was_held_up {
            self.ranks.values_mut().for_each(Course::pause);
        }
        self.was_held_up = is_held_up;
        if is_held_up || judged.len() < 2 {
            return Vec::new();
        }
        let look = Look::new(slots, now);
        let seconds = find_median(judged.iter().map(|(_, _, pace)| pace.seconds));
        let wait = find_median(judged.iter().map(|(_, _, pace)| pace.wait));
        let mut changes = Vec::new();
        for (rank, done, pace) in judged {
            let verdict = pace.judge(seconds, wait);
            if let Some(course) = self.ranks.get_mut(&rank) {
                changes.extend(course.weigh(rank, done, verdict, look));
            }
        }
        changes
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rank, factor, steps) = (self.rank, self.factor, self.steps);
        write!(
            f,
            "rank {rank} is slower than the others by a factor of {factor:.1} for {steps} steps: "
        )?;
        match self.cause {
            SkewCause::Data { share } => write!(f, "it waits for data {:.0} % of the time", share * 100.0),
            SkewCause::Step => f.write_str("the step itself takes longer"),
        }
    }
}

/// Returns `true` if `later` is more than `by` after `earlier`.
fn is_later(later: SystemTime, earlier: Option<SystemTime>, by: Duration) -> bool {
    earlier.is_some_and(|earlier| later.duration_since(earlier).is_ok_and(|apart| apart > by))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::course::TOLD_AFTER;
    use super::*;

    /// How the ranks of a [`Fleet`] work together.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Mode {
        /// All wait for the slowest, within the step.
        Sync,
        /// The same, but the wait is a phase of the program's own.
        SyncWithPhase,
        /// Nobody waits.
        Async,
    }

    /// The habits of a training in which no rank is slow by nature.
    #[derive(Debug, Clone)]
    struct Habits {
        mode: Mode,
        ranks: u32,
        step_seconds: f64,
        data_share: f64,
        /// Greatest deviation of a step from its mean, as a share.
        jitter: f64,
        /// Steps from one evaluation of rank 0 to the next, and its seconds.
        evaluation: (u64, f64),
        /// How many times as long the first step of rank 1 takes.
        first_step: f64,
        /// Seconds by which a slot is seen late, at most.
        late: u64,
        look_every: u64,
        /// The time of steps is known by the second only, as a thread that ticks knows it.
        is_coarse: bool,
        seed: u64,
    }

    fn habits() -> impl Strategy<Value = Habits> {
        let mode = prop_oneof![Just(Mode::Sync), Just(Mode::SyncWithPhase), Just(Mode::Async)];
        let pace = (0.02..2.0, 0.0..0.15, 0.0..0.4);
        let pauses = ((30..500_u64, 0.5..60.0), 1.0..300.0);
        let looks = (0..40_u64, prop_oneof![Just(1_u64), Just(10_u64)], any::<bool>());
        (mode, 2..17_u32, pace, pauses, looks, any::<u64>()).prop_map(|(mode, ranks, pace, pauses, looks, seed)| {
            Habits {
                mode,
                ranks,
                step_seconds: pace.0,
                data_share: pace.1,
                jitter: pace.2,
                evaluation: pauses.0,
                first_step: pauses.1,
                late: looks.0,
                look_every: looks.1,
                is_coarse: looks.2,
                seed,
            }
        })
    }

    /// A training of several ranks, second by second.
    struct Fleet {
        habits: Habits,
        ranks: Vec<SimulatedRank>,
        watch: SkewWatch,
        now: u64,
        random: u64,
    }

    struct SimulatedRank {
        /// Times as long as the habits say, for the computation and for the data.
        slowness: (f64, f64),
        late: u64,
        clock: f64,
        evaluates_until: f64,
        gauge: StepGauge,
        unnoted: (u64, f64, f64, f64),
        ticks: u64,
        state: RankState,
        slots: VecDeque<RankState>,
    }

    impl Fleet {
        fn new(habits: Habits) -> Self {
            let mut fleet = Self {
                ranks: Vec::new(),
                watch: SkewWatch::new(),
                now: 0,
                random: habits.seed,
                habits,
            };
            for rank in 0..fleet.habits.ranks {
                let late = (fleet.random() * (fleet.habits.late + 1) as f64) as u64;
                fleet.ranks.push(SimulatedRank {
                    slowness: (1.0, 1.0),
                    late,
                    clock: 0.0,
                    evaluates_until: 0.0,
                    gauge: StepGauge::default(),
                    unnoted: (0, 0.0, 0.0, 0.0),
                    ticks: 0,
                    state: RankState::new(rank, 1),
                    slots: VecDeque::new(),
                });
            }
            fleet
        }

        /// Runs until rank 0 has done so many steps more, and returns what was told.
        fn run(&mut self, steps: u64) -> Vec<SkewChange> {
            let end = self.ranks[0].state.step.unwrap_or(0) + steps;
            let mut told = Vec::new();
            while self.ranks[0].state.step < Some(end) {
                self.now += 1;
                match self.habits.mode {
                    Mode::Async => (0..self.ranks.len()).for_each(|at| self.work(at..at + 1)),
                    _ => self.work(0..self.ranks.len()),
                }
                self.publish();
                if self.now.is_multiple_of(self.habits.look_every) {
                    let seen: Vec<RankState> = self
                        .ranks
                        .iter()
                        .filter_map(|rank| rank.slots.front().copied())
                        .collect();
                    told.extend(self.watch.observe(&seen, UNIX_EPOCH + Duration::from_secs(self.now)));
                }
            }
            told
        }

        /// Lets ranks that wait for each other do their steps of this second.
        fn work(&mut self, team: std::ops::Range<usize>) {
            while self.ranks[team.start].clock < self.now as f64 {
                let step = self.ranks[team.start].state.step.map_or(0, |step| step + 1);
                let pause = match self.habits.evaluation {
                    (every, seconds) if team.start == 0 && step > 0 && step.is_multiple_of(every) => seconds,
                    _ => 0.0,
                };
                let own: Vec<(f64, f64)> = team.clone().map(|at| self.own_seconds(at, step)).collect();
                let slowest = own.iter().map(|(compute, wait)| compute + wait).fold(0.0, f64::max);
                for (at, (compute, wait)) in team.clone().zip(own) {
                    let rank = &mut self.ranks[at];
                    let is_evaluating = at == 0 && pause > 0.0;
                    if is_evaluating {
                        rank.evaluates_until = rank.clock + pause;
                    }
                    rank.clock += pause + slowest;
                    let elapsed = match self.habits.mode {
                        Mode::Async => compute + wait,
                        _ if is_evaluating => slowest,
                        _ => slowest + pause,
                    };
                    let exchange = match self.habits.mode {
                        Mode::SyncWithPhase => (elapsed - compute - wait).max(0.0),
                        _ => 0.0,
                    };
                    let (steps, seconds, waited, exchanged) = rank.unnoted;
                    rank.unnoted = (steps + 1, seconds + elapsed, waited + wait, exchanged + exchange);
                    rank.state.step = Some(step);
                }
            }
        }

        /// Returns the seconds that a rank computes, and waits for data.
        fn own_seconds(&mut self, at: usize, step: u64) -> (f64, f64) {
            let habits = self.habits.clone();
            let mut deviate = || 1.0 + habits.jitter * (self.random() * 2.0 - 1.0);
            let first = if at == 1 && step == 0 { habits.first_step } else { 1.0 };
            let compute = habits.step_seconds * (1.0 - habits.data_share) * deviate() * first;
            let wait = habits.step_seconds * habits.data_share * deviate();
            let slowness = self.ranks[at].slowness;
            (compute * slowness.0, wait * slowness.1)
        }

        fn publish(&mut self) {
            for rank in &mut self.ranks {
                let is_evaluating = (self.now as f64) < rank.evaluates_until;
                rank.ticks += u64::from(!is_evaluating);
                let (steps, mut seconds, waited, exchanged) = rank.unnoted;
                if self.habits.is_coarse {
                    seconds = rank.ticks as f64;
                }
                let [seconds, waited, exchanged] = [seconds, waited, exchanged].map(Duration::from_secs_f64);
                rank.gauge.note(steps, seconds, waited, exchanged);
                if steps > 0 {
                    (rank.unnoted, rank.ticks) = ((0, 0.0, 0.0, 0.0), 0);
                }
                rank.gauge.fill(&mut rank.state);
                rank.state.phase = if is_evaluating {
                    RankPhase::Eval
                } else {
                    RankPhase::Step
                };
                rank.state.time = UNIX_EPOCH + Duration::from_secs(self.now);
                rank.slots.push_back(rank.state);
                while rank.slots.len() as u64 > rank.late + 1 {
                    rank.slots.pop_front();
                }
            }
        }

        /// Returns a number from 0 to 1: splitmix64.
        fn random(&mut self) -> f64 {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Asserts that the slow rank is told once, and its end once, within 3000 steps and 100 looks.
    fn assert_one_episode(mut habits: Habits, slow: u32, slowness: (f64, f64), is_expected: impl Fn(&Skew) -> bool) {
        let steps_a_look = habits.look_every as f64 / habits.step_seconds;
        // Where pauses leave no room for looks at slots of one time, nothing can be told.
        let room = steps_a_look * 20.0 + 2.0 * habits.late as f64 / habits.step_seconds;
        habits.evaluation.0 = habits.evaluation.0.max(room as u64);
        let steps = 3000.max((steps_a_look * 100.0) as u64);
        let mut fleet = Fleet::new(habits);
        let calm = fleet.run(steps);
        assert!(calm.is_empty(), "{calm:?}");
        fleet.ranks[slow as usize].slowness = slowness;
        let told = fleet.run(steps);
        let [SkewChange::Began(skew)] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(
            skew.rank == slow && skew.steps >= TOLD_AFTER && is_expected(skew),
            "{skew}"
        );
        fleet.ranks[slow as usize].slowness = (1.0, 1.0);
        let told = fleet.run(steps);
        let [SkewChange::Ended(end)] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(end.rank == slow && end.steps > skew.steps, "{end}");
    }

    /// Looks at two ranks once a second, 100 steps apart, and returns the looks with news.
    fn look(looks: u64, mut change: impl FnMut(u64, &mut [RankState])) -> Vec<(u64, SkewChange)> {
        let mut watch = SkewWatch::new();
        let mut slots = [0, 1].map(|rank| RankState::new(rank, 1));
        let mut told = Vec::new();
        for look in 0..looks {
            let now = UNIX_EPOCH + Duration::from_secs(1_000_000 + look);
            for slot in &mut slots {
                (slot.step, slot.time, slot.step_seconds, slot.phase) = (Some(look * 100), now, 0.01, RankPhase::Step);
            }
            change(look, &mut slots);
            told.extend(watch.observe(&slots, now).into_iter().map(|change| (look, change)));
        }
        told
    }

    fn looks_of(told: &[(u64, SkewChange)]) -> Vec<u64> {
        told.iter().map(|(look, _)| *look).collect()
    }

    #[test]
    fn the_first_hundred_steps_say_nothing() {
        let told = look(500, |look, slots| {
            for slot in &mut *slots {
                slot.step = Some(look);
            }
            slots[1].step_seconds = if look < 290 { 1.0 } else { 0.01 };
        });
        assert!(told.is_empty(), "{told:?}");
        let told = look(500, |look, slots| {
            for slot in &mut *slots {
                slot.step = Some(look);
            }
            slots[1].step_seconds = 1.0;
        });
        assert_eq!(looks_of(&told), [299]);
    }

    #[test]
    fn nothing_is_judged_while_a_rank_evaluates_and_little_where_pauses_are_frequent() {
        let told = look(500, |look, slots| {
            slots[1].step_seconds = 1.0;
            slots[0].phase = if look < 5 { RankPhase::Step } else { RankPhase::Eval };
        });
        assert!(told.is_empty(), "{told:?}");
        let told = look(500, |look, slots| {
            slots[1].step_seconds = 1.0;
            slots[0].phase = if look % 3 > 0 { RankPhase::Step } else { RankPhase::Eval };
        });
        assert!(told.is_empty(), "{told:?}");
        // A rank that does nothing but evaluate, beside two that train, silences nobody.
        let mut watch = SkewWatch::new();
        let mut told = 0;
        _ = look(500, |_, slots| {
            slots[1].step_seconds = 1.0;
            let (rank, step, phase) = (2, Some(0), RankPhase::Eval);
            let evaluator = RankState {
                rank,
                step,
                phase,
                ..slots[0]
            };
            told += watch.observe(&[slots[0], slots[1], evaluator], slots[0].time).len();
        });
        assert_eq!(told, 1);
    }

    #[test]
    fn a_change_of_the_whole_run_that_is_seen_late_at_one_rank_is_no_skew() {
        let told = look(500, |look, slots| {
            let seconds = |seen: u64| if seen < 100 { 0.01 } else { 0.03 };
            slots[1].step_seconds = seconds(look);
            slots[0].step_seconds = seconds(look.saturating_sub(40));
            slots[0].time -= Duration::from_secs(40);
        });
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn a_rank_near_the_bound_is_told_once() {
        let told = look(2000, |look, slots| {
            slots[1].step_seconds = match look {
                0..100 => 0.013,
                100..1000 => [0.0125, 0.0115][look as usize % 2],
                _ => 0.0105,
            };
        });
        let [(began, SkewChange::Began(_)), (ended, SkewChange::Ended(end))] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(*began < 20 && (1000..1010).contains(ended), "{began} {ended}");
        assert!(end.steps > 90_000 && (1.1..1.3).contains(&end.factor), "{end}");
    }

    #[test]
    fn ranks_that_end_or_are_old_or_absurd_say_nothing() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut watch = SkewWatch::new();
        let mut slots = [0, 1, 2].map(|rank| RankState {
            step_seconds: 0.5,
            phase: RankPhase::Step,
            ..RankState::new(rank, 1)
        });
        let mut told = 0;
        for look in 0..1000_u64 {
            for slot in &mut slots {
                slot.step = Some(look * 10);
                slot.time = now;
            }
            slots[1].step_seconds = 5.0;
            match look {
                0..300 => slots[1].time = now - Duration::from_secs(60),
                300..600 => slots[1].step_seconds = [f32::NAN, f32::INFINITY, -1.0, 0.0][look as usize % 4],
                // Long enough for the news, whose end is not told because the rank has ended.
                600..700 => {}
                _ => slots[1].phase = RankPhase::Ended,
            }
            let changes = watch.observe(&slots, now + Duration::from_secs(look % 50));
            assert!(changes.is_empty() || (600..700).contains(&look), "{look}: {changes:?}");
            told += changes.len();
        }
        assert_eq!(told, 1);
    }

    proptest! {
        // Fixed cases: a rare one at the edge of what can be told is to fail no build at random.
        #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(18), ..ProptestConfig::default() })]

        #[test]
        fn ranks_that_are_alike_raise_no_alarm(habits in habits()) {
            let told = Fleet::new(habits).run(3000);
            prop_assert!(told.is_empty(), "{told:?}");
        }

        #[test]
        fn a_rank_that_waits_for_data_is_told_once_and_its_end_once(
            mut habits in habits(),
            slow in any::<prop::sample::Index>(),
            share in 0.4..0.9,
        ) {
            habits.data_share = 0.05;
            let tolerance = if habits.is_coarse { 0.25 } else { 0.15 };
            let slow = slow.index(habits.ranks as usize) as u32;
            // Its wait makes up this share of a step.
            let data = share / (1.0 - share) * 0.95 / 0.05;
            assert_one_episode(habits, slow, (1.0, data), |skew| {
                matches!(skew.cause, SkewCause::Data { share: told } if f64::abs(f64::from(told) - share) < tolerance)
            });
        }

        #[test]
        fn a_rank_that_computes_longer_is_told_where_the_wait_for_it_is_no_part_of_the_step(
            mut habits in habits(),
            slow in any::<prop::sample::Index>(),
            factor in 1.5..5.0,
        ) {
            if habits.mode == Mode::Sync {
                habits.mode = Mode::SyncWithPhase;
            }
            habits.data_share = 0.05;
            let slow = slow.index(habits.ranks as usize) as u32;
            assert_one_episode(habits, slow, (factor, 1.0), |skew| {
                skew.cause == SkewCause::Step && f64::abs(f64::from(skew.factor) / factor - 1.0) < 0.25
            });
        }

        #[test]
        fn a_rank_that_computes_longer_unseen_is_not_blamed_on_another(mut habits in habits(), factor in 1.5..5.0) {
            habits.mode = Mode::Sync;
            let mut fleet = Fleet::new(habits);
            fleet.ranks[0].slowness.0 = factor;
            let told = fleet.run(3000);
            prop_assert!(told.is_empty(), "{told:?}");
        }
    }
}
