//! Reads how much memory this process may use, by the machine and by its cgroups.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::process::kib;

/// The memory of a machine or a cgroup, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostMemory {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

/// The kernel's files under `/proc` and `/sys`. Tests use another root.
#[derive(Debug)]
pub(crate) struct KernelFiles {
    root: PathBuf,
}

impl Default for KernelFiles {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl KernelFiles {
    #[cfg(test)]
    fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Returns the contents of a file, by its path relative to the root.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// Returns the memory of the machine or, if one is smaller, of the smallest cgroup around this
    /// process.
    pub(crate) fn memory(&self) -> Option<HostMemory> {
        let meminfo = self.read("proc/meminfo")?;
        let machine = HostMemory {
            total: kib(&meminfo, "MemTotal:")? * 1024,
            available: kib(&meminfo, "MemAvailable:")? * 1024,
        };
        let groups = self.memory_groups().into_iter();
        let limited = groups
            .filter(|group| group.total < machine.total)
            .map(|group| HostMemory {
                total: group.total,
                available: group.available.min(machine.available),
            });
        Some(limited.min_by_key(|group| group.total).unwrap_or(machine))
    }

    /// Returns the cgroups of this process that have a limit, of version 1 or 2.
    fn memory_groups(&self) -> Vec<HostMemory> {
        let membership = self.read("proc/self/cgroup").unwrap_or_default();
        let mut groups = Vec::new();
        for line in membership.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let (mount, limit, usage) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max", "memory.current"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
                }
                _ => continue,
            };
            // In a container the path may be the host's, whose folders do not exist; the mount
            // does.
            let above = Path::new(path.trim_start_matches('/')).ancestors();
            let folders = above.map(|folder| Path::new(mount).join(folder));
            groups.extend(folders.filter_map(|folder| self.group(&folder, limit, usage)));
        }
        groups
    }

    /// Returns the memory of the cgroup in `folder`, if it has a limit.
    fn group(&self, folder: &Path, limit: &str, usage: &str) -> Option<HostMemory> {
        let number = |file: &str| self.read(folder.join(file).to_str()?)?.trim().parse::<u64>().ok();
        let total = number(limit)?;
        let used = number(usage)?;
        // Cached files that the kernel can drop count as available.
        let stat = self.read(folder.join("memory.stat").to_str()?).unwrap_or_default();
        let cache = field(&stat, "total_inactive_file").or(field(&stat, "inactive_file"));
        Some(HostMemory {
            total,
            available: total.saturating_sub(used.saturating_sub(cache.unwrap_or(0))),
        })
    }
}

/// Returns the number behind a name at the beginning of a line.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace);
    words.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A machine of 64 GiB, half of them available.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, KernelFiles) {
        let root = tempfile::tempdir().expect("a folder for the kernel's files");
        let meminfo = (
            "proc/meminfo",
            "MemTotal:       67108864 kB\nMemAvailable:   33554432 kB\n",
        );
        for (path, text) in files.iter().chain([&meminfo]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has a folder")).unwrap();
            fs::write(path, text).unwrap();
        }
        let kernel = KernelFiles::at(root.path());
        (root, kernel)
    }

    fn memory(files: &[(&str, &str)]) -> (u64, u64) {
        let (_root, kernel) = machine(files);
        let memory = kernel.memory().expect("there is a meminfo");
        (memory.total / GIB, memory.available / GIB)
    }

    #[test]
    fn memory_without_a_limit_is_the_memory_of_the_machine() {
        assert_eq!(memory(&[]), (64, 32));
        let unlimited = [
            ("proc/self/cgroup", "0::/job\n"),
            ("sys/fs/cgroup/job/memory.max", "max\n"),
            ("sys/fs/cgroup/job/memory.current", "1\n"),
        ];
        assert_eq!(memory(&unlimited), (64, 32));
        // Version 1 has a number larger than any machine.
        let unlimited = [
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n"),
        ];
        assert_eq!(memory(&unlimited), (64, 32));
    }

    #[test]
    fn smallest_limit_of_cgroup_version_2_counts() {
        let limited = [
            ("proc/self/cgroup", "0::/job/step\n"),
            ("sys/fs/cgroup/job/memory.max", "17179869184\n"),
            ("sys/fs/cgroup/job/memory.current", "12884901888\n"),
            ("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 2147483648\n"),
            ("sys/fs/cgroup/job/step/memory.max", "34359738368\n"),
            ("sys/fs/cgroup/job/step/memory.current", "1073741824\n"),
        ];
        // 12 GiB are in use, 2 of them cached files.
        assert_eq!(memory(&limited), (16, 6));
    }

    #[test]
    fn limit_of_a_container_is_read_at_the_mount() {
        let limited = [
            (
                "proc/self/cgroup",
                "9:name=systemd:/docker/x\n4:cpu,memory:/docker/x\n0::/\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "8589934592\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3221225472\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 5\ntotal_inactive_file 1073741824\n",
            ),
        ];
        assert_eq!(memory(&limited), (8, 6));
    }

    #[test]
    fn malformed_files_are_no_limit() {
        let odd = [
            ("proc/self/cgroup", "nonsense\n1:memory\n0::/a\n:::\n"),
            ("sys/fs/cgroup/a/memory.max", "-1\n"),
            ("sys/fs/cgroup/memory.max", "\n"),
        ];
        assert_eq!(memory(&odd), (64, 32));
        assert_eq!(kib("VmRSS:\t 12 pages\n", "VmRSS:"), None);
        assert_eq!(field("a x\nab 3\nb 4", "b"), Some(4));
    }
}
