//! Settings of a run: from the config, the environment and files, in the order of the official client.

mod files;
mod ignore;
mod key;
mod netrc;
mod sources;
mod urls;
mod validate;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use logcore::{ConfigError, LogConfig};
use serde::Deserialize;
use serde_json::Value;

use self::files::SettingsFiles;
pub(crate) use self::ignore::IgnoreGlobs;
pub(crate) use self::key::ApiKey;
use self::sources::{SettingSources, extra_headers};
pub(crate) use self::urls::{SEGMENT, run_url};
use self::validate::TextKind;
use crate::run::wandb_folder;
use crate::upload::ResumeCondition;

/// Where the official client of this year sends its runs.
pub(crate) const DEFAULT_BASE_URL: &str = "https://api.forge.coreweave.com";

/// Looks a variable up.
pub(crate) type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The table `sinks.wandb`. What is not said here comes from the environment, then from files.
// Without `Debug`: it holds the key as it was written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WandbOptions {
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
#[derive(Clone, PartialEq)]
pub(crate) struct RunSettings {
    pub(crate) mode: RunMode,
    /// The mode was asked for, and does not follow from there being a key or none.
    pub(crate) mode_said: bool,
    pub(crate) key: Option<ApiKey>,
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
    pub(crate) resume: Option<ResumeMode>,
    pub(crate) dir: PathBuf,
    /// It is not just the log directory.
    pub(crate) dir_is_named: bool,
    pub(crate) console: bool,
    /// Readings of the machine go to W&B.
    pub(crate) stats: bool,
    /// It is kept where the run takes place.
    pub(crate) meta: bool,
    pub(crate) ignored: IgnoreGlobs,
    pub(crate) words: NoticeLevel,
    pub(crate) init_timeout: Duration,
    pub(crate) http_timeout: Duration,
    pub(crate) transmit_interval: Duration,
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) extra_headers: Vec<(String, String)>,
    /// Lines about files that are there and were passed over.
    pub(crate) unread: Vec<String>,
}

/// What of W&B's is said on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeLevel {
    All,
    /// Trouble only.
    Few,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunMode {
    Online,
    Offline,
    Disabled,
}

/// What happens when the server has a run of this id already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeMode {
    Allow,
    Must,
    Never,
    Auto,
}

impl ResumeMode {
    /// What a delivery has to see to that nobody has asked the server for.
    pub(crate) fn demand(self) -> Option<ResumeCondition> {
        match self {
            Self::Must => Some(ResumeCondition::Must),
            Self::Never => Some(ResumeCondition::Never),
            Self::Allow | Self::Auto => None,
        }
    }
}

