//! The thread `logcore-health`, which writes what readers of the runs look at. A frozen disk stops
//! this thread, and no other.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use logcore::{Deadline, RunInfo, RunState, suppress_logging};
use logcore_pipeline::{lower_thread_priority, print_notice};

use super::record::RunRecord;
use crate::logger::inner::LoggerInner;

/// Time between two signs of life. Readers take a process for a live one within a minute of each.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Time between two looks at what has changed.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same, as long as the facts of a run are being collected.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);

/// A healthy disk takes a file within this time.
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);

/// The way to the thread. The thread ends when the value is dropped.
#[derive(Debug)]
pub(super) struct Health(Sender<Request>);

/// A `run.json` that is being written.
#[must_use = "a process that ends before its end is written seems to be killed"]
pub(crate) struct PendingWrite(Receiver<()>);

enum Request {
    Begin(Box<RunRecord>),
    Join(RunInfo, Arc<LoggerInner>),
    Save {
        run: RunInfo,
        /// Dropped when the file is written.
        done: Sender<()>,
    },
    End {
        run: RunInfo,
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
            suppress_logging(|| HealthThread::default().serve(&requests));
        });
        if let Err(error) = started {
            print_notice(
                "health",
                &format!("run.json does not tell the end of the run: cannot start a thread: {error}"),
            );
        }
        Self(sender)
    }

    // Sending fails only if the thread could not be started, which a notice has told.

    /// Hands over a record that has begun.
    pub(super) fn begin(&self, record: RunRecord) {
        let _ = self.0.send(Request::Begin(Box::new(record)));
    }

    /// Adds a logger to a run.
    pub(super) fn join(&self, run: &RunInfo, logger: &Arc<LoggerInner>) {
        let _ = self.0.send(Request::Join(run.clone(), Arc::clone(logger)));
    }

    /// Writes what has become known of a run, without waiting for the next look.
    pub(super) fn save(&self, run: &RunInfo) -> PendingWrite {
        let (done, written) = channel();
        let _ = self.0.send(Request::Save { run: run.clone(), done });
        PendingWrite(written)
    }

    /// Ends a run.
    pub(super) fn end(&self, run: &RunInfo, state: RunState, exit_code: i32, last_step: Option<u64>) -> PendingWrite {
        let (done, written) = channel();
        let _ = self.0.send(Request::End {
            run: run.clone(),
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
struct HealthThread {
    runs: Vec<WatchedRun>,
}

struct WatchedRun {
    record: Box<RunRecord>,
    loggers: Vec<Weak<LoggerInner>>,
    /// Time of the last sign of life.
    heard: Instant,
    /// Time until the next sign of life, which doubles at first: an attempt that is killed early
    /// loses little of its ledger.
    pause: Duration,
}

impl HealthThread {
    fn serve(&mut self, requests: &Receiver<Request>) {
        let mut looked = Instant::now();
        loop {
            match requests.recv_timeout(self.interval().saturating_sub(looked.elapsed())) {
                Ok(request) => self.handle(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also between requests that come without a pause.
            if looked.elapsed() >= self.interval() {
                looked = Instant::now();
                self.runs.iter_mut().for_each(WatchedRun::look);
            }
        }
    }

    fn interval(&self) -> Duration {
        match self.runs.iter().all(|run| run.record.info().facts().is_some()) {
            true => INTERVAL,
            false => FIRST_INTERVAL,
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Begin(record) => self.runs.push(WatchedRun {
                record,
                loggers: Vec::new(),
                heard: Instant::now(),
                pause: INTERVAL,
            }),
            Request::Join(run, logger) => {
                if let Some(watched) = self.find(&run) {
                    watched.record.add_logger(logger.name());
                    watched.loggers.push(Arc::downgrade(&logger));
                }
            }
            Request::Save { run, done } => {
                if let Some(watched) = self.find(&run) {
                    watched.record.write();
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
                let index = self
                    .runs
                    .iter()
                    .position(|watched| is_same(watched.record.info(), &run));
                if let Some(mut watched) = index.map(|index| self.runs.swap_remove(index)) {
                    watched.record.note_progress(last_step);
                    watched.record.end(state, exit_code);
                }
                drop(done);
            }
        }
    }

    fn find(&mut self, run: &RunInfo) -> Option<&mut WatchedRun> {
        self.runs.iter_mut().find(|watched| is_same(watched.record.info(), run))
    }
}

impl WatchedRun {
    fn look(&mut self) {
        if self.heard.elapsed() >= self.pause {
            self.heard = Instant::now();
            self.pause = (self.pause * 2).min(HEARTBEAT);
            self.loggers.retain(|logger| logger.strong_count() > 0);
            let steps = self
                .loggers
                .iter()
                .filter_map(|logger| logger.upgrade()?.metrics().last_step());
            self.record.note_progress(steps.max());
            self.record.touch();
        }
        self.record.hold();
        self.record.write();
    }
}

fn is_same(one: &RunInfo, other: &RunInfo) -> bool {
    one.id() == other.id() && one.dir() == other.dir()
}
