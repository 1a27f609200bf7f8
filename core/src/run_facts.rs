//! Facts about the process and the machine of a run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

/// Facts about the process and the machine of a run, from which the run can be repeated.
///
/// `run.json`, `config.json` and W&B show these facts. Whatever is not known is empty or `None`.
///
/// ```
/// use logcore::RunFacts;
///
/// let facts: RunFacts = serde_json::from_str(r#"{"host": "node7", "argv": ["train", "--api-key", "***"]}"#).unwrap();
/// assert_eq!((&*facts.host, facts.argv.len()), ("node7", 3));
/// assert_eq!(facts.git, None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFacts {
    /// Name of the machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Id of the process.
    pub pid: u32,
    /// The program's file.
    pub executable: PathBuf,
    /// The command line, beginning with the name of the program. Secrets are `***`.
    pub argv: Vec<String>,
    /// The working folder.
    pub cwd: PathBuf,
    /// The state of the repository that holds the working folder, else of the one that holds the
    /// program's file.
    pub git: Option<GitFacts>,
    /// The Cargo profile that the program was built with: `debug`, or `release` for every profile
    /// that inherits from `release`.
    pub profile: String,
    /// The version of logcore.
    pub logcore: String,
    /// The version of the compiler: `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub rustc: String,
    /// The operating system: `linux`.
    pub os: String,
    /// The version of the kernel.
    pub kernel: String,
    /// The architecture: `x86_64`.
    pub arch: String,
    /// The model of the CPU.
    pub cpu: Option<String>,
    /// Number of CPUs that the process may use.
    pub cpus: u32,
    /// Bytes of memory of the machine.
    pub memory: Option<u64>,
    /// The models of the machine's NVIDIA GPUs.
    pub gpus: Vec<String>,
}

impl RunFacts {
    /// Returns the name of this machine, if it is known.
    #[must_use]
    pub fn own_host() -> Option<String> {
        let name = files::read_to_string(Path::new("/proc/sys/kernel/hostname"), 4096).ok();
        name.map(|name| name.trim().to_owned())
            .or_else(|| std::env::var("HOSTNAME").ok())
            .filter(|name| !name.is_empty())
    }
}

/// The state of a git repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitFacts {
    /// Hash of the commit in hexadecimal digits; `None` before the first commit.
    pub commit: Option<String>,
    /// Name of the branch, such as `main`; `None` if no branch is checked out.
    pub branch: Option<String>,
    /// Address of the remote `origin`, else of the first remote. A password in the address is
    /// `***`.
    pub remote: Option<String>,
}
