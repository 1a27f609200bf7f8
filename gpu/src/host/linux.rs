//! Reads a Linux host: processor, memory, disks and network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use logcore::Readings;
use rustix::fs::statvfs;
use rustix::time::{ClockId, clock_gettime};

use crate::host::memory_limit::{KernelFiles, field};
use crate::host::process::kib;
use crate::timer::IntervalTimer;

/// The reader of the host. Counters are reported relative to the first reading.
#[derive(Debug)]
pub(crate) struct LinuxHost {
    kernel: KernelFiles,
    /// Timer of the readings that are slow to change: disks and network.
    slow: IntervalTimer,
    /// Processor time of this process at the last reading.
    processor: Option<(Instant, Duration)>,
    first_network: Option<Traffic>,
    first_disks: Option<BTreeMap<String, Traffic>>,
}

/// Counters in bytes since the host was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    /// Bytes received or read.
    inbound: u64,
    /// Bytes sent or written.
    outbound: u64,
}

impl Default for LinuxHost {
    fn default() -> Self {
        Self {
            kernel: KernelFiles::default(),
            slow: IntervalTimer::new(Duration::from_secs(10)),
            processor: None,
            first_network: None,
            first_disks: None,
        }
    }
}

/// Bytes of a MiB, the unit of W&B's names with MB.
const MIB: f64 = 1024.0 * 1024.0;

impl LinuxHost {
    /// Adds processor and memory, and every 10 s the network and the disks.
    pub(crate) fn read(&mut self, now: Instant, readings: &mut Readings) {
        self.read_processor(now, readings);
        self.read_memory(readings);
        if self.slow.is_due(now) {
            self.read_network(readings);
            self.read_disks(readings);
        }
    }

    /// Adds the share of the usable cores that this process has used since the last reading.
    fn read_processor(&mut self, now: Instant, readings: &mut Readings) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = Duration::new(used.tv_sec as u64, used.tv_nsec as u32);
        let before = self.processor.replace((now, used));
        // The standard library respects the affinity of the process and the quota of its cgroup.
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        if let Some((at, before)) = before
            && let elapsed = (now - at).as_secs_f64()
            && elapsed > 0.0
        {
            let share = used.saturating_sub(before).as_secs_f64() / elapsed / cores;
            readings.push("system/cpu", 100.0 * share);
        }
    }

    /// Adds the memory of this process, and its share of the memory that it may use.
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

    /// Adds the bytes of all interfaces since the first reading.
    fn read_network(&mut self, readings: &mut Readings) {
        let Some(now) = self.kernel.read("proc/net/dev").map(|text| parse_network(&text)) else {
            return;
        };
        let first = *self.first_network.get_or_insert(now);
        readings.push("system/network.recv", now.inbound.saturating_sub(first.inbound));
        readings.push("system/network.sent", now.outbound.saturating_sub(first.outbound));
    }

    /// Adds the usage of the root file system, and the bytes of each disk since the first reading.
    fn read_disks(&mut self, readings: &mut Readings) {
        if let Ok(space) = statvfs("/") {
            // As in `df` and W&B, blocks reserved for root are not part of the total.
            let used = space.f_blocks.saturating_sub(space.f_bfree);
            let total = used + space.f_bavail;
            if total > 0 {
                readings.push("system/disk./.usagePercent", 100.0 * used as f64 / total as f64);
            }
            readings.push(
                "system/disk./.usageGB",
                used as f64 * space.f_frsize as f64 / MIB / 1024.0,
            );
        }
        let Some(disks) = self.kernel.read("proc/diskstats").map(|text| parse_disks(&text)) else {
            return;
        };
        let first = self.first_disks.get_or_insert_with(|| disks.clone());
        for (device, now) in &disks {
            // A disk that is added later starts at its own first counters.
            let before = *first.entry(device.clone()).or_insert(*now);
            let mib = |bytes: u64, before: u64| bytes.saturating_sub(before) as f64 / MIB;
            readings.push(format!("system/disk.{device}.in"), mib(now.inbound, before.inbound));
            readings.push(format!("system/disk.{device}.out"), mib(now.outbound, before.outbound));
        }
    }
}

/// Returns the sum over all interfaces of `/proc/net/dev`.
fn parse_network(text: &str) -> Traffic {
    let mut sum = Traffic::default();
    for (_, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut numbers = numbers
            .split_whitespace()
            .map(|number| number.parse::<u64>().unwrap_or(0));
        sum.inbound += numbers.next().unwrap_or(0);
        sum.outbound += numbers.nth(7).unwrap_or(0);
    }
    sum
}

/// Returns the disks of `/proc/diskstats`, without partitions and virtual devices.
fn parse_disks(text: &str) -> BTreeMap<String, Traffic> {
    /// Bytes of a sector in that file, for every device.
    const SECTOR: u64 = 512;
    let mut disks: BTreeMap<String, Traffic> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let (Some(name), Some(read), Some(written)) = (words.get(2), words.get(5), words.get(9)) else {
            continue;
        };
        let is_virtual = ["loop", "ram", "zram", "dm-", "md"]
            .iter()
            .any(|kind| name.starts_with(kind));
        let is_partition = disks.keys().any(|disk| name.starts_with(disk.as_str()));
        if is_virtual || is_partition {
            continue;
        }
        if let (Ok(read), Ok(written)) = (read.parse::<u64>(), written.parse::<u64>()) {
            let traffic = Traffic {
                inbound: read.saturating_mul(SECTOR),
                outbound: written.saturating_mul(SECTOR),
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
    fn network_sums_all_interfaces() {
        let text = "Inter-|   Receive                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0      0
  eth0:5000000000  20    0    0    0     0          0         0     3000      10    0    0    0     0       0      0
";
        let expected = Traffic {
            inbound: 5_000_000_100,
            outbound: 3100,
        };
        assert_eq!(parse_network(text), expected);
        assert_eq!(
            parse_network("x: 1\n:\nnonsense"),
            Traffic {
                inbound: 1,
                outbound: 0
            }
        );
    }

    #[test]
    fn disks_exclude_partitions_and_virtual_devices() {
        let text = "   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0
 259       0 nvme0n1 10 0 2048 0 20 0 4096 0 0 0 0
 259       1 nvme0n1p1 10 0 2048 0 20 0 4096 0 0 0 0
 254       0 vda 1 0 2 3 4 5 6 7 8 9 10
 253       0 dm-0 1 0 2 3 4 5 6 7 8 9 10
   8       0 sda short
";
        let disks = parse_disks(text);
        assert_eq!(disks.keys().collect::<Vec<_>>(), ["nvme0n1", "vda"]);
        let expected = Traffic {
            inbound: 1 << 20,
            outbound: 2 << 20,
        };
        assert_eq!(disks["nvme0n1"], expected);
    }

    #[test]
    fn host_is_read() {
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
        // Disks are not due, and the processor needs two readings.
        let second = names(2);
        assert!(second.contains(&"system/cpu".to_owned()) && !first.contains(&"system/cpu".to_owned()));
        assert!(!second.iter().any(|name| name.starts_with("system/disk")));
        assert!(names(10).iter().any(|name| name.starts_with("system/disk")));
    }
}
