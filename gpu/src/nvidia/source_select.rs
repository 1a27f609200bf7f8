//! Which of several sources a device's readings come from.

use std::borrow::Cow;

/// MemoryUsage of this process on a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryUsage {
    pub(crate) allocated: u64,
    pub(crate) reserved: u64,
    /// The peak of `allocated`, if the source knows it.
    pub(crate) max_allocated: Option<u64>,
}

/// Where figures come from, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MemorySource {
    /// The framework's own allocator.
    Framework(&'static str),
    /// The default memory pool of the CUDA driver.
    Pool,
    /// What the driver holds for this process.
    Process,
    /// What is used of the whole device.
    Device,
}

/// One device's choice of source. A chart must not change its meaning back and forth, so a choice is kept:
///
/// - A better source has to stay for three samples, and is changed to once.
/// - A source that fails leaves its readings out; only after five samples another takes its place.
#[derive(Debug, Default)]
pub(crate) struct SourceSelector {
    chosen: Option<MemorySource>,
    climbed: bool,
    better: u32,
    missed: u32,
    highest: u64,
}

const STAYS: u32 = 3;
const MISSES: u32 = 5;

impl MemorySource {
    pub(crate) fn tag(self) -> Cow<'static, str> {
        match self {
            Self::Framework(name) => format!("framework:{name}").into(),
            Self::Pool => "cuda_mempool".into(),
            Self::Process => "nvml_process".into(),
            Self::Device => "nvml_device".into(),
        }
    }

    /// The best is 1.
    pub(crate) fn rank(self) -> u32 {
        match self {
            Self::Framework(_) => 1,
            Self::Pool => 2,
            Self::Process => 3,
            Self::Device => 4,
        }
    }

    /// It knows nothing of allocators.
    pub(crate) fn is_driver(self) -> bool {
        matches!(self, Self::Process | Self::Device)
    }

    fn is_better_than(self, other: Self) -> bool {
        self.rank() < other.rank()
    }
}

impl SourceSelector {
    pub(crate) fn chosen(&self) -> Option<MemorySource> {
        self.chosen
    }

    /// The figures so far were another device's.
    pub(crate) fn forget_peak(&mut self) {
        self.highest = 0;
    }

