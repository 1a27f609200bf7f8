//! Tells what stands between a program and its W&B server, for a person who looks for the cause.

use std::path::Path;
use std::time::Duration;

use logcore::{ConfigError, Deadline, LogConfig};
use logcore_delivery::DeliveryErrorKind;
use serde_json::json;

use crate::settings::{self, RunMode, RunSettings, WandbOptions};
use crate::upload::Api;

/// The way of a run to its server, by the environment and the settings files alone.
///
/// ```
/// use std::path::Path;
///
/// use logcore_wandb::ServerCheck;
///
/// let check = ServerCheck::of(Path::new("outputs/logs"), &|name| (name == "WANDB_MODE").then(|| "offline".into()))?;
/// assert!(!check.is_online());
/// assert!(check.base_url().starts_with("https://"));
/// # Ok::<(), logcore::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct ServerCheck(RunSettings);

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerAnswer {
    /// The server is there, and accepts the API key, if there is one.
    Reached,
    /// The server does not accept the API key, for this reason.
    KeyRefused(String),
    /// There is no answer, for this reason.
    Unreachable(String),
}

impl ServerCheck {
    /// Settles the settings of a run in `log_dir`. `variable` returns the value of a variable.
    ///
    /// # Errors
    ///
    /// If a setting is invalid: a run would be refused.
    pub fn of(log_dir: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let config = LogConfig {
            log_dir: log_dir.to_owned(),
            ..LogConfig::default()
        };
        settings::resolve(WandbOptions::default(), &config, log_dir, variable).map(Self)
    }

    /// Returns the address of the server.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.server.base_url
    }

    /// Returns `true` if there is an API key.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.0.server.key.is_some()
    }

    /// Returns `true` if a run would deliver its log while it goes on.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.0.mode == RunMode::Online
    }

    /// Returns what is odd about the settings files.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Asks the server who the owner of the key is. Waits for at most `timeout`, and sends nothing
    /// of a run.
    #[must_use]
    pub fn ask(&self, timeout: Duration) -> ServerAnswer {
        let mut server = self.0.server.clone();
        server.timeout = server.timeout.min(timeout);
        let query = "query Viewer { viewer { id } }";
        let asked = Api::new(&server)
            .map(|api| api.with_deadline(Deadline::after(timeout)))
            .and_then(|api| api.graphql("Viewer", query, json!({})));
        match asked {
            Ok(_) => ServerAnswer::Reached,
            Err(error) => match error.kind() {
                // Without a key, this is what a server says that is there.
                DeliveryErrorKind::KeyRefused | DeliveryErrorKind::NoAccess if !self.has_key() => ServerAnswer::Reached,
                DeliveryErrorKind::KeyRefused => ServerAnswer::KeyRefused(error.to_string()),
                DeliveryErrorKind::Refused | DeliveryErrorKind::NoAccess => ServerAnswer::Reached,
                _ => ServerAnswer::Unreachable(error.to_string()),
            },
        }
    }
}
