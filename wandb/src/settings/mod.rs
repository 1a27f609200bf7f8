//! Settings of a run: from the config, the environment and files, in the order of the official client.

mod files;
mod forms;
mod key;
mod netrc;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use logcore::{ConfigError, LogConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::key::Key;
use crate::run::wandb_folder;

/// Where the official client of this year sends its runs.
pub(crate) const DEFAULT_BASE_URL: &str = "https://api.forge.coreweave.com";

/// Looks a variable up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The table `sinks.wandb`. What is not said here comes from the environment, then from files.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    mode: Option<String>,
    entity: Option<String>,
    project: Option<String>,
    name: Option<String>,
    tags: Option<Vec<String>>,
    run_id: Option<String>,
    group: Option<String>,
    job_type: Option<String>,
    notes: Option<String>,
    resume: Option<String>,
    base_url: Option<String>,
    app_url: Option<String>,
    api_key: Option<String>,
    /// The folder in which `wandb/` is made; the log directory, if nothing is said.
    dir: Option<PathBuf>,
    /// Whether messages go to W&B as console lines.
    console: Option<bool>,
    /// Seconds that a resumed run may wait for the server at setup.
    init_timeout: Option<f64>,
    /// Seconds that a request may take.
    http_timeout: Option<f64>,
    /// Seconds that a row may wait for company on its way to the server.
    transmit_interval: Option<f64>,
}

/// Everything that is settled before a run begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// The mode was asked for, and does not follow from there being a key or none.
    pub(crate) mode_said: bool,
    pub(crate) key: Option<Key>,
    pub(crate) base_url: String,
    pub(crate) app_url: String,
    pub(crate) entity: Option<String>,
    pub(crate) project: String,
    pub(crate) run_id: String,
    pub(crate) run_id_given: bool,
    pub(crate) name: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) job_type: Option<String>,
    pub(crate) sweep_id: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) program: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) user_email: Option<String>,
    pub(crate) resume: Option<Resume>,
    pub(crate) dir: PathBuf,
    pub(crate) console: bool,
    /// Nothing of W&B's is said on the terminal.
    pub(crate) silent: bool,
    pub(crate) init_timeout: Duration,
    pub(crate) http_timeout: Duration,
    pub(crate) transmit_interval: Duration,
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) extra_headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Online,
    Offline,
    Disabled,
}

/// What happens when the server has a run of this id already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    Allow,
    Must,
    Never,
    Auto,
}

impl Settings {
    /// Whether both are settings of one run: a new configuration may change how it is reached, not which it is.
    pub(crate) fn same_run(&self, newer: &Self) -> bool {
        let same_id = !newer.run_id_given || newer.run_id == self.run_id;
        same_id
            && self.mode == newer.mode
            && self.project == newer.project
            && self.entity == newer.entity
            && self.base_url == newer.base_url
            && self.dir == newer.dir
    }
}

