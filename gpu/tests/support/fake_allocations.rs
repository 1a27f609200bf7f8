//! The part of libcuda with which a program starts CUDA, allocates and captures. The pool counts
//! 512 bytes as one, reserves 32 MiB at a time, and gives back what is free when a stream or a
//! context is synchronized. Further numbers, each a fault if it is not 0:
//!
//! | name | meaning |
//! |---|---|
//! | `fault.used` | bytes that each allocation adds to `used` beyond its own |
//! | `fault.highest` | bytes by which `highest` is too high |
//! | `fault.reserved` | a pool reserves nothing |
//! | `fault.drift` | bytes that each reading adds to `used` |
//! | `fault.free` | a free leaves the bytes in use |
//! | `fault.plain` | plain allocations count in the pool |
//! | `fault.mixed` | each pool has the values of device 0 |
//! | `fault.context_needed` | a thread without a context cannot read a pool |
//! | `fault.context_made` | the state of a context is asked for, and the device gets one |
//! | `fault.capture_broken` | reading a pool breaks a capture |
//! | `fault.capture_refused` | no pool can be read during a capture |
//! | `fault.slow` | milliseconds that each value of a pool takes |

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::without_provenance_mut as handle;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::state::{get, set};
use super::{INVALID_DEVICE, INVALID_VALUE, SUCCESS};

const NO_DEVICE: c_int = 100;
const INVALID_CONTEXT: c_int = 201;
const CAPTURE_UNSUPPORTED: c_int = 900;
const CAPTURE_INVALIDATED: c_int = 901;
const MEMORY_POOLS_SUPPORTED: c_int = 115;

/// A device has its ordinal and this as its handle, a context has the other.
const DEVICES: c_int = 1000;
const CONTEXTS: usize = 5000;

const POOL_GRAIN: u64 = 512;
const POOL_CHUNK: u64 = 32 << 20;

const CAPTURING: u64 = 1;
const CAPTURE_BROKEN: u64 = 2;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Address, device, counted bytes, name of the count.
static ALLOCATED: Mutex<BTreeMap<u64, (usize, u64, &str)>> = Mutex::new(BTreeMap::new());

fn number(device: usize, name: &str) -> u64 {
    get(&format!("{device}.{name}"))
}

fn set_number(device: usize, name: &str, value: u64) {
    set(&format!("{device}.{name}"), value);
}

/// Returns the device of the thread's context.
fn current_device() -> Option<usize> {
    CURRENT.get().checked_sub(CONTEXTS)
}

pub fn fault_of_pool() -> Option<c_int> {
    (get("fault.context_needed") != 0 && current_device().is_none()).then_some(INVALID_CONTEXT)
}

pub fn fault_of_context(device: usize) {
    if get("fault.context_made") != 0 {
        set_number(device, "active", 1);
    }
}

