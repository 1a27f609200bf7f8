//! Signals that ask the program to stop: `on_signal = "ask"`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use logcore::PerProcess;
use logcore::sync::lock;
use logcore_pipeline::{Signal, SignalAnswer, print_notice, signal_self};

static STATE: PerProcess<StopSignals> = PerProcess::new(|_| StopSignals::default());

/// The same signal within this time counts once: launchers send it to a group and to each process.
const REPEAT_TIME: Duration = Duration::from_secs(2);

/// Time between two looks whether the program has asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Default)]
struct StopSignals {
    is_on: AtomicBool,
    /// The questions of the program, in milliseconds since the first one; 0 before.
    last_question: AtomicU64,
    /// The usual time between two questions, in milliseconds.
    usual_gap: AtomicU64,
    received: Mutex<Received>,
}

#[derive(Default)]
struct Received {
    /// The signals that counted, with their times.
    heard: Vec<(Signal, Instant)>,
    /// `true` once nobody has asked in time.
    is_over: bool,
}

/// Notes questions of the program from now on.
pub(crate) fn switch_on() {
    STATE.get().is_on.store(true, Ordering::Relaxed);
}

/// Notes that the program asks whether it is to stop.
#[inline]
pub(crate) fn note_question() {
    let state = STATE.get();
    if state.is_on.load(Ordering::Relaxed) {
        state.note_question(milliseconds());
    }
}

/// Answers a signal. `request` passes it on to the runs, the first time. A program that has `grace`
/// to ask and does not ask is ended by the signal.
pub(crate) fn answer(signal: Signal, grace: Duration, request: impl FnOnce()) -> SignalAnswer {
    let state = STATE.get();
    let arrival = lock(&state.received).take(signal, Instant::now());
    match arrival {
        Arrival::First => request(),
        Arrival::Repeat => return SignalAnswer::GoOn,
        Arrival::Second => return SignalAnswer::End,
    }
    if !state.has_asked(milliseconds(), grace) {
        end_unless_asked(signal, grace);
    }
    SignalAnswer::GoOn
}

/// Ends the process by the signal, unless the program asks within `grace`.
fn end_unless_asked(signal: Signal, grace: Duration) {
    let begun = milliseconds();
    let wait = move || {
        if !is_asked_within(begun, grace) {
            lock(&STATE.get().received).is_over = true;
            let _ = signal_self(signal);
        }
    };
    let started = thread::Builder::new().name("logcore-grace".to_owned()).spawn(wait);
    if let Err(error) = started {
        print_notice(
            "grace",
            &format!("{signal} ends the process only if it comes again: cannot start a thread: {error}"),
        );
    }
}

/// Waits until the program has asked after `begun`; returns `false` if it does not within `grace`.
fn is_asked_within(begun: u64, grace: Duration) -> bool {
    let state = STATE.get();
    // None if `grace` is endless.
    let deadline = Instant::now().checked_add(grace);
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        if state.last_question.load(Ordering::Relaxed) >= begun {
            return true;
        }
        thread::sleep(LOOK_INTERVAL.min(grace));
    }
    false
}

/// The place of a signal among those that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    First,
    /// The same as one before, sent at nearly the same time.
    Repeat,
    Second,
}

impl Received {
    fn take(&mut self, signal: Signal, now: Instant) -> Arrival {
        let is_repeat = |(heard, at): &(Signal, Instant)| *heard == signal && now.duration_since(*at) < REPEAT_TIME;
        if self.is_over {
            return Arrival::Second;
        }
        if self.heard.iter().any(is_repeat) {
            return Arrival::Repeat;
        }
        // SIGUSR1 is the early warning of a batch system, and SIGTERM its request.
        let is_request = signal == Signal::Terminate;
        let is_first = self
            .heard
            .iter()
            .all(|(heard, _)| is_request && *heard == Signal::User1);
        if !is_first {
            return Arrival::Second;
        }
        self.heard.push((signal, now));
        Arrival::First
    }
}

impl StopSignals {
    fn note_question(&self, now: u64) {
        let last = self.last_question.swap(now, Ordering::Relaxed);
        let usual = self.usual_gap.load(Ordering::Relaxed);
        if last > 0 && now > last {
            let gap = now - last;
            let next = if usual == 0 { gap } else { usual - usual / 8 + gap / 8 };
            self.usual_gap.store(next, Ordering::Relaxed);
        }
    }

    /// Returns `true` if the program has asked so lately that it will ask again.
    fn has_asked(&self, now: u64, grace: Duration) -> bool {
        let last = self.last_question.load(Ordering::Relaxed);
        let usual = Duration::from_millis(self.usual_gap.load(Ordering::Relaxed));
        let within = grace.max(usual.saturating_mul(3)).as_millis();
        last > 0 && u128::from(now.saturating_sub(last)) <= within
    }
}

/// Returns the time since the first call, plus one.
fn milliseconds() -> u64 {
    static BEGIN: PerProcess<Instant> = PerProcess::new(|_| Instant::now());
    BEGIN.get().elapsed().as_millis() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_once_within_two_seconds() {
        use Signal::{Terminate, User1};
        let begin = Instant::now();
        let places = |signals: &[(Signal, u64)]| {
            let mut received = Received::default();
            let at = |seconds: u64| begin + Duration::from_secs(seconds);
            let taken = signals
                .iter()
                .map(|(signal, seconds)| received.take(*signal, at(*seconds)));
            taken.collect::<Vec<_>>()
        };
        use Arrival::{First, Repeat, Second};
        assert_eq!(
            places(&[(Terminate, 0), (Terminate, 1), (Terminate, 2)]),
            [First, Repeat, Second]
        );
        // To a group, and to each process of it.
        assert_eq!(
            places(&[(User1, 0), (Terminate, 0), (User1, 1), (Terminate, 1), (Terminate, 3)]),
            [First, First, Repeat, Repeat, Second]
        );
        assert_eq!(places(&[(Terminate, 0), (User1, 1)]), [First, Second]);
        assert_eq!(places(&[(User1, 0), (User1, 3)]), [First, Second]);
    }

    #[test]
    fn an_endless_grace_waits_for_the_question() {
        let begun = milliseconds();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| is_asked_within(begun, Duration::MAX));
            STATE.get().note_question(milliseconds());
            assert!(waiting.join().unwrap());
        });
        assert!(!is_asked_within(milliseconds() + 1, Duration::ZERO));
    }

    #[test]
    fn a_program_has_asked_within_three_usual_gaps() {
        let state = StopSignals::default();
        let grace = Duration::from_secs(1);
        assert!(!state.has_asked(500, grace));
        for question in 0..50 {
            state.note_question(1 + question * 2_000);
        }
        let last = 1 + 49 * 2_000;
        assert!(state.has_asked(last + 5_000, grace));
        assert!(!state.has_asked(last + 7_000, grace));
        assert!(state.has_asked(last + 7_000, Duration::from_secs(10)));
    }
}
