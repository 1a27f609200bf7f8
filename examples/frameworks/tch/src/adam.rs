//! Adam, with a state that can be saved: that of `tch::nn::Adam` stays in libtorch.

use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

const DECAYS: (f64, f64) = (0.9, 0.99);
const EPSILON: f64 = 1e-8;
/// Upper limit for the norm of the gradient of a step.
const CLIP: f64 = 1.0;

pub(crate) struct Adam(Vec<Moments>);

/// A weight, and the decayed means of its gradient and of the gradient's square.
struct Moments {
    weight: Tensor,
    mean: Tensor,
    square: Tensor,
}

impl Adam {
    /// Takes all variables in `state` as weights, and adds their moments to `state`.
    pub(crate) fn new(state: &VarStore) -> Self {
        let moments = |(name, weight): (String, Tensor)| {
            let root = state.root() / name.replace('.', "/");
            Moments {
                mean: root.zeros_no_train("mean", &weight.size()),
                square: root.zeros_no_train("square", &weight.size()),
                weight,
            }
        };
        Self(state.variables().into_iter().map(moments).collect())
    }

    /// Changes the weights by the gradients of a loss, and returns their norm. Steps count from 1.
    pub(crate) fn step(&mut self, loss: &Tensor, step: u64, rate: f64) -> f64 {
        for moments in &mut self.0 {
            moments.weight.zero_grad();
        }
        loss.backward();
        no_grad(|| {
            let squares = self
                .0
                .iter()
                .map(|moments| moments.weight.grad().square().sum(Kind::Float));
            let norm = squares.sum::<Tensor>().sqrt().double_value(&[]);
            let scale = (CLIP / norm).min(1.0);
            let debias = |decay: f64| 1.0 / (1.0 - decay.powf(step as f64));
            for Moments { weight, mean, square } in &mut self.0 {
                let gradient = weight.grad() * scale;
                *mean *= DECAYS.0;
                *mean += &gradient * (1.0 - DECAYS.0);
                *square *= DECAYS.1;
                *square += gradient.square() * (1.0 - DECAYS.1);
                let spread = (&*square * debias(DECAYS.1)).sqrt() + EPSILON;
                *weight -= &*mean / spread * (rate * debias(DECAYS.0));
            }
            norm
        })
    }
}
