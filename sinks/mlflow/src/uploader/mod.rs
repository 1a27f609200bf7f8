//! Delivers the files of a run to the server, while they grow or afterwards.
//!
//! The uploader is a loop on one thread. The rows on disk are the queue: it sends those that the
//! server does not have, then moves the mark in `mlflow.json`. After a lost reply or a kill, rows
//! are sent again. They have the times of their calls, so that the server keeps each value once.

mod end;
mod establish;
mod pairs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use logcore::files::Folder;
use logcore::{Deadline, RunInfo, RunState, SupersededRows, canonical_name, epoch_seconds};
use logcore_delivery::{DeliveryError, DeliveryErrorKind, Lane, RetryingClient};

use crate::api::{Batch, MlflowApi, RemoteRun};
use crate::batches::{EncodedPoint, split_points};
use crate::books::{DeliveredLoggers, RowTurn};
use crate::documents::RunDocuments;
use crate::names::to_ascii_name;
use crate::settings::MlflowSettings;
use crate::spool::{ROWS, RowSpool, SpooledRow};
use crate::state::MlflowState;
use crate::window::MetricWindow;

/// The last step that MLflow keeps, as a signed number.
const LAST_STEP: u64 = i64::MAX as u64;

/// The run to deliver.
pub(crate) struct DeliveryPlan {
    /// The folder of the run, and its path.
    pub(crate) folder: Folder,
    pub(crate) dir: PathBuf,
    pub(crate) settings: MlflowSettings,
    /// The process that writes the rows, if that is this one.
    pub(crate) live: Option<LiveRun>,
}

/// A run of this process.
pub(crate) struct LiveRun {
    /// The logger whose metrics have no prefix, unless `run.json` names another one.
    pub(crate) first_logger: String,
    /// Length of the rows of earlier processes, in bytes.
    pub(crate) begins_at: u64,
    /// The run, which knows the steps at which its loggers go on.
    pub(crate) run: RunInfo,
    /// The rows of this process that the server has.
    pub(crate) delivered: Arc<DeliveredLoggers>,
    /// The worst end of the loggers so far.
    pub(crate) end: Arc<Mutex<RunState>>,
}

impl LiveRun {
    /// Returns `true` if earlier processes have written a part of the run.
    fn is_resumed(&self) -> bool {
        self.run.attempt() > 1
    }
}

/// Delivers the run of a plan, until everything is delivered or no time is left. Calls `on_read`
/// with the bytes of the rows that were sent. Returns the state that the run has ended with.
///
/// # Errors
///
/// If something is only on disk.
pub(crate) fn deliver(
    client: RetryingClient<MlflowApi>,
    plan: DeliveryPlan,
    on_read: &mut dyn FnMut(u64),
) -> Result<RunState, DeliveryError> {
    let documents = RunDocuments::read(&plan.folder);
    let mut state = MlflowState::load(&plan.folder);
    if let Some(live) = &plan.live {
        if !live.is_resumed() {
            state = MlflowState {
                local_id: live.run.id().to_owned(),
                begins_at: live.begins_at,
                ..MlflowState::default()
            };
        }
        // Rows come, even if the server cannot be reached before the end.
        state.complete = false;
        let _ = state.save(&plan.folder);
    }
    let mut uploader = Uploader {
        state,
        remote: RemoteRun::default(),
        spool: RowSpool::default(),
        lookahead: None,
        window: MetricWindow::default(),
        turns: Vec::new(),
        window_end: None,
        suspects: BTreeSet::new(),
        refused: BTreeSet::new(),
        infinite: BTreeMap::new(),
        superseded: SupersededRows::default(),
        documents,
        client,
        plan,
    };
    uploader.establish()?;
    uploader.run(on_read)
}

struct Uploader {
    client: RetryingClient<MlflowApi>,
    plan: DeliveryPlan,
    documents: RunDocuments,
    state: MlflowState,
    /// The run on the server.
    remote: RemoteRun,
    spool: RowSpool,
    /// A row that was read and belongs to the next window.
    lookahead: Option<SpooledRow>,
    window: MetricWindow,
    /// The rows of this process in the window, each with its number there.
    turns: Vec<(usize, RowTurn)>,
    /// The place of the last line that was read for the window.
    window_end: Option<Range<u64>>,
    /// Names of which the server has refused a value, and those that it has refused again.
    suspects: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// Tags of metrics that were infinite.
    infinite: BTreeMap<String, String>,
    /// The rows that later attempts have taken the place of.
    superseded: SupersededRows,
}

impl Uploader {
    /// Returns the id of our run; `""` in a folder without one.
    fn run_id(&self) -> &str {
        let live = self.plan.live.as_ref();
        live.map_or_else(|| self.documents.run_id(), |live| live.run.id())
    }

