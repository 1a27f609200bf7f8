//! A run of this process: its folder, its log, and the thread that delivers the log.
//!
//! Several sinks may share a run, while one configuration replaces another. If the disk is full at
//! the start, later calls create the log.

mod identity;
pub(crate) mod prepare;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::ZonedDateTime;
use logcore::sync::lock;
use logcore::{
    BuildContext, Deadline, Notices, PerProcess, ResumePoint, RunInfo, SinkBooks, SinkError, StopFlag, local_time_zone,
    suppress_logging,
};
use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, Lane, SpoolBooks, SpoolLoss};
use serde_json::Value;

use crate::folder::{FILES, RunFolder, point_latest_to, wandb_folder};
use crate::log_format::items::ItemTree;
use crate::log_format::proto::{self, Timestamp};
use crate::log_format::{LogLoss, position_of};
use crate::run_log::{CallRejection, LATE, RunLog, RunResumePoint, RunStart, describe_late, environment};
use crate::settings::{self, NoticeLevel, ResumeMode, RunMode, RunSettings};
use crate::upload::state::resume::RemoteRun;
use crate::upload::{self, Api, DeliveryOutcome, DeliveryPlan, NAME, RetryingClient, UploadProgress};

/// A run of this process.
pub(crate) struct WandbRun {
    /// Name of the logger.
    logger: String,
    rank: u32,
    /// The run that the logger belongs to.
    local: RunInfo,
    /// The hyper-parameters of the config, without secrets.
    hyper_parameters: Value,
    /// The settings of the run.
    pub(crate) settings: RunSettings,
    /// The state that the run and its delivery share.
    pub(crate) control: Arc<DeliveryControl>,
    /// The flag that asks the program to stop.
    stop: StopFlag,
    /// Time of the setup, from which the runtime of rows counts.
    started: SystemTime,
    /// The names of the files that the program saved with the run, each with the path of the
    /// original.
    saved: Mutex<BTreeMap<String, PathBuf>>,
    state: Mutex<RunState>,
}

/// The changing state of a run.
#[derive(Default)]
struct RunState {
    /// Number of sinks that write to the run: two while one configuration replaces another.
    users: usize,
    /// The log. `None` before the start and after the end.
    log: Option<RunLog>,
    /// The log of an ended run, until all records are in the file.
    ending: Option<RunLog>,
    /// Path of the folder of the run.
    folder: Option<PathBuf>,
    /// The open folder of the run.
    files: Option<Arc<RunFolder>>,
    /// The folder above the W&B folder, with links resolved.
    dir: PathBuf,
    /// Time of the last attempt to create the log.
    last_attempt: Option<Instant>,
    /// The run on the server when this run began, if the server was asked.
    existing: Option<Box<RemoteRun>>,
    /// `true` if the steps that the server has already are reported.
    late_reported: bool,
    /// `true` if a thread delivers the log.
    online: bool,
    /// The books of the calls.
    books: SpoolBooks,
    /// `true` if the last write failed. Then only a delivery tries again, not each call.
    has_failed: bool,
    /// `true` after the end of the run.
    ended: bool,
    /// `true` if the server has everything.
    complete: bool,
}

/// Longest wait for the facts of the run, which a frozen file system may hold up.
const FACTS_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two attempts to create the log.
const CREATE_RETRY: Duration = Duration::from_secs(1);
/// Time between two attempts to write the end of the log.
const END_RETRY: Duration = Duration::from_millis(50);

impl WandbRun {
    /// Creates a run. Nothing is written before [`start`](Self::start).
    pub(crate) fn new(settings: RunSettings, existing: Option<RemoteRun>, context: &BuildContext<'_>) -> Arc<Self> {
        Arc::new(Self {
            logger: context.logger().to_owned(),
            rank: context.rank(),
            local: context.run().clone(),
            hyper_parameters: context.config().redacted_hyper_parameters(),
            settings,
            control: Arc::new(DeliveryControl::new(NAME, None)),
            stop: context.stop_flag().clone(),
            started: SystemTime::now(),
            saved: Mutex::default(),
            state: Mutex::new(RunState {
                existing: existing.map(Box::new),
                ..RunState::default()
            }),
        })
    }

