//! One run: its folder, its log, and the thread that delivers it.

pub(crate) mod prepare;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use logcore::{Deadline, Notices, PerProcess, ResumePoint, SinkBooks, SinkError, StopFlag, suppress_logging};

use crate::folder::{FILES, RunFolder};
use crate::log_format::LogLoss;
use crate::log_format::items::ItemTree;
use crate::log_format::proto::{self, Timestamp};
use crate::recovered::RunResumePoint;
use crate::run_log::environment;
use crate::run_log::{CallRejection, RunLog, RunStart};
use crate::settings::{self, NoticeLevel, ResumeMode, RunMode, RunSettings};
use crate::upload::{
    self, Api, DeliveryControl, DeliveryOutcome, DeliveryPlan, RetryingClient, UploadError, UploadProgress,
    state::resume::ServerRun,
};

/// A run of this process.
pub(crate) struct WandbRun {
    logger: String,
    pub(crate) settings: RunSettings,
    pub(crate) control: Arc<DeliveryControl>,
    /// When the run was set up: its rows count their time from here.
    started: SystemTime,
    /// Files that the program has kept with the run: the name of each, and where it came from.
    saved: Mutex<BTreeMap<String, PathBuf>>,
    state: Mutex<RunState>,
}

struct RunState {
    /// Sinks that write to it: two while one configuration takes the place of another.
    users: usize,
    log: Option<RunLog>,
    /// The log of a run that has ended, until all of it is in the file.
    ending: Option<RunLog>,
    folder: Option<PathBuf>,
    files: Option<Arc<RunFolder>>,
    /// The folder above those of W&B runs, with links resolved.
    dir: PathBuf,
    /// When the log was last tried to be made.
    tried: Option<Instant>,
    /// Where the server stood when the run began, if it was asked.
    existing: Option<Box<ServerRun>>,
    online: bool,
    /// Calls that are in the log.
    calls: u64,
    /// Which calls the records up to a number hold; the newest last.
    marks: VecDeque<(i64, u64)>,
    books: SinkBooks,
    ended: bool,
    complete: bool,
}

/// A log that could not be made is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// And one whose end could not be written after this.
const TRY_TO_END_AGAIN: Duration = Duration::from_millis(50);
/// More marks than this are thinned: a server that is down for days costs no memory.
const MOST_MARKS: usize = 4096;

impl WandbRun {
    pub(crate) fn new(logger: &str, settings: RunSettings, existing: Option<ServerRun>, stop: &StopFlag) -> Arc<Self> {
        Arc::new(Self {
            logger: logger.to_owned(),
            settings,
            control: Arc::new(DeliveryControl::new(stop.clone(), None)),
            started: SystemTime::now(),
            saved: Mutex::default(),
            state: Mutex::new(RunState {
                users: 0,
                log: None,
                ending: None,
                folder: None,
                files: None,
                dir: PathBuf::new(),
                tried: None,
                existing: existing.map(Box::new),
                online: false,
                calls: 0,
                marks: VecDeque::new(),
                books: SinkBooks::default(),
                ended: false,
                complete: false,
            }),
        })
    }

    /// The run that the logger of this name has open.
    pub(crate) fn of(logger: &str) -> Option<Arc<Self>> {
        lock(RUNS.get()).get_or_insert_default().get(logger).cloned()
    }

    pub(crate) fn add_user(&self) {
        lock(&self.state).users += 1;
    }

    /// A sink that never started, or has finished, lets go. Returns whether there is another.
    pub(crate) fn drop_user(&self) -> bool {
        let mut state = lock(&self.state);
        state.users = state.users.saturating_sub(1);
        state.users > 0
    }

    /// Makes the folder and the log, and starts the delivery, unless an earlier configuration has.
    pub(crate) fn start(self: &Arc<Self>, notices: &Notices) -> Result<(), SinkError> {
        let mut state = lock(&self.state);
        if state.log.is_some() || state.ended {
            return Ok(());
        }
        match self.settings.words {
            NoticeLevel::All => self.control.set_notices(notices.clone()),
            NoticeLevel::Few => self.control.set_notices(without_news(notices.clone())),
            NoticeLevel::None => {}
        }
        for line in &self.settings.unread {
            self.control.say(line, line);
        }
        // What cannot be remembered is a run that the next start does not go on with; no reason to refuse this one.
        let _ = settings::remember(&self.settings);
        lock(RUNS.get())
            .get_or_insert_default()
            .insert(self.logger.clone(), Arc::clone(self));
        self.open(&mut state)
    }

