//! Checkpoints: weights, the optimizer's state and the step, in one safetensors file.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarMap};

/// The name of the step among the tensors.
const STEP: &str = "step";

/// Saves `state` after a step. A kill at any moment leaves the old file or the new one.
pub(crate) fn save(state: &mut VarMap, step: u64, path: &Path) -> Result<()> {
    state.set_one(STEP, Tensor::new(step.cast_signed(), &Device::Cpu)?)?;
    let new = path.with_extension("new");
    state.save(&new)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))
}

/// Loads `state`, and returns the step after which it was saved: 0 if there is no file.
pub(crate) fn load(state: &mut VarMap, path: &Path) -> Result<u64> {
    let step = state.get((), STEP, Init::Const(0.0), DType::I64, &Device::Cpu)?;
    if path.exists() {
        state
            .load(path)
            .with_context(|| format!("cannot load {}", path.display()))?;
    }
    Ok(step.to_scalar::<i64>()?.cast_unsigned())
}