    /// Returns the open run of a logger.
    pub(crate) fn open_of(logger: &str) -> Option<Arc<Self>> {
        lock(RUNS.get()).get_or_insert_default().get(logger).cloned()
    }

    /// Adds a sink to the users of the run.
    pub(crate) fn add_user(&self) {
        lock(&self.state).users += 1;
    }

    /// Removes a sink from the users of the run. Returns `true` if another sink uses the run.
    pub(crate) fn drop_user(&self) -> bool {
        let mut state = lock(&self.state);
        state.users = state.users.saturating_sub(1);
        state.users > 0
    }

    /// Creates the folder and the log, and starts the delivery, unless an earlier configuration has
    /// done so.
    pub(crate) fn start(self: &Arc<Self>, notices: &Notices) -> Result<(), SinkError> {
        let mut state = lock(&self.state);
        if state.log.is_some() || state.ended {
            return Ok(());
        }
        match self.settings.notices {
            NoticeLevel::All => self.control.set_notices(notices.clone()),
            NoticeLevel::Problems => self.control.set_notices(only_problems(notices.clone())),
            NoticeLevel::None => {}
        }
        for line in &self.settings.warnings {
            self.control.print_notice(line, line);
        }
        // On an error the next start does not resume this run, which is no reason to refuse the
        // run.
        let _ = settings::remember(&self.settings);
        self.note_in_local_run(None);
        let local = Arc::downgrade(self);
        self.control.on_address(move |address| {
            if let Some(run) = local.upgrade() {
                run.note_in_local_run(Some(address.to_owned()));
            }
        });
        lock(RUNS.get())
            .get_or_insert_default()
            .insert(self.logger.clone(), Arc::clone(self));
        self.open(&mut state)
    }

    /// Notes this W&B run, and the address of its page once that is known, in the logger's run.
    fn note_in_local_run(&self, url: Option<String>) {
        let id = &self.settings.run_id;
        let known = self.local.wandb_runs().into_iter().find(|run| run.id == *id);
        // An attempt without a network keeps the address that an earlier one has got.
        let url = url.or_else(|| known?.url);
        self.local.note_wandb_run(logcore::WandbRun {
            logger: self.logger.clone(),
            rank: self.rank,
            id: id.clone(),
            url,
        });
    }

    /// Creates the folder and the log. Repeated by later calls after an error.
    fn open(self: &Arc<Self>, state: &mut RunState) -> Result<(), SinkError> {
        state.last_attempt = Some(Instant::now());
        let started = self.started;
        let folder = self.create_folder().map_err(|error| {
            SinkError::from(error).doing(format!(
                "create a folder for the W&B run in {}",
                self.settings.dir.display()
            ))
        })?;
        let path = folder.join(format!("run-{}.wandb", self.settings.run_id));
        let log = fs::create_dir(folder.join("files"))
            .and_then(|()| fs::create_dir(folder.join("logs")))
            .and_then(|()| RunLog::create(&path, self.first_records(started, state.existing.as_deref())))
            .map_err(|error| {
                // The next attempt creates another folder.
                let _ = fs::remove_dir_all(&folder);
                SinkError::from(error).doing(format!("create {}", path.display()))
            })?;
        point_latest_to(&folder);
        state.files = RunFolder::open(&path).ok().map(Arc::new);
        state.log = Some(log);
        state.dir = self.settings.dir.canonicalize().unwrap_or_default();
        state.folder = Some(folder.clone());
        let condition = self.settings.resume.and_then(ResumeMode::condition);
        if condition.is_some() || state.existing.is_some() {
            // On an error the delivery asks the server again.
            let progress = UploadProgress::at_start(state.existing.as_deref(), condition);
            let _ = RunFolder::open(&path).and_then(|files| progress.save(&files));
        }
        if self.settings.mode == RunMode::Online {
            self.start_delivery(state, &path);
        }
        self.print_offline_notice(&folder);
        Ok(())
    }

