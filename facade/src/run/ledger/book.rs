//! The accounts of a ledger, and the open phases of threads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use logcore::{CheckpointMark, MetricValue, RunManifest};

#[cfg(feature = "health")]
use super::LedgerReading;
#[cfg(feature = "health")]
use super::long_phases::LongPhases;
use super::{Account, PhaseId};
use crate::logger::earlier_rows::SupersededSteps;
use crate::run::record::seconds;

/// The accounts and the open phases.
pub(super) struct LedgerBook {
    accounts: Vec<AccountEntry>,
    /// The thread whose time is the run's.
    thread: u64,
    /// The moment up to which the run's time is booked.
    booked_until: Instant,
    has_update: bool,
    open_progresses: usize,
    /// The phases of threads. An entry without an open phase can be another thread's.
    threads: Vec<ThreadPhases>,
    next_phase: u64,
    interval_began: Instant,
    /// The time that this attempt has moved to `lost`.
    lost_here: Duration,
    /// The accounts at the last movement of the run.
    #[cfg(feature = "health")]
    at_movement: Vec<Duration>,
    is_stalled: bool,
    pub(super) longest_checkpoint: Duration,
    #[cfg(feature = "health")]
    pub(super) long_phases: LongPhases,
    /// The ledger at the ends of the newest checkpoints, the oldest first.
    pub(super) marks: Vec<CheckpointMark>,
    /// `true` if this attempt has moved the time since a mark to `lost`.
    has_lost_since_mark: bool,
}

struct AccountEntry {
    name: Box<str>,
    time: Duration,
    /// Time since the last row of shares.
    in_interval: Duration,
    /// Time on other threads.
    elsewhere: Duration,
    /// Name of the metric of its share.
    share_name: Box<str>,
    /// Usual nanoseconds of a phase of this name, as a moving average; 0 before the first end.
    #[cfg(feature = "health")]
    usual_nanos: u64,
    /// `true` if a phase of this name waits for other ranks.
    #[cfg(feature = "health")]
    is_exchange: bool,
}

struct ThreadPhases {
    thread: u64,
    /// The moment up to which the thread's time is booked, if its time is not the run's.
    booked_until: Instant,
    open: Vec<OpenPhase>,
}

#[derive(Clone, Copy)]
struct OpenPhase {
    id: u64,
    account: Account,
    began: Instant,
}

/// The figures of a ledger at one moment.
#[derive(Default)]
pub(super) struct LedgerFigures {
    /// Seconds by use, as they are shown.
    pub(super) seconds: Vec<(String, f64)>,
    pub(super) goodput: Option<f64>,
    pub(super) other_threads: Vec<(String, f64)>,
}

/// Time between two rows with the shares of the uses.
const SHARES_INTERVAL: Duration = Duration::from_secs(10);

/// Longest time that an earlier attempt can have spent on one use: 300 years, which summed up fit a
/// `Duration`.
const MAX_SECONDS: f64 = 1e10;

/// Seconds by which the uses may have more than the clock: the two are not read at one moment.
const BETWEEN_CLOCKS: f64 = 1.0;

/// Most marks of checkpoints that a run keeps.
const MAX_MARKS: usize = 8;

/// Maximum number of a program's own phases. The time of further ones is `other`.
const MAX_OWN: usize = 64;

/// The uses that every ledger has. The program's own follow.
const FIXED: [&str; 10] = [
    "startup",
    "data",
    "step",
    "eval",
    "checkpoint",
    "idle",
    "other",
    "stall",
    "down",
    "lost",
];
const STARTUP: Account = Account(0);
pub(super) const DATA: Account = Account(1);
const STEP: Account = Account(2);
const EVAL: Account = Account(3);
const CHECKPOINT: Account = Account(4);
pub(super) const IDLE: Account = Account(5);
const OTHER: Account = Account(6);
const STALL: Account = Account(7);
const DOWN: Account = Account(8);
const LOST: Account = Account(9);
/// The uses in which no step is done.
const PASSIVE: [Account; 4] = [STARTUP, STALL, DOWN, LOST];
/// The uses that may be long although nothing is wrong.
const LONG: [Account; 3] = [EVAL, CHECKPOINT, IDLE];
/// Number of fixed uses that are shown before the program's own.
const SHOWN_FIRST: usize = 3;

