//! Adam, with a state that can be saved: that of `candle_nn::AdamW` is private.

use anyhow::Result;
use candle_core::Var;
use candle_core::backprop::GradStore;
use candle_nn::VarMap;

const DECAYS: (f64, f64) = (0.9, 0.99);
const EPSILON: f64 = 1e-8;
/// Upper limit for the norm of the gradient of a step.
const CLIP: f64 = 1.0;

pub(crate) struct Adam(Vec<Moments>);

/// A weight, and the decayed means of its gradient and of the gradient's square.
struct Moments {
    weight: Var,
    mean: Var,
    square: Var,
}

impl Adam {
    /// Takes all variables in `state` as weights, and adds their moments to `state`.
    pub(crate) fn new(state: &VarMap) -> Result<Self> {
        let mut variables = state.data().lock().expect("no thread has panicked");
        let mut moments = Vec::new();
        for (name, weight) in variables.clone() {
            let (mean, square) = (
                Var::from_tensor(&weight.zeros_like()?)?,
                Var::from_tensor(&weight.zeros_like()?)?,
            );
            variables.insert(format!("{name}.mean"), mean.clone());
            variables.insert(format!("{name}.square"), square.clone());
            moments.push(Moments { weight, mean, square });
        }
        Ok(Self(moments))
    }

    /// Changes the weights, and returns the norm of the gradient. Steps count from 1.
    pub(crate) fn step(&self, gradients: &GradStore, step: u64, rate: f64) -> Result<f64> {
        let gradient = |moments: &Moments| gradients.get(&moments.weight);
        let mut squares = 0.0;
        for gradient in self.0.iter().filter_map(gradient) {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let norm = squares.sqrt();
        let scale = (CLIP / norm).min(1.0);
        let debias = |decay: f64| 1.0 / (1.0 - decay.powf(step as f64));
        for moments in &self.0 {
            let Some(gradient) = gradient(moments) else { continue };
            let gradient = (gradient * scale)?;
            let Moments { weight, mean, square } = moments;
            mean.set(&((mean.as_tensor() * DECAYS.0)? + (&gradient * (1.0 - DECAYS.0))?)?)?;
            square.set(&((square.as_tensor() * DECAYS.1)? + (gradient.sqr()? * (1.0 - DECAYS.1))?)?)?;
            let spread = ((square.as_tensor() * debias(DECAYS.1))?.sqrt()? + EPSILON)?;
            weight.set(&(weight.as_tensor() - (mean.as_tensor().div(&spread)? * (rate * debias(DECAYS.0)))?)?)?;
        }
        Ok(norm)
    }
}
