//! Reports one device: its readings, and messages about changes.

use std::sync::Arc;
use std::time::Instant;

use logcore::log::Level;
use logcore::{MetricValue, Number, Readings};

use crate::nvidia::device_map::MappedBy;
use crate::nvidia::options::Fallback;
use crate::nvidia::session::DriverFigures;
use crate::nvidia::source_select::{MemorySource, MemoryUsage, SourceSelector};

/// The reporter of one device. Each change is noted once.
#[derive(Debug, Default)]
pub(crate) struct DeviceReporter {
    selector: SourceSelector,
    identity: Option<Arc<str>>,
    is_lost: bool,
    last: Option<MemoryUsage>,
    has_warned: bool,
    /// Notices about queries that were reported and still hold.
    active_notices: Vec<String>,
    contradiction: ContradictionCheck,
}

/// Compares a source that is read at each sample with the driver's process list, which is seconds
/// old.
#[derive(Debug, Default)]
struct ContradictionCheck {
    /// Time of the list that was compared last.
    listed_at: Option<Instant>,
    /// Number of lists in a row that contradict the source.
    in_a_row: u32,
    /// Lowest `allocated` since that list.
    min_allocated: Option<u64>,
}

/// The sources that have a value for one device, best first.
#[derive(Debug, Default)]
pub(crate) struct AvailableSources {
    pub(crate) sources: Vec<(MemorySource, MemoryUsage)>,
    pub(crate) driver: Option<DriverFigures>,
}

impl AvailableSources {
    /// Adds the driver's values. The driver cannot see inside an allocator, so all memory that it
    /// holds counts as allocated.
    ///
    /// The usage of the whole device is added if `fallback` allows it or no other process uses the
    /// device.
    pub(crate) fn add_driver(&mut self, figures: DriverFigures, fallback: Fallback) {
        let held = |bytes| MemoryUsage {
            allocated: bytes,
            reserved: bytes,
            max_allocated: None,
        };
        self.sources
            .extend(figures.process.map(|bytes| (MemorySource::Process, held(bytes))));
        let device = figures
            .device
            .filter(|_| fallback == Fallback::Device || figures.is_exclusive);
        self.sources
            .extend(device.map(|bytes| (MemorySource::Device, held(bytes))));
        self.driver = Some(figures);
    }
}

impl DeviceReporter {
    /// Returns the source of the readings.
    pub(crate) fn source(&self) -> Option<MemorySource> {
        self.selector.selected()
    }

    /// Adds the device's readings. Returns `true` if the selected source has a value this time.
    pub(crate) fn read(
        &mut self,
        ordinal: usize,
        available: &AvailableSources,
        counts: bool,
        readings: &mut Readings,
    ) -> bool {
        if let Some(figures) = &available.driver {
            self.note_changes(ordinal, figures, readings);
        }
        let suffix = match ordinal {
            0 => String::new(),
            ordinal => format!("/cuda:{ordinal}"),
        };
        let mut push = |name: &str, value: MetricValue| readings.push(format!("memory/gpu_{name}{suffix}"), value);
        let gb = |bytes: u64| MetricValue::Float(bytes as f64 / 1e9);
        let selected = self.selector.select(&available.sources, counts);
        if let Some((source, memory)) = selected {
            push("allocated_gb", gb(memory.allocated));
            push("reserved_gb", gb(memory.reserved));
            push("max_allocated_gb", gb(memory.max_allocated.unwrap_or(memory.allocated)));
            push("source", source.number().value());
            self.last = Some(memory);
        }
        if let Some(figures) = &available.driver {
            if let Some(bytes) = figures.process {
                push("process_gb", gb(bytes));
            }
            if let Some((source, memory)) = selected.filter(|(source, _)| !source.is_nvml()) {
                self.compare(ordinal, (source, memory), figures, readings);
            }
        }
        selected.is_some()
    }

    /// Notes a lost device, a new identity, and new notices about queries.
    ///
    /// If another device takes the place of the first, the peak of NVML's values begins anew.
    fn note_changes(&mut self, ordinal: usize, figures: &DriverFigures, readings: &mut Readings) {
        let identity = &figures.identity;
        if figures.is_lost && !self.is_lost {
            let last = match self.last {
                Some(memory) => format!(", with {:.3} GB allocated", memory.allocated as f64 / 1e9),
                None => String::new(),
            };
            let text = format!("cuda:{ordinal} is lost: {identity}{last}. Retrying every minute");
            readings.note(Level::Error, text);
        } else if !figures.is_lost && self.identity.as_ref() != Some(identity) {
            readings.note(
                Level::Info,
                format!("cuda:{ordinal} is {identity}, {}", figures.mapped_by),
            );
            let was_another = self.identity.replace(Arc::clone(identity)).is_some();
            if was_another && self.source().is_some_and(MemorySource::is_nvml) {
                self.selector.reset_peak();
            }
        }
        self.is_lost = figures.is_lost;
        for text in &figures.notices {
            if !self.active_notices.contains(text) {
                readings.note(Level::Info, format!("cuda:{ordinal}: {text}"));
            }
        }
        self.active_notices.clone_from(&figures.notices);
    }

    /// Warns once if the source contradicts the driver. The source stays selected, because the
    /// driver's values may be the wrong ones.
    fn compare(
        &mut self,
        ordinal: usize,
        (source, memory): (MemorySource, MemoryUsage),
        figures: &DriverFigures,
        readings: &mut Readings,
    ) {
        // Before CUDA has named the devices, the driver's values may be those of another device.
        if self.has_warned || figures.mapped_by != MappedBy::Cuda {
            return;
        }
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let against = match (figures.total, figures.process) {
            (Some(total), _) if memory.reserved > total => format!("the device has {:.3} GB", gb(total)),
            (_, Some(process))
                if self
                    .contradiction
                    .persists(memory.allocated, process, figures.listed_at) =>
            {
                format!("the driver reports {:.3} GB for this process", gb(process))
            }
            _ => return,
        };
        self.has_warned = true;
        let text = format!(
            "cuda:{ordinal}: {} reports {:.3} GB allocated and {:.3} GB reserved, but {against}",
            source.tag(),
            gb(memory.allocated),
            gb(memory.reserved)
        );
        readings.note(Level::Warn, text);
    }
}

impl ContradictionCheck {
    /// Returns `true` if two lists in a row have over 5 % less than was allocated both before and
    /// after the list was made.
    fn persists(&mut self, allocated: u64, listed: u64, listed_at: Option<Instant>) -> bool {
        let min_allocated = self.min_allocated.map_or(allocated, |min| min.min(allocated));
        if self.listed_at == listed_at {
            self.min_allocated = Some(min_allocated);
            return false;
        }
        let contradicts = self.min_allocated.is_some() && (listed as f64) < 0.95 * min_allocated as f64;
        self.in_a_row = if contradicts { self.in_a_row + 1 } else { 0 };
        (self.listed_at, self.min_allocated) = (listed_at, Some(allocated));
        self.in_a_row >= 2
    }
}
