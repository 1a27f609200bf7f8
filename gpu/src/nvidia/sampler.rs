//! Runs calls that may hang on a thread of their own, for callers that cannot wait.
//!
//! ```text
//! caller                           thread
//! ------                           ------
//! newest(): opens a request   -->  wakes, or wakes on its own after `period`
//! waits for at most a timeout      calls `read`, which may hang
//!                             <--  stores the reading, closes the request
//! returns the newest reading       waits for the next request or period
//! ```
//!
//! A caller that has waited in vain gets [`NoReading::Pending`] and, once the call takes longer
//! than [`max_age`](SamplerTimeouts::max_age), [`NoReading::Stalled`]. When the call returns after
//! all, the sampler works again.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use logcore::PerProcess;
use logcore::sync::lock;

/// A thread that reads repeatedly, and the newest reading that it has.
#[derive(Debug)]
pub(crate) struct Sampler<T> {
    shared: Arc<SamplerShared<T>>,
    timeouts: SamplerTimeouts,
    thread: Option<JoinHandle<()>>,
    /// Id of the process that started the thread.
    process: u32,
}

/// The times that a sampler and its callers wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SamplerTimeouts {
    /// Longest wait for the first reading when the caller has no other source. The driver has to
    /// start first, which was seen to take 1.5 s.
    pub(crate) first_required: Duration,
    /// Longest wait for the first reading when the caller has another source.
    pub(crate) first_optional: Duration,
    /// Longest wait for a later reading, when the caller has to request one.
    pub(crate) refresh: Duration,
    /// Age from which a reading is not handed out, and time after which a running call has stalled.
    pub(crate) max_age: Duration,
    /// Time between two readings. `None`: the thread reads only on request.
    pub(crate) period: Option<Duration>,
    /// Longest wait for the thread when the sampler is dropped.
    pub(crate) shutdown: Duration,
}

/// The reason why there will be no more readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unavailable {
    pub(crate) reason: String,
    /// `true` if the source exists and fails; `false` if there is no such source.
    pub(crate) is_failure: bool,
}

/// The reason why a call returns no reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoReading {
    /// There will be no more readings.
    Unavailable(Unavailable),
    /// The thread is reading.
    Pending,
    /// The thread has been reading for longer than [`SamplerTimeouts::max_age`].
    Stalled,
}

/// The caller's need of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadingNeed {
    /// The caller has no other source.
    Required,
    /// The caller has another source.
    Optional,
}

impl Default for SamplerTimeouts {
    fn default() -> Self {
        let period = Duration::from_secs(2);
        Self {
            first_required: Duration::from_secs(2),
            first_optional: Duration::ZERO,
            refresh: Duration::ZERO,
            max_age: 3 * period,
            period: Some(period),
            shutdown: Duration::from_millis(200),
        }
    }
}

impl Unavailable {
    /// A source that does not exist on this machine.
    pub(crate) fn absent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_failure: false,
        }
    }

    /// A source that exists and does not work.
    pub(crate) fn failure(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_failure: true,
        }
    }
}

/// The state that callers and the thread share.
#[derive(Debug)]
struct SamplerShared<T> {
    state: Mutex<SamplerState<T>>,
    changed: Condvar,
}

/// The requests, the newest reading, and the end of the thread.
#[derive(Debug)]
struct SamplerState<T> {
    /// Time of the open request; `None` if each request was answered.
    requested_at: Option<Instant>,
    /// `true` once a caller has waited for a required first reading.
    has_waited_for_first: bool,
    newest: Option<(Instant, T)>,
    /// Set when the thread has ended.
    ended: Option<Unavailable>,
    /// `true` once the sampler is dropped.
    is_abandoned: bool,
}

