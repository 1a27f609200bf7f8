//! The links in a `log_dir` that lead to its newest run.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

/// Name of the link to the newest run.
const LATEST: &str = "latest";
/// Files that have a link beside the text files.
#[cfg(unix)]
const LINKED: [&str; 3] = ["config.json", "metrics.jsonl", "summary.json"];
/// Name of `latest` while it is replaced; the next start of a run removes one that was left.
#[cfg(unix)]
const UNPLACED: &str = ".logcore-latest.tmp";

/// Returns the names in `log_dir` that may be those of the text files of all loggers: they have a
/// link as logcore makes one, and end as text files do. A user may make such a link to a file of
/// another kind, too, so that a name alone makes no file one of logcore.
pub(super) fn linked_texts(log_dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(log_dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_text(name) && is_ours(log_dir, name)).collect()
}

fn is_text(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "log" || extension == "txt")
}

/// Returns `true` for a link to the file of the same name in the newest run's folder.
fn is_ours(log_dir: &Path, name: &str) -> bool {
    let target = std::fs::read_link(log_dir.join(name));
    target.is_ok_and(|target| target == Path::new(LATEST).join(name))
}

/// Lets `latest` lead to the folder `newest`, if its run is gone. Without a newest run, removes the
/// link and those to its files.
#[cfg(unix)]
pub(super) fn mend(log_dir: &Path, newest: Option<&OsStr>) {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Component;

    let (link, unplaced) = (log_dir.join(LATEST), log_dir.join(UNPLACED));
    let leads_nowhere = |target: &Path| {
        let mut parts = target.components();
        let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        is_name && log_dir.join(target).symlink_metadata().is_err()
    };
    if !fs::read_link(&link).is_ok_and(|target| leads_nowhere(&target)) || fs::rename(&link, &unplaced).is_err() {
        return;
    }
    // A run may have begun since, whose link this is.
    let target = fs::read_link(&unplaced).ok().filter(|target| !leads_nowhere(target));
    let _ = fs::remove_file(&unplaced);
    match target.as_deref().or(newest.map(Path::new)) {
        // Fails if a run has begun and made the link.
        Some(target) => drop(symlink(target, &link)),
        None => {
            let others = LINKED.map(str::to_owned).into_iter();
            let names = others.filter(|name| is_ours(log_dir, name));
            for name in names.chain(linked_texts(log_dir)) {
                let _ = fs::remove_file(log_dir.join(name));
            }
        }
    }
}

#[cfg(not(unix))]
pub(super) fn mend(_: &Path, _: Option<&OsStr>) {}
