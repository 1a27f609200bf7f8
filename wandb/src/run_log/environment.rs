//! The environment of a run, in W&B's form.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use logcore::RunFacts;
use logcore::files::random_suffix;

use crate::log_format::proto::{CpuRecord, EnvironmentRecord, GitRecord, GpuRecord, MemoryRecord, Timestamp};

/// Returns the environment of a run with these facts.
pub(crate) fn from_facts(
    facts: &RunFacts,
    program: Option<&str>,
    host: Option<&str>,
    started: SystemTime,
) -> EnvironmentRecord {
    let name = facts
        .executable
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    EnvironmentRecord {
        os: match facts.kernel.as_str() {
            "" => format!("{}-{}", facts.os, facts.arch),
            kernel => format!("{}-{kernel}-{}", facts.os, facts.arch),
        },
        args: facts.argv.iter().skip(1).cloned().collect(),
        program: program.map(str::to_owned).or(name).unwrap_or_default(),
        git: git(facts),
        root: facts.cwd.display().to_string(),
        host: host.unwrap_or(&facts.host).to_owned(),
        username: facts.user.clone(),
        executable: facts.executable.display().to_string(),
        cpu_count: facts.cpus,
        cpu_count_logical: facts.cpus,
        gpu_type: facts.gpus.first().cloned().unwrap_or_default(),
        gpu_count: facts.gpus.len() as u32,
        memory: facts.memory.map(|total| MemoryRecord { total }),
        cpu: facts.cpu.clone().map(|model| CpuRecord { model }),
        gpu_nvidia: facts.gpus.iter().map(|name| GpuRecord { name: name.clone() }).collect(),
        ..anonymous(started)
    }
}

/// Returns the commit of the program, and the address of its repository.
fn git(facts: &RunFacts) -> Option<GitRecord> {
    let git = facts.git.as_ref()?;
    Some(GitRecord {
        remote_url: git.remote.clone().unwrap_or_default(),
        commit: git.commit.clone()?,
    })
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
        writer_id: new_writer_id(SystemTime::now()),
        ..EnvironmentRecord::default()
    }
}

/// Returns a UUID of version 7 (RFC 9562, 5.7), which sorts by time, as W&B has them. These few
/// digits are not worth a crate in every build.
fn new_writer_id(now: SystemTime) -> String {
    let millis = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let (random, rest) = (random_suffix(), random_suffix());
    let (high, low) = ((millis >> 16) & 0xffff_ffff, millis & 0xffff);
    format!(
        "{high:08x}-{low:04x}-7{}-8{}-{}",
        &random[..3],
        &random[3..6],
        &rest[..12]
    )
}

/// Returns the name of the host.
fn host_name() -> String {
    let kernel_name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    kernel_name
        .map(|name| name.trim().to_owned())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_of_writers_are_uuids_that_sort_by_time() {
        let at = |seconds| new_writer_id(UNIX_EPOCH + Duration::from_secs(seconds));
        let (id, same_time, later) = (at(1_796_000_000), at(1_796_000_000), at(1_796_000_001));
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!((&id[14..15], &id[19..20]), ("7", "8"));
        assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
        assert!(id != same_time && id[..13] == same_time[..13] && id < later);
    }
}
