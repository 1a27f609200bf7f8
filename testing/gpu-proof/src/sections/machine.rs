//! The machine that the proof runs on.

use std::fs;
use std::thread;

use anyhow::Result;
use cudarc::driver::result;
use nvml_wrapper::Nvml;

use super::driver;
use crate::cuda;

/// A property of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The machine, as far as the proof is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Machine {
    Found(Vec<Fact>),
    /// The reason why CUDA has no device.
    WithoutGpu(String),
}

const FACT: &str = "fact";
const NONE: &str = "none";

impl Machine {
    /// Reads the lines of [`print()`].
    pub(crate) fn parse(lines: &str) -> Option<Self> {
        let fields = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = lines.lines().map(fields).collect();
        if let Some([_, reason]) = lines.iter().find(|line| line[0] == NONE).map(Vec::as_slice) {
            return Some(Self::WithoutGpu(reason.clone()));
        }
        let facts: Vec<Fact> = lines
            .iter()
            .filter_map(|line| match line.as_slice() {
                [kind, name, value] if kind == FACT => Some(Fact {
                    name: name.clone(),
                    value: value.clone(),
                }),
                _ => None,
            })
            .collect();
        (!facts.is_empty()).then_some(Self::Found(facts))
    }
}

/// Prints the facts of this machine, or why the proof cannot run here.
pub(super) fn print() {
    match facts() {
        Ok(facts) => {
            for Fact { name, value } in facts {
                println!("{FACT}\t{name}\t{}", value.replace(char::is_control, " "));
            }
        }
        Err(reason) => println!("{NONE}\t{}", reason.replace(char::is_control, " ")),
    }
}

/// Returns the facts; an error is the reason why there is no GPU.
fn facts() -> Result<Vec<Fact>, String> {
    if !cuda::is_there() {
        return Err("libcuda is not found, which the driver installs".to_owned());
    }
    let count = cuda::start().map_err(|error| format!("CUDA does not start: {error}"))?;
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String| {
        facts.push(Fact {
            name: name.to_owned(),
            value,
        });
    };
    match driver::open() {
        Ok(nvml) => {
            add("driver", text_of(nvml.sys_driver_version()));
            add("CUDA of the driver", text_of(cuda_version(&nvml)));
            for index in 0..nvml.device_count().unwrap_or(0) {
                add(&format!("NVML device {index}"), text_of(describe(&nvml, index)));
            }
        }
        Err(reason) => add("driver", reason),
    }
    for ordinal in 0..count {
        let name = i32::try_from(ordinal)
            .map_err(anyhow::Error::from)
            .and_then(|ordinal| Ok(result::device::get_name(result::device::get(ordinal)?)?));
        add(&format!("cuda:{ordinal}"), text_of(name));
    }
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_else(|_| "not set".to_owned());
    add("`CUDA_VISIBLE_DEVICES`", visible);
    add("kernel", of_file("/proc/sys/kernel/osrelease"));
    add(
        "cores",
        thread::available_parallelism().map_or(0, usize::from).to_string(),
    );
    add("pid namespaces", pid_namespaces());
    Ok(facts)
}

fn cuda_version(nvml: &Nvml) -> Result<String, nvml_wrapper::error::NvmlError> {
    let version = nvml.sys_cuda_driver_version()?;
    let (major, minor) = (
        nvml_wrapper::cuda_driver_version_major(version),
        nvml_wrapper::cuda_driver_version_minor(version),
    );
    Ok(format!("{major}.{minor}"))
}

fn describe(nvml: &Nvml, index: u32) -> Result<String, nvml_wrapper::error::NvmlError> {
    let device = nvml.device_by_index(index)?;
    let memory = device.memory_info()?;
    let sliced = match device.mig_mode() {
        Ok(mode) if mode.current == 1 => ", sliced (MIG)",
        _ => "",
    };
    Ok(format!(
        "{}, {:.1} GB, {}{sliced}",
        device.name()?,
        memory.total as f64 / 1e9,
        device.uuid()?
    ))
}

/// Says whether this process is in a container, where the driver may list other pids.
fn pid_namespaces() -> String {
    let status = of_file("/proc/self/status");
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.map_or_else(
        || "unknown".to_owned(),
        |pids| format!("{} seen from here", pids.split_whitespace().count()),
    )
}

fn of_file(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn text_of<E: std::fmt::Display>(value: Result<String, E>) -> String {
    value.unwrap_or_else(|error| format!("unknown: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_and_reasons_are_read_back() {
        let found = Machine::parse("a warning\nfact\tdriver\t550.54\n").unwrap();
        let Machine::Found(facts) = found else {
            panic!("{found:?}");
        };
        assert_eq!((facts[0].name.as_str(), facts[0].value.as_str()), ("driver", "550.54"));
        assert_eq!(
            Machine::parse("none\tno libcuda\n"),
            Some(Machine::WithoutGpu("no libcuda".to_owned()))
        );
        assert_eq!(Machine::parse("a warning\n"), None);
    }
}
