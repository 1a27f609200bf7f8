//! Loss curves that a seed decides, with planted spikes.
//!
//! The curves are of the kinds that runs have: an exponential decay with noise, on a drift, with
//! restarts of the schedule, with plateaus, after NaN, or after a quiet start. Each kind of noise
//! meets each kind of curve, with and without spikes. Nothing here knows the detector.

/// Number of values of a curve.
pub(crate) const STEPS: usize = 2000;

/// A curve, and the places of its planted spikes.
pub(crate) struct Curve {
    pub(crate) noise: Noise,
    pub(crate) shape: Shape,
    pub(crate) values: Vec<f64>,
    pub(crate) spikes: Vec<Spike>,
}

/// A planted spike: its first step, and the step behind its last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spike {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    Gaussian,
    /// Student's t with 3 degrees of freedom: about 3 of 1,000 values lie beyond 8 robust sigmas.
    HeavyTails,
    /// Gaussian, and as large a share of the loss everywhere.
    Proportional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Decay,
    /// The loss rises or falls on, or swings.
    Drift,
    /// The learning rate jumps up: the loss climbs within tens of steps, and decays again.
    Restarts,
    /// The first values are NaN.
    NanAtStart,
    /// The loss stands, and falls within tens of steps, several times.
    Plateaus,
    /// The first values are equal but for the last digits of an `f32`.
    QuietStart,
}

pub(crate) const NOISES: [Noise; 3] = [Noise::Gaussian, Noise::HeavyTails, Noise::Proportional];
pub(crate) const SHAPES: [Shape; 6] = [
    Shape::Decay,
    Shape::Drift,
    Shape::Restarts,
    Shape::NanAtStart,
    Shape::Plateaus,
    Shape::QuietStart,
];

impl Curve {
    /// Makes the curve of a seed. The seed's remainders decide noise, shape, and whether there are
    /// spikes, so that 36 seeds one after another hold each combination once.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let noise = NOISES[(seed % 3) as usize];
        let shape = SHAPES[(seed / 3 % 6) as usize];
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let (level, quiet) = draw_shape(shape, &mut random);
        let floor = level.iter().copied().fold(f64::INFINITY, f64::min);
        // From 0.5 to 5 % of the lowest loss, as batches of tens to thousands of samples have.
        let sigma = floor * random.between_log(0.005, 0.05);
        let sigma_at = |step: usize| match noise {
            Noise::Proportional => sigma / floor * level[step],
            _ => sigma,
        };
        let mut values: Vec<f64> = (0..STEPS)
            .map(|step| match step < quiet {
                true => level[step] * (1.0 + 1e-7 * random.normal()),
                false => level[step] + sigma_at(step) * random.noise(noise),
            })
            .collect();
        let mut spikes = Vec::new();
        if (seed / 18).is_multiple_of(2) {
            spikes = plant_spikes(&mut values, &level, quiet + 150, sigma_at, &mut random);
        }
        if shape == Shape::NanAtStart {
            let count = random.integer(1, 20);
            values[..count].fill(f64::NAN);
        }
        // Programs log losses in single precision.
        for value in &mut values {
            *value = f64::from(*value as f32);
        }
        Self {
            noise,
            shape,
            values,
            spikes,
        }
    }
}

/// Returns the loss without noise, and the number of quiet values at the start.
fn draw_shape(shape: Shape, random: &mut Random) -> (Vec<f64>, usize) {
    let floor = random.between(1.0, 3.0);
    let height = random.between(2.0, 8.0);
    let decay = random.between_log(20.0, 500.0);
    let quiet = match shape {
        Shape::QuietStart => random.integer(20, 300),
        _ => 0,
    };
    let mut level: Vec<f64> = (0..STEPS)
        .map(|step| floor + height * (-(step.saturating_sub(quiet) as f64) / decay).exp())
        .collect();
    match shape {
        Shape::Decay | Shape::NanAtStart | Shape::QuietStart => {}
        Shape::Drift => {
            let slope = floor * random.between(-0.4, 1.0);
            let (swing, period) = (floor * random.between(0.0, 0.2), random.between(300.0, 1500.0));
            for (step, level) in level.iter_mut().enumerate() {
                let share = step as f64 / STEPS as f64;
                *level += slope * share + swing * (step as f64 / period * std::f64::consts::TAU).sin();
            }
        }
        Shape::Restarts => {
            for _ in 0..random.integer(1, 3) {
                let at = random.integer(300, STEPS - 200);
                let rise = floor * random.between(0.05, 0.3);
                let (up, down) = (random.between(10.0, 40.0), random.between(100.0, 400.0));
                for (since, level) in level[at..].iter_mut().enumerate() {
                    let since = since as f64;
                    *level += rise * (1.0 - (-since / up).exp()) * (-since / down).exp();
                }
            }
        }
        Shape::Plateaus => {
            level.fill(floor + height);
            let count = random.integer(2, 4);
            for _ in 0..count {
                let middle = random.between(200.0, STEPS as f64 - 100.0);
                let width = random.between(5.0, 30.0);
                for (step, level) in level.iter_mut().enumerate() {
                    *level -= height / count as f64 / (1.0 + (-(step as f64 - middle) / width).exp());
                }
            }
        }
    }
    (level, quiet)
}

/// Plants one to five spikes, at least 160 steps apart. Each rises by 8 to 60 robust sigmas of the
/// noise at its place, in its first step or over the first three, stays for up to 4 steps and falls
/// back over up to 15. Where the noise would take its first high value below 8 sigmas, the spike is
/// as much higher.
fn plant_spikes(
    values: &mut [f64],
    level: &[f64],
    first: usize,
    sigma_at: impl Fn(usize) -> f64,
    random: &mut Random,
) -> Vec<Spike> {
    let count = random.integer(1, 5);
    let gap = (STEPS - 60 - first) / count;
    let mut spikes = Vec::new();
    for index in 0..count {
        let from = first + index * gap + random.integer(0, gap - 160);
        let (rise, stay, fall) = (random.integer(0, 1) * 2, random.integer(1, 4), random.integer(0, 15));
        let (sigma, noise) = (sigma_at(from), values[from + rise] - level[from + rise]);
        let height = (random.between_log(8.0, 60.0) * sigma).max(8.0 * sigma - noise);
        for at in 0..rise + stay + fall {
            let share = if at < rise {
                (at + 1) as f64 / (rise + 1) as f64
            } else if at < rise + stay {
                1.0
            } else {
                (-((at - rise - stay + 1) as f64) / (fall as f64 / 3.0)).exp()
            };
            values[from + at] += height * share;
        }
        spikes.push(Spike {
            from,
            to: from + rise + stay + fall,
        });
    }
    spikes
}

/// The generator of Steele, Lea and Flood ("SplitMix"), which has the same numbers for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number above 0 and below 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn between_log(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// Returns one of the integers from `low` to `high`, both included.
    fn integer(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Returns noise with a robust sigma of 1: its median deviation is that of a normal one.
    fn noise(&mut self, noise: Noise) -> f64 {
        match noise {
            Noise::Gaussian | Noise::Proportional => self.normal(),
            Noise::HeavyTails => {
                let square = (0..3).map(|_| self.normal().powi(2)).sum::<f64>() / 3.0;
                self.normal() / square.sqrt() / 1.134
            }
        }
    }
}
