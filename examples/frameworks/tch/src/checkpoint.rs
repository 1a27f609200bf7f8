//! Checkpoints: weights, the optimizer's state and the step, in one safetensors file.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use tch::nn::VarStore;

/// The name of the step among the tensors.
const STEP: &str = "step";

/// Saves `state` after a step. A kill at any moment leaves the old file or the new one.
pub(crate) fn save(state: &VarStore, step: u64, path: &Path) -> Result<()> {
    let saved = state.root().get(STEP).context("load has not been called")?;
    let _ = saved.shallow_clone().fill_(step.cast_signed());
    // The ending chooses the format.
    let new = path.with_extension("new.safetensors");
    state.save(&new)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))
}

/// Loads `state`, and returns the step after which it was saved: 0 if there is no file.
pub(crate) fn load(state: &mut VarStore, path: &Path) -> Result<u64> {
    let step = state.root().add(STEP, 0_i64.into(), false);
    if path.exists() {
        state
            .load(path)
            .with_context(|| format!("cannot load {}", path.display()))?;
    }
    Ok(step.int64_value(&[]).cast_unsigned())
}
