//! The probes that `log_memory` asks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use logcore::{ConfigError, LogConfig, Probe, ProbeError, Readings, StopFlag, registry};
use logcore_pipeline::notice;
use serde_json::Value;

/// Asked without being named in the config.
const DEFAULT_PROBES: [&str; 1] = ["gpu"];

#[derive(Default)]
pub(crate) struct Memory {
    probes: Vec<Slot>,
}

struct Slot {
    name: String,
    probe: Box<dyn Probe>,
    source: Option<String>,
}

impl Memory {
    /// The probes of a config. Nothing is opened before the first reading.
    pub(crate) fn build(config: &LogConfig, stop: &StopFlag) -> Result<Self, ConfigError> {
        let context = registry::BuildContext::new(config, stop);
        let linked = registry::probe_names()?;
        let mut wanted: Vec<(&str, &Value)> = Vec::new();
        if config.enable_memory {
            for name in DEFAULT_PROBES {
                if linked.contains(&name) && !config.probes.contains_key(name) {
                    wanted.push((name, &Value::Bool(true)));
                }
            }
            let named = config.probes.iter().map(|(name, options)| (name.as_str(), options));
            wanted.extend(named.filter(|(_, options)| **options != Value::Bool(false)));
        }
        let probes = wanted
            .into_iter()
            .map(|(name, options)| {
                Ok(Slot {
                    name: name.to_owned(),
                    probe: registry::build_probe(name, options, &context)?,
                    source: None,
                })
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self { probes })
    }

    /// Asks every probe; returns the readings, and what is new about their sources, in words.
    pub(crate) fn sample(&mut self) -> (Vec<Readings>, Vec<String>) {
        let (mut all, mut news) = (Vec::new(), Vec::new());
        self.probes.retain_mut(|slot| {
            let mut readings = Readings::default();
            let sampled = catch_unwind(AssertUnwindSafe(|| slot.probe.sample(&mut readings)));
            match sampled {
                Ok(Ok(())) => {}
                Ok(Err(ProbeError::Transient(_))) => return true,
                Ok(Err(_)) => return false,
                Err(_) => {
                    notice(
                        &format!("probe {}", slot.name),
                        &format!("probe `{}` panicked and is not asked again", slot.name),
                    );
                    return false;
                }
            }
            if let Some((of, source)) = readings.source()
                && readings.iter().len() > 0
                && slot.source.as_deref() != Some(source)
            {
                news.push(format!("{of} is read from {source}"));
                slot.source = Some(source.to_owned());
            }
            all.push(readings);
            true
        });
        (all, news)
    }
}
