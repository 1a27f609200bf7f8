//! The folder of the runs and its file system.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use logcore::files::{Folder, random_suffix};

use super::{Finding, test_run};
use crate::columns::format_bytes;
#[cfg(unix)]
use crate::file_system;

/// Free space below which a run may soon fail to write.
const LITTLE_SPACE: u64 = 1 << 30;
/// Free space below which a run cannot begin.
const NO_SPACE: u64 = 16 << 20;
/// Files that a run may soon need.
const FEW_FILES: u64 = 1000;
/// Seconds between two clocks beyond which a live run of another machine is taken for a dead one.
const MUCH_SKEW: f64 = 30.0;

pub(super) fn examine(log_dir: &Path) -> Vec<Finding> {
    let shown = log_dir.display();
    let mut findings = Vec::new();
    let folder = match Folder::open(log_dir) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound && log_dir.symlink_metadata().is_err() => {
            let absolute = std::path::absolute(log_dir).unwrap_or_else(|_| log_dir.to_owned());
            let above = absolute.ancestors().find(|above| above.is_dir()).unwrap_or(&absolute);
            let text = format!("{shown} is not there yet");
            findings.push(match may_write(above) {
                true => Finding::ok("log_dir", format!("{text}; the first run makes the folder")),
                false => Finding::bad(
                    "log_dir",
                    format!("{text}, and you may not make it in {}", above.display()),
                    "name a folder that you may write to",
                ),
            });
            findings.extend(space(above));
            return findings;
        }
        Err(error) => {
            findings.push(Finding::bad(
                "log_dir",
                format!("cannot open {shown}: {error}"),
                "name a folder that you may read and write",
            ));
            return findings;
        }
    };
    findings.extend(space(log_dir));
    let name = format!(".logcore-{}.tmp", random_suffix());
    let name = Path::new(&name);
    let file = folder.create_new(name).and_then(|mut file| {
        // Some file systems tell only at a write that there is no room.
        file.write_all(&[0; 4096]).and_then(|()| file.sync_all())?;
        Ok(file)
    });
    match file {
        Ok(file) => {
            findings.insert(0, Finding::ok("log_dir", format!("{shown} can be written")));
            findings.push(locks(&folder, name, &file));
            findings.push(clock(&file));
            findings.push(test_run::examine(log_dir));
        }
        Err(error) => {
            findings.insert(
                0,
                Finding::bad(
                    "log_dir",
                    format!("cannot write into {shown}: {error}"),
                    "give yourself the right to write there, make room, or name another folder",
                ),
            );
        }
    }
    let _ = folder.remove_file(name);
    findings
}

/// Tells whether a second process would notice the lock of a first one.
fn locks(folder: &Folder, name: &Path, first: &File) -> Finding {
    let works = first.try_lock().map_err(io::Error::from).and_then(|()| {
        let second = folder.open_file(name)?;
        Ok(matches!(second.try_lock_shared(), Err(TryLockError::WouldBlock)))
    });
    let remedy = "mount the file system with locks, or name a `log_dir` on another one";
    match works {
        Ok(true) => Finding::ok("locks", "a live run is told from a killed one by its lock"),
        Ok(false) => Finding::bad("locks", "two processes get one lock: killed runs seem to live", remedy),
        Err(error) => Finding::warning(
            "locks",
            format!("there are none ({error}): nobody can tell whether a run was killed"),
            remedy,
        ),
    }
}

/// Compares the clock of the machine with that of the file system.
fn clock(file: &File) -> Finding {
    let now = SystemTime::now();
    let _ = file.set_modified(now);
    let touched = (|| {
        // A write has the time of the server.
        let mut file = file.try_clone()?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        file.metadata()?.modified()
    })();
    let remedy = "let both machines follow one time server";
    let Ok(touched) = touched else {
        return Finding::warning("clock", "the file system has no times", remedy);
    };
    let skew = match touched.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    };
    let time = crate::columns::local_time(logcore::epoch_seconds(now));
    match skew.abs() {
        0.0..2.0 => Finding::ok("clock", format!("{time}, the same as the file system's")),
        skew_seconds => {
            let text = format!("{time}, and the file system's clock differs by {skew:.0} s");
            match skew_seconds > MUCH_SKEW {
                true => Finding::bad("clock", text, remedy),
                false => Finding::warning("clock", text, remedy),
            }
        }
    }
}

#[cfg(unix)]
fn may_write(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn may_write(folder: &Path) -> bool {
    folder
        .metadata()
        .is_ok_and(|metadata| !metadata.permissions().readonly())
}

#[cfg(unix)]
fn space(log_dir: &Path) -> Vec<Finding> {
    let Ok(stat) = rustix::fs::statvfs(log_dir) else {
        return Vec::new();
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let remedy = "make room: `logcore prune` deletes old runs";
    let kind = file_system::describe(log_dir);
    let text = format!("{kind}, {} free", format_bytes(free));
    let space = match free {
        0..NO_SPACE => Finding::bad("disk", text, remedy),
        NO_SPACE..LITTLE_SPACE => Finding::warning("disk", text, remedy),
        _ => Finding::ok("disk", text),
    };
    // Some file systems make inodes as they need them, and have no number.
    let files = match (stat.f_files, stat.f_favail) {
        (0, _) => None,
        (_, 0) => Some(Finding::bad("inodes", "no file can be made any more", remedy)),
        (_, left @ 0..FEW_FILES) => Some(Finding::warning(
            "inodes",
            format!("room for {left} more files"),
            remedy,
        )),
        (_, left) => Some(Finding::ok("inodes", format!("room for {left} more files"))),
    };
    [space].into_iter().chain(files).collect()
}

#[cfg(not(unix))]
fn space(_: &Path) -> Vec<Finding> {
    Vec::new()
}
