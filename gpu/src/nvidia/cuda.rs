//! Calls the CUDA driver of a program that has loaded it.
//!
//! Nothing here loads or starts the driver, creates or keeps a context, or sets anything: a context
//! costs hundreds of megabytes of the GPU. Before the program has started CUDA there are no values,
//! therefore.
// The driver is a C library that is found at run time, so each call of it is unsafe.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::fmt::Write as _;
use std::mem::ManuallyDrop;

#[cfg(unix)]
use libloading::os::unix::Library;
#[cfg(windows)]
use libloading::os::windows::Library;

macro_rules! extern_fn {
    ($($argument:ty),*) => { unsafe extern "system" fn($($argument),*) -> c_int };
}

/// The functions of the driver's library that are used. The library is never closed, so the
/// pointers stay valid.
#[derive(Debug)]
pub(crate) struct CudaDriver {
    _library: ManuallyDrop<Library>,
    device_count: extern_fn!(*mut c_int),
    device: extern_fn!(*mut c_int, c_int),
    context_state: extern_fn!(c_int, *mut c_uint, *mut c_int),
    uuid: Option<extern_fn!(*mut [u8; 16], c_int)>,
    pci_bus_id: Option<extern_fn!(*mut c_char, c_int, c_int)>,
    default_pool: Option<extern_fn!(*mut *mut c_void, c_int)>,
    pool_attribute: Option<extern_fn!(*mut c_void, c_uint, *mut u64)>,
}

/// The usage of a device's default pool, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolUsage {
    pub(crate) used: u64,
    pub(crate) reserved: u64,
    pub(crate) peak_used: u64,
}

/// The names of a device that NVML has, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CudaIdentity {
    /// UUID without NVML's prefix `GPU-` or `MIG-`.
    pub(crate) uuid: Option<String>,
    /// Location on the bus: `0000:3b:00.0`.
    pub(crate) bus_id: Option<String>,
}

/// Name under which programs load the driver.
pub(crate) const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

// From cuda.h; unchanged since CUDA 11.2.
const SUCCESS: c_int = 0;
const RESERVED_CURRENT: c_uint = 5;
const USED_CURRENT: c_uint = 7;
const USED_HIGHEST: c_uint = 8;

impl CudaDriver {
    /// Returns the driver if this process has loaded it.
    pub(crate) fn loaded(name: &OsStr) -> Option<Self> {
        let library = already_loaded(name)?;
        // SAFETY: the types are those of the functions of these names in cuda.h, which has not
        // changed them since their first version. A missing function is an error. `_library` is
        // never closed, so the pointers stay valid.
        unsafe {
            Some(Self {
                device_count: *library.get(b"cuDeviceGetCount\0").ok()?,
                device: *library.get(b"cuDeviceGet\0").ok()?,
                context_state: *library.get(b"cuDevicePrimaryCtxGetState\0").ok()?,
                uuid: library
                    .get(b"cuDeviceGetUuid_v2\0")
                    .or_else(|_| library.get(b"cuDeviceGetUuid\0"))
                    .ok()
                    .map(|call| *call),
                pci_bus_id: library.get(b"cuDeviceGetPCIBusId\0").ok().map(|call| *call),
                default_pool: library.get(b"cuDeviceGetDefaultMemPool\0").ok().map(|call| *call),
                pool_attribute: library.get(b"cuMemPoolGetAttribute\0").ok().map(|call| *call),
                _library: ManuallyDrop::new(library),
            })
        }
    }

    /// Returns the number of devices that CUDA shows to this process; `None` before the program has
    /// started CUDA.
    pub(crate) fn device_count(&self) -> Option<usize> {
        let mut count = 0;
        // SAFETY: the call writes one `int`, which `count` is, and keeps no pointer.
        let code = unsafe { (self.device_count)(&mut count) };
        (code == SUCCESS).then(|| usize::try_from(count).ok())?
    }

    /// Returns the names of a device or of the slice (MIG) that CUDA shows in its place.
    pub(crate) fn identity(&self, ordinal: usize) -> Option<CudaIdentity> {
        let device = self.device(ordinal)?;
        Some(CudaIdentity {
            uuid: self.uuid(device).map(format_uuid),
            bus_id: self.bus_id(device),
        })
    }

