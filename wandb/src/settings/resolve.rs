//! Settles the settings of a run, each from the first source that has a value for it.

use std::path::{Path, PathBuf};

use logcore::{ConfigError, LogConfig};
use serde_json::Value;

use super::files::{self, SettingsFiles};
use super::sources::{SettingSources, extra_headers, is_yes};
use super::validate::{self, TextKind};
use super::{
    ApiKey, DEFAULT_BASE_URL, EnvLookup, IgnoreGlobs, NoticeLevel, ResumeMode, RunMode, RunSettings, ServerConfig,
    WandbOptions, urls,
};
use crate::folder::wandb_folder;

/// Settles the settings of a run whose folder lies in `dir`, `WANDB_DIR` or the log directory.
/// `root` is the folder above the log directories of all runs.
///
/// # Errors
///
/// If a value is invalid. The error names the option or the variable that the value came from.
pub(crate) fn resolve(
    options: WandbOptions,
    config: &LogConfig,
    root: &Path,
    environment: EnvLookup<'_>,
) -> Result<RunSettings, ConfigError> {
    let environment = &|name: &str| environment(name).filter(|value| !value.is_empty());
    let explicit = options
        .dir
        .clone()
        .or_else(|| environment("WANDB_DIR").map(PathBuf::from));
    let dir_is_explicit = explicit.is_some();
    // Absolute from here on: the program may change its working folder.
    let shared_folder = wandb_folder(&absolute(explicit.clone().unwrap_or_else(|| root.to_owned())));
    let dir = absolute(explicit.unwrap_or_else(|| config.log_dir.clone()));
    let settings = resolve_beside(&shared_folder, dir, options, config, environment)?;
    Ok(RunSettings {
        dir_is_explicit,
        ..settings
    })
}

/// Settles the settings of runs that share `shared_folder`, whose settings file is read.
///
/// # Errors
///
/// As [`resolve`].
pub(crate) fn resolve_beside(
    shared_folder: &Path,
    dir: PathBuf,
    options: WandbOptions,
    config: &LogConfig,
    environment: EnvLookup<'_>,
) -> Result<RunSettings, ConfigError> {
    let environment = &|name: &str| environment(name).filter(|value| !value.is_empty());
    let mut sources = SettingSources {
        files: SettingsFiles::read(shared_folder, environment),
        environment,
    };
    let base_url = base_url(&sources, &options)?;
    let key = sources.key(&options, &base_url)?;
    refuse_unchecked_tls(&sources)?;
    let (mode, mode_is_explicit) = mode(&sources, &options, key.as_ref())?;
    let project = project(&sources, &options, config)?;
    let entity = entity(&sources, &options)?;
    let resume = sources.resume(&options.resume)?;
    let (run_id, run_id_is_explicit) = run_id(&sources, &options, shared_folder, resume)?;
    let tags = tags(&sources, &options, config)?;
    let name = display_name(&sources, &options, config)?;
    let app_url = app_url(&sources, &options, &base_url)?;
    Ok(RunSettings {
        mode,
        mode_is_explicit,
        app_url,
        entity,
        project,
        run_id,
        run_id_is_explicit,
        name,
        notes: sources.checked_text("notes", &options.notes, TextKind::Notes)?,
        tags,
        group: sources.checked_text("run_group", &options.group, TextKind::Name)?,
        job_type: sources.checked_text("job_type", &options.job_type, TextKind::JobType)?,
        sweep_id: sources.checked_text("sweep_id", &None, TextKind::Name)?,
        host: sources.checked_text("host", &None, TextKind::Environment)?,
        program: sources.checked_text("program", &None, TextKind::Environment)?,
        resume,
        keeps_steps: false,
        dir,
        shared_folder: shared_folder.to_owned(),
        dir_is_explicit: false,
        has_console: options
            .console
            .unwrap_or_else(|| sources.text("console", &None).is_none_or(|value| value != "off")),
        has_stats: !sources.is_set("x_disable_stats"),
        has_environment: !sources.is_set("x_disable_meta"),
        server: ServerConfig {
            key,
            username: sources.checked_text("username", &None, TextKind::Environment)?,
            user_email: sources.checked_text("user_email", &None, TextKind::Environment)?,
            timeout: sources.seconds("http_timeout", options.http_timeout, 30.0)?,
            http_proxy: sources.proxy("http_proxy")?,
            https_proxy: sources.proxy("https_proxy")?,
            extra_headers: extra_headers(environment)?,
            base_url,
        },
        ignore_globs: ignore_globs(&sources)?,
        notices: notice_level(&sources),
        init_timeout: sources.seconds("init_timeout", options.init_timeout, 90.0)?,
        transmit_interval: sources.seconds("x_file_stream_transmit_interval", options.transmit_interval, 15.0)?,
        warnings: sources.files.warnings,
    })
}

