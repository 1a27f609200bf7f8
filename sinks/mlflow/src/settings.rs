//! Settings of the sink: from the config, then from the variables and the file of the official
//! client.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use logcore::{ConfigError, files};
use logcore_delivery::HttpSettings;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde::Deserialize;

/// Returns the value of an environment variable.
pub(crate) type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The table `sinks.mlflow`.
// Without `Debug`, because the secrets are plain text here.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MlflowOptions {
    /// Address of the server.
    pub(crate) uri: Option<String>,
    /// Name of the experiment.
    experiment: Option<String>,
    /// Id of an existing run, which is continued.
    run_id: Option<String>,
    /// Display name of the run.
    run_name: Option<String>,
    /// Id of the run above this one.
    parent_run_id: Option<String>,
    /// Tags of the run.
    tags: BTreeMap<String, String>,
    /// Description of the run.
    note: Option<String>,
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
    /// A file of certificate authorities.
    ca_file: Option<PathBuf>,
    /// Values per second, beyond which the metrics are thinned.
    rate: Option<f64>,
    /// Seconds between two looks at the rows.
    interval: Option<f64>,
    /// `false` if no files are uploaded at the end of the run.
    artifacts: Option<bool>,
    /// Seconds that a request may take without progress.
    http_timeout: Option<f64>,
}

/// The settings of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct MlflowSettings {
    pub(crate) server: ServerSettings,
    pub(crate) experiment: Experiment,
    pub(crate) run_id: Option<String>,
    pub(crate) run_name: Option<String>,
    pub(crate) parent_run_id: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) note: Option<String>,
    pub(crate) rate: f64,
    pub(crate) interval: Duration,
    pub(crate) has_artifacts: bool,
}

/// The way to the server.
#[derive(Clone)]
pub(crate) struct ServerSettings {
    /// The address without a slash at its end, and without credentials.
    pub(crate) uri: String,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) http: HttpSettings,
}

/// The login to a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Basic { username: String, password: String },
    Bearer(String),
}

/// The experiment of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Experiment {
    Named(String),
    WithId(String),
}

/// The experiment of runs that name none, as for the official client.
const DEFAULT_EXPERIMENT: &str = "Default";
/// Values per second. A server on SQLite takes 6,000 of all its runs, one on PostgreSQL 600.
const DEFAULT_RATE: f64 = 500.0;
/// Seconds between two looks at the rows.
const DEFAULT_INTERVAL: f64 = 5.0;
/// Seconds that a request may take without progress, as for the official client.
const DEFAULT_TIMEOUT: f64 = 120.0;

impl MlflowSettings {
    /// Settles the settings. An option overrides a variable, which overrides the file of
    /// credentials.
    pub(crate) fn resolve(options: MlflowOptions, environment: EnvLookup<'_>) -> Result<Self, ConfigError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let server = ServerSettings::resolve(&options, &variable)?;
        let experiment = match (options.experiment, variable("MLFLOW_EXPERIMENT_ID")) {
            (Some(name), _) => Experiment::Named(name),
            (None, Some(id)) => Experiment::WithId(id),
            (None, None) => {
                let name = variable("MLFLOW_EXPERIMENT_NAME");
                Experiment::Named(name.unwrap_or_else(|| DEFAULT_EXPERIMENT.to_owned()))
            }
        };
        Ok(Self {
            server,
            experiment,
            run_id: options.run_id.or_else(|| variable("MLFLOW_RUN_ID")),
            run_name: options.run_name,
            parent_run_id: options.parent_run_id,
            tags: options.tags,
            note: options.note,
            rate: positive("sinks.mlflow.rate", options.rate.unwrap_or(DEFAULT_RATE))?,
            interval: seconds("sinks.mlflow.interval", options.interval.unwrap_or(DEFAULT_INTERVAL))?,
            has_artifacts: options.artifacts.unwrap_or(true),
        })
    }
}

impl MlflowSettings {
    /// Returns the settings for a run that they were not made for: without the names of a run.
    pub(crate) fn for_another_run(self) -> Self {
        Self {
            run_id: None,
            run_name: None,
            parent_run_id: None,
            tags: BTreeMap::new(),
            note: None,
            ..self
        }
    }
}

