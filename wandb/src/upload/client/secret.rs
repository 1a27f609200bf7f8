use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::settings::RunSettings;

/// The secrets that a request carries, in each form in which a reply could repeat them: the key, the headers of the
/// user's own, the passwords of proxies.
pub(crate) struct SecretFilter {
    forms: Vec<String>,
}

impl SecretFilter {
    pub(crate) fn of(settings: &RunSettings) -> Self {
        let key = settings.key.as_ref().map_or("", |key| key.expose());
        let mut forms = vec![credentials(key), key.to_owned()];
        forms.extend(settings.extra_headers.iter().map(|(_, value)| value.clone()));
        let proxies = [&settings.http_proxy, &settings.https_proxy];
        for url in proxies.into_iter().flatten().filter_map(|url| Url::parse(url).ok()) {
            let password = url.password().unwrap_or_default();
            let plain = percent_decode_str(password).decode_utf8_lossy().into_owned();
            forms.push(STANDARD.encode(format!("{}:{plain}", url.username())));
            forms.extend([password.to_owned(), plain]);
        }
        // Fewer letters are in every text.
        forms.retain(|form| form.len() >= SHORTEST && *form != credentials(""));
        Self { forms }
    }

    /// A text without it.
    pub(crate) fn clean(&self, text: &str) -> String {
        let hide = |text: String, form: &String| text.replace(form.as_str(), "***");
        self.forms.iter().fold(text.to_owned(), hide)
    }
}

const SHORTEST: usize = 4;

/// What stands behind `Basic` in a request.
pub(crate) fn credentials(key: &str) -> String {
    STANDARD.encode(format!("api:{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: serde_json::Value, variables: &[(&str, &str)]) -> SecretFilter {
        let look_up = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let options = serde_json::from_value(options).unwrap();
        SecretFilter::of(&crate::settings::resolve(options, &logcore::LogConfig::default(), &look_up).unwrap())
    }

    #[test]
    fn both_forms_of_a_key_are_hidden() {
        let key = "a".repeat(40);
        let secret = of(serde_json::json!({"mode": "online", "api_key": key}), &[]);
        let said = format!("no {key}, no {}", credentials(&key));
        assert_eq!(secret.clean(&said), "no ***, no ***");
        assert_eq!(
            of(serde_json::json!({"mode": "offline"}), &[]).clean("a text"),
            "a text"
        );
    }

    #[test]
    fn headers_and_passwords_of_proxies_are_hidden() {
        let variables = [
            ("WANDB__EXTRA_HTTP_HEADERS", r#"{"X-Token": "s3cr3t-header"}"#),
            ("WANDB_HTTPS_PROXY", "http://me:p%40ssword@proxy:3128"),
        ];
        let secret = of(serde_json::json!({"mode": "offline"}), &variables);
        let said = format!("s3cr3t-header p%40ssword p@ssword {}", STANDARD.encode("me:p@ssword"));
        assert_eq!(secret.clean(&said), "*** *** *** ***");
    }
}
