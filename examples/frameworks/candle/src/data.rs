//! The text to learn from: logcore's own pages, as bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The bytes for training, and the bytes for validation behind them.
pub(crate) struct Corpus {
    training: Vec<u8>,
    validation: Vec<u8>,
}

/// One byte in this many is for validation.
const VALIDATION_PART: usize = 10;

impl Corpus {
    /// Reads all pages in a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let list = || format!("cannot list the pages in {}", folder.display());
        let entries = fs::read_dir(folder).with_context(list)?;
        let mut pages = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        pages.retain(|page| page.extension().is_some_and(|ending| ending == "md"));
        // Systems list the files of a folder in different orders.
        pages.sort();
        let mut training = Vec::new();
        for page in pages {
            training.extend(fs::read(&page).with_context(|| format!("cannot read {}", page.display()))?);
        }
        ensure!(!training.is_empty(), "{} has no pages to learn from", folder.display());
        let validation = training.split_off(training.len() - training.len() / VALIDATION_PART);
        Ok(Self { training, validation })
    }

    /// Draws windows for a step. The same step always has the same ones, so a resumed run needs no
    /// state of a random generator.
    pub(crate) fn batch(&self, step: u64, windows: usize, length: usize) -> Vec<&[u8]> {
        let mut rng = StdRng::seed_from_u64(step);
        let starts = 0..self.training.len() - length;
        (0..windows)
            .map(|_| rng.random_range(starts.clone()))
            .map(|start| &self.training[start..start + length])
            .collect()
    }

    /// Returns windows that are spread over the bytes for validation: always the same ones.
    pub(crate) fn validation(&self, windows: usize, length: usize) -> Vec<&[u8]> {
        let stride = (self.validation.len() / windows).max(1);
        self.validation.windows(length).step_by(stride).take(windows).collect()
    }
}