    /// The figures of the chosen source among `offers`, the best of which stand first. `counts` says whether this is a
    /// sample of its own, or too close to the one before.
    pub(crate) fn choose(
        &mut self,
        offers: &[(MemorySource, MemoryUsage)],
        counts: bool,
    ) -> Option<(MemorySource, MemoryUsage)> {
        let &(best, _) = offers.first()?;
        let counted = u32::from(counts);
        let chosen = *self.chosen.get_or_insert(best);
        let is_there = offers.iter().any(|(source, _)| *source == chosen);
        self.missed = if is_there { 0 } else { self.missed + counted };
        self.better = if best.is_better_than(chosen) {
            self.better + counted
        } else {
            0
        };
        if self.missed >= MISSES || (self.better >= STAYS && !self.climbed) {
            self.climbed |= best.is_better_than(chosen);
            self.chosen = Some(best);
            (self.missed, self.better, self.highest) = (0, 0, 0);
        }
        let (source, mut memory) = *offers.iter().find(|(source, _)| Some(*source) == self.chosen)?;
        self.highest = self.highest.max(memory.allocated);
        memory.max_allocated = memory.max_allocated.or(Some(self.highest));
        Some((source, memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(allocated: u64) -> MemoryUsage {
        MemoryUsage {
            allocated,
            reserved: allocated,
            max_allocated: None,
        }
    }

    /// What each sample is from, where these sources are there.
    fn choices(selector: &mut SourceSelector, offered: &[MemorySource], samples: usize) -> Vec<Option<MemorySource>> {
        let offers: Vec<_> = offered.iter().map(|source| (*source, memory(1))).collect();
        let mut choose = || Some(selector.choose(&offers, true)?.0);
        (0..samples).map(|_| choose()).collect()
    }

    const FRAMEWORK: MemorySource = MemorySource::Framework("test");

    #[test]
    fn the_best_is_taken_first() {
        let all = [
            FRAMEWORK,
            MemorySource::Pool,
            MemorySource::Process,
            MemorySource::Device,
        ];
        for from in 0..all.len() {
            let mut selector = SourceSelector::default();
            assert_eq!(choices(&mut selector, &all[from..], 2), [Some(all[from]); 2]);
        }
        assert_eq!(choices(&mut SourceSelector::default(), &[], 1), [None]);
    }

    #[test]
    fn a_better_source_has_to_stay_and_is_changed_to_once() {
        let mut selector = SourceSelector::default();
        let (low, high) = ([MemorySource::Process], [MemorySource::Pool, MemorySource::Process]);
        assert_eq!(choices(&mut selector, &low, 1), [Some(MemorySource::Process)]);
        // It comes and goes.
        for _ in 0..4 {
            assert_eq!(choices(&mut selector, &high, 2), [Some(MemorySource::Process); 2]);
            assert_eq!(choices(&mut selector, &low, 1), [Some(MemorySource::Process)]);
        }
        let climbing = [
            Some(MemorySource::Process),
            Some(MemorySource::Process),
            Some(MemorySource::Pool),
        ];
        assert_eq!(choices(&mut selector, &high, 3), climbing);
        // Down again, and then there it stays.
        let falling = [None, None, None, None, Some(MemorySource::Process)];
        assert_eq!(choices(&mut selector, &low, 5), falling);
        assert_eq!(choices(&mut selector, &high, 20), [Some(MemorySource::Process); 20]);
    }

    #[test]
    fn a_source_that_fails_now_and_then_is_kept() {
        let mut selector = SourceSelector::default();
        let (whole, broken) = ([MemorySource::Pool, MemorySource::Process], [MemorySource::Process]);
        for _ in 0..5 {
            assert_eq!(choices(&mut selector, &whole, 1), [Some(MemorySource::Pool)]);
            assert_eq!(choices(&mut selector, &broken, 4), [None; 4]);
        }
    }

    #[test]
    fn what_is_left_is_taken_wherever_it_stands() {
        let mut selector = SourceSelector {
            climbed: true,
            ..SourceSelector::default()
        };
        choices(&mut selector, &[MemorySource::Process], 1);
        let last = choices(&mut selector, &[MemorySource::Pool], 5);
        assert_eq!(last, [None, None, None, None, Some(MemorySource::Pool)]);
    }

    #[test]
    fn samples_that_are_too_close_do_not_count() {
        let mut selector = SourceSelector::default();
        choices(&mut selector, &[MemorySource::Process], 1);
        let offers = [(MemorySource::Pool, memory(1)), (MemorySource::Process, memory(1))];
        for _ in 0..10 {
            assert_eq!(
                selector.choose(&offers, false).map(|(source, _)| source),
                Some(MemorySource::Process)
            );
        }
    }

    #[test]
    fn a_peak_is_of_one_source_only() {
        let mut selector = SourceSelector::default();
        let mut peak = |offers: &[(MemorySource, MemoryUsage)]| {
            selector
                .choose(offers, true)
                .and_then(|(_, memory)| memory.max_allocated)
        };
        assert_eq!(peak(&[(MemorySource::Process, memory(9))]), Some(9));
        assert_eq!(peak(&[(MemorySource::Process, memory(4))]), Some(9));
        let both = [(FRAMEWORK, memory(2)), (MemorySource::Process, memory(4))];
        assert_eq!([peak(&both), peak(&both), peak(&both)], [Some(9), Some(9), Some(2)]);
        let exact = MemoryUsage {
            max_allocated: Some(100),
            ..memory(1)
        };
        assert_eq!(peak(&[(FRAMEWORK, exact)]), Some(100));
    }
}
