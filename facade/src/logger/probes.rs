//! The probes of a logger: building them from the config, and sampling them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use logcore::log::Level;
use logcore::{ConfigError, LogConfig, Probe, ProbeError, Readings, StopFlag, registry};
use logcore_pipeline::print_notice;
use serde_json::Value;

/// Probes that are sampled without an entry in the config, if they are linked.
const DEFAULT_PROBES: [&str; 1] = ["gpu"];

/// Some probes, sampled together.
#[derive(Default)]
pub(crate) struct ProbeSet {
    probes: Vec<NamedProbe>,
}

struct NamedProbe {
    name: String,
    probe: Box<dyn Probe>,
    /// The source of the last readings.
    source: Option<String>,
}

/// The result of one sampling.
#[derive(Default)]
pub(crate) struct ProbeReport {
    pub(crate) readings: Vec<Readings>,
    /// Messages about readings and their sources, for the log.
    pub(crate) messages: Vec<(Level, String)>,
}

impl ProbeSet {
    /// Builds the probes of a config. Probes open nothing before their first sample.
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
                Ok(NamedProbe {
                    name: name.to_owned(),
                    probe: registry::build_probe(name, options, &context)?,
                    source: None,
                })
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self { probes })
    }

    /// Removes the periodic probes; returns them with the shortest of their periods.
    pub(crate) fn take_periodic(&mut self) -> Option<(Self, Duration)> {
        let is_periodic = |named: &mut NamedProbe| named.probe.period().is_some();
        let probes: Vec<_> = self.probes.extract_if(.., is_periodic).collect();
        let period = probes.iter().filter_map(|named| named.probe.period()).min()?;
        Some((Self { probes }, period))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }

    /// Samples every probe. Removes probes that are unavailable or panic.
    pub(crate) fn sample(&mut self) -> ProbeReport {
        let mut report = ProbeReport::default();
        self.probes.retain_mut(|named| named.sample_into(&mut report));
        report
    }
}

impl NamedProbe {
    /// Samples the probe; returns `false` if it must not be sampled again.
    fn sample_into(&mut self, report: &mut ProbeReport) -> bool {
        let mut readings = Readings::default();
        let sampled = catch_unwind(AssertUnwindSafe(|| self.probe.sample(&mut readings)));
        let notes = readings.notes().map(|(level, text)| (level, text.to_owned()));
        report.messages.extend(notes);
        match sampled {
            Ok(Ok(())) => {}
            Ok(Err(ProbeError::Transient(_))) => return true,
            Ok(Err(_)) => return false,
            Err(_) => {
                print_notice(
                    &format!("probe {}", self.name),
                    &format!("probe `{}` panicked and is not sampled again", self.name),
                );
                return false;
            }
        }
        if let Some((quantity, source)) = readings.source()
            && readings.iter().len() > 0
            && self.source.as_deref() != Some(source)
        {
            let text = match self.source.replace(source.to_owned()) {
                None => format!("{quantity} is read from {source}"),
                Some(before) => format!("source of {quantity} changed from {before} to {source}"),
            };
            report.messages.push((Level::Info, text));
        }
        report.readings.push(readings);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one reading from each of these sources, in turn, and notes a warning.
    struct ScriptedProbe(Vec<Result<&'static str, ProbeError>>);

    impl Probe for ScriptedProbe {
        fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
            readings.note(Level::Warn, "a warning");
            readings.push("memory/x_gb", 1);
            readings.set_source("GPU memory", self.0.remove(0)?);
            Ok(())
        }
    }

    fn probe_set(script: Vec<Result<&'static str, ProbeError>>) -> ProbeSet {
        let named = NamedProbe {
            name: "scripted".to_owned(),
            probe: Box::new(ScriptedProbe(script)),
            source: None,
        };
        ProbeSet { probes: vec![named] }
    }

    #[test]
    fn a_source_is_logged_once_and_again_when_it_changes() {
        let mut probes = probe_set(vec![Ok("a"), Ok("a"), Ok("b"), Ok("b")]);
        let mut logged = || {
            let messages = probes.sample().messages.into_iter();
            let infos = messages.filter_map(|(level, text)| (level == Level::Info).then_some(text));
            infos.collect::<Vec<_>>()
        };
        assert_eq!(logged(), ["GPU memory is read from a"]);
        assert!(logged().is_empty());
        assert_eq!(logged(), ["source of GPU memory changed from a to b"]);
        assert!(logged().is_empty());
    }

    #[test]
    fn notes_of_a_probe_are_logged_also_without_a_reading() {
        let no = || "no".to_owned();
        let mut probes = probe_set(vec![
            Err(ProbeError::Transient(no())),
            Err(ProbeError::Unavailable(no())),
        ]);
        for _ in 0..2 {
            let ProbeReport { readings, messages } = probes.sample();
            assert!(readings.is_empty());
            assert_eq!(messages, [(Level::Warn, "a warning".to_owned())]);
        }
        assert!(probes.sample().messages.is_empty(), "an unavailable probe is removed");
    }
}