    /// What start does, and what is tried again while the disk does not let it.
    fn open(self: &Arc<Self>, state: &mut RunState) -> Result<(), SinkError> {
        state.tried = Some(Instant::now());
        let started = self.started;
        let folder = self.make_folder().map_err(|error| {
            SinkError::from(error).doing(format!(
                "make a folder for the W&B run in {}",
                self.settings.dir.display()
            ))
        })?;
        let path = folder.join(format!("run-{}.wandb", self.settings.run_id));
        let log = fs::create_dir(folder.join("files"))
            .and_then(|()| fs::create_dir(folder.join("logs")))
            .and_then(|()| RunLog::create(&path, self.beginning(started, state.existing.as_deref())))
            .map_err(|error| {
                // It is tried again, and makes a folder each time.
                let _ = fs::remove_dir_all(&folder);
                SinkError::from(error).doing(format!("make {}", path.display()))
            })?;
        point_latest_to(&folder);
        state.files = RunFolder::of(&path).ok().map(Arc::new);
        state.log = Some(log);
        state.dir = self.settings.dir.canonicalize().unwrap_or_default();
        state.folder = Some(folder.clone());
        let demand = self.settings.resume.and_then(ResumeMode::demand);
        if demand.is_some() || state.existing.is_some() {
            // If it cannot be kept, the delivery asks the server again.
            let beginning = UploadProgress::beginning(state.existing.as_deref(), demand);
            let _ = RunFolder::of(&path).and_then(|files| beginning.save(&files));
        }
        if self.settings.mode == RunMode::Online {
            self.start_delivery(state, &path);
        }
        self.say_where(&folder);
        Ok(())
    }

    /// Has a call written to the log.
    pub(crate) fn write(
        self: &Arc<Self>,
        call: impl FnOnce(&mut RunLog) -> Result<(), CallRejection>,
    ) -> Result<(), SinkError> {
        let mut state = lock(&self.state);
        state.books.accepted += 1;
        let waited = state.tried.is_none_or(|tried| tried.elapsed() >= TRY_AGAIN);
        if state.log.is_none() && !state.ended && waited {
            // It is said by whoever started the sink; here it is only another try.
            let _ = self.open(&mut state);
        }
        let Some(log) = &mut state.log else {
            state.books.drop_for("no log", 1);
            return Err(SinkError::new("the run has no log").with_reason("no log"));
        };
        match call(log) {
            Ok(()) => {
                state.calls += 1;
                Ok(())
            }
            Err(refused) => {
                state.books.drop_for(refused.reason(), 1);
                refused.error()
            }
        }
    }

    /// Writes to the file what waits, and tells the uploader.
    pub(crate) fn write_out(&self) -> Result<(), SinkError> {
        let mut state = lock(&self.state);
        let open_calls = state.log.as_ref().map_or(0, RunLog::open_calls);
        let Some(log) = &mut state.log else { return Ok(()) };
        let written = log.write_out();
        let (last, place) = (log.last(), log.path().to_owned());
        let losses = log.take_losses();
        self.account_for(&mut state, losses, &place);
        written.map_err(|error| SinkError::from(error).doing(format!("write to {}", place.display())))?;
        let closed = state.calls - open_calls;
        if state
            .marks
            .back()
            .is_none_or(|(num, calls)| (*num, *calls) != (last, closed))
        {
            state.marks.push_back((last, closed));
        }
        if state.marks.len() > MOST_MARKS {
            let mut odd = false;
            state.marks.retain(|_| {
                odd = !odd;
                odd
            });
        }
        Ok(())
    }