impl LedgerBook {
    pub(super) fn new(thread: u64, now: Instant) -> Self {
        Self {
            accounts: FIXED.iter().map(|name| AccountEntry::new(name)).collect(),
            thread,
            booked_until: now,
            has_update: false,
            open_progresses: 0,
            threads: Vec::new(),
            next_phase: 0,
            interval_began: now,
            lost_here: Duration::ZERO,
            #[cfg(feature = "health")]
            at_movement: Vec::new(),
            is_stalled: false,
            longest_checkpoint: Duration::ZERO,
            #[cfg(feature = "health")]
            long_phases: LongPhases::default(),
            marks: Vec::new(),
            has_lost_since_mark: false,
        }
    }

    /// Takes over the time of earlier attempts, and the time between the last of them and `now`,
    /// which is in seconds since 1970. A `run.json` can be anybody's: impossible times are left
    /// out.
    pub(super) fn continue_after(&mut self, earlier: &RunManifest, now: f64) {
        let Some(last) = earlier.attempts.last() else {
            return;
        };
        self.marks.clone_from(&last.checkpoints);
        self.marks.drain(..self.marks.len().saturating_sub(MAX_MARKS));
        let mut seconds = last.ledger.clone();
        seconds.retain(|_, time| (0.0..=MAX_SECONDS).contains(time));
        let ended = last.ended.filter(|ended| (earlier.started..=now).contains(ended));
        let ended = ended.unwrap_or_else(|| now.min(earlier.started + seconds.values().sum::<f64>()));
        complete(&mut seconds, ended - earlier.started);
        *seconds.entry(FIXED[DOWN.0].to_owned()).or_default() += (now - ended).max(0.0);
        for (name, time) in seconds.iter().filter(|(_, time)| **time <= MAX_SECONDS) {
            let account = self.account(name);
            self.accounts[account.0].time += Duration::from_secs_f64(*time);
        }
    }

    /// Moves the time since the checkpoint that lies between the rows of the last step that counts
    /// and of the first that does not. Returns `false` if there is no mark of such a checkpoint.
    pub(super) fn lose_since_mark(&mut self, superseded: &SupersededSteps) -> bool {
        if self.has_lost_since_mark {
            return true;
        }
        // A program may save a step before it logs the step.
        let earliest = superseded.before - (superseded.first - superseded.before);
        let is_between = |mark: &CheckpointMark| (earliest..=superseded.first).contains(&mark.time);
        let Some(at) = self.marks.iter().rposition(is_between) else {
            return false;
        };
        self.marks.truncate(at + 1);
        let mark = self.marks[at].ledger.clone();
        for at in (0..self.accounts.len()).filter(|at| !PASSIVE.contains(&Account(*at))) {
            let before = mark.get(&*self.accounts[at].name).copied().unwrap_or_default();
            let before = Duration::try_from_secs_f64(before).unwrap_or_default();
            self.move_to_lost(at, self.accounts[at].time.saturating_sub(before));
        }
        self.has_lost_since_mark = true;
        true
    }

    pub(super) fn lose(&mut self, time: Duration) {
        let more = time.saturating_sub(self.lost_here);
        self.lost_here += more;
        let is_active = |at: usize| !PASSIVE.contains(&Account(at));
        let active = (0..self.accounts.len()).filter(|at| is_active(*at));
        let active: Duration = active.map(|at| self.accounts[at].time).sum();
        let share = (more.as_secs_f64() / active.as_secs_f64()).min(1.0);
        for at in (0..self.accounts.len()).filter(|at| is_active(*at)) {
            let time = self.accounts[at].time;
            if !time.is_zero() {
                self.move_to_lost(at, time.mul_f64(share));
            }
        }
        // The time of an attempt that was killed before its ledger was saved is all in `startup`.
        self.move_to_lost(STARTUP.0, more.saturating_sub(active));
    }