    /// Runs and counts a call that writes to the log.
    pub(crate) fn write(
        self: &Arc<Self>,
        call: &mut dyn FnMut(&mut RunLog) -> Result<(), CallRejection>,
    ) -> Result<(), SinkError> {
        let mut state = lock(&self.state);
        state.books.accept();
        // The clock is read only without a log: a reading costs as much as ten values of a row.
        let is_due = |last: Option<Instant>| last.is_none_or(|attempt| attempt.elapsed() >= CREATE_RETRY);
        if state.log.is_none() && !state.ended && is_due(state.last_attempt) {
            // `start` has returned the error already.
            let _ = self.open(&mut state);
        }
        let Some(log) = &mut state.log else {
            state.books.reject("no log");
            return Err(SinkError::new("the run has no log").with_reason("no log"));
        };
        match call(log) {
            Ok(()) => {
                let is_write_due = log.is_write_due();
                state.books.spool();
                if is_write_due && !state.has_failed {
                    // The delivery tries again, and returns the error.
                    let _ = self.write_waiting(&mut state);
                }
                Ok(())
            }
            Err(rejection) => {
                self.report_late(&mut state, rejection);
                state.books.reject(rejection.reason());
                rejection.into_error().map_or(Ok(()), Err)
            }
        }
    }

    /// Reports, once, the steps that the server has of an earlier attempt.
    fn report_late(&self, state: &mut RunState, rejection: CallRejection) {
        if let (CallRejection::Late { step }, true, Some(existing)) =
            (rejection, self.settings.keeps_steps, &state.existing)
            && step < existing.next_step
            && !std::mem::replace(&mut state.late_reported, true)
        {
            self.control
                .print_notice(LATE, &describe_late(step, existing.next_step - 1));
        }
    }

    /// Writes the waiting records to the file.
    pub(crate) fn write_out(&self) -> Result<(), SinkError> {
        self.write_waiting(&mut lock(&self.state))
    }

    fn write_waiting(&self, state: &mut RunState) -> Result<(), SinkError> {
        let open_calls = state.log.as_ref().map_or(0, RunLog::open_calls);
        let Some(log) = &mut state.log else { return Ok(()) };
        let written = log.write_out();
        let (last, path) = (log.last(), log.path().to_owned());
        let losses = log.take_losses();
        self.account_for(state, &losses, &path);
        state.has_failed = written.is_err();
        written.map_err(|error| SinkError::from(error).doing(format!("write to {}", path.display())))?;
        state.books.mark(position_of(last), open_calls);
        Ok(())
    }

    /// Counts and reports the calls that another program has cut off the log.
    fn account_for(&self, state: &mut RunState, losses: &[LogLoss], path: &Path) {
        for loss in losses {
            let lost = state.books.lose(SpoolLoss {
                behind: position_of(loss.behind),
                to: position_of(loss.to),
                rewritten: loss.rewritten,
            });
            let text = format!(
                "W&B: another program cut {}; the run continues in the file, and {lost} calls are lost",
                path.display()
            );
            self.control.print_notice("log cut", &text);
        }
    }

    /// Returns the position of the log, for a process that recovers the run. `None` without a log.
    pub(crate) fn resume_point(&self) -> Option<ResumePoint> {
        let state = lock(&self.state);
        let log = state.log.as_ref()?;
        // The path stays absolute if a link in the folder leads elsewhere.
        let path = log.path().strip_prefix(&state.dir).unwrap_or(log.path());
        let point = ResumePoint::new(&RunResumePoint {
            console: self.settings.has_console,
            dir: self.settings.dir_is_explicit.then_some(Cow::Borrowed(&*state.dir)),
            log: log.resume_point(path),
        })?;
        Some(if log.is_waiting() { point.incomplete() } else { point })
    }

