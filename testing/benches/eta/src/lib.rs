//! How well an ETA foretells: step times as trainings have them, what each estimator shows on them,
//! and how wrong that is.
//!
//! Nothing here depends on a clock: the same seeds give the same figures on every machine.

mod indicatif;
mod ours;
mod recordings;
mod score;
mod tqdm;
mod traces;

use std::ops::Range;

pub use self::recordings::Recording;
pub use self::score::EtaScore;
pub use self::traces::{KINDS, RunKind};

/// Seeds that the constants of our estimator were not chosen with, but for three: see
/// `docs/benchmarks.md`.
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
        for (mean, score) in means.iter_mut().zip(compare_on(&steps(seed))) {
            mean.error += score.error / runs;
            mean.jump += score.jump / runs;
        }
    }
    means
}

/// The scores of ours, of indicatif's and of tqdm's estimate over steps that take so many seconds.
pub fn compare_on(steps: &[f64]) -> [EtaScore; 3] {
    let total = steps.len() as u64;
    [
        score::score(&mut ours::Ours::new(total), steps),
        score::score(&mut indicatif::Indicatif::new(total), steps),
        score::score(&mut tqdm::Tqdm::new(total), steps),
    ]
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

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

    /// No estimator errs least on each recording: see `docs/benchmarks.md`. This is the mean ratio.
    #[test]
    fn ours_errs_less_than_each_peer_over_the_recordings() {
        for held_out in [false, true] {
            let mut recordings = Recording::all();
            recordings.retain(|recording| recording.held_out == held_out);
            let mut logarithms = [0.0; 2];
            for recording in &recordings {
                let [ours, peers @ ..] = compare_on(&recording.steps).map(|score| score.error);
                for (logarithm, peer) in logarithms.iter_mut().zip(peers) {
                    *logarithm += (ours / peer).ln() / recordings.len() as f64;
                }
            }
            let ratios = logarithms.map(f64::exp);
            assert!(
                ratios.iter().all(|ratio| *ratio < 0.9),
                "held out: {held_out}: {ratios:?}"
            );
        }
    }

    #[test]
    fn recordings_are_complete() {
        let recordings = Recording::all();
        assert_eq!(recordings.iter().filter(|recording| recording.held_out).count(), 31);
        for Recording { name, run, steps, .. } in recordings {
            assert!(!run.is_empty() && steps.len() >= 50, "{name}");
            assert!(steps.iter().all(|step| *step > 0.0), "{name}");
        }
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
