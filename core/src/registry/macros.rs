//! The `register_…!` macros and the functions that they expand to.

/// Registers a sink: an entry `sinks.<name>` in a config then switches the sink on.
///
/// The second argument is a function `fn(Options, &BuildContext<'_>) -> Result<S, ConfigError>`.
/// `Options` is any type that serde can read from the entry, and `S` is the sink. Put
/// `#[serde(deny_unknown_fields)]` on the options, so that a mistyped option is an error.
///
/// ```
/// use logcore::{BuildContext, ConfigError, Sink};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct NullOptions {}
///
/// struct Null;
/// impl Sink for Null {}
///
/// impl Null {
///     fn build(_: NullOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> { Ok(Self) }
/// }
///
/// logcore::register_sink!("null", Null::build);
/// # fn main() {
/// assert!(logcore::registry::sink_names().unwrap().contains(&"null"));
/// # }
/// ```
///
/// # Example: a sink that resumes after a kill
///
/// A sink that implements [`Sink::resume_point`](crate::Sink::resume_point) has a third argument: a
/// function `fn(State, &BuildContext<'_>) -> Result<S, SinkError>`. `State` is the type that the
/// sink wrote into its [`ResumePoint`](crate::ResumePoint).
///
/// ```
/// use logcore::{BuildContext, ConfigError, ResumePoint, Sink, SinkError};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct CounterOptions {}
///
/// struct Counter { records: u64 }
///
/// impl Sink for Counter {
///     fn resume_point(&mut self) -> Option<ResumePoint> { ResumePoint::new(&self.records) }
/// }
///
/// impl Counter {
///     fn build(_: CounterOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> { Ok(Self { records: 0 }) }
///     fn resume(records: u64, _: &BuildContext<'_>) -> Result<Self, SinkError> { Ok(Self { records }) }
/// }
///
/// logcore::register_sink!("counter", Counter::build, Counter::resume);
/// # fn main() {
/// assert!(logcore::registry::can_recover("counter"));
/// # }
/// ```
#[macro_export]
macro_rules! register_sink {
    ($name:expr, $build:expr) => {
        $crate::__register!($crate::Sink, $name, $build, $crate::__private::None);
    };
    ($name:expr, $build:expr, $recover:expr) => {
        $crate::__register!(
            $crate::Sink,
            $name,
            $build,
            $crate::__private::Some(|resume_point, context| {
                $crate::__private::recover(resume_point, context, $recover)
                    .map(|sink| $crate::__private::Box::new(sink) as $crate::__private::Box<dyn $crate::Sink>)
            })
        );
    };
}

/// Registers a formatter: sinks can then use the formatter by name.
///
/// The arguments are those of [`register_sink!`](crate::register_sink). The function returns a
/// [`Formatter`](crate::Formatter).
///
/// ```
/// use logcore::{BuildContext, ConfigError, Formatter, Record, Style};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct BareOptions {}
///
/// struct Bare;
/// impl Formatter for Bare {
///     fn format(&mut self, record: &Record<'_>, _: &Style, out: &mut String) {
///         out.push_str(&record.message().escape_debug().to_string());
///         out.push('\n');
///     }
/// }
///
/// impl Bare {
///     fn build(_: BareOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> { Ok(Self) }
/// }
///
/// logcore::register_formatter!("bare", Bare::build);
/// # fn main() {
/// assert!(logcore::registry::formatter_names().unwrap().contains(&"bare"));
/// # }
/// ```
#[macro_export]
macro_rules! register_formatter {
    ($name:expr, $build:expr) => {
        $crate::__register!($crate::Formatter, $name, $build, $crate::__private::None);
    };
}

/// Registers a probe, which every logger samples unless `probes.<name> = false`.
///
/// The arguments are those of [`register_sink!`](crate::register_sink). The function returns a
/// [`Probe`](crate::Probe), and the options stand under `probes.<name>`. Calls of `log_memory`
/// sample a probe without a [period](crate::Probe::period); a thread of the logger samples a probe
/// with a period.
///
/// ```
/// use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct UptimeOptions {}
///
/// struct Uptime(std::time::Instant);
/// impl Probe for Uptime {
///     fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
///         readings.push("system/uptime_seconds", self.0.elapsed().as_secs());
///         Ok(())
///     }
/// }
///
/// impl Uptime {
///     fn build(_: UptimeOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
///         Ok(Self(std::time::Instant::now()))
///     }
/// }
///
/// logcore::register_probe!("uptime", Uptime::build);
/// # fn main() {
/// assert!(logcore::registry::probe_names().unwrap().contains(&"uptime"));
/// # }
/// ```
#[macro_export]
macro_rules! register_probe {
    ($name:expr, $build:expr) => {
        $crate::__register!($crate::Probe, $name, $build, $crate::__private::None);
    };
}

/// The common part of the `register_…!` macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($role:path, $name:expr, $build:expr, $recover:expr) => {
        $crate::__private::inventory::submit! {
            $crate::__private::Plugin::<dyn $role>::new(
                $name,
                |options, context| {
                    $crate::__private::build(options, context, $build)
                        .map(|plugin| $crate::__private::Box::new(plugin) as $crate::__private::Box<dyn $role>)
                },
                $recover,
            )
        }
    };
}

/// The items that the macros expand to. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use std::boxed::Box;
    pub use std::option::Option::{None, Some};

    pub use inventory;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    pub use crate::registry::plugin::Plugin;
    use crate::{BuildContext, ConfigError, SinkError, SinkErrorKind};

    /// Parses the options and calls the constructor of a plugin.
    pub fn build<O: DeserializeOwned, T>(
        options: Value,
        context: &BuildContext<'_>,
        build: impl FnOnce(O, &BuildContext<'_>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let mut track = serde_path_to_error::Track::new();
        let parsed = O::deserialize(serde_path_to_error::Deserializer::new(&options, &mut track)).map_err(
            |error: serde_json::Error| {
                let path = track.path().to_string();
                let parse = |options: &Value| O::deserialize(options).err();
                crate::option_error::option_error(&options, &path, &error, parse).without_text()
            },
        )?;
        build(parsed, context)
    }

    /// Parses the resume point and calls the resuming constructor of a sink.
    pub fn recover<S: DeserializeOwned, T>(
        resume_point: &str,
        context: &BuildContext<'_>,
        recover: impl FnOnce(S, &BuildContext<'_>) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let state = serde_json::from_str(resume_point).map_err(|error| {
            SinkError::new(format!("cannot read the resume point: {error}"))
                .with_kind(SinkErrorKind::InvalidResumePoint)
        })?;
        recover(state, context)
    }
}
