//! The links in `log_dir` that lead to the newest run: `latest`, and the files by their names.

use std::path::Path;

/// The files that have a link beside those that are appended to.
const REPLACED_FILES: [&str; 2] = ["config.json", "summary.json"];

/// The file of rows, which is appended to as the text file is.
const ROWS: &str = "metrics.jsonl";

/// The files that a logger writes, of those that have a link.
#[derive(Clone, Copy)]
pub(super) struct LinkedFiles<'a> {
    pub(super) text_file: &'a str,
    /// `true` if the sink `file` is on, which writes the text file.
    pub(super) has_text: bool,
    /// `true` if the sink `jsonl` is on, which writes the other files.
    pub(super) has_rows: bool,
}

/// Lets the links in `root` lead to the run in `dir`. Links of an earlier run that would lead
/// nowhere are removed.
///
/// Entries that are no links of ours are left alone: the run writes through a link of the user to a
/// file that is appended to. Where links cannot be made, there are none.
#[cfg(unix)]
pub(super) fn make(root: &Path, dir: &Path, files: LinkedFiles<'_>) {
    let Some(run) = dir.strip_prefix(root).ok().filter(|run| run.components().count() == 1) else {
        return;
    };
    let latest = root.join(LATEST);
    if !place(&latest, run, |target| {
        target.components().count() == 1 && target.is_relative()
    }) {
        return;
    }
    // A resumed run has files of its earlier attempts.
    let is_there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    let (linked, unlinked): (Vec<_>, Vec<_>) = files.all().partition(|file| file.is_written || is_there(file.name));
    link_files(root, dir, linked);
    unlinked.iter().for_each(|file| remove_ours(root, file.name));
}

/// Adds the links to the files of another logger of the run, while the run is the newest.
#[cfg(unix)]
pub(super) fn add(root: &Path, dir: &Path, files: LinkedFiles<'_>) {
    let latest = std::fs::read_link(root.join(LATEST));
    if latest.is_ok_and(|run| root.join(run) == dir) {
        let is_linked = |name: &str| root.join(name).symlink_metadata().is_ok();
        // The loggers share the files of rows, and one of them may have those links already.
        let is_new = |file: &LinkedFile<'_>| file.is_written && (file.name == files.text_file || !is_linked(file.name));
        link_files(root, dir, files.all().filter(is_new));
    }
}

/// Removes the links in the folder of a run that lead to files of the newest run. They are in
/// `log_dir`, and a run whose folder is `log_dir` itself must not write into the files of another.
#[cfg(unix)]
pub(super) fn remove(dir: &Path, text_file: &str) {
    for name in REPLACED_FILES.into_iter().chain([text_file, ROWS]) {
        remove_ours(dir, name);
    }
}

/// Removes the link of this name if it leads to the file of the newest run.
#[cfg(unix)]
fn remove_ours(folder: &Path, name: &str) {
    let link = folder.join(name);
    if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(LATEST).join(name)) {
        let _ = std::fs::remove_file(link);
    }
}

/// A file that has a link.
#[cfg(unix)]
struct LinkedFile<'a> {
    name: &'a str,
    is_appended: bool,
    is_written: bool,
}

#[cfg(unix)]
impl<'a> LinkedFiles<'a> {
    fn all(self) -> impl Iterator<Item = LinkedFile<'a>> {
        let file = |name, is_appended, is_written| LinkedFile {
            name,
            is_appended,
            is_written,
        };
        REPLACED_FILES
            .into_iter()
            .map(move |name| file(name, false, self.has_rows))
            .chain([
                file(self.text_file, true, self.has_text),
                file(ROWS, true, self.has_rows),
            ])
    }
}

