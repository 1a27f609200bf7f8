//! Opens the files in the folder of a run, which may come from anybody.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use logcore::files::{self, LineError, Lines};

/// Opens a file of a run for reading. Never waits.
///
/// A link is followed if it leads to a file within the folder in which the runs lie. The links in a
/// `log_dir` itself are the user's, and a run writes through them, so they are followed, too.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    match files::open_no_follow(path) {
        Err(_) if path.is_symlink() => {
            check_link(path)?;
            files::open(path)
        }
        opened => opened,
    }
}

/// Opens the lines of a file of a run and its rotated parts, each as [`open`] does.
pub(crate) fn open_lines(path: &Path) -> Result<Lines, LineError> {
    Lines::open_with(path, open)
}

/// Fails for a link that a run of somebody else could have to make its reader read another file.
fn check_link(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")))?;
    if is_log_dir(&folder) {
        return Ok(());
    }
    let log_dir = folder.parent().filter(|folder| is_log_dir(folder));
    // The link that a run makes where the user has one of this name in the `log_dir`.
    let own = path.file_name().map(|name| Path::new("..").join(name));
    if log_dir.is_some() && fs::read_link(path).ok() == own {
        return Ok(());
    }
    let home = log_dir.unwrap_or(&folder);
    match fs::canonicalize(path) {
        Ok(target) if target.starts_with(home) => Ok(()),
        Ok(_) => Err(not_followed("out of the folder of the runs")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_followed("nowhere")),
        Err(error) => Err(error),
    }
}

/// Returns `true` for a folder in which runs have noted their rings.
fn is_log_dir(folder: &Path) -> bool {
    let notes = folder.join(".logcore").symlink_metadata();
    notes.is_ok_and(|notes| notes.is_dir())
}

fn not_followed(target: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is a link that leads {target}"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_out_of_the_folder_of_the_runs_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for dir in ["logs/.logcore", "logs/run", "logs/other", "sent"] {
            fs::create_dir_all(path(dir)).unwrap();
        }
        for file in ["secret", "logs/other/rows", "logs/plain", "sent/rows"] {
            fs::write(path(file), "x").unwrap();
        }
        let absolute = path("secret");
        for (link, target, part) in [
            ("logs/run/out", "../../secret", "leads out of the folder of the runs"),
            ("logs/run/absolute", absolute.to_str().unwrap(), "leads out of"),
            ("logs/run/chain", "out", "leads out of"),
            ("logs/run/gone", "nothing", "leads nowhere"),
            ("logs/run/sibling", "../other/rows", ""),
            ("logs/own", "../secret", ""),
            ("logs/run/own", "../own", ""),
            ("logs/run/elsewhere", "../own", "leads out of"),
            ("logs/latest", "run", ""),
            ("sent/own", "rows", ""),
            ("sent/sibling", "../logs/plain", "leads out of"),
            ("sent/secret", "../secret", "leads out of"),
        ] {
            symlink(target, path(link)).unwrap();
            match open(&path(link)) {
                Err(error) if link == "logs/latest" => assert!(error.to_string().contains("a folder"), "{error}"),
                Ok(_) => assert_eq!(part, "", "{link}"),
                Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{link}: {error}"),
            }
        }
        assert!(open(&path("logs/latest/sibling")).is_ok());
    }

    #[test]
    fn a_rotated_part_is_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::write(folder.path().join("secret"), "secret\n").unwrap();
        fs::write(run.join("metrics.jsonl"), "row\n").unwrap();
        symlink("../secret", run.join("metrics.jsonl.1")).unwrap();
        let error = open_lines(&run.join("metrics.jsonl")).unwrap_err();
        assert!(error.path.ends_with("metrics.jsonl.1"), "{error}");
        assert!(error.to_string().contains("leads out of"), "{error}");
    }
}
