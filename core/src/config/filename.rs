//! Validation of `filename`, the name of the text file, and of the names of a run's folder.

use std::path::{Component, Path};

use crate::{ConfigError, FileRank};

/// Other files and folders of a run.
const RESERVED_NAMES: [&str; 22] = [
    ".lock",
    ".mlflow.lock",
    ".wandb",
    "config.json",
    "events.jsonl",
    "incidents",
    "latest",
    "media",
    "media.jsonl",
    "metrics.jsonl",
    "mlflow.json",
    "otlp",
    "ranks",
    "records.jsonl",
    "report.html",
    "run.json",
    "stop",
    "summary.json",
    "tensorboard",
    "wandb",
    "webhook",
    "metrics.merged.jsonl",
];

/// Device names on Windows, with any extension. A log directory with such a file could not be
/// copied to Windows.
const WINDOWS_DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Refuses a name that leads out of the log directory, or to another file of the run. The
/// comparison ignores case, as some file systems do.
pub(super) fn validate(filename: &str) -> Result<(), ConfigError> {
    let refuse = |remedy: &str| Err(ConfigError::new("filename", filename.escape_debug(), remedy));
    let mut parts = Path::new(filename).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == filename => {}
        _ => return refuse("use a plain file name such as training.log, and `log_dir` for the folder"),
    }
    if filename.contains(['\\', '\0']) || filename.chars().any(char::is_control) {
        return refuse("use a name without backslashes and control characters");
    }
    let name = filename.to_lowercase();
    let name = name.trim_end_matches(['.', ' ']);
    let name = without_rotation(name);
    let without_rank = FileRank::parse(name).map(|(first, _)| first);
    if RESERVED_NAMES.contains(&without_rank.as_deref().unwrap_or(name)) || name.starts_with(".logcore") {
        return refuse("this is the name of another file of the run; use a name such as training.log");
    }
    if is_device(name) {
        return refuse("this is the name of a device on Windows; use a name such as training.log");
    }
    Ok(())
}

/// Refuses a name that cannot be the name of a run's folder.
pub(super) fn validate_folder(field: &str, name: &str, filename: &str) -> Result<(), ConfigError> {
    let refuse = |remedy: &str| Err(ConfigError::new(field, name.escape_debug(), remedy));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=MAX_FOLDER_NAME).contains(&name.len()) || name.starts_with('.') || !name.bytes().all(is_plain) {
        return refuse("use 1 to 100 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, the first no `.`");
    }
    let lower = name.to_lowercase();
    let lower = lower.trim_end_matches('.');
    if RESERVED_NAMES.contains(&without_rotation(lower)) || lower == filename.to_lowercase() {
        return refuse("this is the name of a file in `log_dir`; use another one");
    }
    if is_device(lower) {
        return refuse("this is the name of a device on Windows; use another one");
    }
    Ok(())
}

/// Number of bytes in the name of a folder that the user chooses.
const MAX_FOLDER_NAME: usize = 100;

/// Returns the name of the file of lines that this may be a rotated piece of, such as
/// `metrics.jsonl.1`.
fn without_rotation(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((lines, number)) if lines.ends_with(".jsonl") && number.bytes().all(|byte| byte.is_ascii_digit()) => lines,
        _ => name,
    }
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is_port = |stem: &str| {
        let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
        number.is_some_and(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit())
    };
    WINDOWS_DEVICES.contains(&stem) || is_port(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validate_refuses_names_of_other_files() {
        for name in [
            "metrics.jsonl",
            "METRICS.JSONL",
            "Config.json",
            "summary.json.",
            "records.jsonl",
            "metrics.rank3.jsonl",
            "metrics.jsonl.1",
            "events.rank3.jsonl.12",
            "Report.html",
            "media.jsonl",
            "mlflow.json",
            ".lock.rank3",
            ".wandb",
            "run.json",
            "wandb",
            ".logcore-1-ab.ring",
            "nul",
            "CON.log",
            "com1.txt",
            "logs/training.log",
            "",
            "..",
            "a\\b",
            "a\nb",
        ] {
            assert_eq!(validate(name).unwrap_err().field, "filename", "{name}");
        }
        for name in [
            "training.log",
            "my metrics.log",
            "console.log",
            "wandb.log",
            "com.log",
            "training.log.1",
            "my.jsonl",
            "метрики.log",
        ] {
            validate(name).unwrap();
        }
    }
    #[test]
    fn validate_folder_refuses_paths_and_names_of_other_files() {
        let long = "x".repeat(101);
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a\\b",
            "a b",
            "\u{e9}",
            "latest",
            "Latest",
            "run.json",
            "training.log",
            "wandb",
            "nul",
            "con.x",
            &long,
        ] {
            let error = validate_folder("run", name, "training.log").unwrap_err();
            assert_eq!(error.field, "run", "{name}");
        }
        for name in ["baseline", "lr-1e-4_v2.1", "x", &long[1..]] {
            validate_folder("run", name, "training.log").unwrap();
        }
    }
}