    /// Moves at most so much time of an account.
    fn move_to_lost(&mut self, at: usize, time: Duration) {
        let time = time.min(self.accounts[at].time);
        self.accounts[at].time -= time;
        self.accounts[LOST.0].time += time;
    }

    pub(super) fn account(&mut self, name: &str) -> Account {
        if let Some(at) = self.accounts.iter().position(|account| *account.name == *name) {
            return Account(at);
        }
        if name.is_empty() || self.accounts.len() >= FIXED.len() + MAX_OWN {
            return OTHER;
        }
        self.accounts.push(AccountEntry::new(name));
        Account(self.accounts.len() - 1)
    }

    pub(super) fn note_update(&mut self, thread: u64, now: Instant) {
        self.book(self.thread, now);
        self.book(thread, now);
        self.has_update = true;
        let before = std::mem::replace(&mut self.thread, thread);
        if let Some(phases) = self.threads.iter_mut().find(|phases| phases.thread == before) {
            phases.booked_until = now;
        }
    }

    pub(super) fn open_progress(&mut self, now: Instant) {
        self.book(self.thread, now);
        self.open_progresses += 1;
    }

    pub(super) fn close_progress(&mut self, now: Instant) {
        self.book(self.thread, now);
        self.open_progresses = self.open_progresses.saturating_sub(1);
    }

    pub(super) fn enter(&mut self, thread: u64, account: Account, now: Instant) -> PhaseId {
        self.book(thread, now);
        let id = self.next_phase;
        self.next_phase += 1;
        let phase = OpenPhase {
            id,
            account,
            began: now,
        };
        let threads = &mut self.threads;
        let own = threads.iter().position(|phases| phases.thread == thread);
        let at = own.or_else(|| threads.iter().position(|phases| phases.open.is_empty()));
        match at {
            Some(at) => {
                let phases = &mut threads[at];
                (phases.thread, phases.booked_until) = (thread, now);
                phases.open.push(phase);
            }
            None => threads.push(ThreadPhases {
                thread,
                booked_until: now,
                open: vec![phase],
            }),
        }
        PhaseId(id)
    }

    /// Leaves a phase; returns `true` if there is a new mark of a checkpoint, or a long phase.
    pub(super) fn leave(&mut self, thread: u64, phase: PhaseId, now: Instant) -> bool {
        self.book(thread, now);
        let Some(phases) = self.threads.iter_mut().find(|phases| phases.thread == thread) else {
            return false;
        };
        // Guards may be dropped in any order.
        let Some(at) = phases.open.iter().rposition(|open| open.id == phase.0) else {
            return false;
        };
        let ended = phases.open.remove(at);
        let time = now.saturating_duration_since(ended.began);
        #[cfg(feature = "health")]
        let is_long = self.note_length(ended.account, time, now);
        #[cfg(not(feature = "health"))]
        let is_long = false;
        if ended.account != CHECKPOINT {
            return is_long;
        }
        self.longest_checkpoint = self.longest_checkpoint.max(time);
        let is_ours = thread == self.thread;
        if is_ours {
            self.add_mark();
        }
        is_ours || is_long
    }

    /// Notes how long a phase took; returns `true` if the phase is to be told. Steps and waits for
    /// data are too many to be told.
    #[cfg(feature = "health")]
    fn note_length(&mut self, account: Account, time: Duration, now: Instant) -> bool {
        if account.0 < FIXED.len() && !LONG.contains(&account) {
            return false;
        }
        let entry = &mut self.accounts[account.0];
        self.long_phases.note(&entry.name, &mut entry.usual_nanos, time, now)
    }

    fn add_mark(&mut self) {
        if self.marks.len() == MAX_MARKS {
            self.marks.remove(0);
        }
        let mut mark = CheckpointMark::default();
        mark.time = seconds(SystemTime::now());
        let used = self.accounts.iter().filter(|account| !account.time.is_zero());
        mark.ledger = used
            .map(|account| (account.name.to_string(), account.time.as_secs_f64()))
            .collect();
        self.marks.push(mark);
    }

