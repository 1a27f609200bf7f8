//! One device of the run: its readings, and what there is to say about it.

use std::sync::Arc;
use std::time::Duration;

use logcore::log::Level;
use logcore::{MetricValue, Number, Readings};

use crate::gpu::ladder::{Ladder, Memory, Source};
use crate::gpu::nvml::Figures;

#[derive(Debug, Default)]
pub(crate) struct Device {
    ladder: Ladder,
    identity: Option<Arc<str>>,
    is_lost: bool,
    last: Option<Memory>,
    has_warned: bool,
    slowed: Vec<(&'static str, Duration)>,
}

/// What the sources offer for one device, the best first.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    pub(crate) sources: Vec<(Source, Memory)>,
    pub(crate) driver: Option<Figures>,
}

impl Offers {
    /// Adds what the driver offers, which knows nothing of allocators: all that is held counts as allocated.
    pub(crate) fn add_driver(&mut self, figures: Figures) {
        let held = |bytes| Memory {
            allocated: bytes,
            reserved: bytes,
            max_allocated: None,
        };
        self.sources
            .extend(figures.process.map(|bytes| (Source::Process, held(bytes))));
        self.sources
            .extend(figures.device.map(|bytes| (Source::Device, held(bytes))));
        self.driver = Some(figures);
    }
}

impl Device {
    /// Adds the device's readings, and returns where they come from.
    pub(crate) fn read(
        &mut self,
        ordinal: usize,
        offers: &Offers,
        counts: bool,
        readings: &mut Readings,
    ) -> Option<Source> {
        let suffix = match ordinal {
            0 => String::new(),
            ordinal => format!("/cuda:{ordinal}"),
        };
        let mut push = |name: &str, value: MetricValue| readings.push(format!("memory/gpu_{name}{suffix}"), value);
        let gb = |bytes: u64| MetricValue::Float(bytes as f64 / 1e9);
        let chosen = self.ladder.choose(&offers.sources, counts);
        if let Some((source, memory)) = chosen {
            push("allocated_gb", gb(memory.allocated));
            push("reserved_gb", gb(memory.reserved));
            push("max_allocated_gb", gb(memory.max_allocated.unwrap_or(memory.allocated)));
            push("source", source.rung().value());
            self.last = Some(memory);
        }
        if let Some(figures) = &offers.driver {
            if let Some(bytes) = figures.process {
                push("process_gb", gb(bytes));
            }
            self.tell(ordinal, figures, readings);
            if let Some((source, memory)) = chosen {
                self.compare(ordinal, (source, memory), figures, readings);
            }
        }
        chosen.map(|(source, _)| source)
    }

    fn tell(&mut self, ordinal: usize, figures: &Figures, readings: &mut Readings) {
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
            readings.note(Level::Info, format!("cuda:{ordinal} is {identity}"));
            self.identity = Some(Arc::clone(identity));
        }
        self.is_lost = figures.is_lost;
        for (what, every) in figures.slowed.iter().filter(|slowed| !self.slowed.contains(slowed)) {
            let text = format!(
                "cuda:{ordinal}: the driver takes more than 5 ms for {what}, and is asked for it only every {} s",
                every.as_secs()
            );
            readings.note(Level::Debug, text);
        }
        self.slowed.clone_from(&figures.slowed);
    }

    /// Says once that a source contradicts the driver. Its figures are kept: the driver's may be the wrong ones.
    fn compare(
        &mut self,
        ordinal: usize,
        (source, memory): (Source, Memory),
        figures: &Figures,
        readings: &mut Readings,
    ) {
        if self.has_warned || matches!(source, Source::Process | Source::Device) {
            return;
        }
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let against = match (figures.total, figures.process) {
            (Some(total), _) if memory.reserved > total => format!("the device has {:.3} GB", gb(total)),
            (_, Some(process)) if gb(process) < 0.95 * gb(memory.allocated) => {
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
