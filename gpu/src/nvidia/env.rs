//! What the process and its environment say about GPUs.

use std::ffi::OsString;
use std::time::Duration;

use crate::nvidia::cuda;
use crate::nvidia::visible_devices::VisibleDevices;

#[derive(Debug, Clone)]
pub(crate) struct GpuEnvironment {
    /// NVML may be opened.
    pub(crate) nvml: bool,
    /// The name of CUDA's library, if it may be looked for.
    pub(crate) cuda: Option<OsString>,
    /// A value of `GPU_PROBE` that is none.
    pub(crate) unknown: Option<String>,
    pub(crate) visible: VisibleDevices,
    /// CUDA orders the devices as they lie on the bus, which is NVML's order.
    pub(crate) is_by_bus: bool,
    /// The number of this process; of a child, after a fork.
    pub(crate) pid: fn() -> u32,
    pub(crate) periods: QueryPeriods,
}

/// How often the driver is asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueryPeriods {
    pub(crate) memory: Duration,
    /// The list is dear: some milliseconds, under a lock of the driver.
    pub(crate) processes: Duration,
}

impl GpuEnvironment {
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
        Self {
            nvml,
            cuda: pool.then(|| cuda::LIBRARY.into()),
            unknown: Some(switch).filter(|switch| !["", "off", "nvml", "pool", "all"].contains(&switch.as_str())),
            visible,
            is_by_bus: variable("CUDA_DEVICE_ORDER").is_some_and(|order| order.trim() == "PCI_BUS_ID"),
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
                other => panic!("{other} is none of ours"),
            };
            value.map(str::to_owned)
        })
    }

    #[test]
    fn the_switch_says_what_may_be_opened() {
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
            assert_eq!((seen, read.unknown), ((nvml, pool), None), "{switch:?}");
        }
        let typo = with(Some("of"), None);
        assert_eq!((typo.nvml, typo.unknown.as_deref()), (true, Some("of")));
    }

    #[test]
    fn a_program_without_devices_opens_nothing() {
        for visible in ["", "-1"] {
            let read = with(None, Some(visible));
            assert!(!read.nvml && read.cuda.is_none(), "{visible:?}");
        }
        assert_eq!(with(None, Some("1,0")).visible, VisibleDevices::parse(Some("1,0")));
        assert_eq!((with(None, None).pid)(), std::process::id());
    }

    #[test]
    fn only_the_order_of_the_bus_is_that_of_nvml() {
        for (order, is_by_bus) in [("PCI_BUS_ID", true), ("FASTEST_FIRST", false), ("", false)] {
            let read = GpuEnvironment::read(|name| (name == "CUDA_DEVICE_ORDER").then(|| order.to_owned()));
            assert_eq!(read.is_by_bus, is_by_bus, "{order}");
        }
    }
}
