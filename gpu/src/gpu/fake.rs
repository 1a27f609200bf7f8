//! Builds and steers the stand-in for libnvidia-ml.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::process::Command;

use nvml_wrapper_sys::bindings::NvmlLib;
use tempfile::TempDir;

use crate::gpu::probe::{Fallback, GpuOptions, Surroundings};
use crate::gpu::visible::Visible;

/// A library that answers as the test says.
pub(crate) struct Fake {
    /// Open as long as the test runs; the code under test never closes it either.
    library: &'static NvmlLib,
    path: PathBuf,
    _folder: TempDir,
}

pub(crate) const PID: u32 = 4711;

impl Fake {
    /// A driver with some GPUs of 80 GB. Of each 3 GB are in use, 2 of them by this process.
    pub(crate) fn with_devices(count: u64) -> Self {
        Self::variant(&[], count)
    }

    /// The same, compiled with `cfgs`.
    pub(crate) fn variant(cfgs: &[&str], count: u64) -> Self {
        let fake = Self::compile(cfgs);
        fake.set("devices", count);
        for device in 0..count {
            fake.set(&format!("{device}.total"), 80_000_000_000);
            fake.set(&format!("{device}.used"), 3_000_000_000);
            fake.processes(device, &[(PID + 1, 700_000_000), (PID, 2_000_000_000)]);
        }
        fake
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
                .__library
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
                .__library
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
                .__library
                .get::<unsafe extern "C" fn(*const c_char, u64)>(b"fake_wait");
            call.expect("the stand-in has it")(name.as_ptr(), value);
        }
    }

    #[allow(unsafe_code)]
    fn compile(cfgs: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the stand-in");
        let path = folder.path().join("libfake_nvml.so");
        let mut command = Command::new(rustc());
        command.args([
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
            "--crate-name",
            "fake_nvml",
        ]);
        command
            .args(cfgs.iter().flat_map(|cfg| ["--cfg", cfg]))
            .arg("-o")
            .arg(&path);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake_nvml.rs"));
        let output = command.output().expect("rustc can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // SAFETY: a library of our own, whose loading runs nothing.
        let library = unsafe { NvmlLib::new(&path) }.expect("it was just built");
        Self {
            library: Box::leak(Box::new(library)),
            path,
            _folder: folder,
        }
    }
}

/// The compiler that belongs to the cargo which builds this.
fn rustc() -> PathBuf {
    match std::env::var_os("RUSTC") {
        Some(rustc) => rustc.into(),
        None => Path::new(env!("CARGO")).with_file_name(format!("rustc{}", std::env::consts::EXE_SUFFIX)),
    }
}

/// This process, as the driver sees it, with a value of `CUDA_VISIBLE_DEVICES`.
pub(crate) fn surroundings(visible: Option<&str>) -> Surroundings {
    Surroundings {
        switched_off: false,
        visible: Visible::parse(visible),
        pid: PID,
    }
}
