//! The run of this process: its loggers, and the thread that delivers its files.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use logcore::files::Folder;
use logcore::sync::lock;
use logcore::{Deadline, LoggerEnd, Notices, PerProcess, RunInfo, RunState, SinkBooks, SinkError, suppress_logging};
use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, Lane, RetryingClient, lock_delivery};

use crate::NAME;
use crate::api::MlflowApi;
use crate::books::{CallBooks, DeliveredLoggers};
use crate::settings::MlflowSettings;
use crate::spool::ROWS;
use crate::uploader::{DeliveryPlan, LiveRun, deliver};

/// A run whose rows this process writes. All loggers of the run share it.
pub(crate) struct MlflowRun {
    dir: PathBuf,
    uri: String,
    control: Arc<DeliveryControl>,
    delivered: Arc<DeliveredLoggers>,
    end: Arc<Mutex<RunState>>,
    state: Mutex<LocalState>,
}

#[derive(Default)]
struct LocalState {
    /// Number of sinks that have not finished.
    users: usize,
    books: BTreeMap<String, CallBooks>,
    complete: bool,
}

/// The file that a delivery locks.
const LOCK: &str = ".mlflow.lock";
/// The longest wait for a logger that ends before the last one.
const LONGEST_WAIT_FOR_LOGGER: Duration = Duration::from_secs(5);
/// Time between two tries to begin a delivery, while another one of the run is going on.
const BUSY_RETRY: Duration = Duration::from_secs(2);

/// Runs by folder.
type OpenRuns = Mutex<Option<HashMap<PathBuf, Arc<MlflowRun>>>>;

/// The runs of this process.
static RUNS: PerProcess<OpenRuns> = PerProcess::new(|_| Mutex::new(None));

impl MlflowRun {
    /// Adds a logger to the run of a folder. The first logger begins the delivery.
    pub(crate) fn join(
        dir: &Path,
        settings: &MlflowSettings,
        logger: &str,
        info: &RunInfo,
        notices: &Notices,
    ) -> Result<Arc<Self>, SinkError> {
        let mut runs = lock(RUNS.get());
        let runs = runs.get_or_insert_default();
        if let Some(run) = runs.get(dir) {
            lock(&run.state).users += 1;
            if run.uri != settings.server.uri {
                let text = format!("MLflow: the run goes on at {}, where it has begun", run.uri);
                notices.print("another server", &text);
            }
            return Ok(Arc::clone(run));
        }
        let run = Arc::new(Self {
            dir: dir.to_owned(),
            uri: settings.server.uri.clone(),
            control: Arc::new(DeliveryControl::new(NAME, None)),
            delivered: Arc::default(),
            end: Arc::new(Mutex::new(RunState::Finished)),
            state: Mutex::new(LocalState {
                users: 1,
                ..LocalState::default()
            }),
        });
        run.control.set_notices(notices.clone());
        run.begin_delivery(settings.clone(), logger, info.clone())?;
        runs.insert(dir.to_owned(), Arc::clone(&run));
        Ok(run)
    }

    /// Returns `true` if this process has a run in a folder.
    pub(crate) fn is_open(dir: &Path) -> bool {
        lock(RUNS.get()).as_ref().is_some_and(|runs| runs.contains_key(dir))
    }

    fn begin_delivery(
        self: &Arc<Self>,
        settings: MlflowSettings,
        logger: &str,
        info: RunInfo,
    ) -> Result<(), SinkError> {
        let begins_at = fs::symlink_metadata(self.dir.join(ROWS)).map_or(0, |metadata| metadata.len());
        let live = LiveRun {
            first_logger: logger.to_owned(),
            begins_at,
            run: info,
            delivered: Arc::clone(&self.delivered),
            end: Arc::clone(&self.end),
        };
        let run = Arc::clone(self);
        thread::Builder::new()
            .name("logcore-mlflow".to_owned())
            .spawn(move || {
                suppress_logging(|| {
                    let delivered = run.deliver(settings, live);
                    lock(&run.state).complete = delivered.is_ok();
                    if let Err(error) = delivered
                        && error.kind() != DeliveryErrorKind::GaveUp
                    {
                        run.control.report_permanent(&error);
                    }
                    run.control.set_finished();
                });
            })
            .map_err(|error| SinkError::from(error).doing("start the thread of the delivery to MLflow"))?;
        Ok(())
    }