    /// Ends the run, and sets the deadline of the delivery. Records that a full disk does not
    /// accept are left to [`write_end`](Self::write_end).
    pub(crate) fn end(&self, exit_code: i32, deadline: Deadline) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        let Some(mut log) = state.log.take() else { return };
        log.end(exit_code, SystemTime::now());
        state.ending = Some(log);
        // After an error, `write_end` tries again.
        let _ = self.try_to_end(&mut state);
        self.control.run_ended(deadline);
        let mut runs = lock(RUNS.get());
        let runs = runs.get_or_insert_default();
        if runs.get(&self.logger).is_some_and(|run| std::ptr::eq(&**run, self)) {
            runs.remove(&self.logger);
        }
    }

    /// Tries until `deadline` to write the end of the run. Then the records that are not in the
    /// file are lost.
    pub(crate) fn write_end(&self, deadline: Deadline) -> Result<(), SinkError> {
        loop {
            let mut state = lock(&self.state);
            let Err(error) = self.try_to_end(&mut state) else {
                return Ok(());
            };
            if deadline.has_passed() {
                let error = SinkError::from(error);
                state.ending = None;
                state.books.drop_unwritten(error.reason());
                return Err(error.doing("write the end of the W&B run"));
            }
            drop(state);
            thread::sleep(deadline.remaining().min(END_RETRY));
        }
    }

    /// Returns `true` if the run is delivered to a server.
    pub(crate) fn is_online(&self) -> bool {
        lock(&self.state).online
    }

    /// Tries once to write the end of the log.
    fn try_to_end(&self, state: &mut RunState) -> io::Result<()> {
        let Some(log) = &mut state.ending else { return Ok(()) };
        let synced = log.sync();
        let (last, path) = (log.last(), log.path().to_owned());
        let losses = log.take_losses();
        self.account_for(state, &losses, &path);
        synced?;
        state.books.mark(position_of(last), 0);
        state.ending = None;
        Ok(())
    }

    /// Waits for the delivery. Returns the books, and an error if something is only on disk.
    pub(crate) fn wait_for_delivery(&self, deadline: Deadline) -> (SinkBooks, Result<(), SinkError>) {
        let written = self.write_end(deadline);
        let online = lock(&self.state).online;
        let finished = !online || self.control.wait_until_finished(deadline);
        let books = self.books();
        let missing = online && !(finished && lock(&self.state).complete);
        let result = match missing && self.settings.notices != NoticeLevel::None {
            false => Ok(()),
            true => Err(self.undelivered(&books)),
        };
        (books, written.and(result))
    }

    /// Returns the books of all sinks of the run.
    pub(crate) fn books(&self) -> SinkBooks {
        let mut state = lock(&self.state);
        let position = self.control.position();
        let mut books = match (state.online, state.complete) {
            (false, _) => state.books.offline(),
            (true, true) => state.books.complete(),
            (true, false) => state.books.delivered_to(position),
        };
        drop(state);
        self.control.book_dropped(&mut books);
        books
    }

    /// Returns the folder of the run, once it exists.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        lock(&self.state).folder.clone()
    }

    /// Returns the open folder of the run.
    pub(crate) fn run_files(&self) -> Option<Arc<RunFolder>> {
        lock(&self.state).files.clone()
    }

    /// Returns the name of a saved file: the wanted name, or a numbered one if another file has
    /// that name.
    pub(crate) fn name_for(&self, wanted: &str, source: &Path, run: &RunFolder) -> String {
        let mut saved = lock(&self.saved);
        let exists = |name: &str| run.folder().open_file(&Path::new(FILES).join(name)).is_ok();
        let is_free = |name: &str| match saved.get(name) {
            Some(known) => known == source,
            None => !OWN_FILES.contains(&name) && !exists(name),
        };
        let mut name = wanted.to_owned();
        for number in 2.. {
            if is_free(&name) {
                break;
            }
            name = numbered(wanted, number);
        }
        saved.insert(name.clone(), source.to_owned());
        name
    }

    /// Starts the thread that delivers the log.
    fn start_delivery(self: &Arc<Self>, state: &mut RunState, path: &Path) {
        let files = match RunFolder::open(path) {
            Ok(files) => Arc::new(files),
            Err(error) => return self.report_no_delivery(&format!("{}: {error}", path.display())),
        };
        let plan = DeliveryPlan {
            files,
            live: state.log.as_ref().and_then(RunLog::live),
            interval: self.settings.transmit_interval,
            heartbeat: upload::HEARTBEAT,
            may_exist: self.settings.run_id_is_explicit,
            app_url: self.settings.app_url.clone(),
            ignore_globs: self.settings.ignore_globs.clone(),
            ended: false,
            stop: self.stop.clone(),
        };
        let run = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("logcore-wandb".to_owned())
            .spawn(move || suppress_logging(|| run.deliver(plan)));
        match spawned {
            Ok(_) => state.online = true,
            Err(error) => self.report_no_delivery(&format!("cannot start the thread of the delivery: {error}")),
        }
    }

    /// Reports that the log stays on disk.
    fn report_no_delivery(&self, cause: &str) {
        let error = DeliveryError::permanent(DeliveryErrorKind::Unreadable, cause);
        self.control.request_failed(Lane::Rows, &error);
    }

    /// Delivers the log, on the thread of the delivery.
    fn deliver(&self, plan: DeliveryPlan) {
        let _guard = FinishGuard(&self.control);
        let delivered = Api::new(&self.settings.server).and_then(|api| {
            let client = RetryingClient {
                api: Arc::new(api),
                control: Arc::clone(&self.control),
                lane: Lane::Rows,
            };
            upload::deliver(client, plan, &mut |_| {})
        });
        match delivered {
            Ok(delivered) => lock(&self.state).complete = delivered.outcome == DeliveryOutcome::Complete,
            Err(error) => self.control.request_failed(Lane::Rows, &error),
        }
    }

    /// Returns the error that names the undelivered calls and the way to send them.
    fn undelivered(&self, books: &SinkBooks) -> SinkError {
        let cause = self.control.current_error();
        let folder = lock(&self.state).folder.clone().unwrap_or_default();
        let (what, them) = match books.spooled {
            0 => ("a part of the run is".to_owned(), "it"),
            calls => (format!("{calls} of {} calls are", books.accepted), "them"),
        };
        let text = format!(
            "{what} only on disk{}; send {them} with {}",
            cause.map(|error| format!(" ({error})")).unwrap_or_default(),
            sync_hint(&folder),
        );
        SinkError::new(text).with_reason("not delivered in time")
    }

    /// Prints that the run is kept on disk, because that was not asked for explicitly.
    fn print_offline_notice(&self, folder: &Path) {
        if self.settings.mode == RunMode::Offline && !self.settings.mode_is_explicit {
            let text = format!(
                "W&B: there is no API key, so the run is kept offline; send it with {}",
                sync_hint(folder)
            );
            self.control.print_notice("offline", &text);
        }
    }

    /// Creates `<dir>/wandb/[offline-]run-<time>-<id>`, with a number at its end if that folder
    /// exists.
    fn create_folder(&self) -> io::Result<PathBuf> {
        let root = wandb_folder(&self.settings.dir);
        fs::create_dir_all(&root)?;
        let kind = match self.settings.mode {
            RunMode::Offline => "offline-run",
            _ => "run",
        };
        let name = format!(
            "{kind}-{}-{}",
            local_now().strftime("%Y%m%d_%H%M%S"),
            self.settings.run_id
        );
        let mut folder = root.join(&name);
        for number in 1.. {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    folder = root.join(format!("{name}-{number}"));
                }
                made => {
                    made?;
                    break;
                }
            }
        }
        Ok(folder)
    }

    /// Returns the first records of the log.
    fn first_records(&self, started: SystemTime, existing: Option<&RemoteRun>) -> RunStart {
        let settings = &self.settings;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let items = |tree: &ItemTree| (!tree.is_empty()).then(|| tree.to_items());
        let mut config = existing.map(|existing| existing.config.clone()).unwrap_or_default();
        for (name, value) in self.hyper_parameters.as_object().into_iter().flatten() {
            config.set(&[name], value.to_string());
        }
        let (mut tags, mut notes) = (settings.tags.clone(), text(&settings.notes));
        if let Some(existing) = existing {
            if tags.is_empty() {
                tags.clone_from(&existing.tags);
            }
            if notes.is_empty() {
                notes.clone_from(&existing.notes);
            }
        }
        let first_step = existing.map_or(0, |existing| existing.next_step);
        let earlier_runtime = existing.map_or(0.0, |existing| existing.runtime);
        let environment = match settings.has_environment {
            true => {
                let facts = self.local.wait_for_facts(Deadline::after(FACTS_TIMEOUT));
                let facts = facts.cloned().unwrap_or_default();
                environment::from_facts(&facts, settings.program.as_deref(), settings.host.as_deref(), started)
            }
            false => environment::anonymous(started),
        };
        RunStart {
            run: proto::RunRecord {
                run_id: settings.run_id.clone(),
                entity: text(&settings.entity),
                project: settings.project.clone(),
                config: items(&config),
                summary: existing.and_then(|existing| items(&existing.summary)),
                run_group: text(&settings.group),
                job_type: text(&settings.job_type),
                display_name: text(&settings.name),
                notes,
                tags,
                sweep_id: text(&settings.sweep_id),
                host: environment.host.clone(),
                starting_step: i64::try_from(first_step).unwrap_or(0),
                start_time: Some(Timestamp::from_system(started)),
                resumed: existing.is_some(),
                runtime: earlier_runtime as i32,
                git: environment.git.clone(),
                // If the server was not asked at setup, the delivery has to.
                resume: existing.is_none() && settings.resume.is_some_and(|resume| resume != ResumeMode::Never),
                keeps_steps: settings.keeps_steps,
                ..proto::RunRecord::default()
            },
            environment,
            telemetry: proto::TelemetryRecord {
                feature: Some(proto::FeatureRecord {
                    finish: false,
                    offline: settings.mode == RunMode::Offline,
                    resumed: existing.is_some(),
                }),
                cli_version: env!("CARGO_PKG_VERSION").to_owned(),
                platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
                ..proto::TelemetryRecord::default()
            },
            started,
            first_step,
            earlier_runtime,
            has_stats: settings.has_stats,
        }
    }
}

