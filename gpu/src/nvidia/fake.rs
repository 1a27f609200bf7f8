//! Builds and steers the stand-ins for libnvidia-ml and libcuda.

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

/// A library that answers as the test says.
pub(crate) struct FakeLibrary {
    /// Open as long as the test runs; the code under test never closes it either.
    library: &'static Library,
    path: PathBuf,
    _folder: TempDir,
}

pub(crate) const PID: u32 = 4711;

impl FakeLibrary {
    /// A driver with some GPUs of 80 GB. Of each 3 GB are in use, 2 of them by this process.
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

    /// A CUDA that the program has loaded and not started, with some devices in the order of NVML.
    pub(crate) fn cuda(cfgs: &[&str], count: u64) -> Self {
        let fake = Self::compile("cuda", cfgs);
        fake.set("devices", count);
        for device in 0..count {
            fake.set(&format!("{device}.nvml"), device);
        }
        fake
    }

    /// The program starts CUDA and has some bytes in use, and twice as many reserved.
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
        GpuOptions {
            fallback,
            library: Some(self.path.clone()),
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn set(&self, name: &str, value: u64) {
        let name = CString::new(name).expect("no zero in a name");
        // SAFETY: the stand-in has this function with this signature.
        unsafe {
            let call = self
                .library
                .get::<unsafe extern "C" fn(*const c_char, u64)>(b"fake_set");
            call.expect("the stand-in has it")(name.as_ptr(), value);
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn get(&self, name: &str) -> u64 {
        let name = CString::new(name).expect("no zero in a name");
        // SAFETY: the stand-in has this function with this signature.
        unsafe {
            let call = self
                .library
                .get::<unsafe extern "C" fn(*const c_char) -> u64>(b"fake_get");
            call.expect("the stand-in has it")(name.as_ptr())
        }
    }

    /// Returns when the number is at least `value`.
    #[allow(unsafe_code)]
    pub(crate) fn wait(&self, name: &str, value: u64) {
        let name = CString::new(name).expect("no zero in a name");
        // SAFETY: the stand-in has this function with this signature.
        unsafe {
            let call = self
                .library
                .get::<unsafe extern "C" fn(*const c_char, u64)>(b"fake_wait");
            call.expect("the stand-in has it")(name.as_ptr(), value);
        }
    }

    #[allow(unsafe_code)]
    fn compile(of: &str, cfgs: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the stand-in");
        let path = folder.path().join(format!("libfake_{of}.so"));
        stand_in::compile(of, cfgs, &path);
        // SAFETY: a library of our own, whose loading runs nothing.
        let library = unsafe { Library::new(&path) }.expect("it was just built");
        Self {
            library: Box::leak(Box::new(library)),
            path,
            _folder: folder,
        }
    }
}

/// This process, as the driver sees it, with a value of `CUDA_VISIBLE_DEVICES`.
pub(crate) fn environment(visible: Option<&str>) -> GpuEnvironment {
    GpuEnvironment {
        nvml: true,
        cuda: None,
        unknown: None,
        visible: VisibleDevices::parse(visible),
        pid: || PID,
        is_by_bus: false,
        periods: QueryPeriods {
            memory: Duration::ZERO,
            processes: Duration::ZERO,
        },
    }
}