/// Returns the folder that the options of the sink, or `WANDB_DIR`, name for W&B's folder.
pub(crate) fn explicit_dir(options: Option<&Value>) -> Option<PathBuf> {
    let option = options.and_then(|options| options.get("dir")?.as_str().map(PathBuf::from));
    let variable = || {
        std::env::var_os("WANDB_DIR")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
    };
    option.or_else(variable)
}

/// Makes a path absolute. The path stays as it is if the process has no working folder.
fn absolute(dir: PathBuf) -> PathBuf {
    std::path::absolute(&dir).unwrap_or(dir)
}

/// Returns the address of the server.
fn base_url(sources: &SettingSources<'_>, options: &WandbOptions) -> Result<String, ConfigError> {
    match sources.find("base_url", &options.base_url) {
        Some((field, url)) => validate::base_url(&field, &url),
        None => Ok(DEFAULT_BASE_URL.to_owned()),
    }
}

/// Refuses a setting that disables certificate checks.
fn refuse_unchecked_tls(sources: &SettingSources<'_>) -> Result<(), ConfigError> {
    match sources.find("insecure_disable_ssl", &None) {
        Some((field, value)) if is_yes(&value) => {
            let remedy = "certificates are always checked; unset it, and let the machine trust the server's authority";
            Err(ConfigError::new(field, value, remedy))
        }
        _ => Ok(()),
    }
}

/// Returns the mode, and `true` if a source names the mode.
fn mode(
    sources: &SettingSources<'_>,
    options: &WandbOptions,
    key: Option<&ApiKey>,
) -> Result<(RunMode, bool), ConfigError> {
    let (mode, field) = sources.mode(&options.mode, key.is_some())?;
    match (mode, field, key) {
        (RunMode::Online, Some(field), None) => Err(ConfigError::new(
            field,
            "online",
            "there is no API key: set `api_key` or WANDB_API_KEY, or put one into ~/.netrc; or use mode \"offline\"",
        )),
        (mode, field, _) => Ok((mode, field.is_some())),
    }
}

/// Returns the project.
fn project(sources: &SettingSources<'_>, options: &WandbOptions, config: &LogConfig) -> Result<String, ConfigError> {
    let (field, project) = match (&options.project, &config.wandb_project) {
        (Some(project), _) => ("project".to_owned(), project.clone()),
        (None, Some(project)) => ("wandb_project".to_owned(), project.clone()),
        (None, None) => sources
            .find("project", &None)
            .unwrap_or_else(|| ("project".to_owned(), "default".to_owned())),
    };
    validate::project(&field, &project)?;
    Ok(project)
}

/// Returns the user or team.
fn entity(sources: &SettingSources<'_>, options: &WandbOptions) -> Result<Option<String>, ConfigError> {
    let Some((field, entity)) = sources.find("entity", &options.entity) else {
        return Ok(None);
    };
    validate::name(&field, &entity)?;
    Ok(Some(entity))
}

