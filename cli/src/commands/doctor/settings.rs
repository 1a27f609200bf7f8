//! The variables that change what a run does.

use std::env;

use logcore::{LogConfig, Ranks, redacted};
use serde_json::{Value, json};

use super::Finding;

/// Variables of logcore and W&B.
const PREFIXES: [&str; 2] = ["LOGCORE_", "WANDB_"];
/// Variables of others that a run heeds.
const NAMES: [&str; 15] = [
    "RUST_LOG",
    "NO_COLOR",
    "TZ",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "SLURM_JOB_ID",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "CUDA_VISIBLE_DEVICES",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];
/// Variables whose values hold secrets, although their names do not tell.
const SECRET: [&str; 2] = ["WANDB__EXTRA_HTTP_HEADERS", "LOGCORE_REDACT"];
/// Variables that hold JSON.
const TABLES: [&str; 4] = [
    "LOGCORE_SINKS",
    "LOGCORE_PROBES",
    "LOGCORE_HYPER_PARAMETERS",
    "LOGCORE_RULES",
];
/// The shown form of what may be a secret.
const HIDDEN: &str = "***";

pub(super) fn examine() -> Vec<Finding> {
    let mut set: Vec<(String, String)> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| is_shown(name))
        .map(|(name, value)| (name.clone(), shown_value(&name, value)))
        .collect();
    set.sort();
    let mut findings: Vec<Finding> = Vec::new();
    if set.is_empty() {
        findings.push(Finding::ok("variables", "none that changes a run"));
    }
    let lines = set.into_iter().map(|(name, value)| format!("{name}={value}"));
    findings.extend(lines.map(|line| Finding::ok("variable", line)));
    if let Err(error) = LogConfig::default().with_env() {
        findings.push(Finding::bad(
            "settings",
            error.to_string(),
            "set the variable to a valid value, or unset it",
        ));
    }
    if let Some(problem) = Ranks::env_problem() {
        findings.push(Finding::warning(
            "ranks",
            problem.to_string(),
            "let the launcher set all of its variables, or unset them",
        ));
    }
    findings
}

fn is_shown(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) || NAMES.contains(&upper.as_str())
}

/// Returns the value as others may see it. Of JSON, each member counts under its own name; what
/// looks like JSON and is none may hold anything.
fn shown_value(name: &str, value: String) -> String {
    let is_one_of = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let value = match value.is_empty() || !(is_one_of(&TABLES) || value.trim_start().starts_with(['{', '['])) {
        _ if is_one_of(&SECRET) && !value.is_empty() => return HIDDEN.to_owned(),
        true => Value::String(value),
        false => match serde_json::from_str(&value) {
            Ok(table @ (Value::Object(_) | Value::Array(_))) => table,
            _ => return HIDDEN.to_owned(),
        },
    };
    match &redacted(&json!({ name: value }))[name] {
        Value::String(shown) => shown.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (name, value) in [
            ("WANDB_API_KEY", "0123456789abcdef"),
            ("LOGCORE_TOKEN", "abc"),
            ("HTTPS_PROXY", "http://user:abc@proxy:3128"),
            ("WANDB__EXTRA_HTTP_HEADERS", "{\"X-Id\": \"abc\"}"),
            (
                "LOGCORE_SINKS",
                r#"{"webhook":{"url":"https://hooks.slack.com/services/T0/B0/abc"}}"#,
            ),
            ("LOGCORE_sinks", r#"[{"otlp": {"headers": {"api_key": "abc"}}}]"#),
            (
                "LOGCORE_SINKS",
                "webhook.url = 'https://hooks.slack.com/services/T0/B0/abc'",
            ),
            ("LOGCORE_SINKS", r#""https://hooks.slack.com/services/T0/B0/abc""#),
            (
                "WANDB_CONFIG",
                r#" {"webhook":{"url":"https://hooks.slack.com/services/T0/B0/abc"},}"#,
            ),
            ("LOGCORE_REDACT", "abc,b.*d"),
        ] {
            let shown = shown_value(name, value.to_owned());
            assert!(shown.contains("***") && !shown.contains("abc"), "{name}={shown}");
        }
        assert_eq!(shown_value("WANDB_PROJECT", "mnist".to_owned()), "mnist");
        assert_eq!(shown_value("LOGCORE_SINKS", String::new()), "");
        let shown = shown_value("LOGCORE_SINKS", r#"{"file": {"utc": true}}"#.to_owned());
        assert_eq!(shown, r#"{"file":{"utc":true}}"#);
        assert!(is_shown("LOGCORE_RUN_ID") && is_shown("https_proxy") && !is_shown("PATH"));
    }
}
