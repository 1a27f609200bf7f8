//! The model: an embedding, one hidden layer, and an output layer with a score for each byte.

use std::f64::consts::LN_2;

use crate::matrix::Matrix;
use crate::rng::Rng;

/// Says which byte comes next: the last bytes are embedded, go through one hidden layer, and end in
/// one score a byte.
///
/// The same type holds a gradient: one number for each of the model's.
#[derive(Clone)]
pub(crate) struct Model {
    shape: Shape,
    embedding: Matrix,
    hidden: Matrix,
    hidden_bias: Matrix,
    output: Matrix,
    output_bias: Matrix,
}

#[derive(Clone, Copy, serde::Serialize)]
pub(crate) struct Shape {
    /// Number of bytes from which the next one is predicted.
    pub(crate) context: usize,
    /// Number of values per byte in the embedding.
    pub(crate) embedding: usize,
    pub(crate) hidden: usize,
}

/// Quality of the predictions for a batch.
#[derive(Clone, Copy)]
pub(crate) struct Score {
    /// Mean cross-entropy in bits per byte. 8 is guessing.
    pub(crate) bits: f64,
    /// Fraction of the bytes that had the highest score.
    pub(crate) accuracy: f64,
}

const BYTES: usize = 256;

/// Intermediate results of the forward pass, for the backward pass.
struct Pass {
    inputs: Matrix,
    activations: Matrix,
    probabilities: Matrix,
}

impl Model {
    /// Returns an untrained model. Its output layer is zero, so all bytes are equally likely.
    pub(crate) fn new(shape: Shape, rng: &mut Rng) -> Self {
        let mut model = Self::zeros(shape);
        // Uniform, with the spread that keeps the variance of a layer's sums at about 1.
        let mut fill = |matrix: &mut Matrix, spread: f32| {
            matrix.values_mut().fill_with(|| (2.0 * rng.unit() - 1.0) * spread);
        };
        fill(&mut model.embedding, 1.0);
        fill(
            &mut model.hidden,
            (3.0 / (shape.context * shape.embedding) as f32).sqrt(),
        );
        model
    }

    fn zeros(shape: Shape) -> Self {
        Self {
            shape,
            embedding: Matrix::zeros(BYTES, shape.embedding),
            hidden: Matrix::zeros(shape.context * shape.embedding, shape.hidden),
            hidden_bias: Matrix::zeros(1, shape.hidden),
            output: Matrix::zeros(shape.hidden, BYTES),
            output_bias: Matrix::zeros(1, BYTES),
        }
    }

    pub(crate) fn parameters(&self) -> usize {
        self.tensors().iter().map(|tensor| tensor.values().len()).sum()
    }

    pub(crate) fn score(&self, batch: &[(&[u8], u8)]) -> Score {
        score(&self.forward(batch).probabilities, batch)
    }

    /// Returns the score of a batch, and the gradient of the mean cross-entropy in nats.
    pub(crate) fn gradient(&self, batch: &[(&[u8], u8)]) -> (Score, Model) {
        let pass = self.forward(batch);
        let score = score(&pass.probabilities, batch);
        let mut gradient = Self::zeros(self.shape);

        // Through the softmax: the probabilities, less 1 where the byte was.
        let mut at_output = pass.probabilities;
        let share = 1.0 / batch.len() as f32;
        for (row, (_, target)) in at_output.rows_mut().zip(batch) {
            row[usize::from(*target)] -= 1.0;
            row.iter_mut().for_each(|value| *value *= share);
        }
        gradient.output.add_product(&pass.activations.transposed(), &at_output);
        add_rows(&mut gradient.output_bias, &at_output);

        // Through tanh, whose slope is 1 less its square.
        let mut at_hidden = Matrix::zeros(batch.len(), self.shape.hidden);
        at_hidden.add_product(&at_output, &self.output.transposed());
        for (slope, activation) in at_hidden.values_mut().iter_mut().zip(pass.activations.values()) {
            *slope *= 1.0 - activation * activation;
        }
        gradient.hidden.add_product(&pass.inputs.transposed(), &at_hidden);
        add_rows(&mut gradient.hidden_bias, &at_hidden);

        let mut at_inputs = Matrix::zeros(batch.len(), self.shape.context * self.shape.embedding);
        at_inputs.add_product(&at_hidden, &self.hidden.transposed());
        for (slopes, (context, _)) in at_inputs.rows().zip(batch) {
            for (slopes, byte) in slopes.chunks_exact(self.shape.embedding).zip(*context) {
                add(gradient.embedding.row_mut(usize::from(*byte)), slopes);
            }
        }
        (score, gradient)
    }

    /// Draws the next byte after a context. A low temperature prefers likely bytes.
    pub(crate) fn draw(&self, context: &[u8], temperature: f32, rng: &mut Rng) -> u8 {
        let pass = self.forward(&[(context, 0)]);
        let weights = pass.probabilities.row(0).iter().map(|p| p.powf(temperature.recip()));
        let mut left = rng.unit() * weights.clone().sum::<f32>();
        for (byte, weight) in (0..=u8::MAX).zip(weights) {
            left -= weight;
            if left < 0.0 {
                return byte;
            }
        }
        0
    }