/// Marks the delivery as finished even if it panics, so that nobody waits for it.
struct FinishGuard<'a>(&'a DeliveryControl);

impl Drop for FinishGuard<'_> {
    fn drop(&mut self) {
        self.0.set_finished();
    }
}

/// Names the commands that send a run that is only on disk.
fn sync_hint(folder: &Path) -> String {
    let folder = folder.display();
    format!("`logcore sync {folder}`, or with `wandb sync {folder}` of the official client")
}

/// The files in `files/` that belong to the run itself.
const OWN_FILES: [&str; 5] = [
    "config.yaml",
    "media",
    "output.log",
    "wandb-metadata.json",
    "wandb-summary.json",
];

/// Adds a number to a file name: `a/model.bin` becomes `a/model-2.bin`.
fn numbered(name: &str, number: u32) -> String {
    let path = Path::new(name);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
    let file = format!("{stem}-{number}{}", ending.unwrap_or_default());
    path.with_file_name(file).to_string_lossy().into_owned()
}

/// Time for the delivery of a run whose sink is dropped without an end.
pub(crate) const ABANDONED_RUN_TIMEOUT: Duration = Duration::from_secs(5);

/// The open run of each logger.
static RUNS: PerProcess<Mutex<Option<OpenRuns>>> = PerProcess::new(|_| Mutex::default());
type OpenRuns = HashMap<String, Arc<WandbRun>>;

/// Returns notices without those that report no problem.
fn only_problems(notices: Notices) -> Notices {
    Notices::new(move |kind, text| {
        if !matches!(kind, "address" | "offline") {
            notices.print(kind, text);
        }
    })
}

/// Returns the local time. A clock beyond the calendar reads as the end of the calendar.
fn local_now() -> ZonedDateTime {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::MAX);
    ZonedDateTime::new(now, local_time_zone())
}
