//! The thread `logcore-health`: it watches the runs, and writes what their readers look at. A
//! frozen disk stops this thread, and no other. Where the system has no thread left, those that
//! begin and end a logger do what the end of a run needs.
//!
//! | module | content |
//! |---|---|
//! | [`watched_run`] | one run: its record, and a look at it each second |
//! | [`stopping`] | the reasons to stop the run |
//! | [`bell`] | calls the thread before its next look |
//!
//! With the feature `health`:
//!
//! | module | content |
//! |---|---|
//! | `vigil` | the watch over one run |
//! | `event_writer` | the events that wait until the disk takes them |
//! | `journal` | what the health of a run has to say: events, lines, alerts |
//! | `findings` | what the rules find |
//! | `agreement` | the step at which all ranks stop |
//! | `stall` | a run that no longer moves |
//! | `rank_watch` | a rank that is slower than the others |

#[cfg(feature = "health")]
mod agreement;
pub(super) mod bell;
#[cfg(feature = "health")]
mod event_writer;
#[cfg(feature = "health")]
mod findings;
#[cfg(feature = "health")]
mod journal;
#[cfg(feature = "health")]
mod rank_watch;
#[cfg(feature = "health")]
mod stall;
pub(super) mod stopping;
#[cfg(feature = "health")]
pub(super) mod vigil;
mod watched_run;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use logcore::sync::lock;
use logcore::{Deadline, RunState, suppress_logging};
use logcore_pipeline::{block_write_signals, lower_thread_priority, print_notice};

use self::watched_run::WatchedRun;
use super::Run;
use super::record::RunRecord;
use crate::logger::inner::LoggerInner;

/// Time between two looks at the runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time between two looks at the record of a run, as long as its facts are being collected or its
/// steps have just begun.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);

/// A healthy disk takes a file within this time.
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);

/// The way to the thread. The thread ends when the value is dropped.
pub(super) enum Health {
    Thread(Sender<Request>),
    /// There is no thread: each request is served by the thread that makes it.
    Caller(Arc<Mutex<HealthThread>>),
}

/// A `run.json` that is being written.
#[must_use = "a process that ends before its end is written seems to be killed"]
pub(crate) struct PendingWrite(Receiver<()>);

pub(super) enum Request {
    /// Watch a run, with its record once it has a folder.
    Begin(Arc<Run>, Option<Box<RunRecord>>),
    Join(Arc<Run>, Arc<LoggerInner>),
    /// Look at what has been found and asked, without waiting for the next look.
    Attend(Arc<Run>),
    Save {
        run: Arc<Run>,
        /// Dropped when the file is written.
        done: Sender<()>,
    },
    End {
        run: Arc<Run>,
        state: RunState,
        exit_code: i32,
        last_step: Option<u64>,
        /// Dropped when the file is written.
        done: Sender<()>,
    },
}

impl Health {
    /// Starts the thread.
    pub(super) fn start() -> Self {
        let (sender, requests) = channel();
        let started = thread::Builder::new().name("logcore-health".to_owned()).spawn(move || {
            lower_thread_priority();
            // An incident beyond `ulimit -f` is an error, and no end of the process.
            block_write_signals();
            HealthThread::default().serve(&requests);
        });
        match started {
            Ok(_) => Self::Thread(sender),
            Err(error) => {
                print_notice(
                    "health",
                    &format!(
                        "nobody watches the run: cannot start a thread: {error}. What the rules find is told at the \
                         end; stalls, slow ranks and reasons to stop are not looked for. Allow the process more \
                         threads"
                    ),
                );
                Self::Caller(Arc::default())
            }
        }
    }

    fn send(&self, request: Request) {
        match self {
            // Fails only after a panic of the thread.
            Self::Thread(sender) => drop(sender.send(request)),
            Self::Caller(watched) => lock(watched).handle(request),
        }
    }

