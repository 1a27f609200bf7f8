//! The settings files, the passwords of netrc, and the remembered id of a run to resume.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::EnvLookup;
use super::netrc;

/// The values of the two settings files.
#[derive(Default)]
pub(crate) struct SettingsFiles {
    /// The file of the user.
    pub(crate) user: BTreeMap<String, String>,
    /// The file beside the runs, which overrides the file of the user. Anybody who may write there,
    /// or who sent the folder, may have written that file.
    pub(crate) local: BTreeMap<String, String>,
    pub(crate) local_path: PathBuf,
    /// Notices about files that exist and cannot be read.
    pub(crate) warnings: Vec<String>,
}

impl SettingsFiles {
    /// Reads both files. The local file is `settings` in the folder `dir`.
    pub(crate) fn read(dir: &Path, environment: EnvLookup<'_>) -> Self {
        let mut all = Self {
            local_path: dir.join("settings"),
            ..Self::default()
        };
        let user = environment("WANDB_CONFIG_DIR")
            .map(PathBuf::from)
            .or_else(|| Some(home(environment)?.join(".config/wandb")));
        if let Some(folder) = user {
            all.user = all.values(&folder.join("settings"));
        }
        all.local = all.values(&all.local_path.clone());
        all
    }

    /// Returns a value, and `true` if only the local file has that value.
    pub(crate) fn get(&self, name: &str) -> Option<(&String, bool)> {
        let user = self.user.get(name);
        match self.local.get(name) {
            Some(value) => Some((value, user != Some(value))),
            None => user.map(|value| (value, false)),
        }
    }

    /// Reads the values of one file.
    fn values(&mut self, path: &Path) -> BTreeMap<String, String> {
        read(path, &mut self.warnings)
            .map(|text| ini(&text))
            .unwrap_or_default()
    }
}

/// A password of a netrc file.
pub(crate) struct NetrcPassword {
    pub(crate) path: PathBuf,
    pub(crate) password: String,
    /// `true` if the entry is of this very machine, `false` if it is the `default` entry.
    pub(crate) exact: bool,
}

/// Returns the password for the host and port of the base URL. A file that cannot be read adds a
/// warning.
pub(crate) fn netrc_password(
    netloc: &str,
    environment: EnvLookup<'_>,
    warnings: &mut Vec<String>,
) -> Option<NetrcPassword> {
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
    let (password, exact) = netrc::password(&read(&path, warnings)?, netloc)?;
    Some(NetrcPassword { path, password, exact })
}

/// Returns the text of a file, if the file exists.
fn read(path: &Path, warnings: &mut Vec<String>) -> Option<String> {
    match logcore::files::read_to_string(path, LONGEST) {
        Ok(text) => Some(text),
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                let line = format!("W&B: ignoring {}: {error}", path.display());
                if !warnings.contains(&line) {
                    warnings.push(line);
                }
            }
            None
        }
    }
}

/// Bytes of the longest file that is read.
const LONGEST: u64 = 1 << 20;

/// Returns the id of the run that `resume = "auto"` continues.
pub(crate) fn remembered_run(folder: &Path) -> Option<String> {
    let text = logcore::files::read_to_string(&folder.join(REMEMBERED), LONGEST).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(value["run_id"].as_str()?.to_owned())
}

/// Writes the id of a run for `resume = "auto"`.
pub(crate) fn remember_run(folder: &Path, run_id: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let text = serde_json::json!({"run_id": run_id}).to_string();
    logcore::files::replace(&folder.join(REMEMBERED), text.as_bytes())
}

/// Removes the remembered id.
pub(crate) fn forget_run(folder: &Path) {
    // If the file stays, the next start resumes the ended run, as after a crash.
    let _ = fs::remove_file(folder.join(REMEMBERED));
}

/// The name of the file with the remembered id.
const REMEMBERED: &str = "wandb-resume.json";

/// Returns the home folder.
fn home(environment: EnvLookup<'_>) -> Option<PathBuf> {
    environment("HOME")
        .or_else(|| environment("USERPROFILE"))
        .map(PathBuf::from)
}

/// Parses the section `[default]`. Names without a value are skipped.
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
    fn only_the_default_section_of_a_settings_file_is_read() {
        let all = ini("x = 1\n[other]\nentity = no\n[default]\n# c\nEntity = team\nbase_url=http://a:1\n");
        assert_eq!(all["entity"], "team");
        assert_eq!(all["base_url"], "http://a:1");
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn the_local_settings_file_overrides_the_global_file() {
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
        let all = SettingsFiles::read(&local, &environment);
        assert_eq!(all.get("entity"), Some((&"b".to_owned(), true)));
        assert_eq!(all.get("project"), Some((&"p".to_owned(), false)));
        assert!(all.warnings.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn settings_that_are_no_regular_file_add_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let local = folder.path().join("wandb");
        fs::create_dir_all(local.join("settings")).unwrap();
        let environment = |name: &str| match name {
            "WANDB_CONFIG_DIR" => Some(folder.path().join("none").display().to_string()),
            "NETRC" => Some("/dev/zero".to_owned()),
            _ => None,
        };
        let mut warnings = SettingsFiles::read(&local, &environment).warnings;
        assert!(netrc_password("a", &environment, &mut warnings).is_none());
        let [settings, netrc] = warnings.as_slice() else {
            panic!("{warnings:?}")
        };
        assert!(settings.contains("a folder") && netrc.contains("/dev/zero") && netrc.contains("a device"));
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
    fn a_malformed_file_of_a_remembered_run_is_ignored() {
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
