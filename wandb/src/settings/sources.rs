//! Looks settings up: in an option, a variable or a file, in this order.
//!
//! The module also decides which key may be sent to which server. A settings file beside the runs
//! may be written by anybody, so that it cannot redirect a key from another source.

use std::collections::BTreeMap;
use std::time::Duration;

use logcore::ConfigError;

use super::files::{self, SettingsFiles};
use super::validate::{self, TextKind};
use super::{ApiKey, DEFAULT_BASE_URL, EnvLookup, ResumeMode, RunMode, WandbOptions};

/// The longest wait of any setting. Sums of such waits do not overflow a clock.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The sources of settings besides the options of the sink.
pub(super) struct SettingSources<'a> {
    pub(super) files: SettingsFiles,
    pub(super) environment: EnvLookup<'a>,
}

/// A key that was found: the field for an error, the source in words, the key.
type FoundKey = (&'static str, String, String);

impl SettingSources<'_> {
    /// Returns the field that an error about the setting names, and the value.
    pub(super) fn find(&self, name: &str, option: &Option<String>) -> Option<(String, String)> {
        // Names of internal settings begin with `x_`, and their variables with `WANDB__`.
        let variable = name
            .strip_prefix("x_")
            .map_or_else(|| name.to_owned(), |inner| format!("_{inner}"));
        let variable = format!("WANDB_{}", variable.to_ascii_uppercase());
        let option_name = if name == "run_group" { "group" } else { name };
        option
            .clone()
            .map(|value| (option_name.to_owned(), value))
            .or_else(|| Some((variable.clone(), (self.environment)(&variable)?)))
            .or_else(|| Some((option_name.to_owned(), self.files.get(name)?.0.clone())))
    }

    /// Returns a value that is not empty.
    pub(super) fn text(&self, name: &str, option: &Option<String>) -> Option<String> {
        self.find(name, option)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    /// Returns a text for people that is valid and not empty.
    pub(super) fn checked_text(
        &self,
        name: &str,
        option: &Option<String>,
        kind: TextKind,
    ) -> Result<Option<String>, ConfigError> {
        let found = self.find(name, option).filter(|(_, value)| !value.is_empty());
        found
            .map(|(field, value)| validate::text(&field, &value, kind).map(|()| value))
            .transpose()
    }

    /// Returns `true` if a switch that is off by default is on.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.text(name, &None).is_some_and(|value| is_yes(&value))
    }

    /// Returns the address of a proxy.
    pub(super) fn proxy(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some((field, url)) = self.find(name, &None) else {
            return Ok(None);
        };
        validate::proxy(&field, &url)?;
        Ok(Some(url))
    }

    /// Returns a duration. `default` is in seconds.
    pub(super) fn seconds(&self, name: &str, option: Option<f64>, default: f64) -> Result<Duration, ConfigError> {
        let field = name.trim_start_matches("x_file_stream_").to_owned();
        let (field, seconds) = match option {
            Some(seconds) => (field, seconds),
            None => match self.find(name, &None) {
                None => (field, default),
                Some((field, text)) => {
                    let seconds = text.trim().parse();
                    let seconds = seconds.map_err(|_| ConfigError::new(&field, &text, "write a number of seconds"))?;
                    (field, seconds)
                }
            },
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
            _ => {
                let remedy = format!("use a number of seconds above 0, and {} at most", LONGEST.as_secs());
                Err(ConfigError::new(field, seconds, remedy))
            }
        }
    }

    /// Returns the API key from the first source that has one.
    pub(super) fn key(&mut self, options: &WandbOptions, base_url: &str) -> Result<Option<ApiKey>, ConfigError> {
        let option = &options.api_key;
        // A malformed key in a file must not stop a run that needs no key.
        let mode = self.find("mode", &options.mode);
        let needed = mode.is_none_or(|(_, mode)| !matches!(mode.as_str(), "offline" | "dryrun" | "disabled"));
        let explicit = option
            .clone()
            .map(|key| ("api_key", String::new(), key))
            .or_else(|| Some(("WANDB_API_KEY", String::new(), (self.environment)("WANDB_API_KEY")?)));
        if let Some((field, path)) = self.find("identity_token_file", &None) {
            let remedy = match explicit.is_some() {
                true => "there is an API key, too: set only one of them",
                false => "identity tokens are not supported; unset it and use an API key",
            };
            return Err(ConfigError::new(field, path, remedy));
        }
        let found = match needed {
            false => explicit,
            true => match self.redirecting_setting(options) {
                None => explicit
                    .or_else(|| self.netrc_key(base_url, false))
                    .or_else(|| self.key_in_settings()),
                Some(setting) => self.key_for_redirect(setting, explicit, base_url)?,
            },
        };
        found
            .map(|(field, source, key)| {
                ApiKey::parse(&key).map_err(|remedy| ConfigError::new(field, "***", format!("{source}{remedy}")))
            })
            .transpose()
    }

    /// Returns a setting that only the file beside the runs has, and that decides where a key is
    /// sent.
    fn redirecting_setting(&self, options: &WandbOptions) -> Option<&'static str> {
        let is_in_environment =
            |name: &str| (self.environment)(&format!("WANDB_{}", name.to_ascii_uppercase())).is_some();
        ["http_proxy", "https_proxy", "base_url"].into_iter().find(|name| {
            let of_file = self.files.get(name).is_some_and(|(_, local)| local);
            of_file && !is_in_environment(name) && !(*name == "base_url" && options.base_url.is_some())
        })
    }

    /// Returns the key if the file beside the runs chooses the way to the server. The sender of the
    /// folder, or anyone who may write to it, may have written that file. So only two keys may go
    /// there: the key of that file, and a netrc key for that very host.
    fn key_for_redirect(
        &mut self,
        setting: &'static str,
        explicit: Option<FoundKey>,
        base_url: &str,
    ) -> Result<Option<FoundKey>, ConfigError> {
        let in_netrc = (setting == "base_url")
            .then(|| self.netrc_key(base_url, true))
            .flatten();
        let own = self.files.local.get("api_key");
        let own = own.map(|key| ("api_key", self.local_source(), key.clone()));
        // An explicit key takes precedence over the key of the file.
        if let Some(key) = in_netrc.or(own.filter(|_| explicit.is_none())) {
            return Ok(Some(key));
        }
        let other = explicit
            .or_else(|| self.netrc_key(base_url, false))
            .or_else(|| self.key_in_settings());
        if other.is_none() {
            return Ok(None);
        }
        let variable = format!("WANDB_{}", setting.to_ascii_uppercase());
        let (shown, how) = match setting {
            "base_url" => (
                base_url,
                format!("set {variable} or `base_url` yourself, or put a key for this host into ~/.netrc"),
            ),
            _ => ("***", format!("set {variable} yourself")),
        };
        let remedy = format!(
            "{} chooses this address, and anybody may have written that file, so your API key is not sent \
             there; to send it, {how}",
            self.files.local_path.display()
        );
        Err(ConfigError::new(setting, shown, remedy))
    }

    /// Returns the netrc password of the server; with `exact`, only of an entry for this host.
    fn netrc_key(&mut self, base_url: &str, exact: bool) -> Option<FoundKey> {
        // The port is compared as written.
        let netloc = base_url.split_once("://")?.1.split('/').next()?;
        // Users of the old default address keep their netrc entry.
        let old = (base_url == DEFAULT_BASE_URL).then_some("api.wandb.ai");
        let machines = [Some(netloc), old];
        let warnings = &mut self.files.warnings;
        let found = machines.into_iter().flatten().find_map(|machine| {
            files::netrc_password(machine, self.environment, warnings).filter(|found| found.exact || !exact)
        })?;
        Some(("api_key", format!("in {}: ", found.path.display()), found.password))
    }

    /// Returns the key of a settings file.
    fn key_in_settings(&self) -> Option<FoundKey> {
        let (key, local) = self.files.get("api_key")?;
        let source = match local {
            true => self.local_source(),
            false => "in a settings file: ".to_owned(),
        };
        Some(("api_key", source, key.clone()))
    }

    /// Names the file beside the runs in errors.
    fn local_source(&self) -> String {
        format!("in a settings file, {}: ", self.files.local_path.display())
    }

    /// Returns the mode, and the field or variable that names the mode.
    pub(super) fn mode(
        &self,
        option: &Option<String>,
        has_key: bool,
    ) -> Result<(RunMode, Option<String>), ConfigError> {
        let Some((field, mode)) = self.find("mode", option) else {
            return Ok(match has_key {
                true => (RunMode::Online, None),
                false => (RunMode::Offline, None),
            });
        };
        let mode = match mode.as_str() {
            "online" | "run" => RunMode::Online,
            "offline" | "dryrun" => RunMode::Offline,
            "disabled" => RunMode::Disabled,
            "shared" => {
                let remedy =
                    "several writers of one run are not supported; use \"online\", \"offline\" or \"disabled\"";
                return Err(ConfigError::new(field, mode, remedy));
            }
            _ => {
                return Err(ConfigError::new(
                    field,
                    mode,
                    "use \"online\", \"offline\" or \"disabled\"",
                ));
            }
        };
        Ok((mode, Some(field)))
    }

    /// Returns the resume mode.
    pub(super) fn resume(&self, option: &Option<String>) -> Result<Option<ResumeMode>, ConfigError> {
        let Some((field, resume)) = self.find("resume", option) else {
            return Ok(None);
        };
        match resume.as_str() {
            "allow" => Ok(Some(ResumeMode::Allow)),
            "must" => Ok(Some(ResumeMode::Must)),
            "never" => Ok(Some(ResumeMode::Never)),
            "auto" => Ok(Some(ResumeMode::Auto)),
            _ => Err(ConfigError::new(
                field,
                resume,
                "use \"allow\", \"must\", \"never\" or \"auto\"",
            )),
        }
    }
}

/// Returns the headers for each request, from the environment.
pub(super) fn extra_headers(environment: EnvLookup<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    const NAME: &str = "WANDB__EXTRA_HTTP_HEADERS";
    let Some(text) = environment(NAME) else {
        return Ok(Vec::new());
    };
    // The message of serde may quote a secret and is not shown.
    let headers: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|error| {
        let remedy = format!(
            "write a JSON object of texts (wrong at line {}, column {})",
            error.line(),
            error.column()
        );
        ConfigError::new(NAME, "***", remedy)
    })?;
    Ok(headers.into_iter().collect())
}

/// Returns `true` for the texts that mean yes in the official client.
pub(super) fn is_yes(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "yes" | "t" | "true" | "on" | "1"
    )
}
