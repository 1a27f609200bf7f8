//! A thread that reads what may hang, for callers who cannot wait.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use logcore::ProbeError;

/// Reads when it is asked, on its own thread, and hands out the newest reading.
#[derive(Debug)]
pub(crate) struct Sampler<T> {
    shared: Arc<Shared<T>>,
    patience: Patience,
    thread: Option<JoinHandle<()>>,
}

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The wait for the first reading, which has to start the driver: 1.5 s have been seen.
    pub(crate) first: Duration,
    /// The wait for a later one. NVML's dearest call, the list of processes, takes some milliseconds.
    pub(crate) later: Duration,
    /// A reading so young is handed out without a new one being asked for; one three times as old, not at all.
    pub(crate) period: Duration,
    /// The wait for the thread at the end.
    pub(crate) goodbye: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            later: Duration::from_millis(50),
            period: Duration::from_secs(2),
            goodbye: Duration::from_millis(200),
        }
    }
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Somebody has asked, and there is no answer yet.
    asked: bool,
    newest: Option<(Instant, T)>,
    /// Why there will be no more readings.
    over: Option<String>,
    /// Nobody is interested any more.
    abandoned: bool,
}

impl<T: Clone + Send + 'static> Sampler<T> {
    /// Starts the thread. `open` runs there, and so does what it returns, once for each reading; an error of either is
    /// why there will be none.
    pub(crate) fn start<R>(
        name: &str,
        patience: Patience,
        open: impl FnOnce() -> Result<R, String> + Send + 'static,
    ) -> io::Result<Self>
    where
        R: FnMut() -> Result<T, String>,
    {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                asked: false,
                newest: None,
                over: None,
                abandoned: false,
            }),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| logcore::quiet(|| of_thread.serve(open))));
            let why = match outcome {
                Ok(Ok(())) => "the probe is closed".to_owned(),
                Ok(Err(why)) => why,
                Err(_) => "reading panicked".to_owned(),
            };
            of_thread.lock().over = Some(why);
            of_thread.changed.notify_all();
        })?;
        Ok(Self {
            shared,
            patience,
            thread: Some(thread),
        })
    }

    /// The newest reading. Asks for another if it is not young, and waits for that one, but not long; a question that
    /// was waited for in vain is not waited for again.
    pub(crate) fn newest(&self) -> Result<T, ProbeError> {
        let Patience {
            first, later, period, ..
        } = self.patience;
        let mut state = self.shared.lock();
        if state.age().is_none_or(|age| age >= period) && !state.asked && state.over.is_none() {
            state.asked = true;
            self.shared.changed.notify_all();
            let wait = if state.newest.is_none() { first } else { later };
            state = self
                .shared
                .changed
                .wait_timeout_while(state, wait, |state| state.asked && state.over.is_none())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if let Some(why) = &state.over {
            return Err(ProbeError::Unavailable(why.clone()));
        }
        match &state.newest {
            Some((at, reading)) if at.elapsed() < 3 * period || !state.asked => Ok(reading.clone()),
            Some(_) => Err(ProbeError::Transient("the newest reading is too old".to_owned())),
            None => Err(ProbeError::Transient("there has been no answer yet".to_owned())),
        }
    }
}

