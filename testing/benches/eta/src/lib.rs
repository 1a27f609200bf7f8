//! How well an ETA foretells: step times as trainings have them, what each estimator shows on them,
//! and how wrong that is.
//!
//! Nothing here depends on a clock: the same seeds give the same figures on every machine.

mod indicatif;
mod ours;
mod score;
mod tqdm;
mod traces;

use std::ops::Range;

pub use self::score::EtaScore;
pub use self::traces::{KINDS, RECORDED, RunKind};

/// Seeds that the constants of our estimator were not chosen with.
pub const HELD_OUT: Range<u64> = 200_000..200_100;

/// An estimator as a viewer sees it. Times are seconds since its start.
trait Estimator {
    /// One more unit is done.
    fn step(&mut self, at: f64);

    /// The seconds that it would show as remaining if it were drawn after this step; `None` before
    /// it shows any.
    fn shown(&mut self) -> Option<f64>;
}

/// The mean scores of ours, of indicatif's and of tqdm's estimate over runs of this kind.
pub fn compare(kind: RunKind, seeds: Range<u64>) -> [EtaScore; 3] {
    let (_, steps) = kind;
    let runs = (seeds.end - seeds.start) as f64;
    let mut means = [EtaScore::default(); 3];
    for seed in seeds {
        let steps = steps(seed);
        let total = steps.len() as u64;
        let estimators: [&mut dyn Estimator; 3] = [
            &mut ours::Ours::new(total),
            &mut indicatif::Indicatif::new(total),
            &mut tqdm::Tqdm::new(total),
        ];
        for (mean, estimator) in means.iter_mut().zip(estimators) {
            let score = score::score(estimator, &steps);
            mean.error += score.error / runs;
            mean.jump += score.jump / runs;
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// One estimator with fixed constants. Not so for the recorded runs: see `docs/benchmarks.md`.
    #[test]
    fn ours_errs_least_on_every_made_kind_of_run() {
        let check = |kind: RunKind| {
            let [ours, indicatif, tqdm] = compare(kind, HELD_OUT).map(|score| score.error);
            let name = kind.0;
            assert!(
                ours < indicatif && ours < tqdm,
                "{name}: ours {ours}, indicatif {indicatif}, tqdm {tqdm}"
            );
        };
        // Millions of steps: all cores share them.
        thread::scope(|scope| {
            for kind in KINDS {
                scope.spawn(move || check(*kind));
            }
        });
    }

    #[test]
    fn a_run_is_as_its_seed_says() {
        for (name, steps) in KINDS {
            assert_eq!(steps(7), steps(7), "{name}");
            assert_ne!(steps(7), steps(8), "{name}");
            assert!(steps(7).iter().all(|step| *step > 0.0), "{name}");
        }
    }
}
