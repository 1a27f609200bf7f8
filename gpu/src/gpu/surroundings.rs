//! What the process and its environment say about GPUs.

use std::ffi::OsString;
use std::time::Duration;

use crate::gpu::cuda;
use crate::gpu::visible::Visible;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Nothing is to be read, not even what the program says itself.
    pub(crate) switched_off: bool,
    /// NVML may be opened.
    pub(crate) nvml: bool,
    /// The name of CUDA's library, if it may be looked for.
    pub(crate) cuda: Option<OsString>,
    /// A value of `GPU_PROBE` that is none.
    pub(crate) unknown: Option<String>,
    pub(crate) visible: Visible,
    pub(crate) pid: u32,
    pub(crate) processes_every: Duration,
}

impl Surroundings {
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let switch = variable("GPU_PROBE").unwrap_or_default().trim().to_ascii_lowercase();
        let visible = Visible::parse(variable("CUDA_VISIBLE_DEVICES").as_deref());
        let (nvml, pool) = match switch.as_str() {
            _ if visible.is_none() => (false, false),
            "off" => (false, false),
            "nvml" => (true, false),
            "pool" => (false, true),
            _ => (true, true),
        };
        Self {
            switched_off: switch == "off",
            nvml,
            cuda: pool.then(|| cuda::LIBRARY.into()),
            unknown: Some(switch).filter(|switch| !["", "off", "nvml", "pool", "all"].contains(&switch.as_str())),
            visible,
            pid: std::process::id(),
            processes_every: Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(probe: Option<&str>, visible: Option<&str>) -> Surroundings {
        Surroundings::read(|name| {
            let value = match name {
                "GPU_PROBE" => probe,
                "CUDA_VISIBLE_DEVICES" => visible,
                other => panic!("{other} is none of ours"),
            };
            value.map(str::to_owned)
        })
    }

    #[test]
    fn the_switch_says_what_may_be_opened() {
        for (switch, off, nvml, pool) in [
            (None, false, true, true),
            (Some(""), false, true, true),
            (Some("all"), false, true, true),
            (Some(" OFF "), true, false, false),
            (Some("nvml"), false, true, false),
            (Some("Pool"), false, false, true),
        ] {
            let read = with(switch, None);
            let seen = (read.switched_off, read.nvml, read.cuda.is_some());
            assert_eq!((seen, read.unknown), ((off, nvml, pool), None), "{switch:?}");
        }
        let typo = with(Some("of"), None);
        assert_eq!((typo.nvml, typo.unknown.as_deref()), (true, Some("of")));
    }

    #[test]
    fn a_program_without_devices_opens_nothing() {
        for visible in ["", "-1"] {
            let read = with(None, Some(visible));
            assert!(!read.switched_off && !read.nvml && read.cuda.is_none(), "{visible:?}");
        }
        assert_eq!(with(None, Some("1,0")).visible, Visible::parse(Some("1,0")));
        assert_eq!(with(None, None).pid, std::process::id());
    }
}
