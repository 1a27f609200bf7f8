//! Has the fake of libnvidia-ml count what this process holds in the fake of libcuda, as a driver
//! counts both. Further numbers, each a fault if it is not 0:
//!
//! | name | meaning |
//! |---|---|
//! | `1.others` | bytes that other processes use on device 1 |
//! | `hidden` | no fault: the process list has the process under an id of another namespace |
//! | `fault.loads_cuda` | `nvmlInit_v2` loads libcuda |
//! | `fault.listed_early` | the process is listed before it has a context |
//! | `fault.process` | the bytes of the process are too few |
//! | `fault.sum` | bytes that are neither used, free nor kept |
//! | `fault.uuid` | a device has another UUID than in libcuda |
//! | `fault.busy` | milliseconds of processor time that each reading takes |

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::time::Duration;

use super::{MIG, get};

/// Bytes of a context.
const CONTEXT: u64 = 400 << 20;

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

const LAZY: c_int = 1;
const NOLOAD: c_int = 4;

/// Returns a number of libcuda; 0 while the program has not loaded libcuda.
fn cuda(name: &str) -> u64 {
    let library = unsafe { dlopen(c"libcuda.so.1".as_ptr(), LAZY | NOLOAD) };
    if library.is_null() {
        return 0;
    }
    let name = CString::new(name).unwrap();
    unsafe {
        let call = dlsym(library, c"fake_get".as_ptr());
        std::mem::transmute::<*mut c_void, extern "C" fn(*const c_char) -> u64>(call)(name.as_ptr())
    }
}

/// Returns the bytes of this process on a device; `None` without a context.
fn held(device: usize) -> Option<u64> {
    let ordinal = (0..cuda("devices")).find(|ordinal| cuda(&format!("{ordinal}.nvml")) == device as u64)?;
    let number = |name: &str| cuda(&format!("{ordinal}.{name}"));
    (number("active") != 0).then(|| CONTEXT + number("reserved") + number("plain"))
}

pub fn used(device: usize) -> u64 {
    get(&format!("{device}.others")) + held(device).unwrap_or(0)
}

pub fn own_entry(device: usize) -> Option<(c_uint, u64)> {
    let early = (get("fault.listed_early") != 0).then_some(CONTEXT);
    let bytes = held(device).or(early)?;
    let bytes = if get("fault.process") != 0 { 1 << 20 } else { bytes };
    let pid = std::process::id();
    Some((if get("hidden") != 0 { pid + 1_000_000 } else { pid }, bytes))
}

pub fn uuid(device: usize) -> String {
    let kind = if device == MIG { "MIG" } else { "GPU" };
    let fault = get("fault.uuid");
    format!("{kind}-{device:08x}-0000-0000-0000-{fault:012}\0")
}

pub fn fault_at_start() {
    if get("fault.loads_cuda") != 0 {
        unsafe { dlopen(c"libcuda.so.1".as_ptr(), LAZY) };
    }
}

/// Computes for an amount of processor time, however busy the machine is.
pub fn keep_busy() {
    let until = processor_time() + Duration::from_millis(get("fault.busy"));
    while processor_time() < until {}
}

#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int;
}

/// `CLOCK_THREAD_CPUTIME_ID` of Linux.
const THREAD_CLOCK: c_int = 3;

fn processor_time() -> Duration {
    let mut time = TimeSpec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(THREAD_CLOCK, &mut time) };
    Duration::new(time.seconds as u64, time.nanoseconds as u32)
}
