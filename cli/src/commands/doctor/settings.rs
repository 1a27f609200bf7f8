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
const SECRET: [&str; 1] = ["WANDB__EXTRA_HTTP_HEADERS"];

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

/// Returns the value as others may see it.
fn shown_value(name: &str, value: String) -> String {
    if SECRET.contains(&name) && !value.is_empty() {
        return "***".to_owned();
    }
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
        ] {
            let shown = shown_value(name, value.to_owned());
            assert!(shown.contains("***") && !shown.contains("abc"), "{name}={shown}");
        }
        assert_eq!(shown_value("WANDB_PROJECT", "mnist".to_owned()), "mnist");
        assert!(is_shown("LOGCORE_RUN_ID") && is_shown("https_proxy") && !is_shown("PATH"));
    }
}