impl<T> Drop for Sampler<T> {
    /// A thread that hangs in a call cannot be ended; it is left behind, and harms nobody.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.abandoned = true;
        self.shared.changed.notify_all();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, self.patience.goodbye, |state| state.over.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let ended = state.over.is_some();
        drop(state);
        if ended && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<T> Shared<T> {
    /// The thread's life: answers questions until nobody is interested.
    fn serve<R: FnMut() -> Result<T, String>>(&self, open: impl FnOnce() -> Result<R, String>) -> Result<(), String> {
        let mut read = open()?;
        while self.wait_for_question() {
            let reading = read()?;
            let mut state = self.lock();
            state.newest = Some((Instant::now(), reading));
            state.asked = false;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Whether there was one, rather than an end.
    fn wait_for_question(&self) -> bool {
        let state = self
            .changed
            .wait_while(self.lock(), |state| !state.asked && !state.abandoned)
            .unwrap_or_else(PoisonError::into_inner);
        !state.abandoned
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn age(&self) -> Option<Duration> {
        self.newest.as_ref().map(|(at, _)| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn patience(period: Duration) -> Patience {
        Patience {
            first: LONG,
            later: LONG,
            period,
            goodbye: LONG,
        }
    }

    /// Readings that count up, one for each message that arrives; a closed channel is the end.
    fn counting(patience: Patience) -> (mpsc::Sender<()>, Sampler<u32>) {
        let (gate, gated) = mpsc::channel();
        let sampler = Sampler::start("test-sampler", patience, move || {
            let mut count = 0;
            Ok(move || {
                gated.recv().map_err(|_| "the gate is gone".to_owned())?;
                count += 1;
                Ok(count)
            })
        });
        (gate, sampler.expect("a thread can be started"))
    }

    #[test]
    fn a_young_reading_is_not_asked_for_again() {
        let (gate, sampler) = counting(patience(LONG));
        gate.send(()).unwrap();
        gate.send(()).unwrap();
        assert_eq!(sampler.newest(), Ok(1));
        assert_eq!(sampler.newest(), Ok(1));
    }

    #[test]
    fn a_reading_that_is_not_young_is_asked_for_again() {
        let (gate, sampler) = counting(patience(Duration::ZERO));
        for count in 1..=3 {
            gate.send(()).unwrap();
            assert_eq!(sampler.newest(), Ok(count));
        }
    }

    #[test]
    fn nothing_is_read_unasked() {
        let (opened, open) = mpsc::channel();
        let sampler = Sampler::start("test-sampler", patience(LONG), move || {
            opened.send(()).expect("the test waits");
            Ok(|| -> Result<u32, String> { panic!("nobody asked") })
        });
        open.recv().unwrap();
        let sampler = sampler.unwrap();
        assert!(sampler.shared.lock().over.is_none());
        drop(sampler);
    }

    #[test]
    fn a_hang_is_waited_for_once_and_never_at_the_end() {
        let brief = Duration::from_millis(5);
        let (gate, sampler) = counting(Patience {
            first: brief,
            later: LONG,
            period: Duration::ZERO,
            goodbye: brief,
        });
        for _ in 0..10_000 {
            assert!(matches!(sampler.newest(), Err(ProbeError::Transient(_))));
        }
        drop(sampler);
        drop(gate);
    }

    #[test]
    fn an_old_reading_is_handed_out_for_three_periods_only() {
        let (gate, sampler) = counting(Patience {
            later: Duration::ZERO,
            ..patience(Duration::from_secs(20))
        });
        gate.send(()).unwrap();
        assert_eq!(sampler.newest(), Ok(1));
        let back = |by| {
            let mut state = sampler.shared.lock();
            let (at, _) = state.newest.as_mut().expect("there is one");
            *at = at
                .checked_sub(Duration::from_secs(by))
                .expect("the clock is old enough");
        };
        back(30);
        assert_eq!(sampler.newest(), Ok(1));
        back(31);
        assert!(matches!(sampler.newest(), Err(ProbeError::Transient(_))));
        drop(gate);
    }

    #[test]
    fn what_ends_the_thread_is_said_at_every_call() {
        let refused = Sampler::<u32>::start("test-sampler", patience(LONG), || {
            Err::<fn() -> Result<u32, String>, _>("no driver".to_owned())
        });
        let refused = refused.unwrap();
        for _ in 0..2 {
            assert_eq!(refused.newest(), Err(ProbeError::Unavailable("no driver".to_owned())));
        }
        let panicking = Sampler::start("test-sampler", patience(LONG), || {
            Ok(|| -> Result<u32, String> { panic!("made to panic") })
        });
        let panicked = panicking.unwrap().newest();
        assert_eq!(panicked, Err(ProbeError::Unavailable("reading panicked".to_owned())));
    }

    #[test]
    fn the_thread_logs_nothing() {
        let sampler = Sampler::start("test-sampler", patience(LONG), || Ok(|| Ok(logcore::is_quiet())));
        assert_eq!(sampler.unwrap().newest(), Ok(true));
    }
}