    fn run(&mut self, on_read: &mut dyn FnMut(u64)) -> Result<RunState, DeliveryError> {
        let mut flush_requested = true;
        loop {
            let is_over = self.client.control.is_ending();
            self.documents = RunDocuments::read(&self.plan.folder);
            self.send_documents()?;
            if is_over || self.has_place() {
                self.superseded = self.superseded_rows();
                self.send_rows(is_over || flush_requested, on_read)?;
            }
            if is_over {
                return self.finish();
            }
            let next = Deadline::after(self.plan.settings.interval);
            flush_requested = self.client.control.wait_for_work(next);
        }
    }

    /// Returns `false` until a resumed run has a row: before, nobody knows which of the earlier
    /// rows the run abandons.
    fn has_place(&self) -> bool {
        let Some(live) = self.plan.live.as_ref().filter(|live| live.is_resumed()) else {
            return true;
        };
        let rows = self
            .plan
            .folder
            .open_file(Path::new(ROWS))
            .and_then(|file| file.metadata());
        rows.is_ok_and(|metadata| metadata.len() > live.begins_at)
    }

    fn superseded_rows(&self) -> SupersededRows {
        let of_manifest = self
            .documents
            .manifest
            .as_ref()
            .map(|manifest| manifest.superseded_rows());
        let mut superseded = of_manifest.unwrap_or_default();
        if let Some(live) = &self.plan.live {
            for (logger, step) in live.run.first_steps() {
                superseded.add(live.run.attempt(), &logger, step);
            }
        }
        superseded
    }

    /// Sends the rows that the server does not have, up to the last complete window; with `all`, up
    /// to the last row.
    fn send_rows(&mut self, all: bool, on_read: &mut dyn FnMut(u64)) -> Result<(), DeliveryError> {
        loop {
            let is_complete = self.read_window()?;
            let is_past = self.window.is_past(epoch_seconds(SystemTime::now()));
            if self.window_end.is_none() || !(is_complete || is_past || all) {
                return Ok(());
            }
            self.send_window()?;
            on_read(self.state.mark.offset());
            if !is_complete {
                return Ok(());
            }
            if self.client.control.is_out_of_time(Lane::Rows) {
                return Err(DeliveryError::gave_up());
            }
        }
    }

    /// Reads rows of one window. Returns `true` if there are rows behind it.
    fn read_window(&mut self) -> Result<bool, DeliveryError> {
        loop {
            let next = match self.lookahead.take() {
                Some(row) => Some(row),
                None => {
                    let read = self.spool.next_row(&self.plan.folder, &self.state.mark);
                    read.map_err(|error| unreadable(&self.plan.dir.join(ROWS), &error))?
                }
            };
            let Some(SpooledRow { row, line }) = next else {
                return Ok(false);
            };
            if !self.window.takes(&row) {
                self.lookahead = Some(SpooledRow { row, line });
                return Ok(true);
            }
            // A file that has taken the place of another one has rows of this process alone.
            let begins_at = |place: u64| if self.spool.is_replaced() { 0 } else { place };
            let is_own = self
                .plan
                .live
                .as_ref()
                .is_some_and(|live| line.start >= begins_at(live.begins_at));
            // A folder of several runs has rows of earlier ones.
            let is_of_run = self.state.local_id != self.run_id() || line.start >= begins_at(self.state.begins_at);
            if is_own || (is_of_run && !self.superseded.contains(&row)) {
                if is_own {
                    self.turns.push((self.window.rows(), RowTurn::of(&row)));
                }
                let prefix = self.prefix_of(&row.logger);
                self.window.push(&row, &prefix);
            }
            self.window_end = Some(line);
        }
    }

    /// Returns the text before the metrics of a logger: none for the first one.
    fn prefix_of(&self, logger: &str) -> String {
        let of_plan = self.plan.live.as_ref().map(|live| &*live.first_logger);
        match self.documents.first_logger().or(of_plan) {
            Some(first) if canonical_name(first) != canonical_name(logger) => format!("{logger}/"),
            _ => String::new(),
        }
    }