/// Returns the id of the run, and `false` if the id is a new, random one.
fn run_id(
    sources: &SettingSources<'_>,
    options: &WandbOptions,
    shared_folder: &Path,
    resume: Option<ResumeMode>,
) -> Result<(String, bool), ConfigError> {
    if let Some((field, id)) = sources.find("run_id", &options.run_id) {
        validate::run_id(&field, &id)?;
        return Ok((id, true));
    }
    match files::remembered_run(shared_folder).filter(|_| resume == Some(ResumeMode::Auto)) {
        Some(id) if validate::run_id("run_id", &id).is_ok() => Ok((id, true)),
        _ => Ok((new_run_id()?, false)),
    }
}

/// Returns the tags without duplicates.
fn tags(sources: &SettingSources<'_>, options: &WandbOptions, config: &LogConfig) -> Result<Vec<String>, ConfigError> {
    let (field, mut tags) = match (&options.tags, config.wandb_tags.is_empty()) {
        (Some(tags), _) => ("tags".to_owned(), tags.clone()),
        (None, false) => ("wandb_tags".to_owned(), config.wandb_tags.clone()),
        (None, true) => sources
            .find("tags", &None)
            .map_or_else(Default::default, |(field, text)| {
                let tags = text.split(',').map(|tag| tag.trim().to_owned());
                (field, tags.filter(|tag| !tag.is_empty()).collect())
            }),
    };
    validate::tags(&field, &mut tags)?;
    Ok(tags)
}

/// Returns the display name.
fn display_name(
    sources: &SettingSources<'_>,
    options: &WandbOptions,
    config: &LogConfig,
) -> Result<Option<String>, ConfigError> {
    let name = match (&options.name, &config.wandb_name) {
        (None, Some(name)) => validate::text("wandb_name", name, TextKind::Name).map(|()| Some(name.clone()))?,
        (option, _) => sources.checked_text("name", option, TextKind::Name)?,
    };
    Ok(name.filter(|name| !name.is_empty()))
}

/// Returns the address of the web app.
fn app_url(sources: &SettingSources<'_>, options: &WandbOptions, base_url: &str) -> Result<String, ConfigError> {
    match sources.find("app_url", &options.app_url) {
        Some((field, url)) => urls::check_app_url(&field, &url),
        None => Ok(urls::app_url(base_url)),
    }
}

/// Returns the patterns of files that are not uploaded.
fn ignore_globs(sources: &SettingSources<'_>) -> Result<IgnoreGlobs, ConfigError> {
    match sources.find("ignore_globs", &None) {
        Some((field, patterns)) => IgnoreGlobs::parse(&field, &patterns),
        None => Ok(IgnoreGlobs::default()),
    }
}

/// Returns the notices to print.
fn notice_level(sources: &SettingSources<'_>) -> NoticeLevel {
    match (sources.is_set("silent"), sources.is_set("quiet")) {
        (true, _) => NoticeLevel::None,
        (_, true) => NoticeLevel::Problems,
        _ => NoticeLevel::All,
    }
}

