//! The machine on which the figures were measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// One line: processor, cores, kernel, compiler, file system of the temporary folder.
pub(crate) fn description() -> String {
    let processor = field_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let clock =
        fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    format!(
        "{processor}, {cores} cores; {} {}, clock {}; {}; files on {}",
        std::env::consts::OS,
        kernel.trim(),
        clock.trim(),
        compiler(),
        file_system_of(&std::env::temp_dir()).unwrap_or_else(|| "an unknown file system".to_owned()),
    )
}

fn field_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().ok();
    let version = output.and_then(|output| String::from_utf8(output.stdout).ok());
    version.map_or_else(|| "unknown rustc".to_owned(), |version| version.trim().to_owned())
}

/// The type of the mount with the longest path that `folder` lies under.
fn file_system_of(folder: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mount.filter(|(path, _)| folder.starts_with(path));
    holding
        .max_by_key(|(path, _)| path.len())
        .map(|(_, kind)| kind.to_owned())
}