/// Settles everything.
///
/// # Errors
///
/// What has an impossible form, under the name of the field or variable that it came from.
pub(crate) fn resolve(
    options: Options,
    config: &LogConfig,
    environment: Environment<'_>,
) -> Result<Settings, ConfigError> {
    let environment = &|name: &str| environment(name).filter(|value| !value.is_empty());
    let dir = options
        .dir
        .clone()
        .or_else(|| environment("WANDB_DIR").map(PathBuf::from))
        .unwrap_or_else(|| config.log_dir.clone());
    let sources = Sources {
        files: files::settings_files(&wandb_folder(&dir), environment),
        environment,
    };

    let base_url = match sources.find("base_url", &options.base_url) {
        Some((field, url)) => forms::base_url(&field, &url)?,
        None => DEFAULT_BASE_URL.to_owned(),
    };
    let key = sources.key(&options.api_key, &base_url)?;
    let (mode, mode_said) = sources.mode(&options.mode, key.is_some())?;
    if mode == Mode::Online && key.is_none() {
        return Err(ConfigError::new(
            "mode",
            "online",
            "there is no API key: set `api_key` or WANDB_API_KEY, or put one into ~/.netrc; or use mode \"offline\"",
        ));
    }
    let project = match (&options.project, &config.wandb_project) {
        (Some(project), _) => ("project".to_owned(), project.clone()),
        (None, Some(project)) => ("wandb_project".to_owned(), project.clone()),
        (None, None) => sources
            .find("project", &None)
            .unwrap_or_else(|| ("project".to_owned(), "default".to_owned())),
    };
    forms::project(&project.0, &project.1)?;
    let entity = sources.find("entity", &options.entity);
    if let Some((field, entity)) = &entity {
        forms::name(field, entity)?;
    }
    let resume = sources.resume(&options.resume)?;
    let (run_id, run_id_given) = match sources.find("run_id", &options.run_id) {
        Some((field, id)) => {
            forms::run_id(&field, &id)?;
            (id, true)
        }
        None => match files::remembered_run(&wandb_folder(&dir)).filter(|_| resume == Some(Resume::Auto)) {
            Some(id) if forms::run_id("run_id", &id).is_ok() => (id, true),
            _ => (new_run_id()?, false),
        },
    };
    let (tags_field, mut tags) = match (options.tags, config.wandb_tags.is_empty()) {
        (Some(tags), _) => ("tags".to_owned(), tags),
        (None, false) => ("wandb_tags".to_owned(), config.wandb_tags.clone()),
        (None, true) => sources
            .find("tags", &None)
            .map_or_else(Default::default, |(field, text)| {
                let tags = text.split(',').map(|tag| tag.trim().to_owned());
                (field, tags.filter(|tag| !tag.is_empty()).collect())
            }),
    };
    forms::tags(&tags_field, &mut tags)?;
    let name = options.name.or_else(|| config.wandb_name.clone());
    let app_url = sources
        .find("app_url", &options.app_url)
        .map_or_else(|| Ok(app_url(&base_url)), |(field, url)| forms::base_url(&field, &url))?;
    Ok(Settings {
        mode,
        mode_said,
        key,
        app_url,
        entity: entity.map(|(_, entity)| entity),
        project: project.1,
        run_id,
        run_id_given,
        name: sources.text("name", &name),
        notes: sources.text("notes", &options.notes),
        tags,
        group: sources.text("run_group", &options.group),
        job_type: sources.text("job_type", &options.job_type),
        sweep_id: sources.text("sweep_id", &None),
        host: sources.text("host", &None),
        program: sources.text("program", &None),
        username: sources.text("username", &None),
        user_email: sources.text("user_email", &None),
        resume,
        dir,
        console: options
            .console
            .unwrap_or_else(|| environment("WANDB_CONSOLE").is_none_or(|value| value != "off")),
        silent: environment("WANDB_SILENT").is_some_and(|value| is_yes(&value)),
        init_timeout: sources.seconds("init_timeout", options.init_timeout, 90.0)?,
        http_timeout: sources.seconds("http_timeout", options.http_timeout, 30.0)?,
        transmit_interval: sources.seconds("_file_stream_transmit_interval", options.transmit_interval, 15.0)?,
        http_proxy: sources.text("http_proxy", &None),
        https_proxy: sources.text("https_proxy", &None),
        extra_headers: extra_headers(environment)?,
        base_url,
    })
}

/// Remembers the run for `resume = "auto"`.
pub(crate) fn remember(settings: &Settings) -> std::io::Result<()> {
    match settings.resume {
        Some(Resume::Auto) => files::remember_run(&wandb_folder(&settings.dir), &settings.run_id),
        _ => Ok(()),
    }
}

/// A run that has ended well is not gone on with.
pub(crate) fn forget_after(settings: &Settings, exit_code: Option<i32>) {
    if settings.resume == Some(Resume::Auto) && exit_code == Some(0) {
        files::forget_run(&wandb_folder(&settings.dir));
    }
}

/// The run's page.
pub(crate) fn run_url(app_url: &str, entity: &str, project: &str, run_id: &str) -> String {
    let [entity, project, run_id] = [entity, project, run_id].map(|part| utf8_percent_encode(part, SEGMENT));
    format!("{app_url}/{entity}/{project}/runs/{run_id}")
}

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What lies outside the config.
struct Sources<'a> {
    files: BTreeMap<String, String>,
    environment: Environment<'a>,
}