    /// Books the time of a thread up to `now`.
    fn book(&mut self, thread: u64, now: Instant) {
        let phases = self.threads.iter_mut().find(|phases| phases.thread == thread);
        let innermost = phases
            .as_ref()
            .and_then(|phases| phases.open.last())
            .map(|phase| phase.account);
        if thread == self.thread {
            let account = match innermost.unwrap_or(self.outside_of_phases()) {
                account if self.is_stalled && !LONG.contains(&account) => STALL,
                account => account,
            };
            let time = now.saturating_duration_since(self.booked_until);
            let entry = &mut self.accounts[account.0];
            entry.time += time;
            entry.in_interval += time;
            self.booked_until = now;
        } else if let (Some(phases), Some(account)) = (phases, innermost) {
            self.accounts[account.0].elsewhere += now.saturating_duration_since(phases.booked_until);
            phases.booked_until = now;
        }
    }

    /// Returns the use of time on the thread that trains, while it is in no phase.
    fn outside_of_phases(&self) -> Account {
        match (self.has_update, self.open_progresses) {
            (false, _) => STARTUP,
            (true, 0) => OTHER,
            (true, _) => STEP,
        }
    }

    #[cfg(feature = "health")]
    pub(super) fn note_movement(&mut self) {
        self.at_movement.clear();
        self.at_movement
            .extend(self.accounts.iter().map(|account| account.time));
        self.is_stalled = false;
    }

    #[cfg(feature = "health")]
    pub(super) fn begin_stall(&mut self, now: Instant) {
        self.book(self.thread, now);
        self.is_stalled = true;
        for at in 0..self.accounts.len() {
            let account = Account(at);
            if LONG.contains(&account) || [STALL, DOWN, LOST].contains(&account) {
                continue;
            }
            let before = self.at_movement.get(at).copied().unwrap_or_default();
            let since = self.accounts[at].time.saturating_sub(before);
            self.accounts[at].time -= since;
            self.accounts[STALL.0].time += since;
        }
    }

    #[cfg(feature = "health")]
    pub(super) fn reading(&self) -> LedgerReading {
        let of_trainer = self.threads.iter().find(|phases| phases.thread == self.thread);
        let open_here = of_trainer.map_or(&[][..], |phases| &phases.open);
        let long_here = open_here.iter().rfind(|phase| LONG.contains(&phase.account));
        let mut all = self.threads.iter().flat_map(|phases| &phases.open);
        let is_long = |phase: &OpenPhase| LONG.contains(&phase.account);
        let is_idle = |phase: &OpenPhase| phase.account == IDLE;
        let long = long_here.or_else(|| all.clone().find(|phase| is_long(phase)));
        let now = open_here.last().map_or(self.outside_of_phases(), |phase| phase.account);
        let path = |phases: &ThreadPhases| {
            let names = phases.open.iter().map(|phase| &*self.accounts[phase.account.0].name);
            names.collect::<Vec<_>>().join(" > ")
        };
        LedgerReading {
            now: self.accounts[now.0].name.to_string(),
            long: long.map(|phase| self.accounts[phase.account.0].name.to_string()),
            pauses_steps: long_here.is_some() || all.any(is_idle),
            data: self.accounts[DATA.0].time,
            exchange: self
                .accounts
                .iter()
                .filter(|account| account.is_exchange)
                .map(|account| account.time)
                .sum(),
            open: self
                .threads
                .iter()
                .filter(|phases| !phases.open.is_empty())
                .map(path)
                .collect(),
        }
    }

    pub(super) fn book_all(&mut self, now: Instant) {
        self.book(self.thread, now);
        for at in 0..self.threads.len() {
            self.book(self.threads[at].thread, now);
        }
    }

    pub(super) fn figures(&mut self, now: Instant) -> LedgerFigures {
        self.book_all(now);
        let has_phase = |account: &AccountEntry| !account.elsewhere.is_zero();
        let is_used = self.has_update
            || self.accounts.iter().skip(1).any(|account| !account.time.is_zero())
            || self.accounts.iter().any(has_phase);
        if !is_used {
            return LedgerFigures::default();
        }
        let seconds_of = |time: fn(&AccountEntry) -> Duration| {
            let used = self.shown().filter(move |account| !time(account).is_zero());
            used.map(|account| (account.name.to_string(), time(account).as_secs_f64()))
                .collect()
        };
        LedgerFigures {
            seconds: seconds_of(|account| account.time),
            goodput: self.goodput(),
            other_threads: seconds_of(|account| account.elsewhere),
        }
    }

