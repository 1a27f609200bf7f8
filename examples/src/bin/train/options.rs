//! The command line of the example.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::model::Shape;

/// Options of a run. They are logged as its hyper-parameters.
#[derive(Serialize)]
pub(crate) struct Options {
    pub(crate) shape: Shape,
    pub(crate) batch_size: usize,
    pub(crate) steps: u64,
    pub(crate) learning_rate: f32,
    pub(crate) momentum: f32,
    pub(crate) seed: u64,
    /// Upper limit for the mean loss of the last steps, in bits per byte.
    pub(crate) max_loss: f64,
    pub(crate) data: PathBuf,
    #[serde(skip)]
    pub(crate) log_dir: PathBuf,
    /// The folder of the run in `log_dir`, as `LogConfig::run` has it.
    #[serde(skip)]
    pub(crate) run: String,
    /// `offline`, or the address of a W&B server. `None` records no W&B run.
    #[serde(skip)]
    pub(crate) wandb: Option<String>,
}

impl Options {
    /// Parses `--fast`, `--steps N`, `--learning-rate R`, `--data DIR`, `--log-dir DIR`,
    /// `--run NAME`, `--wandb URL`.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--fast" => {
                    options = Self {
                        data: options.data,
                        log_dir: options.log_dir,
                        run: options.run,
                        wandb: options.wandb,
                        ..Self::fast()
                    }
                }
                "--data" => options.data = value()?.into(),
                "--log-dir" => options.log_dir = value()?.into(),
                "--run" => options.run = value()?,
                "--wandb" => options.wandb = Some(value()?),
                "--steps" => {
                    let steps = value()?;
                    options.steps = steps.parse().with_context(|| format!("--steps {steps}"))?;
                    ensure!(options.steps > 0, "--steps 0: a training takes at least one step");
                    // So few steps max_loss no more than that something is learned.
                    options.max_loss = 8.0;
                }
                "--learning-rate" => {
                    let rate = value()?;
                    options.learning_rate = rate.parse().with_context(|| format!("--learning-rate {rate}"))?;
                    ensure!(
                        options.learning_rate.is_finite() && options.learning_rate > 0.0,
                        "--learning-rate {rate}: use a number above 0"
                    );
                }
                other => bail!(
                    "`{other}` is not known; there are --fast, --steps N, --learning-rate R, --data DIR, --log-dir DIR, \
                     --run NAME and --wandb URL"
                ),
            }
        }
        Ok(options)
    }

    /// Options for a run of a few seconds.
    fn fast() -> Self {
        Self {
            shape: Shape {
                context: 8,
                embedding: 24,
                hidden: 128,
            },
            batch_size: 128,
            steps: 900,
            max_loss: 5.0,
            ..Self::default()
        }
    }
}

impl Default for Options {
    /// Options for a run of less than a minute.
    fn default() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Self {
            shape: Shape {
                context: 8,
                embedding: 24,
                hidden: 256,
            },
            batch_size: 192,
            steps: 1800,
            learning_rate: 0.25,
            momentum: 0.9,
            seed: 1,
            max_loss: 4.0,
            data: workspace.unwrap_or(Path::new(".")).to_owned(),
            log_dir: PathBuf::from("outputs/train"),
            run: "auto".to_owned(),
            wandb: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn the_order_of_the_arguments_does_not_matter() {
        for order in [["--fast", "--log-dir", "here"], ["--log-dir", "here", "--fast"]] {
            let options = parse(&order).unwrap();
            assert_eq!((options.steps, options.log_dir), (900, PathBuf::from("here")));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in [
            &["--slow"][..],
            &["--steps"],
            &["--steps", "many"],
            &["--steps", "0"],
            &["--learning-rate", "0"],
            &["--learning-rate", "NaN"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
