//! The host: processor, memory, disks, network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use logcore::Readings;
use rustix::fs::statvfs;
use rustix::time::{ClockId, clock_gettime};

use crate::host::memory_limit::{KernelFiles, field, kib};
use crate::timer::IntervalTimer;

#[derive(Debug)]
pub(crate) struct LinuxHost {
    kernel: KernelFiles,
    slow: IntervalTimer,
    /// When the processor time was last read, and what it was.
    worked: Option<(Instant, Duration)>,
    network: Option<Traffic>,
    disks: Option<BTreeMap<String, Traffic>>,
}

/// Bytes in and out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    to_us: u64,
    from_us: u64,
}

impl Default for LinuxHost {
    fn default() -> Self {
        Self {
            kernel: KernelFiles::default(),
            slow: IntervalTimer::every(Duration::from_secs(10)),
            worked: None,
            network: None,
            disks: None,
        }
    }
}

const MIB: f64 = 1024.0 * 1024.0;

impl LinuxHost {
    pub(crate) fn read(&mut self, now: Instant, readings: &mut Readings) {
        self.read_processor(now, readings);
        self.read_memory(readings);
        if self.slow.is_now(now) {
            self.read_network(readings);
            self.read_disks(readings);
        }
    }

    /// The share of the cores that this process may use, since the reading before.
    fn read_processor(&mut self, now: Instant, readings: &mut Readings) {
        let worked = clock_gettime(ClockId::ProcessCPUTime);
        let worked = Duration::new(worked.tv_sec as u64, worked.tv_nsec as u32);
        let before = self.worked.replace((now, worked));
        // The standard library minds the affinity of the process and the quota of its cgroup.
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        if let Some((at, before)) = before
            && let elapsed = (now - at).as_secs_f64()
            && elapsed > 0.0
        {
            let share = worked.saturating_sub(before).as_secs_f64() / elapsed / cores;
            readings.push("system/cpu", 100.0 * share);
        }
    }

    fn read_memory(&self, readings: &mut Readings) {
        let status = self.kernel.read("proc/self/status").unwrap_or_default();
        let resident = kib(&status, "VmRSS:").map(|kib| kib * 1024);
        if let Some(resident) = resident {
            readings.push("system/proc.memory.rssMB", resident as f64 / MIB);
        }
        if let Some(threads) = field(&status, "Threads:") {
            readings.push("system/proc.cpu.threads", threads);
        }
        if let Some(memory) = self.kernel.memory() {
            let percent = |bytes: u64| 100.0 * bytes as f64 / memory.total as f64;
            readings.push(
                "system/memory_percent",
                percent(memory.total.saturating_sub(memory.available)),
            );
            readings.push("system/proc.memory.availableMB", memory.available as f64 / MIB);
            if let Some(resident) = resident {
                readings.push("system/proc.memory.percent", percent(resident));
            }
        }
    }

    fn read_network(&mut self, readings: &mut Readings) {
        let Some(all) = self.kernel.read("proc/net/dev").map(|text| network(&text)) else {
            return;
        };
        let first = *self.network.get_or_insert(all);
        readings.push("system/network.recv", all.to_us.saturating_sub(first.to_us));
        readings.push("system/network.sent", all.from_us.saturating_sub(first.from_us));
    }

    fn read_disks(&mut self, readings: &mut Readings) {
        if let Ok(space) = statvfs("/") {
            // As `df` and W&B count it: what only root may use is no part of the whole.
            let used = space.f_blocks.saturating_sub(space.f_bfree);
            let whole = used + space.f_bavail;
            if whole > 0 {
                readings.push("system/disk./.usagePercent", 100.0 * used as f64 / whole as f64);
            }
            readings.push(
                "system/disk./.usageGB",
                used as f64 * space.f_frsize as f64 / MIB / 1024.0,
            );
        }
        let Some(all) = self.kernel.read("proc/diskstats").map(|text| disks(&text)) else {
            return;
        };
        let first = self.disks.get_or_insert_with(|| all.clone());
        for (device, now) in &all {
            // One that came later begins at what it has.
            let before = *first.entry(device.clone()).or_insert(*now);
            let mib = |bytes: u64, before: u64| bytes.saturating_sub(before) as f64 / MIB;
            readings.push(format!("system/disk.{device}.in"), mib(now.to_us, before.to_us));
            readings.push(format!("system/disk.{device}.out"), mib(now.from_us, before.from_us));
        }
    }
}

