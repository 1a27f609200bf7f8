//! The file that a user names for the output of a command.

use std::fs::{self, File, FileType};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use logcore::RunManifest;
use logcore::files::{Replacement, remove_stale_replacements};

use crate::removal::{HIDDEN, begins_as_text, is_run_file};

/// The page of a run.
const PAGE: &str = "report.html";
/// Most folders above a file among which that of a run is looked for.
const MAX_FOLDERS: usize = 8;

/// A file for output. A regular file is replaced as a whole at the end, and so is a link to one,
/// whose target stays. A pipe or a device, such as `/dev/null`, is written to: a replacement would
/// remove it.
pub(crate) struct OutputFile {
    path: PathBuf,
    target: OutputTarget,
}

enum OutputTarget {
    Replacement(Replacement),
    Stream(File),
}

impl OutputFile {
    /// Begins the output at `path`.
    ///
    /// # Errors
    ///
    /// If nothing can be written there, or the output would take the place of something else than
    /// an earlier output: a file of a run, a folder, a disk.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let cannot_write = || cannot_write(path);
        let target = match fs::symlink_metadata(path) {
            Ok(_) if fs::metadata(path).is_ok_and(|metadata| is_stream(metadata.file_type())) => {
                let stream = File::options().write(true).open(path);
                OutputTarget::Stream(stream.with_context(cannot_write)?)
            }
            Ok(metadata) if metadata.is_symlink() && is_of_system(path) => bail!(
                "{}: it is a link of the system. Name a file, or `-` for the standard output",
                cannot_write()
            ),
            Ok(metadata) if !metadata.is_file() && !metadata.is_symlink() => {
                bail!("{}: it is no file. Name a file", cannot_write())
            }
            Ok(_) if is_of_run(path) => bail!("{}: it is a file of a run. Name another file", cannot_write()),
            _ => {
                // A killed program has left what may fill the disk.
                remove_stale_replacements(folder_of(path));
                OutputTarget::Replacement(Replacement::begin(path).with_context(cannot_write)?)
            }
        };
        let path = path.to_owned();
        Ok(Self { path, target })
    }

    /// Ends the output: a regular file is complete only now.
    ///
    /// # Errors
    ///
    /// If the file cannot take the place of an earlier one.
    pub(crate) fn finish(self) -> Result<()> {
        let finished = match self.target {
            OutputTarget::Replacement(replacement) => replacement.finish(),
            OutputTarget::Stream(mut stream) => stream.flush(),
        };
        finished.with_context(|| cannot_write(&self.path))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            OutputTarget::Replacement(replacement) => replacement.write(bytes),
            OutputTarget::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            OutputTarget::Replacement(replacement) => replacement.flush(),
            OutputTarget::Stream(stream) => stream.flush(),
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Returns `true` for a pipe and for a terminal or another device that takes bytes one by one. A
/// disk is none.
#[cfg(unix)]
fn is_stream(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    kind.is_fifo() || kind.is_char_device()
}

#[cfg(not(unix))]
fn is_stream(_: FileType) -> bool {
    false
}

/// Returns `true` for a name such as `/dev/stdout`, which other programs need.
fn is_of_system(path: &Path) -> bool {
    let folder = fs::canonicalize(folder_of(path)).unwrap_or_default();
    folder.starts_with("/dev") || folder.starts_with("/proc")
}

/// Returns `true` for a file beneath the folder of a run that the run may have written: all but a
/// file directly in the folder that is neither named as a file of logcore nor begins as one, such
/// as `rows.csv`. The page of a run is made again at will.
fn is_of_run(path: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder_of(path)) else {
        return false;
    };
    let mut folders = folder.ancestors().take(MAX_FOLDERS);
    let Some(run) = folders.find(|folder| folder.join(RunManifest::FILE).is_file()) else {
        return false;
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    run != folder || (name != PAGE && (is_run_file(name) || may_be_log(path, name)))
}

/// Returns `true` for a text file of any name, and for a file that a process needs while it runs.
fn may_be_log(path: &Path, name: &str) -> bool {
    let has_extension = Path::new(name).extension().is_some_and(|extension| extension == "log");
    has_extension || name.starts_with(HIDDEN) || begins_as_text(path)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> Result<()> {
        let mut output = OutputFile::begin(path)?;
        output.write_all(text.as_bytes())?;
        output.finish()
    }

    #[test]
    fn an_output_takes_the_place_of_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        for text in ["first", "second"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        drop(OutputFile::begin(&path).unwrap());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "second",
            "an output that is not finished is none"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_output_takes_the_place_of_no_file_of_a_run() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "run.json",
            "metrics.jsonl",
            "metrics.rank3.jsonl.2",
            "training.log",
            "report.html",
            "rows.csv",
        ] {
            let path = folder.path().join(name);
            fs::write(&path, "before").unwrap();
            let written = write(&path, "after").map_err(|error| error.to_string());
            let text = fs::read_to_string(&path).unwrap();
            match written {
                Ok(()) => assert!(["report.html", "rows.csv"].contains(&name) && text == "after", "{name}"),
                Err(error) => assert!(
                    error.contains("it is a file of a run") && text == "before",
                    "{name}: {error}"
                ),
            }
        }
    }

    #[test]
    fn an_output_takes_the_place_of_no_file_beneath_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let write_file = |path: &str, content: &str| {
            let path = run.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            path
        };
        write_file("run.json", "{}");
        let line = "2026-11-23 14:48:15.123 | INFO  | eval | text\n";
        for (name, before) in [
            ("eval.log", "before"),
            ("eval.out", line),
            (".logcore-12-0123abcd.ring", "before"),
            ("incidents/7-any-nan.json", "before"),
            ("media/images/val/a_1_0123.png", "before"),
            ("media/report.html", "before"),
            ("ranks/0", "before"),
            ("wandb/offline-run-1-a/run-a.wandb", "before"),
            ("tensorboard/events.out.tfevents.1.a", "before"),
            ("otlp/logs.spool", "before"),
        ] {
            let path = write_file(name, before);
            let error = write(&path, "after").unwrap_err().to_string();
            assert!(error.contains("it is a file of a run"), "{name}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), before, "{name}");
        }
        for name in ["new/rows.csv", "rows.csv"] {
            let path = run.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write(&path, "a file that is not there yet").unwrap();
        }
        write(&run.join("rows.csv"), "again").unwrap();
        fs::write(folder.path().join("eval.log"), "before").unwrap();
        write(&folder.path().join("eval.log"), "beside the run").unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn an_output_takes_the_place_of_a_link_and_of_no_folder_or_pipe() {
        use std::os::unix::fs::{FileTypeExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "before").unwrap();
        symlink("file", at("link")).unwrap();
        write(&at("link"), "after").unwrap();
        assert!(!at("link").is_symlink());
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "before");

        fs::create_dir(at("folder")).unwrap();
        let error = write(&at("folder"), "after").unwrap_err().to_string();
        assert!(error.contains("it is no file"), "{error}");

        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        symlink("pipe", at("link to the pipe")).unwrap();
        for name in ["pipe", "link to the pipe"] {
            let read = std::thread::scope(|scope| {
                let reader = scope.spawn(|| fs::read_to_string(at("pipe")).unwrap());
                write(&at(name), "through").unwrap();
                reader.join().unwrap()
            });
            assert_eq!(read, "through");
        }
        assert!(at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
        assert!(at("link to the pipe").is_symlink());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_output_takes_the_place_of_nothing_of_the_system() {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::FileTypeExt as _;
        write(Path::new("/dev/null"), "nobody reads this").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let file = tempfile::tempfile().unwrap();
        let link = format!("/dev/fd/{}", file.as_raw_fd());
        let error = write(Path::new(&link), "").unwrap_err().to_string();
        assert!(error.contains("a link of the system"), "{error}");
    }
}
