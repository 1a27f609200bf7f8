//! A transformer that predicts the next byte of a text.

use anyhow::Result;
use rand::Rng;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use tch::nn::{self, Embedding, LayerNorm, Linear, Module as _, Path};
use tch::{Device, Kind, Tensor, no_grad};

/// Number of bytes that a prediction sees.
pub(crate) const CONTEXT: i64 = 32;
pub(crate) const WIDTH: i64 = 48;
pub(crate) const HEADS: i64 = 4;
pub(crate) const LAYERS: i64 = 2;
/// Number of values of a byte.
const VOCABULARY: i64 = 256;

pub(crate) struct Transformer {
    device: Device,
    bytes: Embedding,
    positions: Embedding,
    /// True for what comes later than a position: such scores get no attention.
    later: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

/// The result for a batch of windows.
pub(crate) struct Prediction {
    /// (windows, positions, values): how likely each value is as the next byte, as logits.
    pub(crate) logits: Tensor,
    /// For each layer (windows, heads, positions, positions): how much one position attends to
    /// another.
    pub(crate) attention: Vec<Tensor>,
}

impl Transformer {
    pub(crate) fn new(weights: &Path<'_>) -> Self {
        let device = weights.device();
        let all = Tensor::ones([CONTEXT, CONTEXT], (Kind::Bool, device));
        Self {
            device,
            bytes: nn::embedding(weights / "bytes", VOCABULARY, WIDTH, Default::default()),
            positions: nn::embedding(weights / "positions", CONTEXT, WIDTH, Default::default()),
            later: all.triu(1),
            blocks: (0..LAYERS)
                .map(|layer| Block::new(&(weights / "block" / layer)))
                .collect(),
            norm: nn::layer_norm(weights / "norm", vec![WIDTH], Default::default()),
            head: nn::linear(weights / "head", WIDTH, VOCABULARY, Default::default()),
        }
    }

    /// Predicts the byte after each byte of windows of [`CONTEXT`] bytes.
    pub(crate) fn predict(&self, windows: &Tensor) -> Prediction {
        let mut values = self.bytes.forward(windows) + &self.positions.ws;
        let mut attention = Vec::new();
        for block in &self.blocks {
            let attended;
            (values, attended) = block.forward(&values, &self.later);
            attention.push(attended);
        }
        let logits = self.head.forward(&self.norm.forward(&values));
        Prediction { logits, attention }
    }

    /// Returns the mean cross-entropy over windows of [`CONTEXT`] bytes and one more.
    pub(crate) fn loss(&self, windows: &[&[u8]]) -> Tensor {
        let windows = self.tensor(&windows.concat()).view([-1, CONTEXT + 1]);
        let next = windows.narrow(1, 1, CONTEXT).flatten(0, 1);
        let prediction = self.predict(&windows.narrow(1, 0, CONTEXT));
        prediction.logits.flatten(0, 1).cross_entropy_for_logits(&next)
    }

    /// Writes a text that goes on after a prompt of at least [`CONTEXT`] bytes.
    pub(crate) fn write(&self, prompt: &[u8], bytes: usize, rng: &mut impl Rng) -> Result<String> {
        const TEMPERATURE: f64 = 0.7;
        let mut text = prompt.to_vec();
        for _ in 0..bytes {
            let window = self.tensor(&text[text.len() - CONTEXT as usize..]).unsqueeze(0);
            let logits = no_grad(|| self.predict(&window).logits.get(0).get(CONTEXT - 1));
            let chances = Vec::<f32>::try_from((logits / TEMPERATURE).softmax(0, Kind::Float))?;
            text.push(WeightedIndex::new(chances)?.sample(rng) as u8);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Draws the attention within a window: a square for each layer and head, with a row for each
    /// position. Returns width, height and pixels.
    pub(crate) fn draw_attention(&self, window: &[u8]) -> Result<(u32, u32, Vec<u8>)> {
        let layers = no_grad(|| self.predict(&self.tensor(window).unsqueeze(0))).attention;
        let side_by_side = layers.iter().map(|layer| layer.get(0).transpose(0, 1).flatten(1, 2));
        let picture = Tensor::cat(&side_by_side.collect::<Vec<_>>(), 0);
        let (height, width) = picture.size2()?;
        let pixels = (picture * 255.0).to_kind(Kind::Uint8).flatten(0, 1);
        Ok((u32::try_from(width)?, u32::try_from(height)?, Vec::try_from(pixels)?))
    }

    /// Returns bytes as numbers of rows in an embedding.
    fn tensor(&self, bytes: &[u8]) -> Tensor {
        Tensor::from_slice(bytes).to_kind(Kind::Int64).to_device(self.device)
    }
}

/// Attention to earlier positions, then a layer for each position on its own.
struct Block {
    norm1: LayerNorm,
    query_key_value: Linear,
    mix: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(weights: &Path<'_>) -> Self {
        let linear = |name, from, to| nn::linear(weights / name, from, to, Default::default());
        let norm = |name| nn::layer_norm(weights / name, vec![WIDTH], Default::default());
        Self {
            norm1: norm("norm1"),
            query_key_value: linear("query_key_value", WIDTH, 3 * WIDTH),
            mix: linear("mix", WIDTH, WIDTH),
            norm2: norm("norm2"),
            up: linear("up", WIDTH, 4 * WIDTH),
            down: linear("down", 4 * WIDTH, WIDTH),
        }
    }

    /// Returns the new values, and the attention.
    fn forward(&self, values: &Tensor, later: &Tensor) -> (Tensor, Tensor) {
        const SIZE: i64 = WIDTH / HEADS;
        let heads = self.query_key_value.forward(&self.norm1.forward(values));
        let heads = heads.view([-1, CONTEXT, 3, HEADS, SIZE]).permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (heads.get(0), heads.get(1), heads.get(2));
        let scores = query.matmul(&key.transpose(-2, -1)) / (SIZE as f64).sqrt();
        let attention = scores.masked_fill(later, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        let mixed = attention.matmul(&value).transpose(1, 2).flatten(2, 3);
        let values = values + self.mix.forward(&mixed);
        let hidden = self.up.forward(&self.norm2.forward(&values)).relu();
        (&values + self.down.forward(&hidden), attention)
    }
}