impl Sources<'_> {
    /// A setting, with the name under which an error would blame it.
    fn find(&self, name: &str, option: &Option<String>) -> Option<(String, String)> {
        let variable = format!("WANDB_{}", name.to_ascii_uppercase());
        let option_name = if name == "run_group" { "group" } else { name };
        option
            .clone()
            .map(|value| (option_name.to_owned(), value))
            .or_else(|| Some((variable.clone(), (self.environment)(&variable)?)))
            .or_else(|| Some((option_name.to_owned(), self.files.get(name)?.clone())))
    }

    fn text(&self, name: &str, option: &Option<String>) -> Option<String> {
        self.find(name, option)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    fn seconds(&self, name: &str, option: Option<f64>, default: f64) -> Result<Duration, ConfigError> {
        let field = name.trim_start_matches("_file_stream_").to_owned();
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
            Ok(duration) if !duration.is_zero() => Ok(duration),
            _ => Err(ConfigError::new(field, seconds, "use a number of seconds above 0")),
        }
    }

    fn key(&self, option: &Option<String>, base_url: &str) -> Result<Option<Key>, ConfigError> {
        let token = (self.environment)("WANDB_IDENTITY_TOKEN_FILE");
        if let Some(token) = token {
            let remedy = "identity tokens are not supported; unset it and use an API key";
            return Err(ConfigError::new("WANDB_IDENTITY_TOKEN_FILE", token, remedy));
        }
        let netloc = Url::parse(base_url).ok().and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
        });
        let in_netrc = |netloc: &str| files::netrc_password(netloc, self.environment);
        let from_netrc = || {
            let netloc = netloc?;
            // The new address took the old one's users over.
            in_netrc(&netloc).or_else(|| (base_url == DEFAULT_BASE_URL).then(|| in_netrc("api.wandb.ai"))?)
        };
        let found = option
            .clone()
            .map(|key| ("api_key", key))
            .or_else(|| Some(("WANDB_API_KEY", (self.environment)("WANDB_API_KEY")?)))
            .or_else(|| Some(("api_key", from_netrc()?)))
            .or_else(|| Some(("api_key", self.files.get("api_key")?.clone())));
        found
            .map(|(field, key)| Key::parse(&key).map_err(|remedy| ConfigError::new(field, "***", remedy)))
            .transpose()
    }

    fn mode(&self, option: &Option<String>, has_key: bool) -> Result<(Mode, bool), ConfigError> {
        let Some((field, mode)) = self.find("mode", option) else {
            return Ok(match has_key {
                true => (Mode::Online, false),
                false => (Mode::Offline, false),
            });
        };
        let mode = match mode.as_str() {
            "online" | "run" => Mode::Online,
            "offline" | "dryrun" => Mode::Offline,
            "disabled" => Mode::Disabled,
            _ => {
                return Err(ConfigError::new(
                    field,
                    mode,
                    "use \"online\", \"offline\" or \"disabled\"",
                ));
            }
        };
        Ok((mode, true))
    }

    fn resume(&self, option: &Option<String>) -> Result<Option<Resume>, ConfigError> {
        let Some((field, resume)) = self.find("resume", option) else {
            return Ok(None);
        };
        match resume.as_str() {
            "allow" => Ok(Some(Resume::Allow)),
            "must" => Ok(Some(Resume::Must)),
            "never" => Ok(Some(Resume::Never)),
            "auto" => Ok(Some(Resume::Auto)),
            _ => Err(ConfigError::new(
                field,
                resume,
                "use \"allow\", \"must\", \"never\" or \"auto\"",
            )),
        }
    }
}

fn extra_headers(environment: Environment<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    const NAME: &str = "WANDB__EXTRA_HTTP_HEADERS";
    let Some(text) = environment(NAME) else {
        return Ok(Vec::new());
    };
    let headers: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|error| ConfigError::new(NAME, "***", format!("write a JSON object of texts ({error})")))?;
    Ok(headers.into_iter().collect())
}

/// The address for people that belongs to one for programs.
fn app_url(base_url: &str) -> String {
    if base_url == DEFAULT_BASE_URL {
        return "https://forge.coreweave.com/wandb".to_owned();
    }
    match base_url.contains("://api.wandb.") {
        true => base_url.replacen("://api.", "://", 1),
        false => base_url.replacen("://api.", "://app.", 1),
    }
}

fn new_run_id() -> Result<String, ConfigError> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(8);
    while id.len() < 8 {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(|error| {
            ConfigError::new(
                "run_id",
                Value::Null,
                format!("the machine has no random numbers ({error}); give one"),
            )
        })?;
        // 252 is the greatest multiple of 36 in a byte: each letter is as likely as any other.
        if byte[0] < 252 {
            id.push(char::from(LETTERS[usize::from(byte[0] % 36)]));
        }
    }
    Ok(id)
}

