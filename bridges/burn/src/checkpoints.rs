//! The checkpoints that burn has left in a folder.

use std::fs;
use std::path::Path;

use burn_core::store::ModuleRecord;
use burn_optim::OptimizerRecord;
use burn_optim::lr_scheduler::LrSchedulerRecord;
use burn_train::checkpoint::Checkpoint;

/// Returns the newest epoch whose checkpoint in `directory` is complete, for
/// `SupervisedTraining::checkpoint`. Without one the result is `None`.
///
/// `directory` is that of the training, and the checkpoints are those of
/// `with_default_checkpointers`. A process that is killed while burn writes a checkpoint leaves a
/// part of one. So this function reads the model, the optimizer and the learning rate scheduler,
/// and takes an epoch only if all three are whole.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// assert_eq!(logcore_burn::last_checkpoint(folder.path()), None);
///
/// let torn = folder.path().join("checkpoint");
/// std::fs::create_dir(&torn).unwrap();
/// for name in ["model-3.bpk", "optim-3.bpk", "scheduler-3.bpk"] {
///     std::fs::write(torn.join(name), "").unwrap();
/// }
/// assert_eq!(logcore_burn::last_checkpoint(folder.path()), None);
/// ```
#[must_use]
pub fn last_checkpoint(directory: impl AsRef<Path>) -> Option<usize> {
    let folder = directory.as_ref().join("checkpoint");
    let entries = fs::read_dir(&folder).ok()?.flatten();
    let mut epochs: Vec<usize> = entries
        .filter_map(|entry| epoch_of(entry.file_name().to_str()?))
        .collect();
    epochs.sort_unstable();
    epochs.into_iter().rev().find(|epoch| is_whole(&folder, *epoch))
}

fn epoch_of(name: &str) -> Option<usize> {
    name.strip_prefix("model-")?.strip_suffix(".bpk")?.parse().ok()
}

fn is_whole(folder: &Path, epoch: usize) -> bool {
    can_load::<ModuleRecord>(folder, "model", epoch)
        && can_load::<OptimizerRecord>(folder, "optim", epoch)
        && can_load::<LrSchedulerRecord>(folder, "scheduler", epoch)
}

fn can_load<R: Checkpoint>(folder: &Path, name: &str, epoch: usize) -> bool {
    R::load(folder.join(format!("{name}-{epoch}.bpk"))).is_ok()
}