    /// Somebody has cut the log: what of it is gone, and nobody has read, is lost.
    fn account_for(&self, state: &mut RunState, losses: Vec<LogLoss>, place: &Path) {
        for LogLoss { behind, to, again } in losses {
            let calls_to = |num: i64| {
                let marks = state.marks.iter().take_while(|mark| mark.0 <= num);
                marks.last().map_or(0, |mark| mark.1)
            };
            let (kept, all) = (calls_to(behind), calls_to(to));
            let lost = all.saturating_sub(kept).saturating_sub(again);
            state.marks.retain(|mark| mark.0 <= behind);
            state.marks.push_back((to, all - lost));
            state.calls -= lost;
            state.books.drop_for("cut off by others", lost);
            let text = format!(
                "W&B: {} was cut by somebody else; the run goes on in it, and {lost} calls that stood there are lost",
                place.display()
            );
            self.control.say("log cut", &text);
        }
    }

    /// Where the log stands; `None` if there is none.
    pub(crate) fn resume_point(&self) -> Option<ResumePoint> {
        let state = lock(&self.state);
        let log = state.log.as_ref()?;
        // Behind a link in the folder it is not, and then only its user can say where.
        let path = log.path().strip_prefix(&state.dir).unwrap_or(log.path());
        let mark = ResumePoint::new(&RunResumePoint {
            console: self.settings.console,
            dir: self.settings.dir_is_named.then_some(Cow::Borrowed(&*state.dir)),
            log: log.mark(path),
        })?;
        Some(if log.waits() { mark.incomplete() } else { mark })
    }

