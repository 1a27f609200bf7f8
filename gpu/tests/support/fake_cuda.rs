//! A fake of libcuda, as `fake_nvml.rs` is one of libnvidia-ml. Its numbers:
//!
//! | name | meaning |
//! |---|---|
//! | `started` | 1: the program has called `cuInit` |
//! | `devices` | number of devices that CUDA shows |
//! | `1.nvml` | NVML's index of device 1 |
//! | `1.active` | 1: the process has a context there |
//! | `1.used`, `1.reserved`, `1.highest` | its default pool, in bytes |
//! | `1.pool` | result code of the call that returns the pool |
//! | `calls.forbidden` | number of calls that start, create or set something |
//!
//! With `--cfg allocates` a program can start this driver and allocate (`fake_allocations.rs`).

use std::ffi::{c_char, c_int, c_uint, c_void};

#[cfg(allocates)]
#[path = "fake_allocations.rs"]
mod allocations;
#[path = "state.rs"]
mod state;

use state::{called, get};

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const NOT_INITIALIZED: c_int = 3;
const INVALID_DEVICE: c_int = 101;

fn when_started(answer: impl FnOnce() -> c_int) -> c_int {
    called("any");
    if get("started") == 0 { NOT_INITIALIZED } else { answer() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    when_started(|| {
        unsafe { *count = get("devices") as c_int };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    when_started(|| {
        if ordinal < 0 || ordinal as u64 >= get("devices") {
            return INVALID_DEVICE;
        }
        // A handle differs from an ordinal, so that a mix-up is found.
        unsafe { *device = ordinal + 1000 };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int) -> c_int {
    when_started(|| {
        unsafe { *flags = 0 };
        #[cfg(allocates)]
        allocations::fault_of_context((device - 1000) as usize);
        unsafe { *active = get(&format!("{}.active", device - 1000)) as c_int };
        SUCCESS
    })
}

#[cfg(not(any(without_uuid, without_uuid_v2)))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> c_int {
    uuid_of(uuid, device)
}

#[cfg(without_uuid_v2)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> c_int {
    uuid_of(uuid, device)
}

/// `0000:0n:00.0`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(text: *mut c_char, length: c_int, device: c_int) -> c_int {
    when_started(|| {
        let bus_id = format!("0000:{:02}:00.0\0", get(&format!("{}.nvml", device - 1000)));
        assert!(bus_id.len() <= length as usize);
        unsafe { std::ptr::copy_nonoverlapping(bus_id.as_ptr().cast(), text, bus_id.len()) };
        SUCCESS
    })
}

/// `0000000n-0000-0000-0000-000000000000`
fn uuid_of(uuid: *mut [u8; 16], device: c_int) -> c_int {
    when_started(|| {
        unsafe { *uuid = [0; 16] };
        unsafe { (*uuid)[3] = get(&format!("{}.nvml", device - 1000)) as u8 };
        SUCCESS
    })
}

#[cfg(not(without_pool))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut *mut c_void, device: c_int) -> c_int {
    when_started(|| {
        unsafe { *pool = std::ptr::without_provenance_mut(device as usize) };
        #[cfg(allocates)]
        if let Some(code) = allocations::fault_of_pool() {
            return code;
        }
        get(&format!("{}.pool", device - 1000)) as c_int
    })
}

#[cfg(not(without_pool))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolGetAttribute(pool: *mut c_void, attribute: c_uint, value: *mut u64) -> c_int {
    when_started(|| {
        let name = match attribute {
            5 => "reserved",
            7 => "used",
            8 => "highest",
            _ => return INVALID_VALUE,
        };
        unsafe { *value = get(&format!("{}.{name}", pool.addr() - 1000)) };
        #[cfg(allocates)]
        if let Some(code) = allocations::falsify(name, unsafe { &mut *value }) {
            return code;
        }
        SUCCESS
    })
}

#[cfg(not(allocates))]
macro_rules! forbidden {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> c_int {
                called("forbidden");
                SUCCESS
            }
        )*
    };
}

#[cfg(not(allocates))]
forbidden! {
    cuInit cuCtxCreate_v2 cuCtxCreate_v3 cuCtxCreate_v4 cuCtxSetCurrent cuCtxPushCurrent_v2 cuDevicePrimaryCtxRetain
    cuDevicePrimaryCtxReset_v2 cuDevicePrimaryCtxSetFlags_v2 cuDeviceSetMemPool cuMemPoolSetAttribute cuMemPoolTrimTo
    cuMemGetInfo_v2 cuCtxSynchronize cuThreadExchangeStreamCaptureMode
}
