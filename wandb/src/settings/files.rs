//! What lies in files: settings, keys, the id of a run to resume.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Environment;
use super::netrc;

/// The settings files, the local one over the global one.
pub(crate) fn settings_files(dir: &Path, environment: Environment<'_>) -> BTreeMap<String, String> {
    let global = environment("WANDB_CONFIG_DIR")
        .map(PathBuf::from)
        .or_else(|| Some(home(environment)?.join(".config/wandb")));
    let mut all = BTreeMap::new();
    let files = [global.map(|folder| folder.join("settings")), Some(dir.join("settings"))];
    for path in files.into_iter().flatten() {
        all.extend(fs::read_to_string(path).map(|text| ini(&text)).unwrap_or_default());
    }
    all
}

/// The password for the base URL's host and port, with the file that it stands in.
pub(crate) fn netrc_password(netloc: &str, environment: Environment<'_>) -> Option<(PathBuf, String)> {
    let home = home(environment);
    let path = match environment("NETRC") {
        Some(path) => match (path.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        },
        None => {
            let home = home?;
            ["_netrc", ".netrc"]
                .iter()
                .map(|name| home.join(name))
                .rfind(|path| path.exists())?
        }
    };
    let password = netrc::password(&fs::read_to_string(&path).ok()?, netloc)?;
    Some((path, password))
}

/// The id that `resume = "auto"` goes on with.
pub(crate) fn remembered_run(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(REMEMBERED)).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(value["run_id"].as_str()?.to_owned())
}

pub(crate) fn remember_run(folder: &Path, run_id: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join(REMEMBERED),
        serde_json::json!({"run_id": run_id}).to_string(),
    )
}

pub(crate) fn forget_run(folder: &Path) {
    // If it cannot be taken away, the next start goes on with a run that has ended, as it would after a crash.
    let _ = fs::remove_file(folder.join(REMEMBERED));
}

const REMEMBERED: &str = "wandb-resume.json";

fn home(environment: Environment<'_>) -> Option<PathBuf> {
    environment("HOME")
        .or_else(|| environment("USERPROFILE"))
        .map(PathBuf::from)
}

/// The section `[default]`; a name without a value says nothing.
fn ini(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut in_default = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            in_default = section.trim_end_matches(']').trim() == "default";
        } else if in_default
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once(['=', ':'])
            && !value.trim().is_empty()
        {
            all.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_section_of_a_settings_file_counts() {
        let all = ini("x = 1\n[other]\nentity = no\n[default]\n# c\nEntity = team\nbase_url=http://a:1\n");
        assert_eq!(all["entity"], "team");
        assert_eq!(all["base_url"], "http://a:1");
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn the_local_file_wins_over_the_global_one() {
        let folder = tempfile::tempdir().unwrap();
        let (global, local) = (folder.path().join("config"), folder.path().join("wandb"));
        for (path, text) in [
            (&global, "[default]\nentity=a\nproject=p"),
            (&local, "[default]\nentity=b"),
        ] {
            fs::create_dir_all(path).unwrap();
            fs::write(path.join("settings"), text).unwrap();
        }
        let environment = |name: &str| (name == "WANDB_CONFIG_DIR").then(|| global.display().to_string());
        let all = settings_files(&local, &environment);
        assert_eq!((all["entity"].as_str(), all["project"].as_str()), ("b", "p"));
    }

    #[test]
    fn a_run_is_remembered_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        remember_run(folder.path(), "abc").unwrap();
        assert_eq!(remembered_run(folder.path()).as_deref(), Some("abc"));
        forget_run(folder.path());
        assert_eq!(remembered_run(folder.path()), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", "{\"run_id\": 1}"] {
            fs::write(folder.path().join(REMEMBERED), text).unwrap();
            assert_eq!(remembered_run(folder.path()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ini_never_panics(text in "(\\[|\\]|default|=|:|#|;|a|ü| |\n){0,30}|\\PC*") {
            let _ = ini(&text);
        }
    }
}