    /// Ends the run, and gives the delivery until `deadline`. What the disk does not take at once is for
    /// [`write_end`](Self::write_end).
    pub(crate) fn end(&self, exit_code: i32, deadline: Deadline) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        let Some(mut log) = state.log.take() else { return };
        log.end(exit_code, SystemTime::now());
        state.ending = Some(log);
        // If it fails, it is tried again.
        let _ = self.try_to_end(&mut state);
        self.control.end(deadline);
        let mut runs = lock(RUNS.get());
        let runs = runs.get_or_insert_default();
        if runs.get(&self.logger).is_some_and(|run| std::ptr::eq(&**run, self)) {
            runs.remove(&self.logger);
        }
    }

    /// Tries until `deadline` to write the end of the run; then what is not in the file is lost.
    pub(crate) fn write_end(&self, deadline: Deadline) -> Result<(), SinkError> {
        loop {
            let mut state = lock(&self.state);
            let Err(error) = self.try_to_end(&mut state) else {
                return Ok(());
            };
            if deadline.has_passed() {
                let error = SinkError::from(error);
                state.give_up(error.reason());
                return Err(error.doing("write the end of the W&B run"));
            }
            drop(state);
            thread::sleep(deadline.remaining().min(TRY_TO_END_AGAIN));
        }
    }

    /// Whether a server is to have it.
    pub(crate) fn is_online(&self) -> bool {
        lock(&self.state).online
    }

    fn try_to_end(&self, state: &mut RunState) -> io::Result<()> {
        let Some(log) = &mut state.ending else { return Ok(()) };
        let synced = log.sync();
        let (last, place) = (log.last(), log.path().to_owned());
        let losses = log.take_losses();
        self.account_for(state, losses, &place);
        synced?;
        state.marks.push_back((last, state.calls));
        state.ending = None;
        Ok(())
    }

    /// Waits for the delivery; returns the account, and what is only on disk.
    pub(crate) fn settle(&self, deadline: Deadline) -> (SinkBooks, Result<(), SinkError>) {
        let written = self.write_end(deadline);
        let online = lock(&self.state).online;
        let over = !online || self.control.wait_until_over(deadline);
        let books = self.books();
        let missing = online && !(over && lock(&self.state).complete);
        let result = match missing && self.settings.words != NoticeLevel::None {
            false => Ok(()),
            true => Err(self.undelivered(&books)),
        };
        (books, written.and(result))
    }

    pub(crate) fn books(&self) -> SinkBooks {
        let mut state = lock(&self.state);
        let reached = self.control.delivered();
        let left_out = self.control.dropped();
        let mut delivered = match (state.online, state.complete) {
            (false, _) => 0,
            (true, true) => state.calls,
            (true, false) => {
                let num = reached.num;
                while state.marks.len() > 1 && state.marks[1].0 <= num {
                    state.marks.pop_front();
                }
                state
                    .marks
                    .front()
                    .filter(|mark| mark.0 <= num)
                    .map_or(0, |mark| mark.1.saturating_sub(reached.missing))
            }
        };
        let mut books = state.books.clone();
        books.spooled = state.calls - delivered;
        for (reason, calls) in left_out {
            let calls = calls.min(delivered);
            delivered -= calls;
            books.drop_for(reason, calls);
        }
        books.delivered = delivered;
        books
    }

    pub(crate) fn folder(&self) -> Option<PathBuf> {
        lock(&self.state).folder.clone()
    }

    pub(crate) fn run_files(&self) -> Option<Arc<RunFolder>> {
        lock(&self.state).files.clone()
    }

    /// The name under which a file that the program saves is kept: that which is wanted, unless it is another's.
    pub(crate) fn name_for(&self, wanted: &str, source: &Path, run: &RunFolder) -> String {
        let mut saved = lock(&self.saved);
        let is_there = |name: &str| run.folder().open_file(&Path::new(FILES).join(name)).is_ok();
        let free = |name: &str| match saved.get(name) {
            Some(known) => known == source,
            None => !OWN_FILES.contains(&name) && !is_there(name),
        };
        let mut name = wanted.to_owned();
        for number in 2.. {
            if free(&name) {
                break;
            }
            name = numbered(wanted, number);
        }
        saved.insert(name.clone(), source.to_owned());
        name
    }

    fn start_delivery(self: &Arc<Self>, state: &mut RunState, path: &Path) {
        let files = match RunFolder::of(path) {
            Ok(files) => Arc::new(files),
            Err(error) => return self.no_delivery(&format!("{}: {error}", path.display())),
        };
        let plan = DeliveryPlan {
            files,
            live: state.log.as_ref().and_then(RunLog::live),
            interval: self.settings.transmit_interval,
            heartbeat: upload::HEARTBEAT,
            may_exist: self.settings.run_id_given,
            app_url: self.settings.app_url.clone(),
            ignored: self.settings.ignored.clone(),
            ended: false,
        };
        let run = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("logcore-wandb".to_owned())
            .spawn(move || suppress_logging(|| run.deliver(plan)));
        match spawned {
            Ok(_) => state.online = true,
            Err(error) => self.no_delivery(&format!("no thread for the delivery: {error}")),
        }
    }

    fn no_delivery(&self, why: &str) {
        let error = UploadError::last(upload::UploadErrorKind::Unreadable, why);
        self.control.trouble(upload::Lane::Rows, &error);
    }

    fn deliver(&self, plan: DeliveryPlan) {
        let _over = FinishGuard(&self.control);
        let delivered = Api::new(&self.settings).and_then(|api| {
            let client = RetryingClient {
                api: Arc::new(api),
                control: Arc::clone(&self.control),
                lane: upload::Lane::Rows,
            };
            upload::deliver(client, plan, &mut |_| {})
        });
        match delivered {
            Ok(delivered) => lock(&self.state).complete = delivered.outcome == DeliveryOutcome::Complete,
            Err(error) => self.control.trouble(upload::Lane::Rows, &error),
        }
    }

    fn undelivered(&self, books: &SinkBooks) -> SinkError {
        let why = self.control.current_trouble();
        let (what, them) = match books.spooled {
            0 => ("a part of the run is".to_owned(), "it"),
            calls => (format!("{calls} of {} calls are", books.accepted), "them"),
        };
        let text = format!(
            "{what} only on disk{}; send {them} with `{}`",
            why.map(|error| format!(" ({error})")).unwrap_or_default(),
            self.sync_command(),
        );
        SinkError::new(text).with_reason("not delivered in time")
    }

    /// What sends a run that is only on disk.
    fn sync_command(&self) -> String {
        let folder = lock(&self.state).folder.clone().unwrap_or_default();
        format!("cargo xtask wandb sync {}", folder.display())
    }

    /// Nobody asked for a run that stays on disk: it must be said.
    fn say_where(&self, folder: &Path) {
        if self.settings.mode == RunMode::Offline && !self.settings.mode_said {
            let text = format!(
                "W&B: there is no API key, so the run is kept offline; send it with `cargo xtask wandb sync {}`",
                folder.display()
            );
            self.control.say("offline", &text);
        }
    }

    /// `<dir>/wandb/[offline-]run-<time>-<id>`, with a number at its end if there is one already.
    fn make_folder(&self) -> io::Result<PathBuf> {
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

    fn beginning(&self, started: SystemTime, existing: Option<&ServerRun>) -> RunStart {
        let settings = &self.settings;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let inherited = |tree: Option<&ItemTree>| tree.filter(|tree| !tree.is_empty()).map(ItemTree::items);
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
        let earlier = existing.map_or(0.0, |existing| existing.runtime);
        let environment = match settings.meta {
            true => environment::here(settings.program.as_deref(), settings.host.as_deref(), started),
            false => environment::nowhere(started),
        };
        RunStart {
            run: proto::RunRecord {
                run_id: settings.run_id.clone(),
                entity: text(&settings.entity),
                project: settings.project.clone(),
                config: inherited(existing.map(|existing| &existing.config)),
                summary: inherited(existing.map(|existing| &existing.summary)),
                run_group: text(&settings.group),
                job_type: text(&settings.job_type),
                display_name: text(&settings.name),
                notes,
                tags,
                sweep_id: text(&settings.sweep_id),
                host: environment.host.clone(),
                starting_step: i64::try_from(first_step).unwrap_or(0),
                start_time: Some(Timestamp::of(started)),
                resumed: existing.is_some(),
                runtime: earlier as i32,
                // Where the server was not asked yet, the delivery has to.
                resume: existing.is_none() && settings.resume.is_some_and(|resume| resume != ResumeMode::Never),
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
            earlier,
            stats: settings.stats,
        }
    }
}

impl RunState {
    /// What is not in the file will not be.
    fn give_up(&mut self, reason: &str) {
        self.ending = None;
        let written = self.marks.back().map_or(0, |mark| mark.1);
        self.books.drop_for(reason, self.calls - written);
        self.calls = written;
    }
}

/// Nobody waits for a delivery that has panicked.
struct FinishGuard<'a>(&'a DeliveryControl);