/// Applies the faults to a value of a pool.
pub fn falsify(name: &str, value: &mut u64) -> Option<c_int> {
    thread::sleep(Duration::from_millis(get("fault.slow")));
    if get("fault.mixed") != 0 {
        *value = number(0, name);
    }
    match name {
        "used" => {
            set("drifted", get("drifted") + get("fault.drift"));
            *value += get("fault.used") * ALLOCATED.lock().unwrap().len() as u64 + get("drifted");
        }
        "reserved" if get("fault.reserved") != 0 => *value = 0,
        "highest" => *value += get("fault.highest"),
        _ => {}
    }
    let capturing = get("capturing") == CAPTURING;
    if capturing && get("fault.capture_broken") != 0 {
        set("capturing", CAPTURE_BROKEN);
    }
    (capturing && get("fault.capture_refused") != 0).then_some(CAPTURE_UNSUPPORTED)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_: c_uint) -> c_int {
    if get("devices") == 0 {
        return NO_DEVICE;
    }
    set("started", 1);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, _: c_int, _: c_int) -> c_int {
    let text = c"NVIDIA H100";
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), name, text.to_bytes_with_nul().len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _: c_int) -> c_int {
    unsafe { *value = c_int::from(attribute == MEMORY_POOLS_SUPPORTED) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> c_int {
    let Ok(ordinal) = usize::try_from(device - DEVICES) else {
        return INVALID_DEVICE;
    };
    set_number(ordinal, "active", number(ordinal, "active") + 1);
    unsafe { *context = handle(CONTEXTS + ordinal) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    let ordinal = (device - DEVICES) as usize;
    set_number(ordinal, "active", number(ordinal, "active") - 1);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCurrent(context: *mut *mut c_void) -> c_int {
    unsafe { *context = handle(CURRENT.get()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: *mut c_void) -> c_int {
    CURRENT.set(context.addr());
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    let Some(device) = current_device() else {
        return INVALID_CONTEXT;
    };
    set_number(device, "reserved", number(device, "used").next_multiple_of(POOL_CHUNK));
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(_: *mut c_void) -> c_int {
    cuCtxSynchronize()
}

/// Counts an allocation of the current device; returns its address.
fn allocate(bytes: u64, count: &'static str) -> Option<u64> {
    let device = current_device()?;
    let mut allocated = ALLOCATED.lock().unwrap();
    let address = allocated.last_key_value().map_or(0, |(last, _)| *last) + (1 << 40);
    allocated.insert(address, (device, bytes, count));
    set_number(device, count, number(device, count) + bytes);
    let used = number(device, "used");
    for (name, at_least) in [("highest", used), ("reserved", used.next_multiple_of(POOL_CHUNK))] {
        set_number(device, name, number(device, name).max(at_least));
    }
    Some(address)
}

fn free(address: u64) -> c_int {
    let Some((device, bytes, count)) = ALLOCATED.lock().unwrap().remove(&address) else {
        return INVALID_VALUE;
    };
    if get("fault.free") == 0 {
        set_number(device, count, number(device, count) - bytes);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, _: *mut c_void) -> c_int {
    let Some(allocated) = allocate((bytes as u64).next_multiple_of(POOL_GRAIN), "used") else {
        return INVALID_CONTEXT;
    };
    unsafe { *address = allocated };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, _: *mut c_void) -> c_int {
    free(address)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int {
    let count = if get("fault.plain") != 0 { "used" } else { "plain" };
    let Some(allocated) = allocate(bytes as u64, count) else {
        return INVALID_CONTEXT;
    };
    unsafe { *address = allocated };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    free(address)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    let Some(device) = current_device() else {
        return INVALID_CONTEXT;
    };
    let all = number(device, "total");
    let held = number(device, "reserved") + number(device, "plain");
    unsafe { (*free, *total) = ((all - held) as usize, all as usize) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamBeginCapture_v2(_: *mut c_void, _: c_int) -> c_int {
    set("capturing", CAPTURING);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamEndCapture(_: *mut c_void, graph: *mut *mut c_void) -> c_int {
    unsafe { *graph = std::ptr::null_mut() };
    let was_broken = get("capturing") == CAPTURE_BROKEN;
    set("capturing", 0);
    if was_broken { CAPTURE_INVALIDATED } else { SUCCESS }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(_: c_int, text: *mut *const c_char) -> c_int {
    unsafe { *text = c"CUDA_ERROR".as_ptr() };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(_: c_int, text: *mut *const c_char) -> c_int {
    unsafe { *text = c"an error of the fake".as_ptr() };
    SUCCESS
}

macro_rules! create {
    ($($name:ident($($argument:ty),*))*) => {
        $(
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(created: *mut *mut c_void $(, _: $argument)*) -> c_int {
                unsafe { *created = handle(1) };
                SUCCESS
            }
        )*
    };
}

create! {
    cuStreamCreate(c_uint) cuEventCreate(c_uint)
}

macro_rules! succeed {
    ($($name:ident($($argument:ty),*))*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($(_: $argument),*) -> c_int {
                SUCCESS
            }
        )*
    };
}

succeed! {
    cuStreamDestroy_v2(*mut c_void) cuEventDestroy_v2(*mut c_void) cuEventRecord(*mut c_void, *mut c_void)
    cuStreamWaitEvent(*mut c_void, *mut c_void, c_uint) cuMemsetD8Async(u64, u8, usize, *mut c_void)
}
