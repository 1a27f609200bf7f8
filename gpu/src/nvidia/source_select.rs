//! Selects the source of a device's readings.
//!
//! A program that starts with NVML only and then uses CUDA's pool:
//!
//! | sample | available | selected |
//! |---|---|---|
//! | 1 | process | process |
//! | 2, 3 | pool, process | process: the pool may disappear again |
//! | 4 | pool, process | pool |
//! | 5 to 8 | process | pool, without a value |
//! | 9 | process | process; the pool will not be selected again |

use std::borrow::Cow;

/// The memory of this process on a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryUsage {
    /// Bytes in live tensors.
    pub(crate) allocated: u64,
    /// Bytes that the allocator holds from the driver.
    pub(crate) reserved: u64,
    /// Peak of `allocated`, if the source counts it.
    pub(crate) max_allocated: Option<u64>,
}

/// The sources of a device's memory usage, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MemorySource {
    /// The allocator of the program's framework, by name.
    Framework(&'static str),
    /// The default memory pool of the CUDA driver.
    Pool,
    /// NVML's entry of this process.
    Process,
    /// NVML's usage of the whole device.
    Device,
}

/// Selects one device's source, and keeps it so that a chart does not change its meaning back and
/// forth.
///
/// - A better source replaces the selected one after three samples in a row, at most once.
/// - While the selected source has no value, the reading is left out. After five such samples
///   another source replaces it.
#[derive(Debug, Default)]
pub(crate) struct SourceSelector {
    selected: Option<MemorySource>,
    /// `true` once a better source has replaced another one.
    has_upgraded: bool,
    /// Number of samples in a row with a better source.
    better_samples: u32,
    /// Number of samples in a row without the selected source.
    missed_samples: u32,
    /// Highest `allocated` of the selected source, in bytes.
    peak: u64,
}

/// Number of samples in a row after which a better source is selected.
const SAMPLES_TO_UPGRADE: u32 = 3;
/// Number of samples in a row without a value after which another source is selected.
const MISSES_TO_REPLACE: u32 = 5;

impl MemorySource {
    /// Returns the name that users see: `cuda_mempool`.
    pub(crate) fn tag(self) -> Cow<'static, str> {
        match self {
            Self::Framework(name) => format!("framework:{name}").into(),
            Self::Pool => "cuda_mempool".into(),
            Self::Process => "nvml_process".into(),
            Self::Device => "nvml_device".into(),
        }
    }

    /// Returns the value of `memory/gpu_source`: 1 for the best source, 4 for the worst.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Framework(_) => 1,
            Self::Pool => 2,
            Self::Process => 3,
            Self::Device => 4,
        }
    }

    /// Returns `true` if the source is NVML, which cannot see inside an allocator.
    pub(crate) fn is_nvml(self) -> bool {
        matches!(self, Self::Process | Self::Device)
    }

    fn is_better_than(self, other: Self) -> bool {
        self.number() < other.number()
    }
}

impl SourceSelector {
    /// Returns the selected source; `None` before the first sample.
    pub(crate) fn selected(&self) -> Option<MemorySource> {
        self.selected
    }

    /// Forgets the peak, because the values so far were those of another device.
    pub(crate) fn reset_peak(&mut self) {
        self.peak = 0;
    }