impl ServerSettings {
    fn resolve(options: &MlflowOptions, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (field, uri) = match (&options.uri, variable(TRACKING_URI)) {
            (Some(uri), _) => ("sinks.mlflow.uri", uri.clone()),
            (None, Some(uri)) => (TRACKING_URI, uri),
            (None, None) => {
                return Err(ConfigError::new(
                    "sinks.mlflow.uri",
                    "",
                    "no server is named; set it, or MLFLOW_TRACKING_URI, to the address of `mlflow server`, such as \
                     http://127.0.0.1:5000",
                ));
            }
        };
        let mut url = parse_uri(field, &uri)?;
        let of_uri = credentials_in(&mut url);
        let file = credentials_file(variable).unwrap_or_default();
        let from = |option: &Option<String>, name: &str, key: &str| {
            option
                .clone()
                .or_else(|| variable(name))
                .or_else(|| file.get(key).cloned())
        };
        let token = options.token.clone().or_else(|| variable("MLFLOW_TRACKING_TOKEN"));
        let username = from(
            &options.username,
            "MLFLOW_TRACKING_USERNAME",
            "mlflow_tracking_username",
        );
        let password = from(
            &options.password,
            "MLFLOW_TRACKING_PASSWORD",
            "mlflow_tracking_password",
        );
        let credentials = match (of_uri, username, token) {
            (Some(credentials), ..) => Some(credentials),
            (None, Some(username), _) => Some(Credentials::Basic {
                username,
                password: password.unwrap_or_default(),
            }),
            (None, None, token) => token.map(Credentials::Bearer),
        };
        let timeout = match (options.http_timeout, variable("MLFLOW_HTTP_REQUEST_TIMEOUT")) {
            (Some(timeout), _) => seconds("sinks.mlflow.http_timeout", timeout)?,
            (None, Some(text)) => {
                let parsed = text.trim().parse().unwrap_or(f64::NAN);
                seconds("MLFLOW_HTTP_REQUEST_TIMEOUT", parsed)?
            }
            (None, None) => Duration::from_secs_f64(DEFAULT_TIMEOUT),
        };
        let uri = url.as_str().trim_end_matches('/').to_owned();
        let mut http = HttpSettings::new(&uri, timeout);
        let named = options.ca_file.clone().map(|path| ("sinks.mlflow.ca_file", path));
        let of_variable = || Some((CA_FILE, PathBuf::from(variable(CA_FILE)?)));
        if let Some((field, path)) = named.or_else(of_variable) {
            http = http.authorities(read_authorities(field, &path)?);
        }
        if variable("MLFLOW_TRACKING_INSECURE_TLS").is_some_and(|value| matches!(&*value.to_lowercase(), "true" | "1"))
        {
            http = http.without_verification();
        }
        Ok(Self { uri, credentials, http })
    }
}

/// The official variable with a file of certificate authorities.
const CA_FILE: &str = "MLFLOW_TRACKING_SERVER_CERT_PATH";
/// The official variable with the address of the server.
const TRACKING_URI: &str = "MLFLOW_TRACKING_URI";

/// Parses the address of a server.
fn parse_uri(field: &str, uri: &str) -> Result<Url, ConfigError> {
    // A password in the address is not shown.
    let invalid = |cause: &str| ConfigError::new(field, shown(uri), cause.to_owned());
    match Url::parse(uri) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Err(invalid(
            "logcore delivers to a server; start `mlflow server`, and give its address, such as http://127.0.0.1:5000",
        )),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => Err(invalid(
            "an address has no `?` and no `#`; give the address of the server alone",
        )),
        Ok(url) => Ok(url),
        Err(_) => Err(invalid(
            "this is no address of a server; give one such as http://127.0.0.1:5000",
        )),
    }
}

/// Returns an address without its credentials.
fn shown(uri: &str) -> String {
    match uri.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => uri.to_owned(),
    }
}

/// Takes the credentials out of an address.
fn credentials_in(url: &mut Url) -> Option<Credentials> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (username, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    if username.is_empty() && password.is_empty() {
        return None;
    }
    // An address of HTTP has a host, so that both succeed.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(Credentials::Basic { username, password })
}

/// Reads a file of certificate authorities.
fn read_authorities(field: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    /// The file of a Linux distribution has 0.2 MB.
    const LONGEST: u64 = 4 << 20;
    files::read(path, LONGEST).map_err(|error| {
        ConfigError::new(
            field,
            path.display(),
            format!("the file cannot be read: {error}; name a file of certificates in PEM"),
        )
    })
}

/// Reads `~/.mlflow/credentials`, the file of the official client.
fn credentials_file(variable: &dyn Fn(&str) -> Option<String>) -> Option<BTreeMap<String, String>> {
    const LONGEST: u64 = 64 << 10;
    let path = Path::new(&variable("HOME")?).join(".mlflow/credentials");
    let text = files::read_to_string(&path, LONGEST).ok()?;
    let mut values = BTreeMap::new();
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_ours = section.trim_end_matches(']') == "mlflow";
        } else if let (true, Some((key, value))) = (is_ours, line.split_once('=')) {
            values.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    Some(values)
}

fn positive(field: &str, number: f64) -> Result<f64, ConfigError> {
    match number > 0.0 && number.is_finite() {
        true => Ok(number),
        false => Err(ConfigError::new(field, number, "give a number above 0")),
    }
}