/// Makes the links to files of a run.
#[cfg(unix)]
fn link_files<'a>(root: &Path, dir: &Path, files: impl IntoIterator<Item = LinkedFile<'a>>) {
    use std::os::unix::fs::symlink;

    use logcore_pipeline::print_notice;

    let mut left_alone = Vec::new();
    for LinkedFile { name, is_appended, .. } in files {
        let (link, target) = (root.join(name), Path::new(LATEST).join(name));
        if place(&link, &target, |existing| existing == target) {
            continue;
        }
        if link.is_symlink() && is_appended {
            // A resumed run has this link already.
            let _ = symlink(Path::new("..").join(name), dir.join(name));
        } else if link.is_file() {
            left_alone.push(name);
        }
    }
    if !left_alone.is_empty() {
        print_notice(
            &format!("no links in {}", root.display()),
            &format!(
                "{} in {} {} to the newest run: the files of this run are in {}",
                left_alone.join(", "),
                root.display(),
                match left_alone.len() {
                    1 => "stays as it is, and is no link",
                    _ => "stay as they are, and are no links",
                },
                dir.display()
            ),
        );
    }
}

#[cfg(not(unix))]
pub(super) fn make(_: &Path, _: &Path, files: LinkedFiles<'_>) {
    let _ = (REPLACED_FILES, ROWS, files.text_file, files.has_text, files.has_rows);
}

#[cfg(not(unix))]
pub(super) fn add(_: &Path, _: &Path, _: LinkedFiles<'_>) {}

#[cfg(not(unix))]
pub(super) fn remove(_: &Path, _: &str) {}

/// Name of the link to the folder of the newest run.
#[cfg(unix)]
const LATEST: &str = "latest";

/// Lets `link` lead to `target`, if there is nothing of that name, or a link for whose target
/// `is_ours` returns `true`. Returns `true` if the link leads there now.
#[cfg(unix)]
fn place(link: &Path, target: &Path, is_ours: impl Fn(&Path) -> bool) -> bool {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;

    match fs::read_link(link) {
        Ok(existing) if existing == target => true,
        Ok(existing) if is_ours(&existing) => {
            // Starts at the same moment remove each other's temporary link, and try again.
            let temporary = link.with_file_name(UNPLACED);
            (0..ATTEMPTS).any(|_| {
                remove_unplaced(&temporary);
                symlink(target, &temporary)
                    .and_then(|()| fs::rename(&temporary, link))
                    .is_ok()
            })
        }
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            symlink(target, link).is_ok() || fs::read_link(link).is_ok_and(|existing| is_ours(&existing))
        }
        Err(_) => false,
    }
}

/// Removes the temporary link that a process killed while it made the links has left beside a run's
/// folder.
pub(super) fn clean_up_beside(dir: &Path) {
    #[cfg(unix)]
    if let Some(root) = dir.parent() {
        remove_unplaced(&root.join(UNPLACED));
    }
    #[cfg(not(unix))]
    let _ = dir;
}

#[cfg(unix)]
fn remove_unplaced(temporary: &Path) {
    if temporary.is_symlink() {
        let _ = std::fs::remove_file(temporary);
    }
}

/// Name of `latest` before it replaces the link to an earlier run. There is no file of a symbolic
/// link that could be locked, so the name is always the same, and the next start removes it.
#[cfg(unix)]
const UNPLACED: &str = ".logcore-latest.tmp";

