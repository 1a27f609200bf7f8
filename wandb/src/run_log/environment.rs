//! The environment of a run, without variables and arguments, which may hold secrets.

use std::fs;
use std::time::SystemTime;

use uuid::Uuid;

use crate::log_format::proto::{EnvironmentRecord, MemoryRecord, Timestamp};

/// Returns the environment of this process.
pub(crate) fn of_this_machine(program: Option<&str>, host: Option<&str>, started: SystemTime) -> EnvironmentRecord {
    let executable = std::env::current_exe().unwrap_or_default();
    let name = executable.file_name().map(|name| name.to_string_lossy().into_owned());
    let cpus = std::thread::available_parallelism().map_or(0, |count| count.get() as u32);
    EnvironmentRecord {
        os: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        started_at: Some(Timestamp::from_system(started)),
        program: program.map(str::to_owned).or(name).unwrap_or_default(),
        root: std::env::current_dir().unwrap_or_default().display().to_string(),
        host: host.map_or_else(host_name, str::to_owned),
        username: std::env::var("USER").unwrap_or_default(),
        executable: executable.display().to_string(),
        cpu_count: cpus,
        cpu_count_logical: cpus,
        memory: memory().map(|total| MemoryRecord { total }),
        writer_id: Uuid::now_v7().to_string(),
        ..EnvironmentRecord::default()
    }
}

/// Returns `true` if a log names this machine and this user as its writer.
pub(crate) fn is_of_this_user(environment: &EnvironmentRecord) -> bool {
    let user = std::env::var("USER").unwrap_or_default();
    let host = std::env::var("WANDB_HOST").unwrap_or_default();
    let same_host = environment.host == host_name() || environment.host == host;
    same_host && environment.username == user && !user.is_empty() && !environment.host.is_empty()
}

/// Returns an environment without personal data: the time and the id that distinguishes the logs of
/// a run.
pub(crate) fn anonymous(started: SystemTime) -> EnvironmentRecord {
    EnvironmentRecord {
        started_at: Some(Timestamp::from_system(started)),
        writer_id: Uuid::now_v7().to_string(),
        ..EnvironmentRecord::default()
    }
}

/// Returns the name of the host.
fn host_name() -> String {
    let kernel_name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    kernel_name
        .map(|name| name.trim().to_owned())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default()
}

/// Returns the bytes of memory of the machine.
fn memory() -> Option<u64> {
    let all = fs::read_to_string("/proc/meminfo").ok()?;
    let line = all.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
