//! Removes secrets from texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::settings::ServerConfig;

/// The secrets of a request, in each form in which a reply could repeat them: the key, the user's
/// headers, the passwords of proxies.
pub(crate) struct SecretFilter {
    forms: Vec<String>,
}

impl SecretFilter {
    /// Collects the secrets of the requests to a server.
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let key = config.key.as_ref().map_or("", |key| key.expose());
        let mut forms = vec![credentials(key), key.to_owned()];
        forms.extend(config.extra_headers.iter().map(|(_, value)| value.clone()));
        let proxies = [&config.http_proxy, &config.https_proxy];
        for url in proxies.into_iter().flatten().filter_map(|url| Url::parse(url).ok()) {
            let password = url.password().unwrap_or_default();
            let plain = percent_decode_str(password).decode_utf8_lossy().into_owned();
            forms.push(STANDARD.encode(format!("{}:{plain}", url.username())));
            forms.extend([password.to_owned(), plain]);
        }
        // Shorter texts occur everywhere.
        forms.retain(|form| form.len() >= SHORTEST && *form != credentials(""));
        Self { forms }
    }

    /// Replaces the secrets in a text.
    pub(crate) fn hide(&self, text: &str) -> String {
        let hide = |text: String, form: &String| text.replace(form.as_str(), "***");
        self.forms.iter().fold(text.to_owned(), hide)
    }
}

/// Bytes of the shortest secret that is replaced.
const SHORTEST: usize = 4;

/// Returns the credentials of the `Authorization` header, without `Basic`.
pub(crate) fn credentials(key: &str) -> String {
    STANDARD.encode(format!("api:{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(options: serde_json::Value, variables: &[(&str, &str)]) -> SecretFilter {
        let look_up = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let options = serde_json::from_value(options).unwrap();
        let settings =
            crate::settings::resolve(options, &logcore::LogConfig::default(), "logs".as_ref(), &look_up).unwrap();
        SecretFilter::new(&settings.server)
    }

    #[test]
    fn a_key_is_hidden_in_both_forms() {
        let key = "a".repeat(40);
        let filter = filter(serde_json::json!({"mode": "online", "api_key": key}), &[]);
        let text = format!("no {key}, no {}", credentials(&key));
        assert_eq!(filter.hide(&text), "no ***, no ***");
        assert_eq!(
            self::filter(serde_json::json!({"mode": "offline"}), &[]).hide("a text"),
            "a text"
        );
    }

    #[test]
    fn headers_and_proxy_passwords_are_hidden() {
        let variables = [
            ("WANDB__EXTRA_HTTP_HEADERS", r#"{"X-Token": "s3cr3t-header"}"#),
            ("WANDB_HTTPS_PROXY", "http://me:p%40ssword@proxy:3128"),
        ];
        let filter = filter(serde_json::json!({"mode": "offline"}), &variables);
        let text = format!("s3cr3t-header p%40ssword p@ssword {}", STANDARD.encode("me:p@ssword"));
        assert_eq!(filter.hide(&text), "*** *** *** ***");
    }
}