/// Number of attempts to replace a link while other processes do the same.
#[cfg(unix)]
const ATTEMPTS: usize = 16;

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The files of a logger with the sinks `file` and `jsonl`.
    fn all(text_file: &str) -> LinkedFiles<'_> {
        LinkedFiles {
            text_file,
            has_text: true,
            has_rows: true,
        }
    }

    #[test]
    fn links_lead_to_the_newest_run_and_leave_other_files_alone() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::write(root.join("config.json"), "precious").unwrap();
        symlink("elsewhere", root.join("summary.json")).unwrap();
        for run in ["first", "second"] {
            fs::create_dir(root.join(run)).unwrap();
            fs::write(root.join(run).join("train.log"), run).unwrap();
            make(root, &root.join(run), all("train.log"));
            add(root, &root.join(run), all("eval.log"));
            assert_eq!(fs::read_to_string(root.join("train.log")).unwrap(), run);
            assert_eq!(fs::read_link(root.join("latest")).unwrap(), Path::new(run));
        }
        assert_eq!(fs::read_to_string(root.join("config.json")).unwrap(), "precious");
        assert_eq!(
            fs::read_link(root.join("eval.log")).unwrap(),
            Path::new("latest/eval.log")
        );
        add(root, &root.join("first"), all("late.log"));
        assert!(!root.join("late.log").is_symlink(), "the first is not the newest run");
        assert_eq!(
            fs::read_link(root.join("summary.json")).unwrap(),
            Path::new("elsewhere")
        );
        assert_eq!(
            fs::read_link(root.join("metrics.jsonl")).unwrap(),
            Path::new("latest/metrics.jsonl")
        );
    }

    #[test]
    fn a_run_without_a_file_has_no_link_to_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let names = ["config.json", "metrics.jsonl", "summary.json", "train.log"];
        let linked = || names.map(|name| root.join(name).is_symlink());
        let text_only = LinkedFiles {
            has_rows: false,
            ..all("train.log")
        };
        let rows_only = LinkedFiles {
            has_text: false,
            ..all("train.log")
        };
        for run in ["first", "second"] {
            fs::create_dir(root.join(run)).unwrap();
        }
        make(root, &root.join("first"), all("train.log"));
        make(root, &root.join("second"), text_only);
        assert_eq!(linked(), [false, false, false, true]);
        // Another logger of the run has rows.
        add(root, &root.join("second"), rows_only);
        assert_eq!(linked(), [true; 4]);
        make(root, &root.join("first"), rows_only);
        assert_eq!(linked(), [true, true, true, false]);
        // The attempt before has left rows.
        fs::write(root.join("first/metrics.jsonl"), "").unwrap();
        make(root, &root.join("first"), text_only);
        assert_eq!(linked(), [false, true, false, true]);
    }

    #[test]
    fn a_temporary_link_of_a_killed_process_does_not_stay() {
        let root = tempfile::tempdir().unwrap();
        let (root, run) = (root.path(), root.path().join("run"));
        fs::create_dir(&run).unwrap();
        symlink("earlier", root.join("latest")).unwrap();
        for clean_up in [clean_up_beside, |run: &Path| {
            make(run.parent().unwrap(), run, all("train.log"))
        }] {
            symlink("killed", root.join(UNPLACED)).unwrap();
            clean_up(&run);
            assert!(!root.join(UNPLACED).is_symlink());
        }
        assert_eq!(fs::read_link(root.join("latest")).unwrap(), Path::new("run"));
        fs::write(root.join(UNPLACED), "a file of the user").unwrap();
        clean_up_beside(&run);
        assert!(root.join(UNPLACED).exists());
    }

    #[test]
    fn starts_at_the_same_moment_leave_one_link() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        symlink("earlier", root.join("latest")).unwrap();
        std::thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn(move || make(root, &root.join(format!("run{number}")), all("train.log")));
            }
        });
        let latest = fs::read_link(root.join("latest")).unwrap();
        assert!(latest.to_string_lossy().starts_with("run"), "{}", latest.display());
        assert!(!root.join(UNPLACED).is_symlink());
    }

    #[test]
    fn a_run_writes_through_a_link_of_the_user() {
        let root = tempfile::tempdir().unwrap();
        let (root, run) = (root.path(), root.path().join("run"));
        fs::create_dir(&run).unwrap();
        symlink("elsewhere.log", root.join("train.log")).unwrap();
        make(root, &run, all("train.log"));
        fs::write(run.join("train.log"), "text").unwrap();
        assert_eq!(fs::read_to_string(root.join("elsewhere.log")).unwrap(), "text");
    }

    #[test]
    fn without_a_link_named_latest_there_are_no_links() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("latest")).unwrap();
        make(root.path(), &root.path().join("run"), all("train.log"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
