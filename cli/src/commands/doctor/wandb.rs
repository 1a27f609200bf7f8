//! W&B: the key, and the server.

use std::path::Path;

use super::Finding;

#[cfg(not(feature = "sync"))]
pub(super) fn examine(_: &Path, _: bool) -> Vec<Finding> {
    let text = "not looked at: this program was built without the feature `sync`";
    vec![Finding::ok("wandb", text)]
}

#[cfg(feature = "sync")]
pub(super) fn examine(log_dir: &Path, is_offline: bool) -> Vec<Finding> {
    use std::time::Duration;

    use facade::wandb::{ServerAnswer, ServerCheck};

    /// Longest wait for the server.
    const TIMEOUT: Duration = Duration::from_secs(5);

    let variable = |name: &str| std::env::var(name).ok();
    let check = match ServerCheck::of(log_dir, &variable) {
        Ok(check) => check,
        Err(error) => {
            let remedy = "a run with W&B would be refused: change the setting, or unset it";
            return vec![Finding::bad("wandb", error.to_string(), remedy)];
        }
    };
    let key = match (
        check.has_key(),
        variable("WANDB_API_KEY").is_some_and(|key| !key.is_empty()),
    ) {
        (true, true) => "in WANDB_API_KEY",
        (true, false) => "in netrc or a settings file",
        (false, _) => "none: W&B runs stay on this disk",
    };
    let mut findings = vec![Finding::ok("wandb key", key)];
    for warning in check.warnings() {
        findings.push(Finding::warning("wandb", warning, "let your user read the file"));
    }
    let url = check.base_url();
    let mode = if check.is_online() { "online" } else { "offline" };
    if is_offline {
        findings.push(Finding::ok(
            "wandb server",
            format!("{url}, runs are {mode}; not asked"),
        ));
        return findings;
    }
    findings.push(match check.ask(TIMEOUT) {
        ServerAnswer::Reached => Finding::ok("wandb server", format!("{url} answers, runs are {mode}")),
        ServerAnswer::KeyRefused(reason) => {
            let remedy = "copy a key from the page `authorize` of the server";
            Finding::bad("wandb server", format!("{url}: {reason}"), remedy)
        }
        ServerAnswer::Unreachable(reason) => {
            let text = format!("{url} cannot be reached: {reason}");
            match check.is_online() {
                true => Finding::bad(
                    "wandb server",
                    text,
                    "runs go on, and `logcore sync` delivers them later",
                ),
                false => Finding::warning("wandb server", text, "this matters only for `logcore sync`"),
            }
        }
        // A newer library may know other answers.
        other => Finding::warning("wandb server", format!("{url}: {other:?}"), "look at the server's page"),
    });
    findings
}
