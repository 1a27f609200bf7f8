//! The options of a webhook, and the settings that follow from them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use logcore::log::Level;
use logcore::{ConfigError, Secret, files};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::message::PLACEHOLDERS;
use crate::payload::PayloadKind;
use crate::template::Template;

/// Bytes of the longest file with an address.
const LONGEST_URL_FILE: u64 = 64 << 10;

/// The table `sinks.webhook` of a config.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebhookOptions {
    /// The address, which is a secret.
    url: Option<Secret<String>>,
    /// Name of the environment variable that holds the address.
    url_env: Option<String>,
    /// The file that holds the address.
    url_file: Option<PathBuf>,
    kind: Option<PayloadKind>,
    template: Option<String>,
    records: RecordChoice,
    /// Whether the end of the run is a message.
    end: bool,
    /// Number of messages in a minute.
    per_minute: u32,
    /// Seconds of a request without progress.
    timeout: f64,
}

/// The least severe records that become messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecordChoice {
    #[default]
    Off,
    Error,
    Warn,
}

/// The settings of a webhook. `Debug` shows no address.
#[derive(Clone)]
pub(crate) struct WebhookSettings {
    pub(crate) destination: Destination,
    pub(crate) records: RecordChoice,
    pub(crate) has_end: bool,
}

/// The receiver of the messages, and the form that they have there.
#[derive(Clone)]
pub(crate) struct Destination {
    pub(crate) url: Url,
    pub(crate) kind: PayloadKind,
    pub(crate) template: Option<Template>,
    /// Number of messages in a minute.
    pub(crate) per_minute: usize,
    /// The longest time of a request without progress.
    pub(crate) timeout: Duration,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            url: None,
            url_env: None,
            url_file: None,
            kind: None,
            template: None,
            records: RecordChoice::Off,
            end: true,
            per_minute: 10,
            timeout: 20.0,
        }
    }
}

impl WebhookOptions {
    /// Checks the options, and reads the address.
    pub(crate) fn resolve(self) -> Result<WebhookSettings, ConfigError> {
        let url = self.url()?;
        let host = url.host_str().unwrap_or_default();
        let by_host = kind_of(host);
        if url.scheme() != "https" && by_host != PayloadKind::Json {
            return Err(ConfigError::new("url", HIDDEN, "use https: the address is a password"));
        }
        if !(1..=60).contains(&self.per_minute) {
            return Err(ConfigError::new(
                "per_minute",
                self.per_minute,
                "use 1 to 60 messages a minute",
            ));
        }
        let timeout = Duration::try_from_secs_f64(self.timeout)
            .ok()
            .filter(|timeout| !timeout.is_zero());
        let timeout = timeout.ok_or_else(|| ConfigError::new("timeout", self.timeout, "use seconds above 0"))?;
        let template = self.template.as_deref().map(|text| {
            Template::parse(text, PLACEHOLDERS).map_err(|error| {
                let (line, column, problem) = (error.line, error.column, error.problem);
                ConfigError::new("template", HIDDEN, format!("line {line}, column {column}: {problem}"))
            })
        });
        Ok(WebhookSettings {
            destination: Destination {
                kind: self.kind.unwrap_or(by_host),
                url,
                template: template.transpose()?,
                per_minute: self.per_minute as usize,
                timeout,
            },
            records: self.records,
            has_end: self.end,
        })
    }

    /// Returns the address, from the only option that has it.
    fn url(&self) -> Result<Url, ConfigError> {
        const REMEDY: &str = "give the address by one of `url`, `url_env` and `url_file`";
        let (field, text) = match (&self.url, &self.url_env, &self.url_file) {
            (Some(url), None, None) => ("url", url.expose().clone()),
            (None, Some(name), None) => {
                let unset = |error| ConfigError::new("url_env", name, format!("the variable cannot be read: {error}"));
                ("url_env", std::env::var(name).map_err(unset)?)
            }
            (None, None, Some(path)) => {
                let unread =
                    |error| ConfigError::new("url_file", path.display(), format!("cannot read the file: {error}"));
                (
                    "url_file",
                    files::read_to_string(path, LONGEST_URL_FILE).map_err(unread)?,
                )
            }
            (None, None, None) => return Err(ConfigError::new("url", "", REMEDY)),
            _ => return Err(ConfigError::new("url", HIDDEN, REMEDY)),
        };
        let refuse = |remedy: &str| ConfigError::new(field, HIDDEN, remedy);
        let url = Url::parse(text.trim()).map_err(|error| refuse(&format!("it holds no address: {error}")))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            _ => Err(refuse("the address must begin with https://")),
        }
    }
}

