//! Opens the run of a logger, and asks the server for a run to resume.

use std::sync::Arc;
use std::thread;

use logcore::{BuildContext, ConfigError, Deadline, suppress_logging};
use logcore_delivery::{DeliveryControl, Lane};

use super::WandbRun;
use super::identity::identify;
use crate::settings::{ResumeMode, RunMode, RunSettings};
use crate::upload::state::resume::{self, RemoteRun};
use crate::upload::{Api, NAME, RetryingClient};

/// Returns the open run of the logger, or else a new run. With `resume`, waits for the server up to
/// `init_timeout`.
pub(crate) fn open_or_create(
    mut settings: RunSettings,
    context: &BuildContext<'_>,
) -> Result<Arc<WandbRun>, ConfigError> {
    // Another configuration of an open run does not start a new run.
    if let Some(open) = WandbRun::open_of(context.logger()).filter(|open| open.settings.is_same_run(&settings)) {
        return Ok(open);
    }
    identify(&mut settings, context)?;
    let existing = match (settings.resume, settings.mode) {
        (Some(resume), RunMode::Online) => run_to_resume(&settings, resume)?,
        _ => None,
    };
    if let Some(existing) = existing.as_ref().filter(|_| !settings.keeps_steps) {
        context.start_from(existing.next_step);
    }
    Ok(WandbRun::new(settings, existing, context))
}

/// Returns the run to resume. `None` if there is no such run, or the server cannot be reached. In
/// the latter case the delivery asks again.
fn run_to_resume(settings: &RunSettings, resume: ResumeMode) -> Result<Option<RemoteRun>, ConfigError> {
    let Some(existing) = query(settings) else {
        return Ok(None);
    };
    let run = &settings.run_id;
    let refuse = |value: &str, remedy: String| Err(ConfigError::new("resume", value, remedy));
    let existing = existing.filter(|existing| existing.started);
    match (resume, &existing) {
        (ResumeMode::Must, None) => refuse(
            "must",
            format!("the server has no run `{run}`; check `run_id`, project and entity, or use \"allow\""),
        ),
        (ResumeMode::Never, Some(_)) => refuse(
            "never",
            format!("the server already has run `{run}`; choose another `run_id`, or use \"allow\""),
        ),
        _ => Ok(existing),
    }
}

/// Asks the server on a separate thread, because the caller may be inside an asynchronous runtime.
/// The outer `None` means that there was no reply.
fn query(settings: &RunSettings) -> Option<Option<RemoteRun>> {
    let query = || {
        let control = Arc::new(DeliveryControl::new(NAME, None));
        let deadline = Deadline::after(settings.init_timeout);
        control.run_ended(deadline);
        let client = RetryingClient {
            api: Arc::new(Api::new(&settings.server).ok()?.with_deadline(deadline)),
            control,
            lane: Lane::Rows,
        };
        let entity = settings.entity.as_deref();
        client
            .persist(|api| resume::query(api, entity, &settings.project, &settings.run_id))
            .ok()
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .name("logcore-wandb-start".to_owned())
            .spawn_scoped(scope, || suppress_logging(query))
            .ok()?
            .join()
            .ok()?
    })
}