impl RunSettings {
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

/// Which run it is and how it is reached, without what may hold secrets: headers, proxies, the key.
impl fmt::Debug for RunSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("mode", &self.mode)
            .field("base_url", &self.base_url)
            .field("entity", &self.entity)
            .field("project", &self.project)
            .field("run_id", &self.run_id)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// The folder that these options of the sink, or the environment, name for W&B's.
pub(crate) fn named_dir(options: Option<&Value>) -> Option<PathBuf> {
    let option = options.and_then(|options| options.get("dir")?.as_str().map(PathBuf::from));
    let variable = || {
        std::env::var_os("WANDB_DIR")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
    };
    option.or_else(variable)
}

/// The same folder, wherever the program goes. Without a working folder, which is needed for it, it stays as it is.
fn absolute(dir: PathBuf) -> PathBuf {
    std::path::absolute(&dir).unwrap_or(dir)
}

/// Settles everything.
///
/// # Errors
///
/// What has an impossible form, under the name of the field or variable that it came from.
pub(crate) fn resolve(
    options: WandbOptions,
    config: &LogConfig,
    environment: EnvLookup<'_>,
) -> Result<RunSettings, ConfigError> {
    let environment = &|name: &str| environment(name).filter(|value| !value.is_empty());
    let named_dir = options
        .dir
        .clone()
        .or_else(|| environment("WANDB_DIR").map(PathBuf::from));
    let dir_is_named = named_dir.is_some();
    // Once and for all: the program may go to another folder.
    let dir = absolute(named_dir.unwrap_or_else(|| config.log_dir.clone()));
    let beside = wandb_folder(&dir);
    let settings = resolve_beside(&beside, dir, options, config, environment)?;
    Ok(RunSettings {
        dir_is_named,
        ..settings
    })
}

/// The same for runs that lie in the folder `beside`, whose settings file counts.
pub(crate) fn resolve_beside(
    beside: &Path,
    dir: PathBuf,
    options: WandbOptions,
    config: &LogConfig,
    environment: EnvLookup<'_>,
) -> Result<RunSettings, ConfigError> {
    let environment = &|name: &str| environment(name).filter(|value| !value.is_empty());
    let mut sources = SettingSources {
        files: SettingsFiles::read(beside, environment),
        environment,
    };

    let base_url = match sources.find("base_url", &options.base_url) {
        Some((field, url)) => validate::base_url(&field, &url)?,
        None => DEFAULT_BASE_URL.to_owned(),
    };
    let key = sources.key(&options, &base_url)?;
    if let Some((field, value)) = sources
        .find("insecure_disable_ssl", &None)
        .filter(|(_, value)| is_yes(value))
    {
        let remedy = "certificates are always checked; unset it, and let the machine trust the server's authority";
        return Err(ConfigError::new(field, value, remedy));
    }
    let (mode, mode_field) = sources.mode(&options.mode, key.is_some())?;
    if let (RunMode::Online, Some(field), None) = (mode, &mode_field, &key) {
        return Err(ConfigError::new(
            field,
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
    validate::project(&project.0, &project.1)?;
    let entity = sources.find("entity", &options.entity);
    if let Some((field, entity)) = &entity {
        validate::name(field, entity)?;
    }
    let resume = sources.resume(&options.resume)?;
    let (run_id, run_id_given) = match sources.find("run_id", &options.run_id) {
        Some((field, id)) => {
            validate::run_id(&field, &id)?;
            (id, true)
        }
        None => match files::remembered_run(&wandb_folder(&dir)).filter(|_| resume == Some(ResumeMode::Auto)) {
            Some(id) if validate::run_id("run_id", &id).is_ok() => (id, true),
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
    validate::tags(&tags_field, &mut tags)?;
    let name = match (&options.name, &config.wandb_name) {
        (None, Some(name)) => validate::text("wandb_name", name, TextKind::Name).map(|()| Some(name.clone()))?,
        (option, _) => sources.words("name", option, TextKind::Name)?,
    };
    let app_url = sources.find("app_url", &options.app_url).map_or_else(
        || Ok(urls::app_url(&base_url)),
        |(field, url)| urls::given_app_url(&field, &url),
    )?;
    Ok(RunSettings {
        mode,
        mode_said: mode_field.is_some(),
        key,
        app_url,
        entity: entity.map(|(_, entity)| entity),
        project: project.1,
        run_id,
        run_id_given,
        name: name.filter(|name| !name.is_empty()),
        notes: sources.words("notes", &options.notes, TextKind::Notes)?,
        tags,
        group: sources.words("run_group", &options.group, TextKind::Name)?,
        job_type: sources.words("job_type", &options.job_type, TextKind::JobType)?,
        sweep_id: sources.words("sweep_id", &None, TextKind::Name)?,
        host: sources.words("host", &None, TextKind::Place)?,
        program: sources.words("program", &None, TextKind::Place)?,
        username: sources.words("username", &None, TextKind::Place)?,
        user_email: sources.words("user_email", &None, TextKind::Place)?,
        resume,
        dir,
        dir_is_named: false,
        console: options
            .console
            .unwrap_or_else(|| sources.text("console", &None).is_none_or(|value| value != "off")),
        stats: !sources.is_set("x_disable_stats"),
        ignored: match sources.find("ignore_globs", &None) {
            Some((field, patterns)) => IgnoreGlobs::parse(&field, &patterns)?,
            None => IgnoreGlobs::default(),
        },
        meta: !sources.is_set("x_disable_meta"),
        words: match (sources.is_set("silent"), sources.is_set("quiet")) {
            (true, _) => NoticeLevel::None,
            (_, true) => NoticeLevel::Few,
            _ => NoticeLevel::All,
        },
        init_timeout: sources.seconds("init_timeout", options.init_timeout, 90.0)?,
        http_timeout: sources.seconds("http_timeout", options.http_timeout, 30.0)?,
        transmit_interval: sources.seconds("x_file_stream_transmit_interval", options.transmit_interval, 15.0)?,
        http_proxy: sources.proxy("http_proxy")?,
        https_proxy: sources.proxy("https_proxy")?,
        extra_headers: extra_headers(environment)?,
        base_url,
        unread: sources.files.unread,
    })
}

/// Remembers the run for `resume = "auto"`.
pub(crate) fn remember(settings: &RunSettings) -> std::io::Result<()> {
    match settings.resume {
        Some(ResumeMode::Auto) => files::remember_run(&wandb_folder(&settings.dir), &settings.run_id),
        _ => Ok(()),
    }
}

/// A run that has ended well is not gone on with.
pub(crate) fn forget_after(settings: &RunSettings, exit_code: Option<i32>) {
    if settings.resume == Some(ResumeMode::Auto) && exit_code == Some(0) {
        files::forget_run(&wandb_folder(&settings.dir));
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

    fn resolved(options: Value, environment: &[(&str, &str)]) -> Result<RunSettings, ConfigError> {
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
        assert_eq!((settings.mode, settings.mode_said), (RunMode::Offline, false));
        assert_eq!(settings.project, "default");
        assert_eq!(settings.run_id.len(), 8);
        let settings = resolved(serde_json::json!({}), &[("WANDB_API_KEY", KEY)]).unwrap();
        assert_eq!(settings.mode, RunMode::Online);
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
        assert_eq!(settings.mode, RunMode::Disabled);
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
            (serde_json::json!({"name": "n".repeat(129)}), vec![], "name"),
            (serde_json::json!({"name": "a\0b"}), vec![], "name"),
            (serde_json::json!({"job_type": "j".repeat(65)}), vec![], "job_type"),
            (serde_json::json!({"group": "g".repeat(129)}), vec![], "group"),
            (serde_json::json!({"notes": "a\0b"}), vec![], "notes"),
            (serde_json::json!({}), vec![("WANDB_NAME", "a\u{1b}[31m")], "WANDB_NAME"),
            (
                serde_json::json!({}),
                vec![("WANDB_RUN_GROUP", "a\tb")],
                "WANDB_RUN_GROUP",
            ),
            (serde_json::json!({"init_timeout": 0.0}), vec![], "init_timeout"),
            (
                serde_json::json!({"transmit_interval": 1e18}),
                vec![],
                "transmit_interval",
            ),
            (
                serde_json::json!({}),
                vec![("WANDB_HTTP_TIMEOUT", "1e10")],
                "WANDB_HTTP_TIMEOUT",
            ),
            (
                serde_json::json!({}),
                vec![("WANDB_HTTPS_PROXY", "http://u:p@a b")],
                "WANDB_HTTPS_PROXY",
            ),
            (
                serde_json::json!({}),
                vec![("WANDB_IGNORE_GLOBS", "*.a,[b")],
                "WANDB_IGNORE_GLOBS",
            ),
            (
                serde_json::json!({}),
                vec![("WANDB_HTTP_PROXY", "http://")],
                "WANDB_HTTP_PROXY",
            ),
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
            RunMode::Online
        );
        let elsewhere = [("NETRC", netrc.as_str()), ("WANDB_BASE_URL", "http://127.0.0.1:8081")];
        assert_eq!(
            resolved(serde_json::json!({}), &elsewhere).unwrap().mode,
            RunMode::Offline
        );
    }

    #[test]
    fn the_page_of_a_server_may_be_where_its_api_is_not() {
        let settings = resolved(serde_json::json!({"app_url": "https://wandb.ai/"}), &[]).unwrap();
        assert_eq!(settings.app_url, "https://wandb.ai");
        let refused = resolved(serde_json::json!({}), &[("WANDB_APP_URL", "wandb.ai")]).unwrap_err();
        assert_eq!(refused.field, "WANDB_APP_URL");
    }

    #[test]
    fn secrets_are_in_no_error_and_no_debug_text() {
        let headers = [("WANDB__EXTRA_HTTP_HEADERS", "\"s3cr3t\"")];
        let refused = resolved(serde_json::json!({}), &headers).unwrap_err();
        assert!(!refused.to_string().contains("s3cr3t"), "{refused}");
        let environment = [
            ("WANDB__EXTRA_HTTP_HEADERS", r#"{"Authorization": "s3cr3t"}"#),
            ("WANDB_HTTPS_PROXY", "http://u:s3cr3t@proxy"),
            ("WANDB_API_KEY", KEY),
        ];
        let settings = resolved(serde_json::json!({}), &environment).unwrap();
        assert_eq!(
            settings.extra_headers,
            [("Authorization".to_owned(), "s3cr3t".to_owned())]
        );
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains(KEY), "{shown}");
    }

    #[test]
    fn unchecked_tls_is_refused() {
        for yes in ["1", "True", "on"] {
            let refused = resolved(serde_json::json!({}), &[("WANDB_INSECURE_DISABLE_SSL", yes)]).unwrap_err();
            assert_eq!(refused.field, "WANDB_INSECURE_DISABLE_SSL");
        }
        resolved(serde_json::json!({}), &[("WANDB_INSECURE_DISABLE_SSL", "false")]).unwrap();
    }

    #[test]
    fn what_is_not_supported_is_said_so() {
        let shared = resolved(serde_json::json!({"mode": "shared"}), &[]).unwrap_err();
        assert!(shared.remedy.contains("not supported"), "{shared}");
        let online = resolved(serde_json::json!({}), &[("WANDB_MODE", "online")]).unwrap_err();
        assert_eq!(online.field, "WANDB_MODE");
        let token = ("WANDB_IDENTITY_TOKEN_FILE", "/token");
        let alone = resolved(serde_json::json!({}), &[token]).unwrap_err();
        assert!(alone.remedy.contains("not supported"), "{alone}");
        let both = resolved(serde_json::json!({}), &[token, ("WANDB_API_KEY", KEY)]).unwrap_err();
        assert!(both.remedy.contains("one of"), "{both}");
    }

    #[test]
    fn a_bad_key_in_a_file_is_refused_by_the_file_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let netrc = folder.path().join("netrc");
        std::fs::write(&netrc, "default login u password s3cr3t").unwrap();
        let refused = resolved(serde_json::json!({}), &[("NETRC", netrc.to_str().unwrap())]).unwrap_err();
        assert_eq!(refused.field, "api_key");
        assert!(refused.remedy.contains(netrc.to_str().unwrap()), "{refused}");
        std::fs::write(folder.path().join("settings"), "[default]\napi_key = s3cr3t\n").unwrap();
        let config_dir = [("WANDB_CONFIG_DIR", folder.path().to_str().unwrap())];
        let refused_too = resolved(serde_json::json!({}), &config_dir).unwrap_err();
        assert!(refused_too.remedy.contains("settings file"), "{refused_too}");
        for error in [refused, refused_too] {
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn an_empty_line_of_a_settings_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[default]\nentity =\nproject = p\nquiet = true\nx_file_stream_transmit_interval = 2\n";
        std::fs::write(folder.path().join("settings"), text).unwrap();
        let config_dir = [("WANDB_CONFIG_DIR", folder.path().to_str().unwrap())];
        let settings = resolved(serde_json::json!({}), &config_dir).unwrap();
        assert_eq!((settings.entity.as_deref(), settings.project.as_str()), (None, "p"));
        assert_eq!(settings.transmit_interval, Duration::from_secs(2));
    }

    #[test]
    fn what_is_switched_off_in_a_file_is_off() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[default]\nconsole = off\nsilent = true\nx_disable_stats = True\nx_disable_meta = 1\n";
        std::fs::write(folder.path().join("settings"), text).unwrap();
        let config_dir = ("WANDB_CONFIG_DIR", folder.path().to_str().unwrap());
        let settings = resolved(serde_json::json!({}), &[config_dir]).unwrap();
        assert!(!settings.console && !settings.stats && !settings.meta);
        assert_eq!(settings.words, NoticeLevel::None);
        let environment = [
            config_dir,
            ("WANDB_CONSOLE", "auto"),
            ("WANDB_SILENT", "false"),
            ("WANDB_QUIET", "1"),
            ("WANDB__DISABLE_STATS", "0"),
            ("WANDB__DISABLE_META", "no"),
        ];
        let settings = resolved(serde_json::json!({}), &environment).unwrap();
        assert!(settings.console && settings.stats && settings.meta);
        assert_eq!(settings.words, NoticeLevel::Few);
    }

    #[test]
    fn netrc_is_asked_for_the_port_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let netrc = folder.path().join("netrc");
        std::fs::write(&netrc, format!("machine w.example:443 login user password {KEY}")).unwrap();
        let environment = [
            ("NETRC", netrc.to_str().unwrap()),
            ("WANDB_BASE_URL", "https://w.example:443/"),
        ];
        assert!(resolved(serde_json::json!({}), &environment).unwrap().key.is_some());
    }

    /// The file beside the runs, the user's, netrc's entry for the key, options, variables; the field that is refused, or the
    /// key that goes out.
    type KeyCase<'a> = (
        &'a str,
        &'a str,
        &'a str,
        Value,
        &'a [(&'a str, &'a str)],
        Result<Option<&'a str>, &'a str>,
    );

    /// A file beside the runs may be anybody's: it chooses no way for a key that is not its own, or netrc's for that host.
    #[test]
    fn a_settings_file_beside_the_runs_takes_no_key_elsewhere() {
        const URL: &str = "http://127.0.0.1:9";
        const OTHER: &str = "abcdefghijabcdefghijabcdefghijabcdefghij";
        let (url, proxy) = (format!("base_url = {URL}\n"), "https_proxy = http://127.0.0.1:8\n");
        let own = format!("{url}api_key = {OTHER}\n");
        let (exact, any) = ("machine 127.0.0.1:9 password ", "default password ");
        let env = ("WANDB_API_KEY", KEY);
        #[rustfmt::skip]
        let cases: &[KeyCase<'_>] = &[
            (&url, "", "", serde_json::json!({}), &[env], Err("base_url")),
            (&url, "", "", serde_json::json!({"api_key": KEY}), &[], Err("base_url")),
            (&url, "", any, serde_json::json!({}), &[], Err("base_url")),
            (&url, &own, "", serde_json::json!({}), &[], Ok(Some(OTHER))),
            (&url, &format!("api_key = {KEY}"), "", serde_json::json!({}), &[], Err("base_url")),
            (&url, "", exact, serde_json::json!({}), &[], Ok(Some(KEY))),
            (&url, "", exact, serde_json::json!({"api_key": OTHER}), &[], Ok(Some(KEY))),
            (&own, "", "", serde_json::json!({}), &[], Ok(Some(OTHER))),
            (&own, "", "", serde_json::json!({}), &[env], Err("base_url")),
            (&url, &url, "", serde_json::json!({}), &[env], Ok(Some(KEY))),
            ("", &url, "", serde_json::json!({}), &[env], Ok(Some(KEY))),
            (&url, "", "", serde_json::json!({"base_url": "http://a"}), &[env], Ok(Some(KEY))),
            (&url, "", "", serde_json::json!({}), &[env, ("WANDB_BASE_URL", "http://a")], Ok(Some(KEY))),
            (&url, "", "", serde_json::json!({}), &[], Ok(None)),
            (&url, "", "", serde_json::json!({"mode": "offline"}), &[env], Ok(Some(KEY))),
            (proxy, "", "", serde_json::json!({}), &[env], Err("https_proxy")),
            (proxy, &url, exact, serde_json::json!({}), &[], Err("https_proxy")),
            (proxy, "", "", serde_json::json!({}), &[env, ("WANDB_HTTPS_PROXY", "http://a")], Ok(Some(KEY))),
        ];
        for (at, (beside, user, netrc, options, variables, expected)) in cases.iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            for (name, text) in [("runs", beside), ("user", user)] {
                std::fs::create_dir(path(name)).unwrap();
                std::fs::write(path(name).join("settings"), format!("[default]\n{text}")).unwrap();
            }
            std::fs::write(
                path("netrc"),
                format!("{netrc}{}", if netrc.is_empty() { "" } else { KEY }),
            )
            .unwrap();
            let look_up = |name: &str| match name {
                "WANDB_CONFIG_DIR" => Some(path("user").display().to_string()),
                "NETRC" => Some(path("netrc").display().to_string()),
                name => {
                    let found = variables.iter().find(|(variable, _)| *variable == name);
                    found.map(|(_, value)| (*value).to_owned())
                }
            };
            let options = serde_json::from_value(options.clone()).unwrap();
            let settled = resolve_beside(&path("runs"), path("dir"), options, &LogConfig::default(), &look_up);
            match (settled, expected) {
                (Ok(settings), Ok(key)) => assert_eq!(settings.key.as_ref().map(ApiKey::expose), *key, "case {at}"),
                (Err(error), Err(field)) => {
                    assert_eq!(error.field, *field, "case {at}: {error}");
                    assert!(error.to_string().contains("settings"), "{error}");
                    assert!(!error.to_string().contains(KEY), "{error}");
                }
                (settled, expected) => panic!("case {at}: {settled:?} where {expected:?} was expected"),
            }
        }
    }

    #[test]
    fn new_ids_have_eight_letters_and_differ() {
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| new_run_id().unwrap()).collect();
        assert_eq!(ids.len(), 100);
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(ids.iter().all(|id| id.len() == 8 && id.chars().all(letter)));
    }
}