    /// Hands over a run, with its record if the run has a folder.
    pub(super) fn begin(&self, run: &Arc<Run>, record: Option<RunRecord>) {
        let weak = Arc::downgrade(run);
        match self {
            Self::Thread(sender) => {
                let sender = sender.clone();
                run.bell().set_answer(move || {
                    if let Some(run) = weak.upgrade() {
                        let _ = sender.send(Request::Attend(run));
                    }
                });
            }
            // Without rules there is nothing to look at before the end.
            #[cfg(not(feature = "health"))]
            Self::Caller(_) => drop(weak),
            #[cfg(feature = "health")]
            Self::Caller(watched) => {
                let watched = Arc::downgrade(watched);
                run.bell().set_look(move || {
                    if let (Some(run), Some(watched)) = (weak.upgrade(), watched.upgrade()) {
                        lock(&watched).handle(Request::Attend(run));
                    }
                });
            }
        }
        self.send(Request::Begin(Arc::clone(run), record.map(Box::new)));
    }

    /// Adds a logger to a run.
    pub(super) fn join(&self, run: &Arc<Run>, logger: &Arc<LoggerInner>) {
        self.send(Request::Join(Arc::clone(run), Arc::clone(logger)));
    }

    /// Writes what has become known of a run, without waiting for the next look.
    pub(super) fn save(&self, run: &Arc<Run>) -> PendingWrite {
        let (done, written) = channel();
        let run = Arc::clone(run);
        self.send(Request::Save { run, done });
        PendingWrite(written)
    }

    /// Ends a run.
    pub(super) fn end(&self, run: &Arc<Run>, state: RunState, exit_code: i32, last_step: Option<u64>) -> PendingWrite {
        let (done, written) = channel();
        self.send(Request::End {
            run: Arc::clone(run),
            state,
            exit_code,
            last_step,
            done,
        });
        PendingWrite(written)
    }
}

impl PendingWrite {
    /// Waits until the file is written, or the deadline has passed; a moment in any case.
    pub(crate) fn wait(&self, deadline: Deadline) {
        // The sender is dropped without sending.
        let _ = self.0.recv_timeout(deadline.remaining().max(WRITE_TIMEOUT));
    }
}

#[derive(Default)]
pub(super) struct HealthThread {
    runs: Vec<WatchedRun>,
}

impl HealthThread {
    fn serve(&mut self, requests: &Receiver<Request>) {
        let (mut saved, mut ticked) = (Instant::now(), Instant::now());
        loop {
            let until_save = self.interval().saturating_sub(saved.elapsed());
            let until_tick = INTERVAL.saturating_sub(ticked.elapsed());
            match requests.recv_timeout(until_save.min(until_tick)) {
                Ok(request) => self.handle(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also between requests that come without a pause.
            if ticked.elapsed() >= INTERVAL {
                ticked = Instant::now();
                self.runs.iter_mut().for_each(WatchedRun::tick);
            }
            if saved.elapsed() >= self.interval() {
                saved = Instant::now();
                self.runs.iter_mut().for_each(WatchedRun::save);
            }
        }
    }

    fn interval(&self) -> Duration {
        match self.runs.iter().any(WatchedRun::saves_soon) {
            true => FIRST_INTERVAL,
            false => INTERVAL,
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Begin(run, record) => match self.find(&run) {
                Some(watched) => watched.set_record(record),
                None => self.runs.push(WatchedRun::new(run, record)),
            },
            Request::Join(run, logger) => {
                if let Some(watched) = self.find(&run) {
                    watched.add_logger(&logger);
                }
            }
            Request::Attend(run) => {
                if let Some(watched) = self.find(&run) {
                    watched.attend();
                }
            }
            Request::Save { run, done } => {
                if let Some(watched) = self.find(&run) {
                    watched.save();
                }
                drop(done);
            }
            Request::End {
                run,
                state,
                exit_code,
                last_step,
                done,
            } => {
                let index = self.runs.iter().position(|watched| watched.is_of(&run));
                if let Some(watched) = index.map(|index| self.runs.swap_remove(index)) {
                    suppress_logging(|| watched.end(state, exit_code, last_step));
                }
                drop(done);
            }
        }
    }

    fn find(&mut self, run: &Arc<Run>) -> Option<&mut WatchedRun> {
        self.runs.iter_mut().find(|watched| watched.is_of(run))
    }
}
