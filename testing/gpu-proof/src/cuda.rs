//! Calls of the CUDA driver for which cudarc has no safe name.
// The driver is a C library, so these calls of it are unsafe.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::fmt::Write as _;
use std::ptr::from_mut;
use std::sync::Arc;

use anyhow::{Result, bail};
use cudarc::driver::{CudaContext, result, sys};

/// Bytes from `cuMemAlloc`, which no pool holds. They are freed when this is dropped.
pub(crate) struct PlainAllocation {
    address: sys::CUdeviceptr,
    context: Arc<CudaContext>,
}

/// The values of a device's default pool, in bytes, as the driver itself answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DriverPool {
    pub(crate) used: u64,
    pub(crate) reserved: u64,
    pub(crate) highest: u64,
}

/// Returns `true` if the driver's library is there. cudarc panics without it.
pub(crate) fn is_there() -> bool {
    // SAFETY: the call loads a library and closes it again. The names are those of the CUDA driver,
    // whose code that runs at loading makes no demands.
    unsafe { sys::is_culib_present() }
}

/// Starts CUDA and returns the number of devices that CUDA shows. Creates no context.
///
/// # Errors
///
/// If the driver does not start, or shows no device.
pub(crate) fn start() -> Result<usize> {
    result::init()?;
    match usize::try_from(result::device::get_count()?) {
        Ok(count @ 1..) => Ok(count),
        _ => bail!("CUDA shows no device"),
    }
}

/// Returns `true` if this process has a primary context on a device. Creates none.
pub(crate) fn has_context(ordinal: usize) -> Result<bool> {
    let device = device(ordinal)?;
    let (mut flags, mut active): (c_uint, c_int) = (0, 0);
    // SAFETY: the call writes one `unsigned int` and one `int`, which these two are.
    unsafe { sys::cuDevicePrimaryCtxGetState(device, &mut flags, &mut active) }.result()?;
    Ok(active != 0)
}

/// Returns `true` if the calling thread has a context. Creates none.
pub(crate) fn thread_has_context() -> Result<bool> {
    Ok(result::ctx::get_current()?.is_some())
}

/// Returns the UUID of a device, or of the slice that CUDA shows in its place, without a prefix.
pub(crate) fn uuid(ordinal: usize) -> Result<String> {
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: the call writes one `CUuuid`, which `uuid` is.
    unsafe { sys::cuDeviceGetUuid_v2(&mut uuid, device(ordinal)?) }.result()?;
    let mut text = String::new();
    for (at, byte) in uuid.bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{:02x}", byte as u8);
    }
    Ok(text)
}

/// Reads the default pool of a device. Needs no context on the calling thread.
pub(crate) fn pool(ordinal: usize) -> Result<DriverPool> {
    use sys::CUmemPool_attribute as Attribute;

    let device = device(ordinal)?;
    // SAFETY: `device` comes from the driver.
    let pool = unsafe { result::device::get_default_mem_pool(device) }?;
    let read = |attribute| {
        let mut value = 0_u64;
        // SAFETY: the driver owns the default pool, which lives as long as the process. For the
        // three attributes that are asked for, the call writes 64 bits, which `value` is.
        unsafe { result::mem_pool::get_attribute(pool, attribute, from_mut(&mut value).cast()) }?;
        anyhow::Ok(value)
    };
    Ok(DriverPool {
        used: read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        reserved: read(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        highest: read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
    })
}

impl PlainAllocation {
    /// Allocates outside of all pools.
    pub(crate) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        context.bind_to_thread()?;
        // SAFETY: the call returns the address of memory that nobody reads: it is only counted.
        let address = unsafe { result::malloc_sync(bytes) }?;
        Ok(Self {
            address,
            context: Arc::clone(context),
        })
    }
}

impl Drop for PlainAllocation {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the address comes from `malloc_sync` in this context, and is freed once.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

fn device(ordinal: usize) -> Result<sys::CUdevice> {
    Ok(result::device::get(c_int::try_from(ordinal)?)?)
}
