//! The way from CUDA's device to NVML's and back.

use anyhow::Result;

use super::{SectionRows, driver};
use crate::cuda;
use crate::options::Options;
use crate::row::Row;

pub(super) fn run(_: &Options, rows: &mut SectionRows) -> Result<()> {
    let slices = "6: the UUID of a slice (MIG) leads to NVML's slice and back";
    let devices = "the UUID of a device leads to NVML's device and back";
    let nvml = match driver::open() {
        Ok(nvml) => nvml,
        Err(reason) => {
            rows.add(Row::not_tried(devices, reason.as_str()));
            rows.add(Row::not_tried(slices, reason));
            return Ok(());
        }
    };
    let (mut has_device, mut has_slice) = (false, false);
    for ordinal in 0..cuda::start()? {
        let found = driver::device_of(&nvml, ordinal);
        let is_slice = found.as_ref().is_ok_and(|(_, uuid)| uuid.starts_with("MIG-"));
        *(if is_slice { &mut has_slice } else { &mut has_device }) = true;
        let (answer, holds) = match found {
            Ok((device, by)) => {
                let back = device.uuid();
                let holds = back.as_ref().is_ok_and(|back| *back == by);
                let back = back.unwrap_or_else(|error| error.to_string());
                (format!("{by} leads to {back}"), holds)
            }
            Err(error) => (format!("{error:#}"), false),
        };
        let subject = if is_slice { slices } else { devices };
        rows.add(Row::check(
            format!("{subject}, cuda:{ordinal}"),
            answer,
            holds,
            "the same UUID",
        ));
    }
    if !has_device {
        rows.add(Row::not_tried(devices, "CUDA shows slices only"));
    }
    if !has_slice {
        rows.add(Row::not_tried(slices, "CUDA shows no slice"));
    }
    Ok(())
}
