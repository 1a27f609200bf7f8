use crate::Estimator;

/// How often a viewer looks, at equal distances in time.
const LOOKS: u32 = 400;
/// The part of the run that is looked at: before, nobody can know; after, nobody needs to.
const FROM: f64 = 0.01;
const UNTIL: f64 = 0.95;

/// How good what was shown is.
#[derive(Debug, Clone, Copy, Default)]
pub struct EtaScore {
    /// The mean of |shown − true| / true over the looks. Nothing shown is as wrong as 0.
    pub error: f64,
    /// The mean of how far the finish moves between two looks, as a part of the true remaining
    /// time.
    pub jump: f64,
}

/// Shows an estimator steps that take so many seconds.
pub(crate) fn score(estimator: &mut dyn Estimator, steps: &[f64]) -> EtaScore {
    let total: f64 = steps.iter().sum();
    let look_at = |look: u32| total * (FROM + (UNTIL - FROM) * f64::from(look) / f64::from(LOOKS - 1));
    let (mut at, mut look) = (0.0, 0);
    let (mut errors, mut jumps) = (0.0, 0.0);
    let mut last_finish = None;
    for step in steps {
        at += step;
        while look < LOOKS && look_at(look) < at {
            let remaining = total - look_at(look);
            let shown = estimator.shown();
            errors += (shown.unwrap_or(0.0) - remaining).abs() / remaining;
            let finish = shown.map(|shown| look_at(look) + shown);
            if let (Some(last), Some(finish)) = (last_finish, finish) {
                let moved: f64 = finish - last;
                jumps += moved.abs() / remaining;
            }
            last_finish = finish;
            look += 1;
        }
        estimator.step(at);
    }
    EtaScore {
        error: errors / f64::from(LOOKS),
        jump: jumps / f64::from(LOOKS - 1),
    }
}