/// The sum over all interfaces of `/proc/net/dev`.
fn network(text: &str) -> Traffic {
    let mut sum = Traffic::default();
    for (_, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut numbers = numbers
            .split_whitespace()
            .map(|number| number.parse::<u64>().unwrap_or(0));
        sum.to_us += numbers.next().unwrap_or(0);
        sum.from_us += numbers.nth(7).unwrap_or(0);
    }
    sum
}

/// The disks of `/proc/diskstats`, without their parts and without those that are no devices. A sector is 512 bytes there.
fn disks(text: &str) -> BTreeMap<String, Traffic> {
    let mut disks: BTreeMap<String, Traffic> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let (Some(name), Some(read), Some(written)) = (words.get(2), words.get(5), words.get(9)) else {
            continue;
        };
        let is_pseudo = ["loop", "ram", "zram", "dm-", "md"]
            .iter()
            .any(|kind| name.starts_with(kind));
        let is_part = disks.keys().any(|disk| name.starts_with(disk.as_str()));
        if let (Ok(read), Ok(written), false) = (read.parse::<u64>(), written.parse::<u64>(), is_pseudo || is_part) {
            let traffic = Traffic {
                to_us: read.saturating_mul(512),
                from_us: written.saturating_mul(512),
            };
            disks.insert((*name).to_owned(), traffic);
        }
    }
    disks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_summed() {
        let text = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:5000000000  20    0    0    0     0          0         0     3000      10    0    0    0     0       0          0
";
        let expected = Traffic {
            to_us: 5_000_000_100,
            from_us: 3100,
        };
        assert_eq!(network(text), expected);
        assert_eq!(network("x: 1\n:\nnonsense"), Traffic { to_us: 1, from_us: 0 });
    }

    #[test]
    fn disks_are_whole_devices() {
        let text = "   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0
 259       0 nvme0n1 10 0 2048 0 20 0 4096 0 0 0 0
 259       1 nvme0n1p1 10 0 2048 0 20 0 4096 0 0 0 0
 254       0 vda 1 0 2 3 4 5 6 7 8 9 10
 253       0 dm-0 1 0 2 3 4 5 6 7 8 9 10
   8       0 sda short
";
        let disks = disks(text);
        assert_eq!(disks.keys().collect::<Vec<_>>(), ["nvme0n1", "vda"]);
        let expected = Traffic {
            to_us: 1 << 20,
            from_us: 2 << 20,
        };
        assert_eq!(disks["nvme0n1"], expected);
    }

    #[test]
    fn this_machine_is_read() {
        let mut host = LinuxHost::default();
        let start = Instant::now();
        let mut names = |seconds: u64| {
            let mut readings = Readings::default();
            host.read(start + Duration::from_secs(seconds), &mut readings);
            assert!(readings.iter().all(|(_, value)| value.as_f64() >= 0.0), "{readings:?}");
            readings.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let first = names(0);
        for name in [
            "memory_percent",
            "proc.memory.rssMB",
            "proc.cpu.threads",
            "disk./.usagePercent",
            "network.recv",
        ] {
            assert!(first.contains(&format!("system/{name}")), "{name} in {first:?}");
        }
        // The slow ones rest, and the processor's share needs a time before.
        let second = names(2);
        assert!(second.contains(&"system/cpu".to_owned()) && !first.contains(&"system/cpu".to_owned()));
        assert!(!second.iter().any(|name| name.starts_with("system/disk")));
        assert!(names(10).iter().any(|name| name.starts_with("system/disk")));
    }
}
