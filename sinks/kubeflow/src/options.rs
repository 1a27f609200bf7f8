//! The options of the sink, and the variables of Kubeflow Trainer.

use std::path::PathBuf;
use std::time::Duration;

use logcore::ConfigError;
use reqwest::Url;
use serde::Deserialize;

/// Kubeflow asks its clients for at most one request in this time.
const LEAST_PERIOD: f64 = 5.0;

/// The table `sinks.kubeflow` of a config.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KubeflowOptions {
    metrics: Vec<String>,
    /// Seconds.
    period: f64,
    url: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl Default for KubeflowOptions {
    fn default() -> Self {
        Self {
            metrics: vec!["*".to_owned()],
            period: LEAST_PERIOD,
            url: None,
            token_file: None,
            ca_file: None,
        }
    }
}

/// The way to the status of a TrainJob.
#[derive(Debug, Clone)]
pub(crate) struct StatusServer {
    pub(crate) url: Url,
    pub(crate) token_file: PathBuf,
    /// `None`: the server's certificate is checked against the authorities of the machine.
    pub(crate) ca_file: Option<PathBuf>,
}

impl KubeflowOptions {
    /// Checks the options.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !self.period.is_finite() || self.period < LEAST_PERIOD || self.period > 86_400.0 {
            let remedy = "write a number of seconds from 5, the least that Kubeflow asks for, to 86400";
            return Err(ConfigError::new("sinks.kubeflow.period", self.period, remedy));
        }
        if let Some(name) = self
            .metrics
            .iter()
            .find(|name| name.strip_suffix('*').unwrap_or(name).contains('*'))
        {
            let remedy = "write a name, or the beginning of names with one `*` at its end";
            return Err(ConfigError::new("sinks.kubeflow.metrics", name, remedy));
        }
        match &self.url {
            Some(url) if parse_url(url).is_none() => Err(ConfigError::new(
                "sinks.kubeflow.url",
                url,
                "write an address that begins with `https://`",
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn period(&self) -> Duration {
        Duration::from_secs_f64(self.period)
    }

    pub(crate) fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// Returns the way to the status, or the reason why there is none.
    pub(crate) fn find_server(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<StatusServer, String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let missing = |name: &str| format!("nothing is reported to Kubeflow Trainer, because {name} is not set");
        let url = self.url.clone().or_else(|| set(URL)).ok_or_else(|| missing(URL))?;
        let token_file = self.token_file.clone().or_else(|| set(TOKEN).map(PathBuf::from));
        Ok(StatusServer {
            url: parse_url(&url).ok_or_else(|| {
                format!("nothing is reported to Kubeflow Trainer, because {URL} is no https:// address")
            })?,
            token_file: token_file.ok_or_else(|| missing(TOKEN))?,
            ca_file: self.ca_file.clone().or_else(|| set(CA_CERT).map(PathBuf::from)),
        })
    }
}

const URL: &str = "KUBEFLOW_TRAINER_SERVER_URL";
const TOKEN: &str = "KUBEFLOW_TRAINER_SERVER_TOKEN";
const CA_CERT: &str = "KUBEFLOW_TRAINER_SERVER_CA_CERT";

/// Returns the address, if nobody else reads the token on the way there.
fn parse_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_private = match url.scheme() {
        "https" => url.has_host(),
        "http" => matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")),
        _ => false,
    };
    is_private.then_some(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(value: serde_json::Value) -> KubeflowOptions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn options_go_before_variables() {
        let variable = |name: &str| match name {
            URL => Some("https://trainer.example/status".to_owned()),
            TOKEN => Some("/token".to_owned()),
            CA_CERT => Some("/ca.crt".to_owned()),
            _ => None,
        };
        let server = options(json!({})).find_server(&variable).unwrap();
        assert_eq!(server.url.as_str(), "https://trainer.example/status");
        assert_eq!(server.token_file, PathBuf::from("/token"));
        assert_eq!(server.ca_file, Some(PathBuf::from("/ca.crt")));
        let server = options(json!({"url": "http://127.0.0.1:1/", "token_file": "t"}))
            .find_server(&variable)
            .unwrap();
        assert_eq!((server.url.port(), server.token_file), (Some(1), PathBuf::from("t")));
    }

    #[test]
    fn without_variables_there_is_a_reason() {
        let reason = options(json!({})).find_server(&|_| None).unwrap_err();
        assert!(reason.contains("KUBEFLOW_TRAINER_SERVER_URL is not set"), "{reason}");
        let only_url = |name: &str| (name == URL).then(|| "https://a.b".to_owned());
        let reason = options(json!({})).find_server(&only_url).unwrap_err();
        assert!(reason.contains("KUBEFLOW_TRAINER_SERVER_TOKEN is not set"), "{reason}");
        for odd in ["no address", "http://trainer.example/status", "https://"] {
            let variable = |name: &str| matches!(name, URL | TOKEN).then(|| odd.to_owned());
            let reason = options(json!({})).find_server(&variable).unwrap_err();
            assert!(reason.contains("is no https:// address"), "{reason}");
        }
    }

    #[test]
    fn odd_options_are_refused() {
        for odd in [
            json!({"period": 1}),
            json!({"period": 1e300}),
            json!({"url": "ftp://a"}),
            json!({"url": "http://trainer.example"}),
            json!({"metrics": ["*/loss"]}),
        ] {
            assert!(options(odd.clone()).check().is_err(), "{odd}");
        }
        assert!(serde_json::from_value::<KubeflowOptions>(json!({"no": 1})).is_err());
        assert!(
            options(json!({"period": 30, "metrics": ["loss", "val/*"]}))
                .check()
                .is_ok()
        );
    }
}