impl<T: Clone + Send + 'static> Sampler<T> {
    /// Starts the thread. The thread calls `open` once, and the function that `open` returns for
    /// each reading. An error of either ends the thread and is returned to all callers.
    pub(crate) fn start<R>(
        name: &str,
        timeouts: SamplerTimeouts,
        open: impl FnOnce() -> Result<R, Unavailable> + Send + 'static,
    ) -> io::Result<Self>
    where
        R: FnMut() -> Result<T, Unavailable>,
    {
        let shared = Arc::new(SamplerShared {
            state: Mutex::new(SamplerState {
                requested_at: None,
                has_waited_for_first: false,
                newest: None,
                ended: None,
                is_abandoned: false,
            }),
            changed: Condvar::new(),
        });
        let thread_shared = Arc::clone(&shared);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            lower_thread_priority();
            let serve = || thread_shared.serve(open, timeouts.period);
            let outcome = catch_unwind(AssertUnwindSafe(|| logcore::suppress_logging(serve)));
            let unavailable = match outcome {
                Ok(Ok(())) => Unavailable::absent("the probe is closed"),
                Ok(Err(unavailable)) => unavailable,
                Err(_) => Unavailable::failure("the sampler thread panicked"),
            };
            thread_shared.lock().ended = Some(unavailable);
            thread_shared.changed.notify_all();
        })?;
        Ok(Self {
            shared,
            timeouts,
            thread: Some(thread),
            process: std::process::id(),
        })
    }

    /// Returns the newest reading, after requesting one and waiting for it where that is due.
    ///
    /// - Before the first reading, each call requests one. A call waits up to
    ///   [`first_required`](SamplerTimeouts::first_required) or
    ///   [`first_optional`](SamplerTimeouts::first_optional). After one wait for a required reading
    ///   no call waits again, so a driver that hangs costs the process a single timeout.
    /// - Later, a call requests a reading if the thread reads only on request or the newest reading
    ///   is too old, and waits up to [`refresh`](SamplerTimeouts::refresh). A call does neither
    ///   while an earlier request is open.
    pub(crate) fn newest(&self, need: ReadingNeed) -> Result<T, NoReading> {
        let mut state = self.shared.lock();
        if let Some(wait) = self.request_if_due(&mut state, need) {
            let is_open = |state: &mut SamplerState<T>| state.requested_at.is_some() && state.ended.is_none();
            let waited = self.shared.changed.wait_timeout_while(state, wait, is_open);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.newest_reading(self.timeouts.max_age)
    }

    /// Requests a reading if one is due. Returns the time to wait for the answer; `None`: do not
    /// wait.
    fn request_if_due(&self, state: &mut SamplerState<T>, need: ReadingNeed) -> Option<Duration> {
        if state.newest.is_none() {
            self.request(state);
            let has_waited = state.has_waited_for_first;
            state.has_waited_for_first |= need == ReadingNeed::Required;
            let wait = match need {
                ReadingNeed::Required => self.timeouts.first_required,
                ReadingNeed::Optional => self.timeouts.first_optional,
            };
            return (!has_waited).then_some(wait);
        }
        let reads_on_request = self.timeouts.period.is_none();
        let needs_refresh = reads_on_request || !state.is_fresh(self.timeouts.max_age);
        if !needs_refresh || state.requested_at.is_some() {
            return None;
        }
        self.request(state);
        Some(self.timeouts.refresh)
    }

    /// Opens a request, if none is open, and wakes the thread.
    fn request(&self, state: &mut SamplerState<T>) {
        state.requested_at.get_or_insert_with(Instant::now);
        self.shared.changed.notify_all();
    }
}

/// The samplers of this process that read one kind of thing, by library.
///
/// All loggers share the sampler of a library. The number of loggers changes neither how long they
/// wait for a driver nor how often the driver is called.
///
/// A forked child has a list of its own: at the fork, another thread may have held the lock.
pub(crate) struct SharedSamplers<T>(PerProcess<Mutex<BTreeMap<SamplerKey, Weak<Sampler<T>>>>>);

/// Process id and path of the library. The id keeps a forked child from using its parent's threads.
type SamplerKey = (u32, Option<PathBuf>);

impl<T> SharedSamplers<T> {
    pub(crate) const fn new() -> Self {
        Self(PerProcess::new(|_| Mutex::new(BTreeMap::new())))
    }

    /// Returns the running sampler of `library`, or the one that `start` returns.
    pub(crate) fn get_or_start(
        &self,
        process: u32,
        library: Option<&Path>,
        start: impl FnOnce() -> io::Result<Sampler<T>>,
    ) -> io::Result<Arc<Sampler<T>>> {
        let mut samplers = lock(self.0.get());
        samplers.retain(|_, sampler| sampler.strong_count() > 0);
        let key = (process, library.map(Path::to_owned));
        if let Some(sampler) = samplers.get(&key).and_then(Weak::upgrade) {
            return Ok(sampler);
        }
        let sampler = Arc::new(start()?);
        samplers.insert(key, Arc::downgrade(&sampler));
        Ok(sampler)
    }
}