/// Returns a random id of eight letters and digits.
fn new_run_id() -> Result<String, ConfigError> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(8);
    while id.len() < 8 {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(|error| {
            let remedy = format!("cannot draw random numbers for a new id: {error}; set `run_id`");
            ConfigError::new("run_id", Value::Null, remedy)
        })?;
        // 252 is the greatest multiple of 36 in a byte: each letter is as likely as any other.
        if byte[0] < 252 {
            id.push(char::from(LETTERS[usize::from(byte[0] % 36)]));
        }
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        resolve(
            serde_json::from_value(options).unwrap(),
            &config,
            folder.path(),
            &look_up,
        )
    }

    #[test]
    fn the_default_mode_is_online_with_a_key_and_offline_without() {
        let settings = resolved(serde_json::json!({}), &[]).unwrap();
        assert_eq!((settings.mode, settings.mode_is_explicit), (RunMode::Offline, false));
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
    fn an_error_names_the_source_of_the_value() {
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
    fn the_app_url_may_be_another_host_than_the_api() {
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
            settings.server.extra_headers,
            [("Authorization".to_owned(), "s3cr3t".to_owned())]
        );
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains(KEY), "{shown}");
    }

    #[test]
    fn a_setting_that_disables_certificate_checks_is_refused() {
        for yes in ["1", "True", "on"] {
            let refused = resolved(serde_json::json!({}), &[("WANDB_INSECURE_DISABLE_SSL", yes)]).unwrap_err();
            assert_eq!(refused.field, "WANDB_INSECURE_DISABLE_SSL");
        }
        resolved(serde_json::json!({}), &[("WANDB_INSECURE_DISABLE_SSL", "false")]).unwrap();
    }

    #[test]
    fn unsupported_modes_and_tokens_are_named_in_the_error() {
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
    fn empty_values_of_a_settings_file_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[default]\nentity =\nproject = p\nquiet = true\nx_file_stream_transmit_interval = 2\n";
        std::fs::write(folder.path().join("settings"), text).unwrap();
        let config_dir = [("WANDB_CONFIG_DIR", folder.path().to_str().unwrap())];
        let settings = resolved(serde_json::json!({}), &config_dir).unwrap();
        assert_eq!((settings.entity.as_deref(), settings.project.as_str()), (None, "p"));
        assert_eq!(settings.transmit_interval, Duration::from_secs(2));
    }

    #[test]
    fn a_settings_file_switches_features_off() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[default]\nconsole = off\nsilent = true\nx_disable_stats = True\nx_disable_meta = 1\n";
        std::fs::write(folder.path().join("settings"), text).unwrap();
        let config_dir = ("WANDB_CONFIG_DIR", folder.path().to_str().unwrap());
        let settings = resolved(serde_json::json!({}), &[config_dir]).unwrap();
        assert!(!settings.has_console && !settings.has_stats && !settings.has_environment);
        assert_eq!(settings.notices, NoticeLevel::None);
        let environment = [
            config_dir,
            ("WANDB_CONSOLE", "auto"),
            ("WANDB_SILENT", "false"),
            ("WANDB_QUIET", "1"),
            ("WANDB__DISABLE_STATS", "0"),
            ("WANDB__DISABLE_META", "no"),
        ];
        let settings = resolved(serde_json::json!({}), &environment).unwrap();
        assert!(settings.has_console && settings.has_stats && settings.has_environment);
        assert_eq!(settings.notices, NoticeLevel::Problems);
    }

    #[test]
    fn the_port_of_a_netrc_entry_is_compared_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let netrc = folder.path().join("netrc");
        std::fs::write(&netrc, format!("machine w.example:443 login user password {KEY}")).unwrap();
        let environment = [
            ("NETRC", netrc.to_str().unwrap()),
            ("WANDB_BASE_URL", "https://w.example:443/"),
        ];
        assert!(
            resolved(serde_json::json!({}), &environment)
                .unwrap()
                .server
                .key
                .is_some()
        );
    }

    /// The file beside the runs, the user's file, the netrc entry, options, variables, and the
    /// expected result: the key, or the field of the error.
    type KeyCase<'a> = (
        &'a str,
        &'a str,
        &'a str,
        Value,
        &'a [(&'a str, &'a str)],
        Result<Option<&'a str>, &'a str>,
    );

    /// Anybody may have written the file beside the runs. Such a file chooses a server only for its
    /// own key, or for the netrc key of that very host.
    #[test]
    fn a_settings_file_beside_the_runs_cannot_redirect_a_key() {
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
                (Ok(settings), Ok(key)) => {
                    assert_eq!(settings.server.key.as_ref().map(ApiKey::expose), *key, "case {at}")
                }
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
