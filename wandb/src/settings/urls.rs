//! Addresses of W&B's web pages.

use logcore::ConfigError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use super::DEFAULT_BASE_URL;

/// Returns the address of the web app that belongs to the address of an API.
pub(crate) fn app_url(base_url: &str) -> String {
    if base_url == DEFAULT_BASE_URL {
        return "https://forge.coreweave.com/wandb".to_owned();
    }
    match base_url.contains("://api.wandb.") {
        true => base_url.replacen("://api.", "://", 1),
        false => base_url.replacen("://api.", "://app.", 1),
    }
}

/// Checks an address of the web app, and returns the address without trailing slashes.
///
/// The rules differ from those for base URLs: `https://wandb.ai` is a web app and no API.
pub(crate) fn check_app_url(field: &str, text: &str) -> Result<String, ConfigError> {
    let trimmed = text.trim_end_matches('/');
    let good = Url::parse(trimmed).is_ok_and(|url| {
        let has_no_login = url.username().is_empty() && url.password().is_none();
        let bare = url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && has_no_login && bare
    });
    if good {
        return Ok(trimmed.to_owned());
    }
    // The address may hold a password and is not shown.
    let remedy = "write an address such as https://wandb.ai, without a name, a password, `?` or `#`";
    Err(ConfigError::new(field, "***", remedy))
}

/// Returns the address of the page of a run.
pub(crate) fn run_url(app_url: &str, entity: &str, project: &str, run_id: &str) -> String {
    let [entity, project, run_id] = [entity, project, run_id].map(|part| utf8_percent_encode(part, SEGMENT));
    format!("{app_url}/{entity}/{project}/runs/{run_id}")
}

/// The characters to escape in a path segment: all but those that `encodeURIComponent` keeps.
pub(crate) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_url_follows_from_the_base_url() {
        assert_eq!(app_url("https://api.wandb.ai"), "https://wandb.ai");
        assert_eq!(app_url("https://api.example.org"), "https://app.example.org");
        assert_eq!(app_url("http://localhost:8080"), "http://localhost:8080");
        assert_eq!(app_url(DEFAULT_BASE_URL), "https://forge.coreweave.com/wandb");
        assert_eq!(
            run_url("http://a", "team", "my project", "x"),
            "http://a/team/my%20project/runs/x"
        );
    }

    #[test]
    fn an_explicit_app_url_is_checked_without_repeating_secrets() {
        assert_eq!(check_app_url("a", "https://wandb.ai/").unwrap(), "https://wandb.ai");
        for bad in [
            "",
            "wandb.ai",
            "ftp://a",
            "https://",
            "http://a?b",
            "http://u:s3cr3t@a",
            "http://u:s3cr3t@a b",
        ] {
            let refused = check_app_url("a", bad).unwrap_err();
            assert!(!refused.to_string().contains("s3cr3t"), "{bad}");
        }
    }
}