impl RecordChoice {
    /// Returns `true` if records of this level become messages.
    pub(crate) fn includes(self, level: Level) -> bool {
        match self {
            Self::Off => false,
            Self::Error => level == Level::Error,
            Self::Warn => level <= Level::Warn,
        }
    }
}

/// In the place of a value that may hold a secret.
const HIDDEN: &str = "***";

/// Returns the form that a host expects.
fn kind_of(host: &str) -> PayloadKind {
    let is_in = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if ["slack.com", "slack-gov.com"].into_iter().any(is_in) {
        PayloadKind::Slack
    } else if ["discord.com", "discordapp.com"].into_iter().any(is_in) {
        PayloadKind::Discord
    } else {
        PayloadKind::Json
    }
}

impl Destination {
    /// Returns a name that tells destinations apart, and tells nothing of the address.
    pub(crate) fn fingerprint(&self) -> String {
        let hash = Sha256::digest(self.url.as_str());
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the parts of the address that a reply or an error could repeat.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![self.url.to_string()];
        secrets.extend(self.url.query().map(str::to_owned));
        secrets.extend(self.url.password().map(str::to_owned));
        let segments = self.url.path().split('/').filter(|segment| segment.len() > 7);
        secrets.extend(segments.map(str::to_owned));
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("kind", &self.destination.kind)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolve(options: Value) -> Result<WebhookSettings, ConfigError> {
        serde_json::from_value::<WebhookOptions>(options).unwrap().resolve()
    }

    #[test]
    fn the_host_decides_the_kind() {
        for (url, kind) in [
            (
                "https://hooks.slack.com/services/T0/B0/s3cr3ts3cr3t",
                PayloadKind::Slack,
            ),
            ("https://hooks.slack-gov.com/services/T0/B0/x", PayloadKind::Slack),
            ("https://discord.com/api/webhooks/1/s3cr3ts3cr3t", PayloadKind::Discord),
            ("https://ptb.discord.com/api/webhooks/1/x", PayloadKind::Discord),
            ("https://notslack.com/services/x", PayloadKind::Json),
            ("http://127.0.0.1:7000/x", PayloadKind::Json),
        ] {
            assert_eq!(resolve(json!({"url": url})).unwrap().destination.kind, kind, "{url}");
        }
    }

    #[test]
    fn no_error_shows_the_address() {
        let secret = "s3cr3ts3cr3t";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("ftp://host/{secret}\n")).unwrap();
        for options in [
            json!({"url": format!("http://hooks.slack.com/{secret}")}),
            json!({"url": format!("https://[{secret}")}),
            json!({"url": format!("https://x/{secret}"), "url_env": "HOME"}),
            json!({"url_file": file.path()}),
            json!({"url": format!("https://x/{secret}"), "template": format!("{{\"{secret}\": {{nothing}}}}")}),
            json!({"url": format!("https://x/{secret}"), "per_minute": 0}),
            json!({"url": format!("https://x/{secret}"), "timeout": -1.0}),
            json!({"url_env": "LOGCORE_TEST_NO_SUCH_VARIABLE"}),
            json!({"url_file": "/no/such/file"}),
            json!({}),
        ] {
            let error = resolve(options.clone()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(secret), "{error}");
        }
        let settings = resolve(json!({"url": format!("https://x/{secret}")})).unwrap();
        assert!(!format!("{settings:?}").contains(secret));
        assert!(settings.destination.secrets().contains(&secret.to_owned()));
    }

    #[test]
    fn a_mistake_in_the_template_has_its_place() {
        let error = resolve(json!({"url": "https://x/y", "template": "{\n\"a\": {titles}}"})).unwrap_err();
        assert_eq!(error.field, "template");
        assert!(
            error.remedy.starts_with("line 2, column 6: no placeholder `titles`"),
            "{error}"
        );
    }

    #[test]
    fn the_address_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "https://hooks.slack.com/services/x\n").unwrap();
        let settings = resolve(json!({"url_file": file.path()})).unwrap();
        assert_eq!(settings.destination.url.as_str(), "https://hooks.slack.com/services/x");
    }
}