fn seconds(field: &str, number: f64) -> Result<Duration, ConfigError> {
    /// A year, which is longer than any request.
    const LONGEST: f64 = 365.0 * 86400.0;
    Ok(Duration::from_secs_f64(positive(field, number)?.min(LONGEST)))
}

/// Shows no credentials.
impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolve(options: Value, variables: &[(&str, &str)]) -> Result<MlflowSettings, ConfigError> {
        let options = MlflowOptions::deserialize(options).unwrap();
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        MlflowSettings::resolve(options, &lookup)
    }

    #[test]
    fn the_official_variables_hold_and_options_go_before_them() {
        let variables = [
            ("MLFLOW_TRACKING_URI", "http://of-variable:5000/"),
            ("MLFLOW_EXPERIMENT_NAME", "vision"),
            ("MLFLOW_RUN_ID", "0c9"),
            ("MLFLOW_TRACKING_TOKEN", "t0ken"),
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "7"),
        ];
        let settings = resolve(json!({}), &variables).unwrap();
        assert_eq!(settings.server.uri, "http://of-variable:5000");
        assert_eq!(settings.experiment, Experiment::Named("vision".to_owned()));
        assert_eq!(settings.run_id.as_deref(), Some("0c9"));
        assert!(settings.server.credentials == Some(Credentials::Bearer("t0ken".to_owned())));
        assert_eq!(settings.server.http.timeout(), Duration::from_secs(7));

        let options =
            json!({"uri": "https://of-option/mlflow/", "experiment": "text", "username": "ann", "password": "pw"});
        let settings = resolve(options, &variables).unwrap();
        assert_eq!(settings.server.uri, "https://of-option/mlflow");
        assert_eq!(settings.experiment, Experiment::Named("text".to_owned()));
        assert!(matches!(settings.server.credentials, Some(Credentials::Basic { .. })));
    }

    #[test]
    fn the_file_of_credentials_is_the_last_choice() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".mlflow")).unwrap();
        let text = "[other]\nmlflow_tracking_username = eve\n[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password=p=w\n";
        std::fs::write(home.path().join(".mlflow/credentials"), text).unwrap();
        let home = home.path().to_str().unwrap();
        let settings = resolve(json!({"uri": "http://host"}), &[("HOME", home)]).unwrap();
        let expected = Credentials::Basic {
            username: "ann".to_owned(),
            password: "p=w".to_owned(),
        };
        assert!(settings.server.credentials == Some(expected));
    }

    #[test]
    fn a_bad_address_is_an_error_that_shows_no_password() {
        for (uri, expected) in [
            ("sqlite:///mlflow.db", "start `mlflow server`"),
            ("./mlruns", "no address of a server"),
            ("http://ann:s3cret@host/?a=1", "the address of the server alone"),
            ("ftp://ann:s3cret@host", "start `mlflow server`"),
            ("http://ann:s3cret@:x", "no address of a server"),
        ] {
            let error = resolve(json!({"uri": uri}), &[]).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
        let error = resolve(json!({}), &[]).unwrap_err().to_string();
        assert!(error.contains("MLFLOW_TRACKING_URI"), "{error}");
    }

    #[test]
    fn credentials_leave_the_address_and_are_not_shown() {
        let settings = resolve(json!({"uri": "https://ann:s3%40cret@host/"}), &[]).unwrap();
        assert_eq!(settings.server.uri, "https://host");
        let expected = Credentials::Basic {
            username: "ann".to_owned(),
            password: "s3@cret".to_owned(),
        };
        assert!(settings.server.credentials == Some(expected));
        assert!(!format!("{settings:?}").contains("cret"));
    }

    #[test]
    fn authorities_that_cannot_be_read_are_an_error() {
        let options = json!({"uri": "https://host", "ca_file": "/no/ca.pem"});
        let error = resolve(options, &[]).unwrap_err().to_string();
        assert!(
            error.contains("sinks.mlflow.ca_file") && error.contains("/no/ca.pem"),
            "{error}"
        );
        let variables = [(CA_FILE, "/no/ca.pem")];
        let error = resolve(json!({"uri": "https://host"}), &variables)
            .unwrap_err()
            .to_string();
        assert!(error.contains(CA_FILE), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        for options in [
            json!({"uri": "http://host", "rate": 0.0}),
            json!({"uri": "http://host", "interval": -1.0}),
            json!({"uri": "http://host", "http_timeout": 0.0}),
        ] {
            let error = resolve(options, &[]).unwrap_err().to_string();
            assert!(error.contains("give a number above 0"), "{error}");
        }
        assert!(resolve(json!({"uri": "http://host", "interval": 1e300}), &[]).is_ok());
    }
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// Returns the settings of a server without any other choice.
    pub(crate) fn settings(uri: &str) -> MlflowSettings {
        let options = MlflowOptions {
            uri: Some(uri.to_owned()),
            ..MlflowOptions::default()
        };
        MlflowSettings::resolve(options, &|_| None).unwrap()
    }
}
