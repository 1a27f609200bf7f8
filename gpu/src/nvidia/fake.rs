//! Builds and controls the fakes of libnvidia-ml and libcuda.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libloading::Library;
use tempfile::TempDir;

use crate::nvidia::env::{GpuEnvironment, QueryPeriods};
use crate::nvidia::options::{Fallback, GpuOptions};
use crate::nvidia::visible_devices::VisibleDevices;

#[path = "../../tests/support/stand_in.rs"]
mod stand_in;

/// A library whose answers a test sets.
pub(crate) struct FakeLibrary {
    /// Never closed, as in the code under test.
    library: &'static Library,
    path: PathBuf,
    _folder: TempDir,
}

pub(crate) const PID: u32 = 4711;

impl FakeLibrary {
    /// A driver with GPUs of 80 GB each: 3 GB are in use, 2 of them by this process.
    pub(crate) fn with_devices(count: u64) -> Self {
        Self::variant(&[], count)
    }

    /// The same, compiled with `cfgs`.
    pub(crate) fn variant(cfgs: &[&str], count: u64) -> Self {
        let fake = Self::compile("nvml", cfgs);
        fake.set("devices", count);
        for device in 0..count {
            fake.set(&format!("{device}.total"), 80_000_000_000);
            fake.set(&format!("{device}.used"), 3_000_000_000);
            fake.processes(device, &[(PID + 1, 700_000_000), (PID, 2_000_000_000)]);
        }
        fake
    }

    /// A CUDA driver that is loaded and not started, with devices in the order of NVML.
    pub(crate) fn cuda(cfgs: &[&str], count: u64) -> Self {
        let fake = Self::compile("cuda", cfgs);
        fake.set("devices", count);
        for device in 0..count {
            fake.set(&format!("{device}.nvml"), device);
        }
        fake
    }

    /// Starts CUDA on a device with `used` bytes in use and twice as many reserved.
    pub(crate) fn start_with(&self, device: u64, used: u64) {
        self.set("started", 1);
        self.set(&format!("{device}.active"), 1);
        for (name, bytes) in [("used", used), ("reserved", 2 * used), ("highest", 3 * used)] {
            self.set(&format!("{device}.{name}"), bytes);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn processes(&self, device: u64, processes: &[(u32, u64)]) {
        for (index, (pid, bytes)) in processes.iter().enumerate() {
            self.set(&format!("{device}.{index}.pid"), u64::from(*pid));
            self.set(&format!("{device}.{index}.bytes"), *bytes);
        }
        self.set(&format!("{device}.count"), processes.len() as u64);
    }

    pub(crate) fn options(&self, fallback: Fallback) -> GpuOptions {
        GpuOptions::default().with_fallback(fallback).with_library(&self.path)
    }

    #[allow(unsafe_code)]
    pub(crate) fn set(&self, name: &str, value: u64) {
        let name = CString::new(name).expect("no zero in a name");
        // SAFETY: the fake library has this function with this signature.
        unsafe {
            let call = self
                .library
                .get::<unsafe extern "C" fn(*const c_char, u64)>(b"fake_set");
            call.expect("the fake library has it")(name.as_ptr(), value);
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn get(&self, name: &str) -> u64 {
        let name = CString::new(name).expect("no zero in a name");
        // SAFETY: the fake library has this function with this signature.
        unsafe {
            let call = self
                .library
                .get::<unsafe extern "C" fn(*const c_char) -> u64>(b"fake_get");
            call.expect("the fake library has it")(name.as_ptr())
        }
    }

    /// Waits until the number is at least `value`.
    #[allow(unsafe_code)]
    pub(crate) fn wait(&self, name: &str, value: u64) {
        let name = CString::new(name).expect("no zero in a name");
        // SAFETY: the fake library has this function with this signature.
        unsafe {
            let call = self
                .library
                .get::<unsafe extern "C" fn(*const c_char, u64)>(b"fake_wait");
            call.expect("the fake library has it")(name.as_ptr(), value);
        }
    }

    #[allow(unsafe_code)]
    fn compile(of: &str, cfgs: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the stand-in");
        let path = folder.path().join(format!("libfake_{of}.so"));
        stand_in::compile(of, cfgs, &path);
        // SAFETY: loading this library, built above, runs no code.
        let library = unsafe { Library::new(&path) }.expect("it was just built");
        Self {
            library: Box::leak(Box::new(library)),
            path,
            _folder: folder,
        }
    }
}

/// The environment of a process with this value of `CUDA_VISIBLE_DEVICES`.
pub(crate) fn environment(visible: Option<&str>) -> GpuEnvironment {
    GpuEnvironment {
        nvml: true,
        cuda: None,
        unknown_switch: None,
        visible: VisibleDevices::parse(visible),
        pid: || PID,
        is_pci_order: false,
        periods: QueryPeriods {
            memory: Duration::ZERO,
            processes: Duration::ZERO,
        },
    }
}