    fn deliver(&self, settings: MlflowSettings, live: LiveRun) -> Result<(), DeliveryError> {
        let client = RetryingClient {
            api: Arc::new(MlflowApi::start(&settings.server)?),
            control: Arc::clone(&self.control),
            lane: Lane::Rows,
        };
        // Another process may still deliver an earlier part of the run.
        let (folder, _lock) = loop {
            match open_for_delivery(&self.dir) {
                Err(error) if error.kind() == DeliveryErrorKind::InUse && !self.control.is_ending() => {
                    self.control.wait_for_work(Deadline::after(BUSY_RETRY));
                }
                opened => break opened?,
            }
        };
        let plan = DeliveryPlan {
            folder,
            dir: self.dir.clone(),
            settings,
            live: Some(live),
        };
        deliver(client, plan, &mut |_| {}).map(drop)
    }

    /// Counts a call of a logger.
    pub(crate) fn add_call(&self, logger: &str, step: u64) {
        let mut state = lock(&self.state);
        // No allocation for a logger that is known.
        match state.books.get_mut(logger) {
            Some(books) => books.add(step),
            None => state.books.entry(logger.to_owned()).or_default().add(step),
        }
    }

    /// Returns the address of the run's page, once the server has the run.
    pub(crate) fn address(&self) -> Option<String> {
        self.control.address()
    }

    pub(crate) fn request_flush(&self) {
        self.control.request_flush();
    }

    /// Notes the end of a logger. The run ends with the worst one.
    pub(crate) fn note_end(&self, end: &LoggerEnd) {
        let mut worst = lock(&self.end);
        *worst = RunState::after(end).max(*worst);
    }

    /// Removes a logger whose configuration is replaced. The run stays open for the next one.
    pub(crate) fn hand_over(&self) {
        let mut state = lock(&self.state);
        state.users = state.users.saturating_sub(1);
    }

    /// Removes a logger. Returns `true` if it was the last one.
    pub(crate) fn leave(&self) -> bool {
        // The same order of locks as in `join`, so that no logger joins a run that ends.
        let mut runs = lock(RUNS.get());
        let mut state = lock(&self.state);
        state.users = state.users.saturating_sub(1);
        if state.users > 0 {
            return false;
        }
        runs.get_or_insert_default().remove(&self.dir);
        true
    }

    /// Waits for the calls of a logger that has ended, while others go on. A server that fails, or
    /// is slow, is left to the end of the run.
    pub(crate) fn wait_for_logger(&self, logger: &str, deadline: Deadline) {
        if let Some(books) = lock(&self.state).books.get_mut(logger) {
            books.close();
        }
        let deadline = Deadline::after(deadline.remaining().min(LONGEST_WAIT_FOR_LOGGER));
        self.control.request_flush();
        self.delivered.wait_for(logger, deadline, |rows| {
            let mut state = lock(&self.state);
            let books = state.books.get_mut(logger).map(|books| books.after(rows));
            books.is_none_or(|books| books.spooled == 0) || self.control.current_error().is_some()
        });
    }

    /// Ends the run and waits for the delivery. Returns an error if something is only on disk.
    pub(crate) fn end(&self, deadline: Deadline) -> Result<(), SinkError> {
        lock(&self.state).books.values_mut().for_each(CallBooks::close);
        self.control.run_ended(deadline);
        self.control.wait_until_finished(deadline);
        if lock(&self.state).complete {
            return Ok(());
        }
        let cause = self.control.current_error();
        let cause = cause.map_or_else(|| "no time was left".to_owned(), |error| error.to_string());
        let text = format!(
            "the run is not delivered completely: {cause}; run `logcore sync --to mlflow {}` to continue",
            self.dir.display()
        );
        Err(SinkError::new(text).with_reason("not delivered"))
    }

    /// Returns the books of a logger.
    pub(crate) fn books(&self, logger: &str) -> SinkBooks {
        let delivered = self.delivered.of(logger);
        let mut state = lock(&self.state);
        state
            .books
            .get_mut(logger)
            .map(|books| books.after(&delivered))
            .unwrap_or_default()
    }
}

/// Opens the folder of a run for a delivery, and locks it.
pub(crate) fn open_for_delivery(dir: &Path) -> Result<(Folder, fs::File), DeliveryError> {
    let unreadable = |error: std::io::Error| {
        DeliveryError::permanent(
            DeliveryErrorKind::Unreadable,
            format!("cannot open {}: {error}", dir.display()),
        )
    };
    let folder = Folder::open(dir).map_err(unreadable)?;
    let lock = folder.append(Path::new(LOCK)).map_err(unreadable)?;
    lock_delivery(&lock)?;
    Ok((folder, lock))
}