fn is_yes(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "yes" | "t" | "true" | "on" | "1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789012345678901234567890123456789";

    fn resolved(options: Value, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig {
            log_dir: folder.path().into(),
            ..LogConfig::default()
        };
        let look_up = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        resolve(serde_json::from_value(options).unwrap(), &config, &look_up)
    }

    #[test]
    fn nothing_said_is_offline_without_a_key_and_online_with_one() {
        let settings = resolved(serde_json::json!({}), &[]).unwrap();
        assert_eq!((settings.mode, settings.mode_said), (Mode::Offline, false));
        assert_eq!(settings.project, "default");
        assert_eq!(settings.run_id.len(), 8);
        let settings = resolved(serde_json::json!({}), &[("WANDB_API_KEY", KEY)]).unwrap();
        assert_eq!(settings.mode, Mode::Online);
        let refused = resolved(serde_json::json!({"mode": "online"}), &[]).unwrap_err();
        assert_eq!(refused.field, "mode");
    }

    #[test]
    fn options_win_over_the_environment() {
        let environment = [
            ("WANDB_PROJECT", "env"),
            ("WANDB_ENTITY", "team"),
            ("WANDB_TAGS", "a, b"),
            ("WANDB_RUN_GROUP", "g"),
            ("WANDB_MODE", "dryrun"),
        ];
        let settings = resolved(serde_json::json!({"project": "mine", "mode": "disabled"}), &environment).unwrap();
        assert_eq!(settings.project, "mine");
        assert_eq!(settings.entity.as_deref(), Some("team"));
        assert_eq!(settings.tags, ["a", "b"]);
        assert_eq!(settings.group.as_deref(), Some("g"));
        assert_eq!(settings.mode, Mode::Disabled);
    }

    #[test]
    fn a_refusal_names_where_the_value_came_from() {
        for (options, environment, field) in [
            (serde_json::json!({}), vec![("WANDB_PROJECT", "a/b")], "WANDB_PROJECT"),
            (serde_json::json!({"run_id": "a?"}), vec![], "run_id"),
            (serde_json::json!({"api_key": "short"}), vec![], "api_key"),
            (serde_json::json!({"base_url": "nowhere"}), vec![], "base_url"),
            (serde_json::json!({"resume": "perhaps"}), vec![], "resume"),
            (serde_json::json!({"tags": ["x".repeat(65)]}), vec![], "tags"),
            (serde_json::json!({"init_timeout": 0.0}), vec![], "init_timeout"),
            (
                serde_json::json!({}),
                vec![("WANDB_HTTP_TIMEOUT", "soon")],
                "WANDB_HTTP_TIMEOUT",
            ),
            (serde_json::json!({}), vec![("WANDB_MODE", "shared")], "WANDB_MODE"),
        ] {
            assert_eq!(resolved(options, &environment).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_key_is_found_in_netrc_by_host_and_port() {
        let folder = tempfile::tempdir().unwrap();
        let netrc = folder.path().join("netrc");
        std::fs::write(&netrc, format!("machine 127.0.0.1:8080 login user password {KEY}")).unwrap();
        let netrc = netrc.display().to_string();
        let environment = [("NETRC", netrc.as_str()), ("WANDB_BASE_URL", "http://127.0.0.1:8080")];
        assert_eq!(
            resolved(serde_json::json!({}), &environment).unwrap().mode,
            Mode::Online
        );
        let elsewhere = [("NETRC", netrc.as_str()), ("WANDB_BASE_URL", "http://127.0.0.1:8081")];
        assert_eq!(resolved(serde_json::json!({}), &elsewhere).unwrap().mode, Mode::Offline);
    }

    #[test]
    fn pages_for_people() {
        assert_eq!(app_url("https://api.wandb.ai"), "https://wandb.ai");
        assert_eq!(app_url("https://api.example.org"), "https://app.example.org");
        assert_eq!(app_url("http://localhost:8080"), "http://localhost:8080");
        assert_eq!(
            run_url("http://a", "team", "my project", "x"),
            "http://a/team/my%20project/runs/x"
        );
    }
}
