//! The probes of a logger.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use logcore::log::Level;
use logcore::{ConfigError, LogConfig, Probe, ProbeError, Readings, StopFlag, registry};
use logcore_pipeline::print_notice;
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

    /// Takes those out that are asked from time to time, and says how often.
    pub(crate) fn take_periodic(&mut self) -> Option<(Self, Duration)> {
        let is_periodic = |slot: &mut Slot| slot.probe.period().is_some();
        let probes: Vec<_> = self.probes.extract_if(.., is_periodic).collect();
        let period = probes.iter().filter_map(|slot| slot.probe.period()).min()?;
        Some((Self { probes }, period))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }

    /// Asks every probe; returns the readings, and what is to be said about them and their sources.
    pub(crate) fn sample(&mut self) -> (Vec<Readings>, Vec<(Level, String)>) {
        let (mut all, mut news) = (Vec::new(), Vec::new());
        self.probes.retain_mut(|slot| {
            let mut readings = Readings::default();
            let sampled = catch_unwind(AssertUnwindSafe(|| slot.probe.sample(&mut readings)));
            news.extend(readings.notes().map(|(level, text)| (level, text.to_owned())));
            match sampled {
                Ok(Ok(())) => {}
                Ok(Err(ProbeError::Transient(_))) => return true,
                Ok(Err(_)) => return false,
                Err(_) => {
                    print_notice(
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
                let text = match slot.source.replace(source.to_owned()) {
                    None => format!("{of} is read from {source}"),
                    Some(before) => format!("{of} is read from {source} from here on, and was from {before} before"),
                };
                news.push((Level::Info, text));
            }
            all.push(readings);
            true
        });
        (all, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what it is told, and notes it.
    struct Told(Vec<Result<&'static str, ProbeError>>);

    impl Probe for Told {
        fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
            readings.note(Level::Warn, "a word");
            readings.push("memory/x_gb", 1);
            readings.set_source("GPU memory", self.0.remove(0)?);
            Ok(())
        }
    }

    fn of(told: Vec<Result<&'static str, ProbeError>>) -> Memory {
        let slot = Slot {
            name: "told".to_owned(),
            probe: Box::new(Told(told)),
            source: None,
        };
        Memory { probes: vec![slot] }
    }

    #[test]
    fn a_source_is_said_once_and_again_when_it_changes() {
        let mut memory = of(vec![Ok("a"), Ok("a"), Ok("b"), Ok("b")]);
        let mut said = || {
            let lines = memory.sample().1.into_iter();
            let infos = lines.filter_map(|(level, text)| (level == Level::Info).then_some(text));
            infos.collect::<Vec<_>>()
        };
        assert_eq!(said(), ["GPU memory is read from a"]);
        assert!(said().is_empty());
        assert_eq!(
            said(),
            ["GPU memory is read from b from here on, and was from a before"]
        );
        assert!(said().is_empty());
    }

    #[test]
    fn what_a_probe_notes_is_said_also_when_it_has_no_reading() {
        let no = || "no".to_owned();
        let mut memory = of(vec![
            Err(ProbeError::Transient(no())),
            Err(ProbeError::Unavailable(no())),
        ]);
        for _ in 0..2 {
            let (readings, news) = memory.sample();
            assert!(readings.is_empty());
            assert_eq!(news, [(Level::Warn, "a word".to_owned())]);
        }
        // It is not asked a third time.
        assert!(memory.sample().1.is_empty());
    }
}
