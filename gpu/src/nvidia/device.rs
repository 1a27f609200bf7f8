//! One device of the run: its readings, and what there is to say about it.

use std::sync::Arc;
use std::time::Instant;

use logcore::log::Level;
use logcore::{MetricValue, Number, Readings};

use crate::nvidia::device_map::MappedBy;
use crate::nvidia::options::Fallback;
use crate::nvidia::session::DriverFigures;
use crate::nvidia::source_select::{MemorySource, MemoryUsage, SourceSelector};

#[derive(Debug, Default)]
pub(crate) struct DeviceReporter {
    selector: SourceSelector,
    identity: Option<Arc<str>>,
    is_lost: bool,
    last: Option<MemoryUsage>,
    has_warned: bool,
    /// What was said of the questions to it.
    questions: Vec<String>,
    contradiction: ContradictionCheck,
}

/// Whether the driver's list of processes, which is some seconds old, contradicts a source that is asked anew each time.
#[derive(Debug, Default)]
struct ContradictionCheck {
    /// When the list was made that was compared last, and how many in a row contradicted.
    listed_at: Option<Instant>,
    in_a_row: u32,
    /// The least that was allocated since then.
    least: Option<u64>,
}

/// What the sources offer for one device, the best first.
#[derive(Debug, Default)]
pub(crate) struct AvailableSources {
    pub(crate) sources: Vec<(MemorySource, MemoryUsage)>,
    pub(crate) driver: Option<DriverFigures>,
}

impl AvailableSources {
    /// Adds what the driver offers, which knows nothing of allocators: all that is held counts as allocated. What is used of the
    /// device may stand for the process where that is wished, and where no other process is on it.
    pub(crate) fn add_driver(&mut self, figures: DriverFigures, fallback: Fallback) {
        let held = |bytes| MemoryUsage {
            allocated: bytes,
            reserved: bytes,
            max_allocated: None,
        };
        self.sources
            .extend(figures.process.map(|bytes| (MemorySource::Process, held(bytes))));
        let of_device = figures
            .device
            .filter(|_| fallback == Fallback::Device || figures.is_alone);
        self.sources
            .extend(of_device.map(|bytes| (MemorySource::Device, held(bytes))));
        self.driver = Some(figures);
    }
}

impl DeviceReporter {
    /// Where its readings come from.
    pub(crate) fn source(&self) -> Option<MemorySource> {
        self.selector.chosen()
    }

    /// Adds the device's readings; returns whether the source of the most important ones has any this time.
    pub(crate) fn read(
        &mut self,
        ordinal: usize,
        offers: &AvailableSources,
        counts: bool,
        readings: &mut Readings,
    ) -> bool {
        if let Some(figures) = &offers.driver {
            self.tell(ordinal, figures, readings);
        }
        let suffix = match ordinal {
            0 => String::new(),
            ordinal => format!("/cuda:{ordinal}"),
        };
        let mut push = |name: &str, value: MetricValue| readings.push(format!("memory/gpu_{name}{suffix}"), value);
        let gb = |bytes: u64| MetricValue::Float(bytes as f64 / 1e9);
        let chosen = self.selector.choose(&offers.sources, counts);
        if let Some((source, memory)) = chosen {
            push("allocated_gb", gb(memory.allocated));
            push("reserved_gb", gb(memory.reserved));
            push("max_allocated_gb", gb(memory.max_allocated.unwrap_or(memory.allocated)));
            push("source", source.rank().value());
            self.last = Some(memory);
        }
        if let Some(figures) = &offers.driver {
            if let Some(bytes) = figures.process {
                push("process_gb", gb(bytes));
            }
            if let Some((source, memory)) = chosen.filter(|(source, _)| !source.is_driver()) {
                self.compare(ordinal, (source, memory), figures, readings);
            }
        }
        chosen.is_some()
    }

    fn tell(&mut self, ordinal: usize, figures: &DriverFigures, readings: &mut Readings) {
        let identity = &figures.identity;
        if figures.is_lost && !self.is_lost {
            let last = match self.last {
                Some(memory) => format!("; it had {:.3} GB allocated", memory.allocated as f64 / 1e9),
                None => String::new(),
            };
            let text =
                format!("cuda:{ordinal} is lost to the driver: {identity}{last}; it is looked for again every minute");
            readings.note(Level::Error, text);
        } else if !figures.is_lost && self.identity.as_ref() != Some(identity) {
            readings.note(Level::Info, format!("cuda:{ordinal} is {identity}, {}", figures.by));
            let was_another = self.identity.replace(Arc::clone(identity)).is_some();
            if was_another && self.source().is_some_and(MemorySource::is_driver) {
                self.selector.forget_peak();
            }
        }
        self.is_lost = figures.is_lost;
        for text in figures.questions.iter().filter(|text| !self.questions.contains(text)) {
            readings.note(Level::Info, format!("cuda:{ordinal}: {text}"));
        }
        self.questions.clone_from(&figures.questions);
    }

    /// Says once that a source contradicts the driver. Its figures are kept: the driver's may be the wrong ones.
    fn compare(
        &mut self,
        ordinal: usize,
        (source, memory): (MemorySource, MemoryUsage),
        figures: &DriverFigures,
        readings: &mut Readings,
    ) {
        // Before CUDA has said which devices they are, the driver's figures may be another's.
        if self.has_warned || figures.by != MappedBy::Cuda {
            return;
        }
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let against = match (figures.total, figures.process) {
            (Some(total), _) if memory.reserved > total => format!("the device has {:.3} GB", gb(total)),
            (_, Some(process)) if self.contradiction.stays(memory.allocated, process, figures.listed_at) => {
                format!("the driver counts {:.3} GB for this process", gb(process))
            }
            _ => return,
        };
        self.has_warned = true;
        let text = format!(
            "cuda:{ordinal}: {} says {:.3} GB allocated and {:.3} GB reserved, but {against}",
            source.tag(),
            gb(memory.allocated),
            gb(memory.reserved)
        );
        readings.note(Level::Warn, text);
    }
}

impl ContradictionCheck {
    /// Whether two lists in a row say clearly less than was allocated both before and after they were made.
    fn stays(&mut self, allocated: u64, listed: u64, listed_at: Option<Instant>) -> bool {
        let least = self.least.map_or(allocated, |least| least.min(allocated));
        if self.listed_at == listed_at {
            self.least = Some(least);
            return false;
        }
        let is_one = self.least.is_some() && (listed as f64) < 0.95 * least as f64;
        self.in_a_row = if is_one { self.in_a_row + 1 } else { 0 };
        (self.listed_at, self.least) = (listed_at, Some(allocated));
        self.in_a_row >= 2
    }
}
