//! Parses `CUDA_VISIBLE_DEVICES`, the variable that says which devices a program sees.

/// The devices of a process in CUDA's order: `cuda:0` first.
///
/// Unless `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`, CUDA may sort devices of different models by speed.
/// NVML sorts by bus id. Between different models an index is an assumption therefore; a UUID never
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VisibleDevices {
    All,
    Listed(Vec<DeviceName>),
}

/// The name of a device in the variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// NVML's index.
    Index(u32),
    /// `GPU-…` or `MIG-…`, or the beginning of such a UUID.
    Uuid(String),
}

impl VisibleDevices {
    /// Parses the variable by the rules of the CUDA programming guide: an unset one means all
    /// devices, an empty one means none, and the list ends at the first entry that cannot name a
    /// device.
    pub(crate) fn parse(variable: Option<&str>) -> Self {
        let Some(variable) = variable else {
            return Self::All;
        };
        Self::Listed(variable.split(',').map_while(DeviceName::parse).collect())
    }

    /// Returns `true` if the process sees no device.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Listed(names) if names.is_empty())
    }
}

impl DeviceName {
    /// Parses an entry. Returns `None` if it cannot name a device, as `-1` and `NoDevFiles`.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if entry.starts_with("GPU-") || entry.starts_with("MIG-") {
            return Some(Self::Uuid(entry.to_owned()));
        }
        entry.parse().ok().map(Self::Index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(variable: &str) -> Vec<String> {
        match VisibleDevices::parse(Some(variable)) {
            VisibleDevices::All => vec!["all".to_owned()],
            VisibleDevices::Listed(names) => names
                .into_iter()
                .map(|name| match name {
                    DeviceName::Index(index) => index.to_string(),
                    DeviceName::Uuid(uuid) => uuid,
                })
                .collect(),
        }
    }

    #[test]
    fn visible_devices_follow_the_rules_of_cuda() {
        assert_eq!(VisibleDevices::parse(None), VisibleDevices::All);
        assert_eq!(listed("1,0"), ["1", "0"]);
        assert_eq!(listed(" 2 , GPU-8932f937"), ["2", "GPU-8932f937"]);
        assert_eq!(listed("MIG-GPU-8932f937/1/0"), ["MIG-GPU-8932f937/1/0"]);
        assert_eq!(listed("0,1,-1,2"), ["0", "1"]);
        assert_eq!(listed("0,x,2"), ["0"]);
        for none in ["", "-1", "x", "NoDevFiles", " ", ",0", "99999999999"] {
            assert!(listed(none).is_empty(), "{none:?}");
            assert!(VisibleDevices::parse(Some(none)).is_none(), "{none:?}");
        }
    }
}
