//! Addresses of pages for people.

use logcore::ConfigError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use super::DEFAULT_BASE_URL;

/// The address for people that belongs to one for programs.
pub(crate) fn app_url(base_url: &str) -> String {
    if base_url == DEFAULT_BASE_URL {
        return "https://forge.coreweave.com/wandb".to_owned();
    }
    match base_url.contains("://api.wandb.") {
        true => base_url.replacen("://api.", "://", 1),
        false => base_url.replacen("://api.", "://app.", 1),
    }
}

/// Checks an address for people that was given; returns it without a slash at its end.
///
/// The rules for base URLs do not hold: `https://wandb.ai` is a good page and no API.
pub(crate) fn given_app_url(field: &str, text: &str) -> Result<String, ConfigError> {
    let trimmed = text.trim_end_matches('/');
    let good = Url::parse(trimmed).is_ok_and(|url| {
        let nobody = url.username().is_empty() && url.password().is_none();
        let bare = url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && nobody && bare
    });
    if good {
        return Ok(trimmed.to_owned());
    }
    // Not shown: it may hold a password.
    let remedy = "write an address such as https://wandb.ai, without a name, a password, `?` or `#`";
    Err(ConfigError::new(field, "***", remedy))
}

/// The run's page.
pub(crate) fn run_url(app_url: &str, entity: &str, project: &str, run_id: &str) -> String {
    let [entity, project, run_id] = [entity, project, run_id].map(|part| utf8_percent_encode(part, SEGMENT));
    format!("{app_url}/{entity}/{project}/runs/{run_id}")
}

/// What `encodeURIComponent` leaves alone, which servers expect in a path segment.
pub(crate) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_for_people() {
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
    fn given_pages() {
        assert_eq!(given_app_url("a", "https://wandb.ai/").unwrap(), "https://wandb.ai");
        for bad in [
            "",
            "wandb.ai",
            "ftp://a",
            "https://",
            "http://a?b",
            "http://u:s3cr3t@a",
            "http://u:s3cr3t@a b",
        ] {
            let refused = given_app_url("a", bad).unwrap_err();
            assert!(!refused.to_string().contains("s3cr3t"), "{bad}");
        }
    }
}