impl<T> Drop for Sampler<T> {
    /// Ends the thread, and waits up to [`SamplerTimeouts::shutdown`]. A thread that hangs in a
    /// call cannot be ended: it is left behind and does nothing once the call returns.
    fn drop(&mut self) {
        // A forked child has not got the thread, and another thread may have held the lock at the
        // fork.
        if self.process != std::process::id() {
            return;
        }
        let mut state = self.shared.lock();
        state.is_abandoned = true;
        self.shared.changed.notify_all();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, self.timeouts.shutdown, |state| state.ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let has_ended = state.ended.is_some();
        drop(state);
        if has_ended && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<T> SamplerShared<T> {
    /// Runs on the thread: reads until the sampler is dropped or a reading fails for good.
    fn serve<R: FnMut() -> Result<T, Unavailable>>(
        &self,
        open: impl FnOnce() -> Result<R, Unavailable>,
        period: Option<Duration>,
    ) -> Result<(), Unavailable> {
        let mut read = open()?;
        while self.wait_for_turn(period) {
            let reading = read()?;
            let mut state = self.lock();
            state.newest = Some((Instant::now(), reading));
            state.requested_at = None;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits for a request or the end of the period. Returns `false` once the sampler is dropped.
    fn wait_for_turn(&self, period: Option<Duration>) -> bool {
        let state = self.lock();
        let is_idle = |state: &mut SamplerState<T>| state.requested_at.is_none() && !state.is_abandoned;
        let mut state = match period {
            Some(period) => {
                let waited = self.changed.wait_timeout_while(state, period, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self
                .changed
                .wait_while(state, is_idle)
                .unwrap_or_else(PoisonError::into_inner),
        };
        state.requested_at.get_or_insert_with(Instant::now);
        !state.is_abandoned
    }

    fn lock(&self) -> MutexGuard<'_, SamplerState<T>> {
        lock(&self.state)
    }
}

impl<T: Clone> SamplerState<T> {
    /// Returns the newest reading. An old one counts only if no request is open.
    fn newest_reading(&self, max_age: Duration) -> Result<T, NoReading> {
        if let Some(unavailable) = &self.ended {
            return Err(NoReading::Unavailable(unavailable.clone()));
        }
        match (&self.newest, self.requested_at) {
            (Some((_, reading)), None) => Ok(reading.clone()),
            (Some((_, reading)), Some(_)) if self.is_fresh(max_age) => Ok(reading.clone()),
            (_, Some(requested_at)) if requested_at.elapsed() < max_age => Err(NoReading::Pending),
            _ => Err(NoReading::Stalled),
        }
    }

    /// Returns `true` if there is a reading younger than `max_age`.
    fn is_fresh(&self, max_age: Duration) -> bool {
        self.newest.as_ref().is_some_and(|(at, _)| at.elapsed() < max_age)
    }
}

/// Lowers the priority of this thread to nice 10, so that the training goes first. An error is
/// ignored: the thread then runs at the program's priority.
///
/// `logcore-pipeline` has the same function. This crate does not depend on that one, and `logcore`,
/// on which both depend, makes no system calls and has no dependency for them.
fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    if let Ok(nice) = rustix::process::getpriority_process(None) {
        // On Linux `None` means the calling thread, not the process.
        let _ = rustix::process::setpriority_process(None, nice.max(10));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn timeouts(max_age: Duration) -> SamplerTimeouts {
        SamplerTimeouts {
            first_required: LONG,
            first_optional: Duration::ZERO,
            refresh: LONG,
            max_age,
            period: None,
            shutdown: LONG,
        }
    }

    /// A sampler that reads a counter once for each message; a closed channel ends the thread.
    fn counting(timeouts: SamplerTimeouts) -> (mpsc::Sender<()>, Sampler<u32>) {
        let (gate, gated) = mpsc::channel();
        let sampler = Sampler::start("test-sampler", timeouts, move || {
            let mut count = 0;
            Ok(move || {
                gated.recv().map_err(|_| Unavailable::absent("the gate is closed"))?;
                count += 1;
                Ok(count)
            })
        });
        (gate, sampler.expect("a thread can be started"))
    }

    #[test]
    fn sampler_without_period_reads_at_each_request() {
        let (gate, sampler) = counting(timeouts(LONG));
        for count in 1..=3 {
            gate.send(()).unwrap();
            assert_eq!(sampler.newest(ReadingNeed::Required), Ok(count));
        }
    }

    #[test]
    fn sampler_with_period_reads_without_a_waiting_caller() {
        let (gate, sampler) = counting(SamplerTimeouts {
            period: Some(Duration::from_millis(1)),
            ..timeouts(LONG)
        });
        assert_eq!(sampler.newest(ReadingNeed::Optional), Err(NoReading::Pending));
        for count in 1..=3 {
            gate.send(()).unwrap();
            while sampler.newest(ReadingNeed::Optional) != Ok(count) {
                std::thread::yield_now();
            }
        }
        drop(gate);
    }

    #[test]
    fn sampler_that_hangs_costs_one_timeout_and_none_at_drop() {
        let brief = Duration::from_millis(5);
        let (gate, sampler) = counting(SamplerTimeouts {
            first_required: brief,
            shutdown: brief,
            ..timeouts(LONG)
        });
        for _ in 0..10_000 {
            assert_eq!(sampler.newest(ReadingNeed::Required), Err(NoReading::Pending));
        }
        let long_ago = Instant::now().checked_sub(2 * LONG).expect("the clock is old enough");
        sampler.shared.lock().requested_at = Some(long_ago);
        assert_eq!(sampler.newest(ReadingNeed::Required), Err(NoReading::Stalled));
        drop(sampler);
        drop(gate);
    }

    #[test]
    fn newest_with_an_old_reading_is_pending() {
        let (gate, sampler) = counting(SamplerTimeouts {
            refresh: Duration::ZERO,
            period: Some(LONG),
            ..timeouts(Duration::from_secs(60))
        });
        gate.send(()).unwrap();
        assert_eq!(sampler.newest(ReadingNeed::Required), Ok(1));
        let back = |by| {
            let mut state = sampler.shared.lock();
            let (at, _) = state.newest.as_mut().expect("there is one");
            *at = at
                .checked_sub(Duration::from_secs(by))
                .expect("the clock is old enough");
        };
        back(30);
        assert_eq!(sampler.newest(ReadingNeed::Required), Ok(1));
        back(31);
        assert_eq!(sampler.newest(ReadingNeed::Required), Err(NoReading::Pending));
        drop(gate);
    }

    #[test]
    fn samplers_of_one_library_and_process_are_shared() {
        static SAMPLERS: SharedSamplers<u32> = SharedSamplers::new();
        let start = || Sampler::start("test-sampler", timeouts(LONG), || Ok(|| Ok(1)));
        let [first, second] = [0, 1].map(|_| SAMPLERS.get_or_start(1, None, start).unwrap());
        let other = SAMPLERS.get_or_start(1, Some(Path::new("other")), start).unwrap();
        let child = SAMPLERS.get_or_start(2, None, start).unwrap();
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other) && !Arc::ptr_eq(&first, &child));
        let ended = Arc::downgrade(&first);
        drop((first, second));
        assert!(ended.upgrade().is_none());
        assert_eq!(
            SAMPLERS
                .get_or_start(1, None, start)
                .unwrap()
                .newest(ReadingNeed::Required),
            Ok(1)
        );
    }

    #[test]
    fn newest_after_the_end_returns_the_reason_at_each_call() {
        let no_driver = Unavailable::absent("no driver");
        let reason = no_driver.clone();
        let refused = Sampler::<u32>::start("test-sampler", timeouts(LONG), || {
            Err::<fn() -> Result<u32, Unavailable>, _>(reason)
        });
        let refused = refused.unwrap();
        for _ in 0..2 {
            assert_eq!(
                refused.newest(ReadingNeed::Required),
                Err(NoReading::Unavailable(no_driver.clone()))
            );
        }
        let panicking = Sampler::start("test-sampler", timeouts(LONG), || {
            Ok(|| -> Result<u32, Unavailable> { panic!("made to panic") })
        });
        let panicked = panicking.unwrap().newest(ReadingNeed::Required);
        assert_eq!(
            panicked,
            Err(NoReading::Unavailable(Unavailable::failure(
                "the sampler thread panicked"
            )))
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn sampler_thread_has_low_priority() {
        let nice = || rustix::process::getpriority_process(None).unwrap_or(0);
        let sampler = Sampler::start("test-sampler", timeouts(LONG), move || Ok(move || Ok(nice())));
        assert!(sampler.unwrap().newest(ReadingNeed::Required).unwrap() >= 10);
        assert!(nice() < 10, "the priority of this thread is unchanged");
    }

    #[test]
    fn sampler_thread_logs_nothing() {
        let sampler = Sampler::start("test-sampler", timeouts(LONG), || {
            Ok(|| Ok(logcore::is_logging_suppressed()))
        });
        assert_eq!(sampler.unwrap().newest(ReadingNeed::Required), Ok(true));
    }
}
