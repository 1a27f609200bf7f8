//! Names that the text file cannot have.

use std::path::{Component, Path};

use crate::{ConfigError, FileRank};

/// Files and folders of a run that are not its text.
const OURS: [&str; 14] = [
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

/// Names that stand for devices on Windows, whatever ending they have; so a folder with them cannot be copied there.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Refuses a name for the text file that leads elsewhere, or to another file of the run. File systems differ in whether they
/// tell small letters from capitals.
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
    let of_rank = FileRank::parse(name).map(|(first, _)| first);
    if OURS.contains(&of_rank.as_deref().unwrap_or(name)) || name.starts_with(".logcore") || name == ".lock" {
        return refuse("it is the name of another file of the run; use one such as training.log");
    }
    if is_device(name) {
        return refuse("it is the name of a device on Windows; use one such as training.log");
    }
    Ok(())
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is_port = |stem: &str| {
        let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
        number.is_some_and(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit())
    };
    DEVICES.contains(&stem) || is_port(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_name_of_its_own() {
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
