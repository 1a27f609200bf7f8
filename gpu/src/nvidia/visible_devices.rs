//! Which devices a program sees: the variable `CUDA_VISIBLE_DEVICES`.

/// The devices of a process, in CUDA's order: `cuda:0` first.
///
/// CUDA may order unlike devices by speed where `CUDA_DEVICE_ORDER` does not say `PCI_BUS_ID`; NVML's order is that of
/// the bus. Between unlike devices, then, an index is a presumption; a UUID never is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VisibleDevices {
    All,
    Listed(Vec<DeviceName>),
}

/// How the variable names a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// NVML's index.
    Index(u32),
    /// `GPU-…` or `MIG-…`; of the former the beginning is enough.
    Uuid(String),
}

impl VisibleDevices {
    /// MappedBy the rules of the CUDA programming guide: unset is all, empty is none, and the list ends at the first entry
    /// that cannot name a device.
    pub(crate) fn parse(variable: Option<&str>) -> Self {
        let Some(variable) = variable else {
            return Self::All;
        };
        Self::Listed(variable.split(',').map_while(DeviceName::parse).collect())
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Listed(names) if names.is_empty())
    }
}

impl DeviceName {
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
    fn the_rules_of_cuda() {
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
