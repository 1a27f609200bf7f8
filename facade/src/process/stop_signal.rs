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
    last: Option<(Signal, Instant)>,
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
    let now = Instant::now();
    let mut received = lock(&state.received);
    let is_first = match received.last {
        _ if received.is_over => return SignalAnswer::End,
        Some((last, at)) if last == signal && now.duration_since(at) < REPEAT_TIME => return SignalAnswer::GoOn,
        // The early warning of a batch system, and its request.
        Some((Signal::User1, _)) => signal == Signal::Terminate,
        Some(_) => false,
        None => true,
    };
    if !is_first {
        return SignalAnswer::End;
    }
    received.last = Some((signal, now));
    drop(received);
    request();
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