    pub(crate) fn tensors(&self) -> [&Matrix; 5] {
        [
            &self.embedding,
            &self.hidden,
            &self.hidden_bias,
            &self.output,
            &self.output_bias,
        ]
    }

    pub(crate) fn tensors_mut(&mut self) -> [&mut Matrix; 5] {
        [
            &mut self.embedding,
            &mut self.hidden,
            &mut self.hidden_bias,
            &mut self.output,
            &mut self.output_bias,
        ]
    }

    fn forward(&self, batch: &[(&[u8], u8)]) -> Pass {
        let mut inputs = Matrix::zeros(batch.len(), self.shape.context * self.shape.embedding);
        for (input, (context, _)) in inputs.rows_mut().zip(batch) {
            for (slot, byte) in input.chunks_exact_mut(self.shape.embedding).zip(*context) {
                slot.copy_from_slice(self.embedding.row(usize::from(*byte)));
            }
        }
        let mut activations = layer(&inputs, &self.hidden, &self.hidden_bias);
        activations
            .values_mut()
            .iter_mut()
            .for_each(|value| *value = value.tanh());
        let mut probabilities = layer(&activations, &self.output, &self.output_bias);
        probabilities.rows_mut().for_each(softmax);
        Pass {
            inputs,
            activations,
            probabilities,
        }
    }
}

fn layer(inputs: &Matrix, weights: &Matrix, bias: &Matrix) -> Matrix {
    let mut sums = Matrix::zeros(inputs.rows().len(), bias.values().len());
    sums.rows_mut().for_each(|row| row.copy_from_slice(bias.values()));
    sums.add_product(inputs, weights);
    sums
}

fn softmax(row: &mut [f32]) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - greatest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}

fn score(probabilities: &Matrix, batch: &[(&[u8], u8)]) -> Score {
    let (mut nats, mut hits) = (0.0, 0);
    for (row, (_, target)) in probabilities.rows().zip(batch) {
        let probability = row[usize::from(*target)];
        nats -= f64::from(probability.max(f32::MIN_POSITIVE)).ln();
        // If several bytes have the highest score, the prediction does not count: an untrained
        // model is never right.
        hits += usize::from(row.iter().filter(|other| **other >= probability).count() == 1);
    }
    let count = batch.len() as f64;
    Score {
        bits: nats / LN_2 / count,
        accuracy: hits as f64 / count,
    }
}

fn add_rows(sums: &mut Matrix, rows: &Matrix) {
    rows.rows().for_each(|row| add(sums.values_mut(), row));
}

fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sgd::Sgd;

    const SMALL: Shape = Shape {
        context: 3,
        embedding: 4,
        hidden: 8,
    };

    #[test]
    fn a_new_model_knows_nothing() {
        let model = Model::new(SMALL, &mut Rng::new(1));
        let score = model.score(&[(b"abc", b'd'), (b"bcd", b'e')]);
        assert!((score.bits - 8.0).abs() < 1e-5);
    }

    /// Each number of the gradient is what the loss does when that number of the model is moved a
    /// little.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let mut rng = Rng::new(2);
        let mut model = Model::new(SMALL, &mut rng);
        for tensor in model.tensors_mut() {
            tensor
                .values_mut()
                .iter_mut()
                .for_each(|value| *value += rng.unit() - 0.5);
        }
        // The byte that comes twice in a context gets both slopes.
        let batch: [(&[u8], u8); 3] = [(b"aba", b'c'), (b"bca", b'a'), (b"ccc", b'b')];
        let (_, gradient) = model.gradient(&batch);
        let nats = |model: &Model| model.score(&batch).bits * LN_2;
        const NUDGE: f32 = 1e-2;
        let mut moved = 0;
        for tensor in 0..model.tensors().len() {
            for i in 0..model.tensors()[tensor].values().len() {
                let slope = f64::from(gradient.tensors()[tensor].values()[i]);
                let at = |offset: f32| {
                    let mut nudged = model.clone();
                    nudged.tensors_mut()[tensor].values_mut()[i] += offset;
                    nats(&nudged)
                };
                let measured = (at(NUDGE) - at(-NUDGE)) / f64::from(2.0 * NUDGE);
                assert!(
                    (measured - slope).abs() < 2e-4,
                    "{tensor}[{i}]: {measured} is not {slope}"
                );
                moved += usize::from(slope.abs() > 1e-2);
            }
        }
        assert!(moved > 50, "only {moved} slopes are worth comparing");
    }

    #[test]
    fn a_small_text_is_learned() {
        let text = b"the cat sat on the mat. ";
        let batch: Vec<(&[u8], u8)> = text.windows(4).map(|w| (&w[..3], w[3])).collect();
        let mut rng = Rng::new(3);
        let mut model = Model::new(SMALL, &mut rng);
        let mut sgd = Sgd::new(&model, 0.9);
        for _ in 0..150 {
            let (_, gradient) = model.gradient(&batch);
            sgd.step(&mut model, &gradient, 0.2);
        }
        let score = model.score(&batch);
        assert!(score.bits < 1.0, "{} bits", score.bits);
        assert!(score.accuracy > 0.8, "{}", score.accuracy);
        assert_eq!(model.draw(b"the", 0.1, &mut rng), b' ');
    }
}
