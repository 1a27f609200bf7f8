//! What lies in files: settings, keys, the id of a run to resume.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::EnvLookup;
use super::netrc;

/// The settings files.
#[derive(Default)]
pub(crate) struct SettingsFiles {
    /// The user's own.
    pub(crate) user: BTreeMap<String, String>,
    /// That which lies with the runs, and goes before the user's own. It may be anybody's who could write there, or who has
    /// sent the folder.
    pub(crate) local: BTreeMap<String, String>,
    pub(crate) local_path: PathBuf,
    /// Lines about files that are there and cannot be read.
    pub(crate) unread: Vec<String>,
}

impl SettingsFiles {
    /// Reads them; the local one is `settings` in the folder `dir`.
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

    /// A value, with whether it is the local file's alone.
    pub(crate) fn get(&self, name: &str) -> Option<(&String, bool)> {
        let user = self.user.get(name);
        match self.local.get(name) {
            Some(value) => Some((value, user != Some(value))),
            None => user.map(|value| (value, false)),
        }
    }

    fn values(&mut self, path: &Path) -> BTreeMap<String, String> {
        read(path, &mut self.unread).map(|text| ini(&text)).unwrap_or_default()
    }
}

/// A password of a netrc file.
pub(crate) struct NetrcPassword {
    pub(crate) path: PathBuf,
    pub(crate) password: String,
    /// It is of the very machine, and not of the entry for all others.
    pub(crate) exact: bool,
}

/// The password for the base URL's host and port. A file that cannot be read is named in `unread`.
pub(crate) fn netrc_password(
    netloc: &str,
    environment: EnvLookup<'_>,
    unread: &mut Vec<String>,
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
    let (password, exact) = netrc::password(&read(&path, unread)?, netloc)?;
    Some(NetrcPassword { path, password, exact })
}

/// The text of a file, if it is there.
fn read(path: &Path, unread: &mut Vec<String>) -> Option<String> {
    match logcore_files::read_to_string(path, LONGEST) {
        Ok(text) => Some(text),
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                let line = format!("W&B: {} is passed over: {error}", path.display());
                if !unread.contains(&line) {
                    unread.push(line);
                }
            }
            None
        }
    }
}

/// Files that people write by hand are shorter.
const LONGEST: u64 = 1 << 20;

/// The id that `resume = "auto"` goes on with.
pub(crate) fn remembered_run(folder: &Path) -> Option<String> {
    let text = logcore_files::read_to_string(&folder.join(REMEMBERED), LONGEST).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(value["run_id"].as_str()?.to_owned())
}

pub(crate) fn remember_run(folder: &Path, run_id: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let text = serde_json::json!({"run_id": run_id}).to_string();
    logcore_files::replace(&folder.join(REMEMBERED), text.as_bytes())
}

pub(crate) fn forget_run(folder: &Path) {
    // If it cannot be taken away, the next start goes on with a run that has ended, as it would after a crash.
    let _ = fs::remove_file(folder.join(REMEMBERED));
}

const REMEMBERED: &str = "wandb-resume.json";

fn home(environment: EnvLookup<'_>) -> Option<PathBuf> {
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
        let all = SettingsFiles::read(&local, &environment);
        assert_eq!(all.get("entity"), Some((&"b".to_owned(), true)));
        assert_eq!(all.get("project"), Some((&"p".to_owned(), false)));
        assert!(all.unread.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_passed_over_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let local = folder.path().join("wandb");
        fs::create_dir_all(local.join("settings")).unwrap();
        let environment = |name: &str| match name {
            "WANDB_CONFIG_DIR" => Some(folder.path().join("none").display().to_string()),
            "NETRC" => Some("/dev/zero".to_owned()),
            _ => None,
        };
        let mut unread = SettingsFiles::read(&local, &environment).unread;
        assert!(netrc_password("a", &environment, &mut unread).is_none());
        let [settings, netrc] = unread.as_slice() else {
            panic!("{unread:?}")
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
