//! The libraries that the readings of a GPU come from. They are looked for and not loaded.

use std::env;
use std::path::{Path, PathBuf};

use super::Finding;

/// The library that tells the memory of NVIDIA's GPUs.
const NVML: &str = "libnvidia-ml.so.1";
/// The answer of the driver about itself.
const DRIVER: &str = "/proc/driver/nvidia/version";
/// Folders beside those that the linker knows.
const FOLDERS: [&str; 9] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
    "/opt/nvidia/lib64",
];
/// Most bytes of the list of all libraries.
const MAX_CACHE: u64 = 64 << 20;

pub(super) fn examine() -> Finding {
    let driver = logcore::files::read_to_string(Path::new(DRIVER), 4096).ok();
    let driver = driver.as_deref().and_then(version_of).map(str::to_owned);
    let library = find_library();
    match (driver, library) {
        (None, None) => Finding::ok("gpu", "no NVIDIA driver here: runs have no readings of a GPU"),
        (Some(driver), Some(library)) => Finding::ok("gpu", format!("NVIDIA driver {driver}, NVML {library}")),
        (Some(driver), None) => Finding::warning(
            "gpu",
            format!("NVIDIA driver {driver}, and no {NVML}: runs have no readings of the GPU"),
            "install the driver's libraries; for a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        ),
        // The driver of a virtual machine or of Windows has no such file.
        (None, Some(library)) => Finding::ok("gpu", format!("NVML {library}, driver unknown")),
    }
}

/// Returns the number in the first line:
/// `NVRM version: NVIDIA UNIX … Kernel Module  550.54.15  Tue …`.
fn version_of(text: &str) -> Option<&str> {
    let is_version = |word: &&str| {
        let mut parts = word.split('.');
        word.contains('.') && parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    text.lines().next()?.split_whitespace().find(is_version)
}

/// Tells where the library is.
fn find_library() -> Option<String> {
    let named = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = env::split_paths(&named).chain(FOLDERS.iter().map(PathBuf::from));
    let mut paths = folders.map(|folder| folder.join(NVML));
    let found = paths.find(|path| path.exists());
    found.map(|path| format!("in {}", path.display())).or_else(|| {
        let cache = logcore::files::read(Path::new("/etc/ld.so.cache"), MAX_CACHE).ok()?;
        let has = cache.windows(NVML.len()).any(|bytes| bytes == NVML.as_bytes());
        has.then(|| "known to the linker".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_driver_is_found() {
        let text =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC 11.4.0\n";
        assert_eq!(version_of(text), Some("550.54.15"));
        assert_eq!(version_of(""), None);
        assert_eq!(version_of("GCC version:"), None);
    }
}
