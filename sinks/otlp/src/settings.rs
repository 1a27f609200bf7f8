//! The settings of the exporter: options of the config, and the variables of OpenTelemetry.
//!
//! Variables and their defaults follow
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>. An option goes before a variable,
//! and a variable of one signal before that of both.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use logcore::log::LevelFilter;
use logcore::{ConfigError, Secret, files};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::name_pattern::NamePattern;

/// Bytes of the longest file of certificates.
const LONGEST_CERTIFICATES: u64 = 4 << 20;

/// The table `sinks.otlp` of a config.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpOptions {
    /// Address of the receiver, to which `/v1/logs` and `/v1/metrics` are appended.
    endpoint: Option<String>,
    /// Headers of all requests. They are secrets.
    headers: Secret<BTreeMap<String, String>>,
    /// The least severe records.
    level: LevelName,
    /// Whether records are sent.
    logs: bool,
    /// Names of the metrics that are sent.
    metrics: Vec<String>,
    /// Seconds between two exports of the metrics.
    period: f64,
    /// Whether a gauge has companions with the minimum and maximum of the period.
    min_max: bool,
    /// Greatest size of the spool in MB (1e6 bytes).
    spool_mb: u64,
    /// Attributes of the resource, before those of the environment.
    resource: BTreeMap<String, String>,
    /// Seconds of a request without progress.
    timeout: Option<f64>,
}

/// A level in a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LevelName {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// The settings of a sink.
pub(crate) struct OtlpSettings {
    /// `None` without records.
    pub(crate) logs: Option<Endpoint>,
    /// `None` without metrics.
    pub(crate) metrics: Option<Endpoint>,
    pub(crate) level: LevelFilter,
    pub(crate) names: Vec<NamePattern>,
    pub(crate) period: Duration,
    pub(crate) has_min_max: bool,
    /// Bytes of the longest spool.
    pub(crate) spool_bytes: u64,
    pub(crate) resource: BTreeMap<String, String>,
}

/// The way to the receiver of a signal.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) has_gzip: bool,
    /// Trusted certificates in PEM.
    pub(crate) certificates: Option<Vec<u8>>,
}

/// The kind of data that a receiver takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Logs,
    Metrics,
}

/// Returns the value of an environment variable.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Default for OtlpOptions {
    fn default() -> Self {
        let metrics = ["memory/*", "throughput/*", "system/*", "progress/*"];
        Self {
            endpoint: None,
            headers: Secret::default(),
            level: LevelName::Info,
            logs: true,
            metrics: metrics.map(str::to_owned).to_vec(),
            period: 15.0,
            min_max: false,
            spool_mb: 256,
            resource: BTreeMap::new(),
            timeout: None,
        }
    }
}

impl OtlpOptions {
    /// Checks the options and the variables.
    pub(crate) fn resolve(self, variables: Variables<'_>) -> Result<OtlpSettings, ConfigError> {
        let period = seconds("period", self.period)?;
        if period < Duration::from_secs(1) {
            return Err(ConfigError::new("period", self.period, "use at least 1 second"));
        }
        if !(1..=100_000).contains(&self.spool_mb) {
            return Err(ConfigError::new("spool_mb", self.spool_mb, "use 1 to 100000 MB"));
        }
        let has_metrics = !self.metrics.is_empty();
        let mut resource = pairs("OTEL_RESOURCE_ATTRIBUTES", variables)?;
        resource.extend(self.resource.clone());
        Ok(OtlpSettings {
            logs: self.logs.then(|| self.endpoint(Signal::Logs, variables)).transpose()?,
            metrics: has_metrics
                .then(|| self.endpoint(Signal::Metrics, variables))
                .transpose()?,
            level: match self.level {
                LevelName::Trace => LevelFilter::Trace,
                LevelName::Debug => LevelFilter::Debug,
                LevelName::Info => LevelFilter::Info,
                LevelName::Warn => LevelFilter::Warn,
                LevelName::Error => LevelFilter::Error,
            },
            names: self.metrics.iter().map(|name| NamePattern::new(name)).collect(),
            period,
            has_min_max: self.min_max,
            spool_bytes: self.spool_mb * 1_000_000,
            resource,
        })
    }