    /// Returns the UUID of a device or slice; `None` before CUDA 9.2.
    fn uuid(&self, device: c_int) -> Option<[u8; 16]> {
        let mut uuid = [0; 16];
        // SAFETY: the call writes one `CUuuid`, which is 16 bytes, as `uuid` is.
        let code = unsafe { (self.uuid?)(&mut uuid, device) };
        (code == SUCCESS).then_some(uuid)
    }

    /// Returns the location of a device on the PCI bus.
    fn bus_id(&self, device: c_int) -> Option<String> {
        let mut text = [0; 32];
        // SAFETY: the call writes at most as many bytes as its second argument says, which is the
        // length of `text`. It ends the text with a zero.
        let code = unsafe { (self.pci_bus_id?)(text.as_mut_ptr().cast(), text.len() as c_int, device) };
        let text = CStr::from_bytes_until_nul(&text).ok()?;
        (code == SUCCESS).then(|| text.to_str().ok().map(str::to_owned))?
    }

    /// Returns the usage of a device's default pool, if this process has a context on the device.
    pub(crate) fn pool_usage(&self, ordinal: usize) -> Option<PoolUsage> {
        let device = self.device(ordinal)?;
        if !self.has_context(device) {
            return None;
        }
        let mut pool = std::ptr::null_mut();
        // SAFETY: the call writes one pointer, which `pool` is.
        let code = unsafe { (self.default_pool?)(&mut pool, device) };
        if code != SUCCESS || pool.is_null() {
            return None;
        }
        let attribute = |attribute| {
            let mut value = 0;
            // SAFETY: the driver owns the default pool, which lives as long as the process. For the
            // three attributes that are asked for, the call writes 64 bits, which `value` is.
            let code = unsafe { (self.pool_attribute?)(pool, attribute, &mut value) };
            (code == SUCCESS).then_some(value)
        };
        Some(PoolUsage {
            used: attribute(USED_CURRENT)?,
            reserved: attribute(RESERVED_CURRENT)?,
            peak_used: attribute(USED_HIGHEST)?,
        })
    }

    /// Returns CUDA's handle of a device, which is valid without a context.
    fn device(&self, ordinal: usize) -> Option<c_int> {
        let mut device = 0;
        // SAFETY: the call writes one `int`, which `device` is.
        let code = unsafe { (self.device)(&mut device, c_int::try_from(ordinal).ok()?) };
        (code == SUCCESS).then_some(device)
    }

    /// Returns `true` if this process has a primary context on the device. The call creates none.
    fn has_context(&self, device: c_int) -> bool {
        let (mut flags, mut active) = (0, 0);
        // SAFETY: the call writes one `unsigned int` and one `int`, which these two are.
        let code = unsafe { (self.context_state)(device, &mut flags, &mut active) };
        code == SUCCESS && active != 0
    }
}

/// Formats a UUID as NVML does, with dashes.
fn format_uuid(uuid: [u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in uuid.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns a handle of a library that this process has loaded under this name.
#[cfg(unix)]
fn already_loaded(name: &OsStr) -> Option<Library> {
    let flags = libc::RTLD_LAZY | libc::RTLD_LOCAL | libc::RTLD_NOLOAD;
    // SAFETY: with RTLD_NOLOAD no library is loaded, so no code of one runs.
    unsafe { Library::open(Some(name), flags) }.ok()
}

/// Returns a handle of a library that this process has loaded under this name.
#[cfg(windows)]
fn already_loaded(name: &OsStr) -> Option<Library> {
    Library::open_already_loaded(name).ok()
}

/// Returns how many libraries this process has loaded so far; `None` if the loader does not count
/// them.
#[cfg(target_os = "linux")]
pub(crate) fn libraries_loaded() -> Option<u64> {
    unsafe extern "C" fn of_first(library: *mut libc::dl_phdr_info, _: libc::size_t, count: *mut c_void) -> c_int {
        // SAFETY: the loader passes a struct of its own that is valid during this call, and the
        // pointer to `count` that it was given below.
        unsafe { *count.cast::<u64>() = (*library).dlpi_adds };
        1
    }
    let mut count = 0_u64;
    // SAFETY: `of_first` has the type that the call expects, and runs only during the call, while
    // `count` lives. Its result of 1 ends the walk at the first library.
    unsafe { libc::dl_iterate_phdr(Some(of_first), (&raw mut count).cast()) };
    Some(count)
}

/// Returns `None`: loaders of other systems do not count what they load.
#[cfg(not(target_os = "linux"))]
pub(crate) fn libraries_loaded() -> Option<u64> {
    None
}
