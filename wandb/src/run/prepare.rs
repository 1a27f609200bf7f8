//! Before a run begins: where it stands on the server, if it is to go on.

use std::sync::Arc;
use std::thread;

use logcore::{BuildContext, ConfigError, Deadline, StopFlag, suppress_logging};

use crate::run::WandbRun;
use crate::settings::{ResumeMode, RunMode, RunSettings};
use crate::upload::state::resume::{self, ServerRun};
use crate::upload::{Api, DeliveryControl, Lane, RetryingClient};

/// A run of these settings; with `resume`, waits for the server up to `init_timeout`.
pub(crate) fn prepare(settings: RunSettings, context: &BuildContext<'_>) -> Result<Arc<WandbRun>, ConfigError> {
    let existing = match (settings.resume, settings.mode) {
        (Some(resume), RunMode::Online) => on_server(&settings, resume)?,
        _ => None,
    };
    if let Some(existing) = &existing {
        context.start_from(existing.next_step);
    }
    Ok(WandbRun::new(context.logger(), settings, existing, context.stop_flag()))
}

/// The run to go on with. `None` if there is none, or if the server cannot be asked now: then the delivery asks it.
fn on_server(settings: &RunSettings, resume: ResumeMode) -> Result<Option<ServerRun>, ConfigError> {
    let Some(existing) = ask(settings) else { return Ok(None) };
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
            format!("the server has run `{run}` already; choose another `run_id`, or use \"allow\""),
        ),
        _ => Ok(existing),
    }
}

/// On a thread of its own: the caller's may belong to an asynchronous runtime.
fn ask(settings: &RunSettings) -> Option<Option<ServerRun>> {
    let ask = || {
        let control = Arc::new(DeliveryControl::new(StopFlag::default(), None));
        let deadline = Deadline::after(settings.init_timeout);
        control.end(deadline);
        let client = RetryingClient {
            api: Arc::new(Api::new(settings).ok()?.until(deadline)),
            control,
            lane: Lane::Rows,
        };
        let entity = settings.entity.as_deref();
        client
            .persist(|api| resume::ask(api, entity, &settings.project, &settings.run_id))
            .ok()
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .name("logcore-wandb-start".to_owned())
            .spawn_scoped(scope, || suppress_logging(ask))
            .ok()?
            .join()
            .ok()?
    })
}