    /// Returns the way to the receiver of a signal.
    fn endpoint(&self, signal: Signal, variables: Variables<'_>) -> Result<Endpoint, ConfigError> {
        let variable = |name: &str| -> Option<(String, String)> {
            let names = [
                format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.variable()),
                format!("OTEL_EXPORTER_OTLP_{name}"),
            ];
            // An empty variable is an unset one, says the specification.
            names
                .into_iter()
                .find_map(|name| Some((variables(&name).filter(|value| !value.trim().is_empty())?, name)))
        };
        if let Some((protocol, name)) = variable("PROTOCOL")
            && protocol.trim() != "http/protobuf"
        {
            let remedy = "this program speaks only `http/protobuf`: set that, or leave the variable out";
            return Err(ConfigError::new(name, protocol, remedy));
        }
        let compression = variable("COMPRESSION").map(|(value, name)| match value.trim() {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err(ConfigError::new(name, value, "use `gzip` or `none`")),
        });
        let timeout = match (self.timeout, variable("TIMEOUT")) {
            (Some(timeout), _) => seconds("timeout", timeout)?,
            (None, Some((value, name))) => match value.trim().parse().map(Duration::from_millis) {
                Ok(timeout) if !timeout.is_zero() => timeout,
                _ => return Err(ConfigError::new(name, value, "use milliseconds above 0")),
            },
            (None, None) => Duration::from_secs(10),
        };
        let certificates = variable("CERTIFICATE").map(|(path, name)| {
            files::read_to_string(&PathBuf::from(path.trim()), LONGEST_CERTIFICATES)
                .map(String::into_bytes)
                .map_err(|error| ConfigError::new(name, &path, format!("cannot read the file: {error}")))
        });
        Ok(Endpoint {
            url: self.url(signal, &variable)?,
            headers: self.headers(signal, variables)?,
            timeout,
            has_gzip: compression.transpose()?.unwrap_or(true),
            certificates: certificates.transpose()?,
        })
    }

    fn url(&self, signal: Signal, variable: &dyn Fn(&str) -> Option<(String, String)>) -> Result<Url, ConfigError> {
        let (text, field) = match (&self.endpoint, variable("ENDPOINT")) {
            (Some(endpoint), _) => (endpoint.clone(), "endpoint".to_owned()),
            (None, Some(found)) => found,
            (None, None) => ("http://localhost:4318".to_owned(), "endpoint".to_owned()),
        };
        let refuse = |remedy: &str| ConfigError::new(&field, &text, remedy);
        let mut url = Url::parse(text.trim()).map_err(|_| refuse("use an address such as http://localhost:4318"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refuse("use an address that begins with http:// or https://"));
        }
        // The address of one signal is used as it is.
        if !field.contains(signal.variable()) {
            let path = format!("{}/{}", url.path().trim_end_matches('/'), signal.path());
            url.set_path(&path);
        }
        Ok(url)
    }

    fn headers(&self, signal: Signal, variables: Variables<'_>) -> Result<HeaderMap, ConfigError> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_HEADERS", signal.variable());
        let has_own = variables(&own).is_some_and(|value| !value.trim().is_empty());
        let name = if has_own { &*own } else { "OTEL_EXPORTER_OTLP_HEADERS" };
        let of_config = self.headers.expose();
        let all = pairs(name, variables)?.into_iter().map(|pair| (name, pair));
        let all = all.chain(of_config.clone().into_iter().map(|pair| ("headers", pair)));
        let mut headers = HeaderMap::new();
        for (field, (header, value)) in all {
            // The value is a secret, so no error has it.
            let refuse = |remedy: &str| ConfigError::new(field, "***", format!("header `{header}`: {remedy}"));
            let header_name = HeaderName::try_from(&*header).map_err(|_| refuse("this is no name of a header"))?;
            let mut value = HeaderValue::try_from(&*value).map_err(|_| refuse("the value cannot be in a header"))?;
            value.set_sensitive(true);
            headers.insert(header_name, value);
        }
        Ok(headers)
    }
}

/// Reads a variable with pairs: `key=value,key2=value2`, with `%2C` for a comma.
pub(crate) fn pairs(name: &str, variables: Variables<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = variables(name).unwrap_or_default();
    let mut pairs = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let decode = |part: &str| {
            percent_decode_str(part.trim())
                .decode_utf8()
                .map(|part| part.into_owned())
        };
        let decoded = pair.split_once('=').map(|(key, value)| (decode(key), decode(value)));
        match decoded {
            Some((Ok(key), Ok(value))) if !key.is_empty() => pairs.insert(key, value),
            // The pair may hold a key.
            _ => {
                return Err(ConfigError::new(
                    name,
                    "***",
                    "use `name=value,name2=value2`, with %2C for a comma",
                ));
            }
        };
    }
    Ok(pairs)
}