    pub(super) fn add_shares(&mut self, now: Instant, mut add: impl FnMut(&str, MetricValue)) {
        let interval = now.saturating_duration_since(self.interval_began);
        if interval < SHARES_INTERVAL {
            return;
        }
        self.book_all(now);
        self.interval_began = now;
        let is_shown = |(at, account): &(usize, &AccountEntry)| {
            // Nothing is down or lost while the run is live.
            !account.time.is_zero() && ![DOWN, LOST].contains(&Account(*at))
        };
        for (_, account) in self.accounts.iter().enumerate().filter(is_shown) {
            let share = account.in_interval.as_secs_f64() / interval.as_secs_f64();
            add(&account.share_name, share.into());
        }
        for account in &mut self.accounts {
            account.in_interval = Duration::ZERO;
        }
        if let Some(goodput) = self.goodput() {
            add("time/goodput", goodput.into());
        }
    }

    /// Returns the share of the wall clock that moved the run forward.
    fn goodput(&self) -> Option<f64> {
        let wall: Duration = self.accounts.iter().map(|account| account.time).sum();
        let good: Duration = self.accounts[FIXED.len()..].iter().map(|account| account.time).sum();
        let good = good + self.accounts[STEP.0].time;
        (!wall.is_zero()).then(|| good.as_secs_f64() / wall.as_secs_f64())
    }

    /// Returns the accounts as they are shown.
    fn shown(&self) -> impl Iterator<Item = &AccountEntry> {
        let (fixed, own) = self.accounts.split_at(FIXED.len());
        let (first, last) = fixed.split_at(SHOWN_FIRST);
        first.iter().chain(own).chain(last)
    }
}

/// Adds the seconds between the last save of a ledger and the end of its attempt, `wall` seconds
/// after the start of the run. The uses get them by their shares so far. If the clock was set back
/// meanwhile, the uses have more seconds than the clock, and all lose by their shares.
pub(in crate::run) fn complete(seconds: &mut BTreeMap<String, f64>, wall: f64) {
    let is_active = |name: &str| !PASSIVE.iter().any(|account| FIXED[account.0] == name);
    let sum: f64 = seconds.values().sum();
    let missing = wall - sum;
    if !missing.is_finite() || wall <= 0.0 {
        return;
    }
    if missing <= 0.0 {
        if -missing > BETWEEN_CLOCKS {
            seconds.values_mut().for_each(|time| *time *= wall / sum);
        }
        return;
    }
    let active: f64 = seconds
        .iter()
        .filter(|(name, _)| is_active(name))
        .map(|(_, time)| time)
        .sum();
    if active > 0.0 {
        let of_active = seconds.iter_mut().filter(|(name, _)| is_active(name));
        of_active.for_each(|(_, time)| *time *= 1.0 + missing / active);
    } else {
        *seconds.entry(FIXED[STARTUP.0].to_owned()).or_default() += missing;
    }
}

