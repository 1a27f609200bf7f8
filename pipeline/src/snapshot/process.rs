//! Finds the rings of a process among the files that it uses.

use std::io;
use std::path::PathBuf;

/// Returns the paths of the rings of a process, of which a process has at most one for itself, and
/// a child of a fork that of its parent. Empty if the process has none: its loggers have ended, or
/// their ring is plain memory.
///
/// # Errors
///
/// If there is no such process, or the system does not show its files, as for another user's
/// process. Only Linux shows them.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// assert!(logcore_pipeline::rings_of_process(std::process::id())?.is_empty());
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(target_os = "linux")]
pub fn rings_of_process(pid: u32) -> io::Result<Vec<PathBuf>> {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use crate::ring::file::is_ring_name;

    let of_process = PathBuf::from(format!("/proc/{pid}"));
    let is_ring = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(is_ring_name)
    };
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(of_process.join("fd"))? {
        // A file may be closed by now.
        if let Ok(target) = fs::read_link(entry?.path()) {
            paths.insert(target);
        }
    }
    // A child of a fork has the ring of its parent in its memory, and no open file.
    let maps = fs::read(of_process.join("maps"))?;
    for line in maps.split(|byte| *byte == b'\n') {
        let path = line.iter().position(|byte| *byte == b'/').map(|at| &line[at..]);
        paths.extend(path.map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path))));
    }
    let root = of_process.join("root");
    let paths = paths.into_iter().filter(|path| is_ring(path)).filter_map(|path| {
        // The process may see other files than this one, as in a container.
        let seen = root.join(path.strip_prefix("/").ok()?);
        let identity = |path: &Path| path.symlink_metadata().map(|file| (file.dev(), file.ino())).ok();
        let is_same = identity(&path) == identity(&seen);
        Some(if is_same { path } else { seen })
    });
    Ok(paths.collect())
}

/// Fails, because only Linux shows the files of a process.
///
/// # Errors
///
/// Always, with [`io::ErrorKind::Unsupported`].
#[cfg(not(target_os = "linux"))]
pub fn rings_of_process(_: u32) -> io::Result<Vec<PathBuf>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system does not show the files of a process: name the run",
    ))
}
