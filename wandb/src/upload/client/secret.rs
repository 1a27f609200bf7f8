//! The secrets of the requests to a W&B server.

use logcore_delivery::{SecretFilter, basic_credentials};

use crate::settings::ServerConfig;

/// Collects the secrets of the requests to a server: the key, the user's headers, the passwords of
/// proxies.
pub(crate) fn secrets_of(config: &ServerConfig) -> SecretFilter {
    let key = config.key.as_ref().map(|key| key.expose());
    let key = key.into_iter().flat_map(|key| [credentials(key), key.to_owned()]);
    let headers = config.extra_headers.iter().map(|(_, value)| value.clone());
    let proxies = [&config.http_proxy, &config.https_proxy].into_iter().flatten();
    proxies.fold(SecretFilter::new(key.chain(headers)), |filter, url| {
        filter.with_proxy(url)
    })
}

/// Returns the credentials of the `Authorization` header, without `Basic`.
pub(crate) fn credentials(key: &str) -> String {
    basic_credentials("api", key)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn filter(options: serde_json::Value, variables: &[(&str, &str)]) -> SecretFilter {
        let look_up = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let options = serde_json::from_value(options).unwrap();
        let settings =
            crate::settings::resolve(options, &logcore::LogConfig::default(), "logs".as_ref(), &look_up).unwrap();
        secrets_of(&settings.server)
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
