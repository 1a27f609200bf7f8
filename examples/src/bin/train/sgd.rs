//! The optimizer.

use crate::model::Model;

/// Stochastic gradient descent with momentum.
pub(crate) struct Sgd {
    velocity: Vec<Vec<f32>>,
    momentum: f32,
}

/// Maximum length of a gradient. A longer one is scaled down, so that one odd batch cannot ruin the
/// model.
const MAX_LENGTH: f64 = 1.0;

impl Sgd {
    pub(crate) fn new(model: &Model, momentum: f32) -> Self {
        let velocity = model.tensors().map(|tensor| vec![0.0; tensor.values().len()]);
        Self {
            velocity: velocity.into(),
            momentum,
        }
    }

    /// Moves the model against the gradient; returns the length of the gradient.
    pub(crate) fn step(&mut self, model: &mut Model, gradient: &Model, rate: f32) -> f64 {
        let squares = gradient.tensors().map(|tensor| squares(tensor.values()));
        let length = squares.iter().sum::<f64>().sqrt();
        let scale = (MAX_LENGTH / length).min(1.0) as f32 * rate;
        let tensors = model.tensors_mut().into_iter().zip(gradient.tensors());
        for (velocity, (tensor, slopes)) in self.velocity.iter_mut().zip(tensors) {
            let numbers = tensor.values_mut().iter_mut().zip(slopes.values());
            for (speed, (number, slope)) in velocity.iter_mut().zip(numbers) {
                *speed = self.momentum * *speed - scale * slope;
                *number += *speed;
            }
        }
        length
    }
}

/// Sums squares in eight lanes. The compiler may not do that itself, because it would change the
/// result.
fn squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f32; 8];
    let mut eights = values.chunks_exact(8);
    for eight in &mut eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane += value * value;
        }
    }
    let rest = eights.remainder().iter().map(|value| value * value);
    lanes.into_iter().chain(rest).map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;
    use crate::rng::Rng;

    #[test]
    fn squares_are_of_all_values() {
        for count in [0, 1, 7, 8, 9, 31] {
            let values: Vec<f32> = (0..count).map(|n| n as f32).collect();
            assert_eq!(squares(&values), (0..count).map(|n| f64::from(n * n)).sum::<f64>());
        }
    }

    #[test]
    fn a_long_gradient_is_shortened() {
        let shape = Shape {
            context: 1,
            embedding: 1,
            hidden: 1,
        };
        let before = Model::new(shape, &mut Rng::new(1));
        let mut gradient = before.clone();
        gradient.tensors_mut()[4].values_mut().fill(100.0);
        let mut after = before.clone();
        let length = Sgd::new(&before, 0.9).step(&mut after, &gradient, 0.5);
        assert!(length > 1600.0);
        let pairs = after.tensors().into_iter().zip(before.tensors());
        let moved = pairs.flat_map(|(a, b)| a.values().iter().zip(b.values()).map(|(a, b)| f64::from(a - b).powi(2)));
        assert!((moved.sum::<f64>().sqrt() - 0.5).abs() < 1e-4);
    }
}