    /// Returns the usage by the selected one of `available`, which is sorted by quality, best
    /// first.
    ///
    /// `may_change_selection` is `false` for a sample too close to the one before: it returns a
    /// value and has no influence on the selection.
    pub(crate) fn select(
        &mut self,
        available: &[(MemorySource, MemoryUsage)],
        may_change_selection: bool,
    ) -> Option<(MemorySource, MemoryUsage)> {
        let &(best, _) = available.first()?;
        let counted = u32::from(may_change_selection);
        let selected = *self.selected.get_or_insert(best);
        let is_available = available.iter().any(|(source, _)| *source == selected);
        self.missed_samples = if is_available { 0 } else { self.missed_samples + counted };
        self.better_samples = if best.is_better_than(selected) {
            self.better_samples + counted
        } else {
            0
        };
        let may_upgrade = self.better_samples >= SAMPLES_TO_UPGRADE && !self.has_upgraded;
        if self.missed_samples >= MISSES_TO_REPLACE || may_upgrade {
            self.has_upgraded |= best.is_better_than(selected);
            self.selected = Some(best);
            (self.missed_samples, self.better_samples, self.peak) = (0, 0, 0);
        }
        let (source, mut memory) = *available.iter().find(|(source, _)| Some(*source) == self.selected)?;
        self.peak = self.peak.max(memory.allocated);
        memory.max_allocated = memory.max_allocated.or(Some(self.peak));
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

    /// Returns the source of each sample while these sources are available.
    fn selections(
        selector: &mut SourceSelector,
        offered: &[MemorySource],
        samples: usize,
    ) -> Vec<Option<MemorySource>> {
        let offers: Vec<_> = offered.iter().map(|source| (*source, memory(1))).collect();
        let mut select = || Some(selector.select(&offers, true)?.0);
        (0..samples).map(|_| select()).collect()
    }

    const FRAMEWORK: MemorySource = MemorySource::Framework("test");

    #[test]
    fn selector_takes_the_best_source_first() {
        let all = [
            FRAMEWORK,
            MemorySource::Pool,
            MemorySource::Process,
            MemorySource::Device,
        ];
        for from in 0..all.len() {
            let mut selector = SourceSelector::default();
            assert_eq!(selections(&mut selector, &all[from..], 2), [Some(all[from]); 2]);
        }
        assert_eq!(selections(&mut SourceSelector::default(), &[], 1), [None]);
    }

    #[test]
    fn better_source_is_selected_after_three_samples_and_once() {
        let mut selector = SourceSelector::default();
        let (low, high) = ([MemorySource::Process], [MemorySource::Pool, MemorySource::Process]);
        assert_eq!(selections(&mut selector, &low, 1), [Some(MemorySource::Process)]);
        // The better source comes and goes.
        for _ in 0..4 {
            assert_eq!(selections(&mut selector, &high, 2), [Some(MemorySource::Process); 2]);
            assert_eq!(selections(&mut selector, &low, 1), [Some(MemorySource::Process)]);
        }
        let upgrading = [
            Some(MemorySource::Process),
            Some(MemorySource::Process),
            Some(MemorySource::Pool),
        ];
        assert_eq!(selections(&mut selector, &high, 3), upgrading);
        // The better source fails, and is not selected again.
        let replaced = [None, None, None, None, Some(MemorySource::Process)];
        assert_eq!(selections(&mut selector, &low, 5), replaced);
        assert_eq!(selections(&mut selector, &high, 20), [Some(MemorySource::Process); 20]);
    }

    #[test]
    fn source_that_misses_some_samples_is_kept() {
        let mut selector = SourceSelector::default();
        let (whole, broken) = ([MemorySource::Pool, MemorySource::Process], [MemorySource::Process]);
        for _ in 0..5 {
            assert_eq!(selections(&mut selector, &whole, 1), [Some(MemorySource::Pool)]);
            assert_eq!(selections(&mut selector, &broken, 4), [None; 4]);
        }
    }

    #[test]
    fn missing_source_is_replaced_by_a_better_or_worse_one() {
        let mut selector = SourceSelector {
            has_upgraded: true,
            ..SourceSelector::default()
        };
        selections(&mut selector, &[MemorySource::Process], 1);
        let last = selections(&mut selector, &[MemorySource::Pool], 5);
        assert_eq!(last, [None, None, None, None, Some(MemorySource::Pool)]);
    }

    #[test]
    fn samples_too_close_together_do_not_count() {
        let mut selector = SourceSelector::default();
        selections(&mut selector, &[MemorySource::Process], 1);
        let offers = [(MemorySource::Pool, memory(1)), (MemorySource::Process, memory(1))];
        for _ in 0..10 {
            assert_eq!(
                selector.select(&offers, false).map(|(source, _)| source),
                Some(MemorySource::Process)
            );
        }
    }

    #[test]
    fn peak_belongs_to_one_source() {
        let mut selector = SourceSelector::default();
        let mut peak = |offers: &[(MemorySource, MemoryUsage)]| {
            selector
                .select(offers, true)
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
