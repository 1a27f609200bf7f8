//! The line that every logger writes.

/// The target that every line names.
pub const TARGET: &str = "trainer";

/// The line of a training step. It has three floats, so formatting is nearly all of the cost of a
/// call.
#[derive(Clone, Copy)]
pub struct Line {
    /// The number of the step.
    pub step: u64,
    /// A loss, below 3.
    pub loss: f64,
    /// A learning rate, about 1e-4.
    pub lr: f64,
    /// Samples a second, about a thousand.
    pub throughput: f64,
}

impl Line {
    /// The line of a step. The figures look like a training's and differ from step to step, since
    /// the time that a float takes to format depends on its digits.
    pub fn at(step: u64) -> Self {
        let mixed = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let unit = |shift: u32| (mixed >> shift & 0xFFFF) as f64 / 65536.0;
        Self {
            step,
            loss: 0.2 + 2.5 * unit(48),
            lr: 1e-4 * (0.1 + unit(32)),
            throughput: 900.0 + 300.0 * unit(16),
        }
    }
}

/// Calls a formatting macro with the line behind the arguments given:
/// `with_line!(line, log::info!(logger: logger,))`.
#[macro_export]
macro_rules! with_line {
    ($line:expr, $($name:ident)::+ ! ($($before:tt)*)) => {
        $($name)::+!(
            $($before)*
            "step {} loss={:.4} lr={:.3e} throughput={:.1} samples/s",
            $line.step,
            $line.loss,
            $line.lr,
            $line.throughput
        )
    };
}
