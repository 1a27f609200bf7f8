//! The common parts of all measurements: the line that is logged, the lower limit of its cost, and
//! the statistics.

mod limit;
mod line;
mod stats;

pub use self::limit::format_only;
pub use self::line::{Line, TARGET};
pub use self::stats::{Timing, median, pause};

/// The names of ten metrics, as a training has them.
pub const TEN_METRICS: [&str; 10] = [
    "loss/train",
    "loss/val",
    "accuracy/train",
    "accuracy/val",
    "learning_rate",
    "grad_norm",
    "perplexity",
    "epoch",
    "weight_decay",
    "temperature",
];
