//! The step at which a resumed run goes on.

use facade::UnifiedLogger;
use logcore_runs::{RunError, StoredRun};

use crate::renderer::EPOCH;

/// Has a resumed run go on behind the last step of the epoch before `starting_epoch`, so that what
/// the killed attempt has logged of later epochs is superseded.
pub(crate) fn continue_run(logger: &UnifiedLogger, starting_epoch: usize) {
    if logger.run().attempt() == 1 {
        return;
    }
    let first = match starting_epoch {
        0 | 1 => Ok(Some(1)),
        epoch => last_step(logger, epoch - 1).map(|last| last.map(|last| last + 1)),
    };
    match first {
        Ok(Some(step)) => logger.start_from(step),
        // The checkpoint is from another run: the steps count on.
        Ok(None) => {}
        Err(error) => logger.warning(format_args!(
            "cannot find the step of epoch {starting_epoch}: {error}; the steps count on from the highest one"
        )),
    }
}

/// Returns the highest step that earlier attempts have logged of an epoch up to `epoch`.
fn last_step(logger: &UnifiedLogger, epoch: usize) -> Result<Option<u64>, RunError> {
    let run = StoredRun::open(logger.run().dir())?;
    let mut last = None;
    for row in run.rows(0)? {
        let row = row?;
        // The names in the rows have the prefix of the config.
        let found = row
            .values
            .iter()
            .find(|(name, _)| name.rsplit('/').next() == Some(EPOCH));
        if row.logger == logger.name() && found.is_some_and(|(_, value)| value.as_f64() <= epoch as f64) {
            last = last.max(Some(row.step));
        }
    }
    Ok(last)
}