fn seconds(field: &str, value: f64) -> Result<Duration, ConfigError> {
    let seconds = Duration::try_from_secs_f64(value)
        .ok()
        .filter(|seconds| !seconds.is_zero());
    seconds.ok_or_else(|| ConfigError::new(field, value, "use seconds above 0"))
}

impl Signal {
    /// Returns its name in variables.
    fn variable(self) -> &'static str {
        match self {
            Self::Logs => "LOGS",
            Self::Metrics => "METRICS",
        }
    }

    /// Returns the path of its requests.
    fn path(self) -> &'static str {
        match self {
            Self::Logs => "v1/logs",
            Self::Metrics => "v1/metrics",
        }
    }
}

impl Endpoint {
    /// Returns a name that tells receivers apart, and tells nothing of the address.
    pub(crate) fn fingerprint(&self) -> String {
        let hash = Sha256::digest(self.url.as_str());
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Shows no header, because headers hold keys.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.url.host_str())
            .field("has_gzip", &self.has_gzip)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolve(options: Value, variables: &[(&str, &str)]) -> Result<OtlpSettings, ConfigError> {
        let find = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        serde_json::from_value::<OtlpOptions>(options).unwrap().resolve(&find)
    }

    fn urls(options: Value, variables: &[(&str, &str)]) -> [String; 2] {
        let settings = resolve(options, variables).unwrap();
        [settings.logs, settings.metrics].map(|endpoint| endpoint.unwrap().url.to_string())
    }

    #[test]
    fn the_variable_of_a_signal_goes_first_and_is_the_whole_address() {
        let local = ["http://localhost:4318/v1/logs", "http://localhost:4318/v1/metrics"];
        assert_eq!(urls(json!({}), &[]), local);
        let both = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp/");
        assert_eq!(
            urls(json!({}), &[both]),
            ["https://c.example/otlp/v1/logs", "https://c.example/otlp/v1/metrics"]
        );
        let logs = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l.example/in");
        assert_eq!(
            urls(json!({}), &[both, logs]),
            ["http://l.example/in", "https://c.example/otlp/v1/metrics"]
        );
        let option = json!({"endpoint": "http://o.example"});
        assert_eq!(
            urls(option, &[both, logs]),
            ["http://o.example/v1/logs", "http://o.example/v1/metrics"]
        );
    }

    #[test]
    fn the_variables_hold() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cr3t%2Cx,tenant=a"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "tenant=b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=vision,note=a%20b"),
        ];
        let settings = resolve(json!({"resource": {"team": "text"}}), &variables).unwrap();
        let (logs, metrics) = (settings.logs.unwrap(), settings.metrics.unwrap());
        assert_eq!((logs.timeout.as_millis(), metrics.timeout.as_millis()), (500, 2500));
        assert!(!logs.has_gzip && logs.headers["api-key"] == "s3cr3t,x" && logs.headers["tenant"] == "a");
        assert!(metrics.headers["tenant"] == "b" && !metrics.headers.contains_key("api-key"));
        assert!(!format!("{logs:?}").contains("s3cr3t"));
        assert_eq!(settings.resource["team"], "text");
        assert_eq!(settings.resource["note"], "a b");
    }

    #[test]
    fn what_cannot_hold_is_an_error_without_secrets() {
        for (options, variable, field) in [
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
                "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
                "OTEL_EXPORTER_OTLP_COMPRESSION",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
                "OTEL_EXPORTER_OTLP_TIMEOUT",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t"),
                "OTEL_EXPORTER_OTLP_HEADERS",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cr3t%0A"),
                "OTEL_EXPORTER_OTLP_HEADERS",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/file"),
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ),
            (
                json!({}),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ),
            (json!({"headers": {"a b": "s3cr3t"}}), ("", ""), "headers"),
            (json!({"period": 0.1}), ("", ""), "period"),
            (json!({"spool_mb": 0}), ("", ""), "spool_mb"),
            (json!({"timeout": -1}), ("", ""), "timeout"),
        ] {
            let error = resolve(options, &[variable]).err().unwrap();
            assert_eq!(error.field, field, "{error}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn a_signal_can_be_off() {
        let settings = resolve(json!({"logs": false, "metrics": []}), &[]).unwrap();
        assert!(settings.logs.is_none() && settings.metrics.is_none());
    }
}
