//! Reads the environment variables that concern GPUs.

use std::ffi::OsString;
use std::time::Duration;

use crate::nvidia::cuda;
use crate::nvidia::visible_devices::VisibleDevices;

/// The settings that come from the process and its environment variables.
#[derive(Debug, Clone)]
pub(crate) struct GpuEnvironment {
    /// `true` if NVML may be opened.
    pub(crate) nvml: bool,
    /// Name of CUDA's library; `None` if CUDA must not be looked for.
    pub(crate) cuda: Option<OsString>,
    /// An invalid value of `GPU_PROBE`.
    pub(crate) unknown_switch: Option<String>,
    pub(crate) visible: VisibleDevices,
    /// `true` if CUDA sorts devices by bus id, as NVML does.
    pub(crate) is_pci_order: bool,
    /// Returns the id of the current process, which differs in a forked child.
    pub(crate) pid: fn() -> u32,
    pub(crate) periods: QueryPeriods,
}

/// The intervals of driver queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueryPeriods {
    pub(crate) memory: Duration,
    /// Interval of the process list, which takes some milliseconds under a lock of the driver.
    pub(crate) processes: Duration,
}

impl GpuEnvironment {
    /// Reads the environment variables of this process.
    pub(crate) fn from_process() -> Self {
        Self::read(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// Reads environment variables through `variable`.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let switch = variable("GPU_PROBE").unwrap_or_default().trim().to_ascii_lowercase();
        let visible = VisibleDevices::parse(variable("CUDA_VISIBLE_DEVICES").as_deref());
        let (nvml, pool) = match switch.as_str() {
            _ if visible.is_none() => (false, false),
            "off" => (false, false),
            "nvml" => (true, false),
            "pool" => (false, true),
            _ => (true, true),
        };
        let is_unknown = !["", "off", "nvml", "pool", "all"].contains(&switch.as_str());
        Self {
            nvml,
            cuda: pool.then(|| cuda::LIBRARY.into()),
            unknown_switch: Some(switch).filter(|_| is_unknown),
            visible,
            is_pci_order: variable("CUDA_DEVICE_ORDER").is_some_and(|order| order.trim() == "PCI_BUS_ID"),
            pid: std::process::id,
            periods: QueryPeriods {
                memory: Duration::from_secs(2),
                processes: Duration::from_secs(15),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(probe: Option<&str>, visible: Option<&str>) -> GpuEnvironment {
        GpuEnvironment::read(|name| {
            let value = match name {
                "GPU_PROBE" => probe,
                "CUDA_VISIBLE_DEVICES" => visible,
                "CUDA_DEVICE_ORDER" => None,
                other => panic!("{other} is not read by this crate"),
            };
            value.map(str::to_owned)
        })
    }

    #[test]
    fn switch_limits_the_libraries() {
        for (switch, nvml, pool) in [
            (None, true, true),
            (Some(""), true, true),
            (Some("all"), true, true),
            (Some(" OFF "), false, false),
            (Some("nvml"), true, false),
            (Some("Pool"), false, true),
        ] {
            let read = with(switch, None);
            let seen = (read.nvml, read.cuda.is_some());
            assert_eq!((seen, read.unknown_switch), ((nvml, pool), None), "{switch:?}");
        }
        let typo = with(Some("of"), None);
        assert_eq!((typo.nvml, typo.unknown_switch.as_deref()), (true, Some("of")));
    }

    #[test]
    fn environment_without_visible_devices_opens_nothing() {
        for visible in ["", "-1"] {
            let read = with(None, Some(visible));
            assert!(!read.nvml && read.cuda.is_none(), "{visible:?}");
        }
        assert_eq!(with(None, Some("1,0")).visible, VisibleDevices::parse(Some("1,0")));
        assert_eq!((with(None, None).pid)(), std::process::id());
    }

    #[test]
    fn only_pci_bus_order_is_the_order_of_nvml() {
        for (order, is_pci_order) in [("PCI_BUS_ID", true), ("FASTEST_FIRST", false), ("", false)] {
            let read = GpuEnvironment::read(|name| (name == "CUDA_DEVICE_ORDER").then(|| order.to_owned()));
            assert_eq!(read.is_pci_order, is_pci_order, "{order}");
        }
    }
}
