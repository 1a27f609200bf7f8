//! A thread that reads what may hang, for callers who cannot wait.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Reads again and again on its own thread, and hands out the newest reading.
#[derive(Debug)]
pub(crate) struct Sampler<T> {
    shared: Arc<SamplerShared<T>>,
    timeouts: SamplerTimeouts,
    thread: Option<JoinHandle<()>>,
    process: u32,
}

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SamplerTimeouts {
    /// The wait for the first reading, which has to start the driver: 1.5 s have been seen.
    pub(crate) first: Duration,
    /// The wait for the first reading where others stand in for it.
    pub(crate) unneeded: Duration,
    /// The wait for a later reading, where the thread reads when it is asked, or the newest is no longer young.
    pub(crate) later: Duration,
    /// A reading so old is not handed out, and a thread that reads for so long has stalled.
    pub(crate) young: Duration,
    /// The thread reads so often; without it, only when it is asked.
    pub(crate) period: Option<Duration>,
    /// The wait for the thread at the end.
    pub(crate) goodbye: Duration,
}

/// Why there will be no more readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unavailable {
    pub(crate) why: String,
    /// Something is there and does not work, rather than not being there.
    pub(crate) is_failure: bool,
}

/// Why there is no reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoReading {
    Unavailable(Unavailable),
    /// It is being read.
    Pending,
    /// The thread has been reading for too long.
    Stalled,
}

impl Default for SamplerTimeouts {
    fn default() -> Self {
        let period = Duration::from_secs(2);
        Self {
            first: Duration::from_secs(2),
            unneeded: Duration::ZERO,
            later: Duration::ZERO,
            young: 3 * period,
            period: Some(period),
            goodbye: Duration::from_millis(200),
        }
    }
}

impl Unavailable {
    pub(crate) fn absent(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_failure: false,
        }
    }

    pub(crate) fn failure(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_failure: true,
        }
    }
}

#[derive(Debug)]
struct SamplerShared<T> {
    state: Mutex<SamplerState<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct SamplerState<T> {
    /// When somebody has asked, if there is no answer yet.
    asked: Option<Instant>,
    /// The first reading was waited for.
    waited: bool,
    newest: Option<(Instant, T)>,
    over: Option<Unavailable>,
    /// Nobody is interested any more.
    abandoned: bool,
}

impl<T: Clone + Send + 'static> Sampler<T> {
    /// Starts the thread. `open` runs there, and so does what it returns, once for each reading; an error of either is
    /// why there will be none.
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
                asked: None,
                waited: false,
                newest: None,
                over: None,
                abandoned: false,
            }),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            lower_thread_priority();
            let serve = || of_thread.serve(open, timeouts.period);
            let outcome = catch_unwind(AssertUnwindSafe(|| logcore::suppress_logging(serve)));
            let gone = match outcome {
                Ok(Ok(())) => Unavailable::absent("the probe is closed"),
                Ok(Err(gone)) => gone,
                Err(_) => Unavailable::failure("reading panicked"),
            };
            of_thread.lock().over = Some(gone);
            of_thread.changed.notify_all();
        })?;
        Ok(Self {
            shared,
            timeouts,
            thread: Some(thread),
            process: std::process::id(),
        })
    }

    /// The newest reading; where the thread reads when it is asked, one of now if that comes soon. The first is waited for, if it is
    /// `needed`; but not long, and what was needed in vain is not waited for again, whoever asks.
    pub(crate) fn newest(&self, needed: bool) -> Result<T, NoReading> {
        let SamplerTimeouts {
            first,
            unneeded,
            later,
            young,
            period,
            ..
        } = self.timeouts;
        let mut state = self.shared.lock();
        let wait = if state.newest.is_none() {
            let wait = if needed { first } else { unneeded };
            self.ask(&mut state);
            let in_vain = state.waited;
            state.waited |= needed;
            (!in_vain).then_some(wait)
        } else if (period.is_none() || !state.is_young(young)) && state.asked.is_none() {
            self.ask(&mut state);
            Some(later)
        } else {
            None
        };
        if let Some(wait) = wait {
            let is_awaited = |state: &mut SamplerState<T>| state.asked.is_some() && state.over.is_none();
            let waited = self.shared.changed.wait_timeout_while(state, wait, is_awaited);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(gone) = &state.over {
            return Err(NoReading::Unavailable(gone.clone()));
        }
        match (&state.newest, state.asked) {
            (Some((_, reading)), asked) if asked.is_none() || state.is_young(young) => Ok(reading.clone()),
            (_, Some(asked)) if asked.elapsed() < young => Err(NoReading::Pending),
            _ => Err(NoReading::Stalled),
        }
    }

    fn ask(&self, state: &mut SamplerState<T>) {
        state.asked.get_or_insert_with(Instant::now);
        self.shared.changed.notify_all();
    }
}

