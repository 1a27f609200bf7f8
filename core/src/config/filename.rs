//! Validation of `filename`, the name of the text file.

use std::path::{Component, Path};

use crate::{ConfigError, FileRank};

/// Other files and folders of a run.
const RESERVED_NAMES: [&str; 14] = [
    "config.json",
    "events.jsonl",
    "incidents",
    "latest",
    "media",
    "metrics.jsonl",
    "ranks",
    "records.jsonl",
    "run.json",
    "stop",
    "summary.json",
    "tensorboard",
    "wandb",
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
    let without_rank = FileRank::parse(name).map(|(first, _)| first);
    if RESERVED_NAMES.contains(&without_rank.as_deref().unwrap_or(name))
        || name.starts_with(".logcore")
        || name == ".lock"
    {
        return refuse("this is the name of another file of the run; use a name such as training.log");
    }
    if is_device(name) {
        return refuse("this is the name of a device on Windows; use a name such as training.log");
    }
    Ok(())
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
            "метрики.log",
        ] {
            validate(name).unwrap();
        }
    }
}