impl Drop for FinishGuard<'_> {
    fn drop(&mut self) {
        self.0.set_over();
    }
}

/// The names that the run itself keeps in `files/`.
const OWN_FILES: [&str; 5] = [
    "config.yaml",
    "media",
    "output.log",
    "wandb-metadata.json",
    "wandb-summary.json",
];

/// `a/model.bin` becomes `a/model-2.bin`.
fn numbered(name: &str, number: u32) -> String {
    let path = Path::new(name);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
    let file = format!("{stem}-{number}{}", ending.unwrap_or_default());
    path.with_file_name(file).to_string_lossy().into_owned()
}

/// How long the end of a run that nobody has ended may take.
pub(crate) const ABANDONED: Duration = Duration::from_secs(5);

/// The newest run of each logger that is open.
static RUNS: PerProcess<Mutex<Option<OpenRuns>>> = PerProcess::new(|_| Mutex::default());
type OpenRuns = HashMap<String, Arc<WandbRun>>;

/// The folder of the runs: `wandb`, or `.wandb` if that is there.
pub(crate) fn wandb_folder(dir: &Path) -> PathBuf {
    let hidden = dir.join(".wandb");
    match hidden.is_dir() {
        true => hidden,
        false => dir.join("wandb"),
    }
}

/// `latest-run` leads to the newest run; where links cannot be made, nothing does.
fn point_latest_to(folder: &Path) {
    #[cfg(unix)]
    if let (Some(root), Some(name)) = (folder.parent(), folder.file_name()) {
        let fresh = root.join(format!(".latest-run-{}", logcore_files::random_suffix()));
        if std::os::unix::fs::symlink(name, &fresh).is_ok() && fs::rename(&fresh, root.join("latest-run")).is_err() {
            let _ = fs::remove_file(&fresh);
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
}

/// Lines that are no trouble are left out.
fn without_news(notices: Notices) -> Notices {
    Notices::new(move |kind, text| {
        if !matches!(kind, "address" | "offline") {
            notices.print(kind, text);
        }
    })
}

/// Now; a clock that is beyond every calendar stands at the end of ours.
fn local_now() -> ZonedDateTime {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::MAX);
    ZonedDateTime::new(now, TimeZone::system())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