/// The threads of this process that read one kind of thing, by the library that they read it from: whoever wants to know shares one,
/// so that a driver is not waited for longer the more loggers there are, nor asked for more.
pub(crate) struct SharedSamplers<T>(Mutex<BTreeMap<SamplerKey, Weak<Sampler<T>>>>);

/// A child of a fork has threads of its own.
type SamplerKey = (u32, Option<PathBuf>);

impl<T> SharedSamplers<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    pub(crate) fn get_or_start(
        &self,
        process: u32,
        library: Option<&Path>,
        start: impl FnOnce() -> io::Result<Sampler<T>>,
    ) -> io::Result<Arc<Sampler<T>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sampler| sampler.strong_count() > 0);
        let key = (process, library.map(Path::to_owned));
        if let Some(sampler) = all.get(&key).and_then(Weak::upgrade) {
            return Ok(sampler);
        }
        let sampler = Arc::new(start()?);
        all.insert(key, Arc::downgrade(&sampler));
        Ok(sampler)
    }
}

impl<T> Drop for Sampler<T> {
    /// A thread that hangs in a call cannot be ended; it is left behind, and harms nobody.
    fn drop(&mut self) {
        // A child of a fork has not got the thread, and its lock may be held for ever.
        if self.process != std::process::id() {
            return;
        }
        let mut state = self.shared.lock();
        state.abandoned = true;
        self.shared.changed.notify_all();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, self.timeouts.goodbye, |state| state.over.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let ended = state.over.is_some();
        drop(state);
        if ended && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<T> SamplerShared<T> {
    /// The thread's life: reads until nobody is interested.
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
            state.asked = None;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Whether there is one, rather than an end.
    fn wait_for_turn(&self, period: Option<Duration>) -> bool {
        let state = self.lock();
        let idle = |state: &mut SamplerState<T>| state.asked.is_none() && !state.abandoned;
        let mut state = match period {
            Some(period) => {
                let waited = self.changed.wait_timeout_while(state, period, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self
                .changed
                .wait_while(state, idle)
                .unwrap_or_else(PoisonError::into_inner),
        };
        state.asked.get_or_insert_with(Instant::now);
        !state.abandoned
    }

    fn lock(&self) -> MutexGuard<'_, SamplerState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> SamplerState<T> {
    fn is_young(&self, young: Duration) -> bool {
        self.newest.as_ref().is_some_and(|(at, _)| at.elapsed() < young)
    }
}

/// The training goes first. Where that is not allowed, the thread is as others.
fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    if let Ok(nice) = rustix::process::getpriority_process(None) {
        // Of this thread alone, which is what Linux means by a process here.
        let _ = rustix::process::setpriority_process(None, nice.max(10));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn timeouts(young: Duration) -> SamplerTimeouts {
        SamplerTimeouts {
            first: LONG,
            unneeded: Duration::ZERO,
            later: LONG,
            young,
            period: None,
            goodbye: LONG,
        }
    }

    /// Readings that count up, one for each message that arrives; a closed channel is the end.
    fn counting(timeouts: SamplerTimeouts) -> (mpsc::Sender<()>, Sampler<u32>) {
        let (gate, gated) = mpsc::channel();
        let sampler = Sampler::start("test-sampler", timeouts, move || {
            let mut count = 0;
            Ok(move || {
                gated.recv().map_err(|_| Unavailable::absent("the gate is gone"))?;
                count += 1;
                Ok(count)
            })
        });
        (gate, sampler.expect("a thread can be started"))
    }

    #[test]
    fn a_thread_that_does_not_read_on_its_own_is_asked_each_time() {
        let (gate, sampler) = counting(timeouts(LONG));
        for count in 1..=3 {
            gate.send(()).unwrap();
            assert_eq!(sampler.newest(true), Ok(count));
        }
    }

    #[test]
    fn the_thread_reads_on_its_own_and_nobody_waits() {
        let (gate, sampler) = counting(SamplerTimeouts {
            period: Some(Duration::from_millis(1)),
            ..timeouts(LONG)
        });
        assert_eq!(sampler.newest(false), Err(NoReading::Pending));
        for count in 1..=3 {
            gate.send(()).unwrap();
            while sampler.newest(false) != Ok(count) {
                std::thread::yield_now();
            }
        }
        drop(gate);
    }

    #[test]
    fn a_hang_is_waited_for_once_and_never_at_the_end() {
        let brief = Duration::from_millis(5);
        let (gate, sampler) = counting(SamplerTimeouts {
            first: brief,
            goodbye: brief,
            ..timeouts(LONG)
        });
        for _ in 0..10_000 {
            assert_eq!(sampler.newest(true), Err(NoReading::Pending));
        }
        let of_long_ago = Instant::now().checked_sub(2 * LONG).expect("the clock is old enough");
        sampler.shared.lock().asked = Some(of_long_ago);
        assert_eq!(sampler.newest(true), Err(NoReading::Stalled));
        drop(sampler);
        drop(gate);
    }

    #[test]
    fn an_old_reading_is_not_handed_out() {
        let (gate, sampler) = counting(SamplerTimeouts {
            later: Duration::ZERO,
            period: Some(LONG),
            ..timeouts(Duration::from_secs(60))
        });
        gate.send(()).unwrap();
        assert_eq!(sampler.newest(true), Ok(1));
        let back = |by| {
            let mut state = sampler.shared.lock();
            let (at, _) = state.newest.as_mut().expect("there is one");
            *at = at
                .checked_sub(Duration::from_secs(by))
                .expect("the clock is old enough");
        };
        back(30);
        assert_eq!(sampler.newest(true), Ok(1));
        back(31);
        assert_eq!(sampler.newest(true), Err(NoReading::Pending));
        drop(gate);
    }

    #[test]
    fn who_wants_the_same_shares_a_thread() {
        static SAMPLERS: SharedSamplers<u32> = SharedSamplers::new();
        let start = || Sampler::start("test-sampler", timeouts(LONG), || Ok(|| Ok(1)));
        let [first, second] = [0, 1].map(|_| SAMPLERS.get_or_start(1, None, start).unwrap());
        let other = SAMPLERS.get_or_start(1, Some(Path::new("other")), start).unwrap();
        let child = SAMPLERS.get_or_start(2, None, start).unwrap();
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other) && !Arc::ptr_eq(&first, &child));
        let ended = Arc::downgrade(&first);
        drop((first, second));
        assert!(ended.upgrade().is_none());
        assert_eq!(SAMPLERS.get_or_start(1, None, start).unwrap().newest(true), Ok(1));
    }

    #[test]
    fn what_ends_the_thread_is_said_at_every_call() {
        let no_driver = Unavailable::absent("no driver");
        let of_thread = no_driver.clone();
        let refused = Sampler::<u32>::start("test-sampler", timeouts(LONG), || {
            Err::<fn() -> Result<u32, Unavailable>, _>(of_thread)
        });
        let refused = refused.unwrap();
        for _ in 0..2 {
            assert_eq!(refused.newest(true), Err(NoReading::Unavailable(no_driver.clone())));
        }
        let panicking = Sampler::start("test-sampler", timeouts(LONG), || {
            Ok(|| -> Result<u32, Unavailable> { panic!("made to panic") })
        });
        let panicked = panicking.unwrap().newest(true);
        assert_eq!(
            panicked,
            Err(NoReading::Unavailable(Unavailable::failure("reading panicked")))
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_thread_gives_way_to_others() {
        let nice = || rustix::process::getpriority_process(None).unwrap_or(0);
        let sampler = Sampler::start("test-sampler", timeouts(LONG), move || Ok(move || Ok(nice())));
        assert!(sampler.unwrap().newest(true).unwrap() >= 10);
        assert!(nice() < 10, "this thread stays as it is");
    }

    #[test]
    fn the_thread_logs_nothing() {
        let sampler = Sampler::start("test-sampler", timeouts(LONG), || {
            Ok(|| Ok(logcore::is_logging_suppressed()))
        });
        assert_eq!(sampler.unwrap().newest(true), Ok(true));
    }
}