impl AccountEntry {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            time: Duration::ZERO,
            in_interval: Duration::ZERO,
            elsewhere: Duration::ZERO,
            share_name: format!("time/{name}_fraction").into(),
            #[cfg(feature = "health")]
            usual_nanos: 0,
            #[cfg(feature = "health")]
            is_exchange: logcore_health::skew::is_exchange(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "health")]
    use crate::run::ledger::long_phases::MAX_LONG_PHASES;

    const TRAINER: u64 = 1;
    const WORKER: u64 = 2;

    /// A ledger and a clock that the test sets, in seconds since the beginning.
    struct TimedBook {
        book: LedgerBook,
        begin: Instant,
    }

    impl TimedBook {
        fn new() -> Self {
            let begin = Instant::now();
            Self {
                book: LedgerBook::new(TRAINER, begin),
                begin,
            }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.begin + Duration::from_secs_f64(seconds)
        }

        fn enter(&mut self, thread: u64, name: &str, seconds: f64) -> PhaseId {
            let now = self.at(seconds);
            let account = self.book.account(name);
            self.book.enter(thread, account, now)
        }

        fn leave(&mut self, thread: u64, phase: PhaseId, seconds: f64) {
            let now = self.at(seconds);
            self.book.leave(thread, phase, now);
        }

        fn figures(&mut self, seconds: f64) -> LedgerFigures {
            let now = self.at(seconds);
            self.book.figures(now)
        }
    }

    fn pairs(figures: &[(String, f64)]) -> Vec<(&str, f64)> {
        figures.iter().map(|(name, seconds)| (&**name, *seconds)).collect()
    }

    #[test]
    fn each_second_goes_to_the_innermost_phase_and_they_sum_to_the_wall_clock() {
        let mut timed = TimedBook::new();
        timed.book.open_progress(timed.at(3.0));
        timed.book.note_update(TRAINER, timed.at(4.0));
        // Nested phases, whose guards are dropped in the wrong order.
        let forward = timed.enter(TRAINER, "forward", 5.0);
        let data = timed.enter(TRAINER, "data", 7.0);
        timed.leave(TRAINER, forward, 8.0);
        timed.leave(TRAINER, data, 10.0);
        timed.book.close_progress(timed.at(11.0));
        let eval = timed.enter(TRAINER, "eval", 15.0);
        timed.leave(TRAINER, eval, 17.0);
        let figures = timed.figures(20.0);
        let expected = [
            ("startup", 4.0),
            ("data", 3.0),
            ("step", 2.0),
            ("forward", 2.0),
            ("eval", 2.0),
            ("other", 7.0),
        ];
        assert_eq!(pairs(&figures.seconds), expected);
        assert_eq!(figures.goodput, Some(4.0 / 20.0));
        assert!(figures.other_threads.is_empty());
    }

    #[test]
    fn the_thread_that_updates_is_the_runs() {
        let mut timed = TimedBook::new();
        timed.book.open_progress(timed.at(0.0));
        let loading = timed.enter(WORKER, "data", 1.0);
        assert_eq!(pairs(&timed.figures(2.0).other_threads), [("data", 1.0)]);
        // From here on the worker trains, and is in its phase.
        timed.book.note_update(WORKER, timed.at(3.0));
        let elsewhere = timed.enter(TRAINER, "checkpoint", 4.0);
        timed.leave(WORKER, loading, 5.0);
        timed.leave(TRAINER, elsewhere, 6.0);
        let figures = timed.figures(10.0);
        assert_eq!(
            pairs(&figures.seconds),
            [("startup", 3.0), ("data", 2.0), ("step", 5.0)]
        );
        assert_eq!(pairs(&figures.other_threads), [("data", 2.0), ("checkpoint", 2.0)]);
    }

    #[cfg(feature = "health")]
    #[test]
    fn a_long_phase_of_any_thread_may_be_long_and_pauses_the_steps_of_its_own() {
        for (name, is_long) in [
            ("eval", true),
            ("checkpoint", true),
            ("idle", true),
            ("data", false),
            ("own", false),
        ] {
            for thread in [TRAINER, WORKER] {
                let mut timed = TimedBook::new();
                timed.book.note_update(TRAINER, timed.at(1.0));
                let phase = timed.enter(thread, name, 2.0);
                let reading = timed.book.reading();
                let pauses = is_long && (thread == TRAINER || name == "idle");
                assert_eq!(
                    (reading.long.as_deref(), reading.pauses_steps),
                    (is_long.then_some(name), pauses),
                    "{name} {thread}"
                );
                timed.leave(thread, phase, 3.0);
                assert_eq!(timed.book.reading().long, None, "{name} {thread}");
            }
        }
    }

    #[cfg(feature = "health")]
    #[test]
    fn the_first_long_phase_of_a_name_and_those_of_unusual_length_are_told() {
        let mut timed = TimedBook::new();
        let mut now = 0.0;
        let mut told = |thread: u64, name: &str, seconds: f64| {
            let phase = timed.enter(thread, name, now);
            now += seconds;
            let ended = timed.at(now);
            let account = timed.book.account(name);
            let is_news = timed.book.leave(thread, phase, ended);
            let long = timed.book.long_phases.take();
            assert!(long.is_empty() || is_news, "{name}");
            assert!(
                long.len() < 2
                    && long
                        .iter()
                        .all(|long| *long.name == *timed.book.accounts[account.0].name)
            );
            long.first()
                .map(|long| (long.time.as_secs(), long.usual.map(|usual| usual.as_secs())))
        };
        for name in ["step", "data", "startup", "other", "lost"] {
            assert_eq!(told(TRAINER, name, 1000.0), None, "{name}");
        }
        assert_eq!(told(TRAINER, "eval", 9.9), None);
        assert_eq!(told(TRAINER, "eval", 60.0), Some((60, Some(9))));
        for thread in [TRAINER, WORKER] {
            let name = ["checkpoint", "idle"][thread as usize - 1];
            assert_eq!(told(thread, name, 20.0), Some((20, None)));
            (0..50).for_each(|_| assert_eq!(told(thread, name, 39.0 - f64::from(name == "idle")), None, "{name}"));
            assert_eq!(told(thread, name, 700.0).map(|(time, _)| time), Some(700));
        }
        // A phase in each step, which becomes slow: the slow one is the usual one soon.
        (0..1000).for_each(|_| assert_eq!(told(TRAINER, "forward", 3.0), None));
        let slow = (0..1000).filter(|_| told(TRAINER, "forward", 30.0).is_some()).count();
        assert!((1..10).contains(&slow), "{slow}");
        let all =
            (0..1000).filter(|_| told(TRAINER, "forward", 3.0).is_some() || told(TRAINER, "forward", 300.0).is_some());
        assert!((50..=MAX_LONG_PHASES).contains(&all.count()));
    }

    #[test]
    fn a_run_without_progress_and_phase_has_no_figures() {
        let mut timed = TimedBook::new();
        let figures = timed.figures(5.0);
        assert!(figures.seconds.is_empty() && figures.goodput.is_none());
    }

    #[test]
    fn shares_are_those_of_the_last_ten_seconds() {
        let mut timed = TimedBook::new();
        timed.book.open_progress(timed.at(0.0));
        timed.book.note_update(TRAINER, timed.at(8.0));
        let mut shares = |seconds| {
            let now = timed.at(seconds);
            let mut shares = Vec::new();
            let add = |name: &str, value: MetricValue| shares.push((name.to_owned(), value.as_f64()));
            timed.book.add_shares(now, add);
            shares
        };
        assert!(shares(9.0).is_empty());
        let named = |pairs: &[(&str, f64)]| -> Vec<(String, f64)> {
            pairs
                .iter()
                .map(|(name, share)| (format!("time/{name}"), *share))
                .collect()
        };
        assert_eq!(
            shares(10.0),
            named(&[("startup_fraction", 0.8), ("step_fraction", 0.2), ("goodput", 0.2)])
        );
        assert!(shares(19.0).is_empty());
        assert_eq!(
            shares(20.0),
            named(&[("startup_fraction", 0.0), ("step_fraction", 1.0), ("goodput", 0.6)])
        );
    }

    fn attempt(ended: Option<f64>, ledger: &[(&str, f64)]) -> RunManifest {
        let mut attempt = logcore::RunAttempt::default();
        (attempt.ended, attempt.started) = (ended, 1000.0);
        attempt.ledger = ledger.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect();
        let mut manifest = RunManifest::default();
        manifest.started = 1000.0;
        manifest.attempts.push(attempt);
        manifest
    }

    #[test]
    fn the_time_of_earlier_attempts_the_pause_and_the_lost_steps_are_in_the_ledger() {
        let earlier = [("startup", 2.0), ("step", 6.0), ("forward", 2.0)];
        let mut timed = TimedBook::new();
        // Killed four seconds after the last save, and started again six seconds later.
        timed.book.continue_after(&attempt(Some(1014.0), &earlier), 1020.0);
        let expected = [("startup", 2.0), ("step", 9.0), ("forward", 3.0), ("down", 6.0)];
        assert_eq!(pairs(&timed.figures(0.0).seconds), expected);
        // Two loggers resume at the same step.
        for time in [3.0, 4.0, 2.0] {
            timed.book.lose(Duration::from_secs_f64(time));
        }
        let figures = timed.figures(5.0);
        let expected = [
            ("startup", 7.0),
            ("step", 6.0),
            ("forward", 2.0),
            ("down", 6.0),
            ("lost", 4.0),
        ];
        for ((name, time), (expected_name, expected)) in pairs(&figures.seconds).into_iter().zip(expected) {
            assert!(
                name == expected_name && (time - expected).abs() < 1e-6,
                "{:?}",
                figures.seconds
            );
        }
        assert!((figures.goodput.unwrap() - 8.0 / 25.0).abs() < 1e-6);
        timed.book.lose(Duration::from_secs(1000));
        let sum: f64 = timed.figures(5.0).seconds.iter().map(|(_, time)| time).sum();
        assert!((sum - 25.0).abs() < 1e-6);
    }

    #[test]
    fn steps_of_an_attempt_that_was_killed_before_its_first_save_are_lost() {
        let mut timed = TimedBook::new();
        timed.book.continue_after(&attempt(Some(1010.0), &[]), 1010.0);
        timed.book.lose(Duration::from_secs(6));
        let expected = [("startup", 4.0), ("step", 0.0), ("lost", 6.0)];
        let seconds = timed.figures(0.0).seconds;
        let of = |name: &str| {
            pairs(&seconds)
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(0.0, |(_, time)| *time)
        };
        assert!(
            expected.iter().all(|(name, time)| (of(name) - time).abs() < 1e-6),
            "{seconds:?}"
        );
    }

    #[test]
    fn an_attempt_without_an_end_or_a_ledger_is_continued() {
        let seconds = |earlier: &RunManifest| {
            let mut timed = TimedBook::new();
            timed.book.continue_after(earlier, 1020.0);
            timed.figures(0.0).seconds
        };
        let known = attempt(None, &[("step", 10.0)]);
        assert_eq!(pairs(&seconds(&known)), [("step", 10.0), ("down", 10.0)]);
        let unknown = attempt(Some(1015.0), &[]);
        assert_eq!(pairs(&seconds(&unknown)), [("startup", 15.0), ("down", 5.0)]);
        let foreign = attempt(Some(f64::MAX), &[("step", 1e300), ("data", -1.0), ("eval", f64::NAN)]);
        assert_eq!(pairs(&seconds(&foreign)), [("down", 20.0)]);
        let ahead = attempt(Some(1e6), &[("step", 4.0)]);
        assert_eq!(pairs(&seconds(&ahead)), [("step", 4.0), ("down", 16.0)]);
        // The clock was hours ahead, and was set right.
        let set_back = attempt(Some(1e6), &[("step", 3000.0), ("eval", 1000.0)]);
        assert_eq!(pairs(&seconds(&set_back)), [("step", 15.0), ("eval", 5.0)]);
        let saved_later = attempt(Some(1010.0), &[("step", 40.0)]);
        assert_eq!(pairs(&seconds(&saved_later)), [("step", 10.0), ("down", 10.0)]);
        assert!(seconds(&RunManifest::default()).is_empty());
    }

    #[test]
    fn phases_of_too_many_names_are_other_time() {
        let mut timed = TimedBook::new();
        for number in 0..200 {
            let begin = f64::from(number);
            let phase = timed.enter(TRAINER, &format!("phase {number}"), begin);
            timed.leave(TRAINER, phase, begin + 1.0);
        }
        let figures = timed.figures(200.0);
        assert_eq!(figures.seconds.len(), MAX_OWN + 1);
        assert_eq!(pairs(&figures.seconds)[MAX_OWN], ("other", 136.0));
        // Threads that come and go leave nothing.
        for thread in 10..100 {
            let phase = timed.enter(thread, "data", 200.0);
            timed.leave(thread, phase, 200.0);
        }
        assert!(timed.book.threads.len() <= 2);
    }
}
