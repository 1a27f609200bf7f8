use std::f64::consts::TAU;
use std::ops::RangeInclusive;

use fastrand::Rng;

/// A kind of run: its name, and a function from a seed to the seconds of each step.
pub type RunKind = (&'static str, fn(u64) -> Vec<f64>);

/// All kinds of training runs. The seed decides their lengths and paces.
pub const KINDS: &[RunKind] = &[
    ("constant", |seed| TraceBuilder::new(seed).steps()),
    ("warm-up: slow first steps", |seed| {
        TraceBuilder::new(seed).compile().steps()
    }),
    ("warm-up: a cold cache", |seed| {
        TraceBuilder::new(seed).cold_cache().steps()
    }),
    ("drift", |seed| TraceBuilder::new(seed).drift().steps()),
    ("a change of pace at half", |seed| {
        TraceBuilder::new(seed).change().steps()
    }),
    ("validation", |seed| TraceBuilder::new(seed).validation().steps()),
    ("heavy tail: log-normal", |seed| {
        TraceBuilder::new(seed).log_normal().steps()
    }),
    ("heavy tail: Pareto", |seed| TraceBuilder::new(seed).pareto().steps()),
    ("warm-up and validation", |seed| {
        TraceBuilder::new(seed).compile().validation().steps()
    }),
    ("drift and validation", |seed| {
        TraceBuilder::new(seed).drift().validation().steps()
    }),
    ("warm-up, validation, heavy tail", |seed| {
        TraceBuilder::new(seed).log_normal().compile().validation().steps()
    }),
    ("cold cache, drift, validation, heavy tail", |seed| {
        TraceBuilder::new(seed)
            .pareto()
            .cold_cache()
            .drift()
            .validation()
            .steps()
    }),
];

/// The steps of a run, changed by one property after the other.
struct TraceBuilder {
    rng: Rng,
    /// The seconds that a typical step takes.
    typical: f64,
    steps: Vec<f64>,
}

impl TraceBuilder {
    /// 50 to 100,000 steps in one minute to ten hours, each order of magnitude as likely, with a
    /// jitter of 1 to 10 %.
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let length = magnitude(&mut rng, 50.0..=100_000.0) as usize;
        let typical = magnitude(&mut rng, 60.0..=36_000.0) / length as f64;
        let jitter = magnitude(&mut rng, 0.01..=0.1);
        let steps = (0..length)
            .map(|_| typical * (1.0 + jitter * normal(&mut rng)).max(0.1))
            .collect();
        Self { rng, typical, steps }
    }

    /// The first one to five steps are 10 to 100 times slower.
    fn compile(mut self) -> Self {
        for at in 0..self.rng.usize(1..=5) {
            self.steps[at] *= magnitude(&mut self.rng, 10.0..=100.0);
        }
        self
    }

    /// The first steps are 2 to 10 times slower, and settle exponentially over 1 to 5 % of the run.
    fn cold_cache(mut self) -> Self {
        let slower = magnitude(&mut self.rng, 2.0..=10.0);
        let settling = self.part(0.01..=0.05);
        self.scale(|at| 1.0 + (slower - 1.0) * (-at / settling).exp())
    }

    /// Steadily slower or faster, by up to a half in all.
    fn drift(mut self) -> Self {
        let by = between(&mut self.rng, 0.2..=0.5) * if self.rng.bool() { 1.0 } else { -1.0 };
        self.scale(|at| 1.0 + by * at)
    }

    /// From the half on, up to 3 times slower or faster.
    fn change(mut self) -> Self {
        let by = magnitude(&mut self.rng, 1.3..=3.0);
        let by = if self.rng.bool() { by } else { 1.0 / by };
        self.scale(|at| if at < 0.5 { 1.0 } else { by })
    }

    /// Every 100 to 500 steps (at least thrice a run), a pause as long as 20 to 100 steps.
    fn validation(mut self) -> Self {
        let every = self.rng.usize(100..=500).min(self.steps.len() / 4);
        let pause = self.typical * between(&mut self.rng, 20.0..=100.0);
        for at in (every..self.steps.len()).step_by(every) {
            self.steps[at] += pause * (1.0 + 0.05 * normal(&mut self.rng)).max(0.1);
        }
        self
    }

    /// Each step by a factor with a logarithm of 0 ± 0.5 to 1.
    fn log_normal(mut self) -> Self {
        let sigma = between(&mut self.rng, 0.5..=1.0);
        for step in &mut self.steps {
            *step *= (sigma * normal(&mut self.rng)).exp();
        }
        self
    }

    /// Each step by a factor of 1 and above, with a tail of exponent 2 to 3.
    fn pareto(mut self) -> Self {
        let exponent = between(&mut self.rng, 2.0..=3.0);
        for step in &mut self.steps {
            *step *= (1.0 - self.rng.f64()).powf(-1.0 / exponent);
        }
        self
    }

    fn steps(self) -> Vec<f64> {
        self.steps
    }

    fn part(&mut self, range: RangeInclusive<f64>) -> f64 {
        between(&mut self.rng, range)
    }

    /// By a factor of the place in the run, from 0 to 1.
    fn scale(mut self, factor: impl Fn(f64) -> f64) -> Self {
        let length = self.steps.len() as f64;
        for (at, step) in self.steps.iter_mut().enumerate() {
            *step *= factor(at as f64 / length);
        }
        self
    }
}

fn between(rng: &mut Rng, range: RangeInclusive<f64>) -> f64 {
    range.start() + (range.end() - range.start()) * rng.f64()
}

/// Each order of magnitude as likely as any other.
fn magnitude(rng: &mut Rng, range: RangeInclusive<f64>) -> f64 {
    between(rng, range.start().ln()..=range.end().ln()).exp()
}

/// Around 0, with a deviation of 1 (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos()
}
