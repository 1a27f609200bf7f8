//! A transformer that predicts the next byte of a text.

use anyhow::Result;
use candle_core::{D, DType, Tensor};
use candle_nn::{Embedding, Linear, Module as _, RmsNorm, VarBuilder, embedding, linear, loss, ops, rms_norm};
use rand::Rng;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;

/// Number of bytes that a prediction sees.
pub(crate) const CONTEXT: usize = 32;
pub(crate) const WIDTH: usize = 48;
pub(crate) const HEADS: usize = 4;
pub(crate) const LAYERS: usize = 2;
/// Number of values of a byte.
const VOCABULARY: usize = 256;

pub(crate) struct Transformer {
    bytes: Embedding,
    positions: Tensor,
    /// 0 for what a position sees, and -1e9 for what comes later: such scores get no attention.
    mask: Tensor,
    blocks: Vec<Block>,
    norm: RmsNorm,
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
    pub(crate) fn new(weights: &VarBuilder<'_>) -> Result<Self> {
        let visible = Tensor::tril2(CONTEXT, DType::F32, weights.device())?;
        let blocks = (0..LAYERS).map(|layer| Block::new(&weights.pp(format!("block{layer}"))));
        Ok(Self {
            bytes: embedding(VOCABULARY, WIDTH, weights.pp("bytes"))?,
            positions: embedding(CONTEXT, WIDTH, weights.pp("positions"))?.embeddings().clone(),
            mask: visible.affine(1e9, -1e9)?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: rms_norm(WIDTH, 1e-5, weights.pp("norm"))?,
            head: linear(WIDTH, VOCABULARY, weights.pp("head"))?,
        })
    }

    /// Predicts the byte after each byte of windows of [`CONTEXT`] bytes.
    pub(crate) fn predict(&self, windows: &Tensor) -> Result<Prediction> {
        let mut values = self.bytes.forward(windows)?.broadcast_add(&self.positions)?;
        let mut attention = Vec::new();
        for block in &self.blocks {
            let attended;
            (values, attended) = block.forward(&values, &self.mask)?;
            attention.push(attended);
        }
        let logits = self.head.forward(&self.norm.forward_diff(&values)?)?;
        Ok(Prediction { logits, attention })
    }

    /// Returns the mean cross-entropy over windows of [`CONTEXT`] bytes and one more.
    pub(crate) fn loss(&self, windows: &[&[u8]]) -> Result<Tensor> {
        let windows = Tensor::from_vec(windows.concat(), (windows.len(), CONTEXT + 1), self.mask.device())?;
        let next = windows.narrow(1, 1, CONTEXT)?.flatten_all()?;
        let prediction = self.predict(&windows.narrow(1, 0, CONTEXT)?)?;
        Ok(loss::cross_entropy(&prediction.logits.flatten_to(1)?, &next)?)
    }

    /// Writes a text that goes on after a prompt of at least [`CONTEXT`] bytes.
    pub(crate) fn write(&self, prompt: &[u8], bytes: usize, rng: &mut impl Rng) -> Result<String> {
        const TEMPERATURE: f64 = 0.7;
        let mut text = prompt.to_vec();
        for _ in 0..bytes {
            let window = Tensor::new(&text[text.len() - CONTEXT..], self.mask.device())?.unsqueeze(0)?;
            let logits = self.predict(&window)?.logits.get(0)?.get(CONTEXT - 1)?;
            let chances = ops::softmax(&(logits / TEMPERATURE)?, 0)?.to_vec1::<f32>()?;
            text.push(WeightedIndex::new(chances)?.sample(rng) as u8);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Draws the attention within a window: a square for each layer and head, with a row for each
    /// position. Returns width, height and pixels.
    pub(crate) fn draw_attention(&self, window: &[u8]) -> Result<(u32, u32, Vec<u8>)> {
        let window = Tensor::new(window, self.mask.device())?.unsqueeze(0)?;
        let layers = self.predict(&window)?.attention;
        let side_by_side = layers
            .iter()
            .map(|layer| layer.get(0)?.transpose(0, 1)?.flatten_from(1));
        let picture = Tensor::cat(&side_by_side.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let (height, width) = picture.dims2()?;
        let pixels = (picture * 255.0)?.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?;
        Ok((u32::try_from(width)?, u32::try_from(height)?, pixels))
    }
}

/// Attention to earlier positions, then a layer for each position on its own.
struct Block {
    norm1: RmsNorm,
    query_key_value: Linear,
    mix: Linear,
    norm2: RmsNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(weights: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: rms_norm(WIDTH, 1e-5, weights.pp("norm1"))?,
            query_key_value: linear(WIDTH, 3 * WIDTH, weights.pp("query_key_value"))?,
            mix: linear(WIDTH, WIDTH, weights.pp("mix"))?,
            norm2: rms_norm(WIDTH, 1e-5, weights.pp("norm2"))?,
            up: linear(WIDTH, 4 * WIDTH, weights.pp("up"))?,
            down: linear(4 * WIDTH, WIDTH, weights.pp("down"))?,
        })
    }

    /// Returns the new values, and the attention.
    fn forward(&self, values: &Tensor, mask: &Tensor) -> Result<(Tensor, Tensor)> {
        const SIZE: usize = WIDTH / HEADS;
        let (windows, positions, _) = values.dims3()?;
        // The faster `forward` of candle's norms and `softmax_last_dim` have no gradient.
        let heads = self.query_key_value.forward(&self.norm1.forward_diff(values)?)?;
        let heads = heads.reshape((windows, positions, 3, HEADS, SIZE))?;
        let heads = heads.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let (query, key, value) = (heads.get(0)?, heads.get(1)?, heads.get(2)?);
        let scores = (query.matmul(&key.t()?)? / (SIZE as f64).sqrt())?;
        let attention = ops::softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
        let mixed = attention.matmul(&value)?.transpose(1, 2)?.flatten_from(2)?;
        let values = (values + self.mix.forward(&mixed)?)?;
        let hidden = self.up.forward(&self.norm2.forward_diff(&values)?)?.relu()?;
        Ok(((&values + self.down.forward(&hidden)?)?, attention))
    }
}