    /// Sends the window, and moves the mark behind it.
    fn send_window(&mut self) -> Result<(), DeliveryError> {
        let (points, is_thinned) = self.window.take(&mut self.state.budget, self.plan.settings.rate);
        if is_thinned && !std::mem::replace(&mut self.state.thinned, true) {
            let text = format!(
                "MLflow: the metrics have more than {} values a second; extremes are sent, and the whole rows are an \
                 artifact at the end of the run",
                self.plan.settings.rate
            );
            self.client.control.print_notice("thinned", &text);
        }
        self.tag_infinities(&points)?;
        let mut refused = BTreeSet::new();
        let (points, beyond): (Vec<_>, Vec<_>) = points.into_iter().partition(|(_, point)| point.step <= LAST_STEP);
        if let Some((name, point)) = beyond.first() {
            let text = format!(
                "the step {} of `{name}` is left out: MLflow has steps up to {LAST_STEP}",
                point.step
            );
            self.client.control.skip(&text);
        }
        refused.extend(beyond.iter().map(|(_, point)| point.row));
        let points = points.into_iter().map(|(name, point)| EncodedPoint::new(name, point));
        let points: Vec<_> = points.collect();
        for batch in split_points(&points) {
            self.send_points(batch, &mut refused)?;
        }
        if let Some(live) = &self.plan.live {
            let turns = self.turns.drain(..);
            live.delivered
                .add(turns.map(|(row, turn)| (turn, refused.contains(&row))));
        }
        if let Some(mark) = self.window_end.take().and_then(|line| self.spool.mark_behind(line)) {
            self.state.mark = mark;
            self.save_state();
        }
        Ok(())
    }

    /// Sends points. On a refusal the names are tried apart, then the points of a name, so that a
    /// bad one spoils no other.
    fn send_points(&mut self, points: &[EncodedPoint], refused: &mut BTreeSet<usize>) -> Result<(), DeliveryError> {
        let is_known = |point: &&EncodedPoint| self.refused.contains(&point.name);
        refused.extend(points.iter().filter(is_known).map(|point| point.point.row));
        let wanted: Vec<_> = points.iter().filter(|point| !is_known(point)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let metrics: Vec<_> = wanted.iter().map(|point| &*point.json).collect();
        let batch = Batch {
            metrics: &metrics,
            ..Batch::default()
        };
        let Some(error) = self.log_batch(batch)? else {
            return Ok(());
        };
        let names: BTreeSet<_> = wanted.iter().map(|point| &*point.name).collect();
        if names.len() > 1 {
            let middle = names
                .iter()
                .nth(names.len() / 2)
                .map(|name| (*name).to_owned())
                .unwrap_or_default();
            let (first, second): (Vec<_>, Vec<_>) = wanted.into_iter().cloned().partition(|point| point.name < middle);
            self.send_points(&first, refused)?;
            return self.send_points(&second, refused);
        }
        let name = wanted[0].name.clone();
        let ascii = to_ascii_name(&name);
        if ascii != name {
            let renamed = wanted
                .into_iter()
                .map(|known| EncodedPoint::new(ascii.clone(), known.point));
            let renamed: Vec<_> = renamed.collect();
            return self.send_points(&renamed, refused);
        }
        if wanted.len() > 1 && !self.suspects.contains(&name) {
            let wanted: Vec<_> = wanted.into_iter().cloned().collect();
            let (first, second) = wanted.split_at(wanted.len() / 2);
            self.send_points(first, refused)?;
            return self.send_points(second, refused);
        }
        refused.extend(wanted.iter().map(|point| point.point.row));
        // One bad value is no bad name, and two are.
        if wanted.len() > 1 || !self.suspects.insert(name.clone()) {
            self.client
                .control
                .skip(&format!("the metric `{name}` is refused: {error}"));
            self.refused.insert(name);
        }
        Ok(())
    }

    /// Sends a batch. Returns the error of a server that refuses its content twice.
    fn log_batch(&mut self, batch: Batch<'_>) -> Result<Option<DeliveryError>, DeliveryError> {
        let is_refusal = |error: &DeliveryError| error.kind() == DeliveryErrorKind::Refused && !error.is_temporary();
        let mut was_refused = false;
        loop {
            let id = self.remote.id.clone();
            match self.client.persist_unless(is_refusal, |api| api.log_batch(&id, batch)) {
                Ok(()) => return Ok(None),
                Err(error) if is_refusal(&error) => {
                    // A run that a user has deleted refuses everything, until it is restored.
                    let now = self.client.persist(|api| api.run(&id))?;
                    let is_active = now.is_some_and(|run| run.is_active);
                    if is_active && std::mem::replace(&mut was_refused, true) {
                        return Ok(Some(error));
                    }
                    self.remote.is_active = is_active;
                    self.check_active()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Saves the position. On an error, a later delivery sends some rows again.
    fn save_state(&self) {
        if let Err(error) = self.state.save(&self.plan.folder) {
            let path = self.plan.dir.join(MlflowState::FILE);
            let text = format!("MLflow: cannot write {}: {error}; the delivery goes on", path.display());
            self.client.control.print_notice("position", &text);
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> DeliveryError {
    DeliveryError::permanent(
        DeliveryErrorKind::Unreadable,
        format!("cannot read {}: {error}", path.display()),
    )
}
