//! A fake of libnvidia-ml: a library that the tests compile, and that the code under test opens
//! like the real one. A test sets values with `fake_set` and reads them with `fake_get`
//! (`state.rs`); each is a number with a name:
//!
//! | name | meaning |
//! |---|---|
//! | `devices` | number of devices |
//! | `init` | result code of `nvmlInit_v2` |
//! | `1.handle`, `1.memory`, `1.processes` | result codes of these calls for device 1 |
//! | `1.used`, `1.total` | its memory, in bytes |
//! | `1.kept` | bytes that the driver keeps for itself, which `used` leaves out |
//! | `1.gpu`, `1.memory_busy`, `1.temperature`, … | its readings, in NVML's units |
//! | `1.count`, `1.0.pid`, `1.0.bytes` | its processes |
//! | `1.model` | 1: another model than the others |
//! | `1.mig`, `1.slices` | 1: the device is sliced; number of slices |
//! | `hang` | 1: the call of the process list blocks until this is 0 |
//! | `hang_at_start`, `hang_at_handle` | the same for `nvmlInit_v2`, for the call of a handle |
//! | `calls.…` | number of calls |
//!
//! `--cfg without_…` leaves out calls, and `--cfg misread_entries` adds the calls of one bad
//! driver. A copy of the library under another name has its own state. With `--cfg beside_cuda` the
//! library counts what the process holds in the fake of libcuda (`fake_beside_cuda.rs`).

use std::ffi::{CStr, c_char, c_uint, c_ulonglong};

#[cfg(beside_cuda)]
#[path = "fake_beside_cuda.rs"]
mod beside_cuda;
#[path = "state.rs"]
mod state;

use state::{called, get, wait_while_set};

const SUCCESS: c_uint = 0;
const INVALID_ARGUMENT: c_uint = 2;
const NOT_FOUND: c_uint = 6;
const INSUFFICIENT_SIZE: c_uint = 7;
const VERSION_MISMATCH: c_uint = 25;

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    called("init");
    wait_while_set("hang_at_start");
    #[cfg(beside_cuda)]
    beside_cuda::fault_at_start();
    get("init") as c_uint
}

#[cfg(not(without_shutdown))]
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    called("shutdown");
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    unsafe { *count = get("devices") as c_uint };
    SUCCESS
}

/// A handle is the device's index plus one.
type NvmlHandle = usize;

/// Index of the only MIG instance of a device that does not list it.
const MIG: usize = 99;

/// The slices of device 1 have the numbers from 2000 on.
const SLICES: usize = 1000;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: *mut NvmlHandle) -> c_uint {
    called("handle");
    wait_while_set("hang_at_handle");
    if u64::from(index) >= get("devices") {
        return INVALID_ARGUMENT;
    }
    unsafe { *handle = index as NvmlHandle + 1 };
    get(&format!("{index}.handle")) as c_uint
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, handle: *mut NvmlHandle) -> c_uint {
    called("handle_by_uuid");
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_str().unwrap();
    let index = match uuid.split_once('-') {
        Some(("MIG", "0000")) => Some(MIG),
        Some(("MIG", slice)) if slice.ends_with("-slice") => {
            let number = slice.trim_end_matches("-slice").parse().ok();
            number.filter(|number| ((*number % SLICES) as u64) < get(&format!("{}.slices", number / SLICES - 1)))
        }
        Some((kind, hex)) => {
            let index = hex.split('-').next().and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let is_known = |index: &usize| *index == MIG || (*index as u64) < get("devices");
            index.filter(|index| (kind == "MIG") == (*index == MIG) && is_known(index))
        }
        None => None,
    };
    let Some(index) = index else { return NOT_FOUND };
    unsafe { *handle = index + 1 };
    get(&format!("{index}.handle")) as c_uint
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(handle: NvmlHandle, text: *mut c_char, _: c_uint) -> c_uint {
    let name = match get(&format!("{}.model", handle - 1)) {
        0 => c"NVIDIA H100",
        _ => c"NVIDIA A30",
    };
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), text, name.to_bytes_with_nul().len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetIndex(handle: NvmlHandle, index: *mut c_uint) -> c_uint {
    unsafe { *index = (handle - 1) as c_uint };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, _: c_uint) -> c_uint {
    let version = c"550.54";
    unsafe { std::ptr::copy_nonoverlapping(version.as_ptr(), text, version.to_bytes_with_nul().len()) };
    SUCCESS
}

#[repr(C)]
pub struct NvmlPci {
    legacy: [u8; 16],
    numbers: [c_uint; 5],
    bus_id: [u8; 32],
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(handle: NvmlHandle, pci: *mut NvmlPci) -> c_uint {
    let bus_id = format!("0000:{:02}:00.0", handle - 1);
    unsafe { (&mut (*pci).bus_id)[..bus_id.len()].copy_from_slice(bus_id.as_bytes()) };
    SUCCESS
}

/// A bus with the devices at `0000:00:00.0`, `0000:01:00.0`, …
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: *const c_char, handle: *mut NvmlHandle) -> c_uint {
    let bus_id = unsafe { CStr::from_ptr(bus_id) }.to_str().unwrap();
    let index: Option<usize> = bus_id.split(':').nth(1).and_then(|bus| bus.parse().ok());
    let Some(index) = index.filter(|index| (*index as u64) < get("devices")) else {
        return NOT_FOUND;
    };
    unsafe { *handle = index + 1 };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    handle: NvmlHandle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    let mode = get(&format!("{}.mig", handle - 1)) as c_uint;
    unsafe { (*current, *pending) = (mode, mode) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(_: NvmlHandle, count: *mut c_uint) -> c_uint {
    unsafe { *count = 7 };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: NvmlHandle,
    index: c_uint,
    slice: *mut NvmlHandle,
) -> c_uint {
    if u64::from(index) >= get(&format!("{}.slices", handle - 1)) {
        return NOT_FOUND;
    }
    unsafe { *slice = SLICES * handle + index as usize + 1 };
    SUCCESS
}

/// `GPU-<index>aaa-bbb`, or `MIG-<number>-slice`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(handle: NvmlHandle, text: *mut c_char, length: c_uint) -> c_uint {
    let uuid = match handle - 1 {
        #[cfg(beside_cuda)]
        device => beside_cuda::uuid(device),
        #[cfg(not(beside_cuda))]
        slice if slice >= SLICES => format!("MIG-{slice}-slice\0"),
        #[cfg(not(beside_cuda))]
        device => format!("GPU-{device}aaa-bbb\0"),
    };
    if uuid.len() > length as usize {
        return INSUFFICIENT_SIZE;
    }
    unsafe { std::ptr::copy_nonoverlapping(uuid.as_ptr().cast(), text, uuid.len()) };
    SUCCESS
}

#[repr(C)]
pub struct NvmlMemory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

fn used(device: usize) -> u64 {
    #[cfg(beside_cuda)]
    beside_cuda::keep_busy();
    #[cfg(beside_cuda)]
    return beside_cuda::used(device);
    #[cfg(not(beside_cuda))]
    get(&format!("{device}.used"))
}

#[cfg(not(without_memory_v1))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(handle: NvmlHandle, memory: *mut NvmlMemory) -> c_uint {
    called("memory_v1");
    let (total, used) = (get(&format!("{}.total", handle - 1)), used(handle - 1));
    unsafe {
        *memory = NvmlMemory {
            total,
            free: total.wrapping_sub(used),
            used,
        };
    }
    get(&format!("{}.memory", handle - 1)) as c_uint
}

#[repr(C)]
pub struct NvmlMemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[cfg(not(without_memory_v2))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(handle: NvmlHandle, memory: *mut NvmlMemoryV2) -> c_uint {
    called("memory_v2");
    let version = unsafe { (*memory).version };
    if version as usize != size_of::<NvmlMemoryV2>() | 2 << 24 {
        return VERSION_MISMATCH;
    }
    let (total, used) = (get(&format!("{}.total", handle - 1)), used(handle - 1));
    unsafe {
        *memory = NvmlMemoryV2 {
            version,
            total,
            reserved: get(&format!("{}.kept", handle - 1)),
            free: total.wrapping_sub(used + get(&format!("{}.kept", handle - 1)) + get("fault.sum")),
            used,
        };
    }
    get(&format!("{}.memory", handle - 1)) as c_uint
}

#[repr(C)]
pub struct NvmlProcess {
    pid: c_uint,
    bytes: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[cfg(not(without_processes))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    handle: NvmlHandle,
    count: *mut c_uint,
    processes: *mut NvmlProcess,
) -> c_uint {
    called("processes");
    wait_while_set("hang");
    let device = handle - 1;
    let code = get(&format!("{device}.processes")) as c_uint;
    if code != SUCCESS {
        return code;
    }
    let listed = listed(device);
    let there = listed.len() as c_uint;
    let room = unsafe { std::mem::replace(&mut *count, there) };
    if room < there {
        return INSUFFICIENT_SIZE;
    }
    for (index, (pid, bytes)) in listed.into_iter().enumerate() {
        let process = NvmlProcess {
            pid,
            bytes,
            gpu_instance: c_uint::MAX,
            compute_instance: c_uint::MAX,
        };
        unsafe { processes.add(index).write(process) };
    }
    SUCCESS
}

/// The processes of a device, each with its bytes.
fn listed(device: usize) -> Vec<(c_uint, c_ulonglong)> {
    let number = |index: u64, name: &str| get(&format!("{device}.{index}.{name}"));
    let listed = (0..get(&format!("{device}.count")))
        .map(|index| (number(index, "pid") as c_uint, number(index, "bytes")));
    #[cfg(beside_cuda)]
    let listed = listed.chain(beside_cuda::own_entry(device));
    listed.collect()
}

#[cfg(misread_entries)]
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetConfComputeMemSizeInfo() -> c_uint {
    SUCCESS
}

/// The readings of a device. Each call writes one number.
#[cfg(not(without_readings))]
mod readings {
    use super::*;

    fn reading(handle: NvmlHandle, name: &str) -> u64 {
        called("readings");
        #[cfg(beside_cuda)]
        beside_cuda::keep_busy();
        get(&format!("{}.{name}", handle - 1))
    }

    #[repr(C)]
    pub struct NvmlUtilization {
        gpu: c_uint,
        memory: c_uint,
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(handle: NvmlHandle, rates: *mut NvmlUtilization) -> c_uint {
        let gpu = reading(handle, "gpu") as c_uint;
        let memory = get(&format!("{}.memory_busy", handle - 1)) as c_uint;
        unsafe { *rates = NvmlUtilization { gpu, memory } };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetTemperature(handle: NvmlHandle, _: c_uint, celsius: *mut c_uint) -> c_uint {
        unsafe { *celsius = reading(handle, "temperature") as c_uint };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(handle: NvmlHandle, milliwatts: *mut c_uint) -> c_uint {
        unsafe { *milliwatts = reading(handle, "milliwatts") as c_uint };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(handle: NvmlHandle, milliwatts: *mut c_uint) -> c_uint {
        unsafe { *milliwatts = reading(handle, "limit") as c_uint };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetClockInfo(handle: NvmlHandle, clock: c_uint, mhz: *mut c_uint) -> c_uint {
        let name = match clock {
            1 => "sm_clock",
            2 => "memory_clock",
            _ => return INVALID_ARGUMENT,
        };
        unsafe { *mhz = reading(handle, name) as c_uint };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(handle: NvmlHandle, millijoules: *mut u64) -> c_uint {
        unsafe { *millijoules = reading(handle, "millijoules") };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(handle: NvmlHandle, mask: *mut u64) -> c_uint {
        unsafe { *mask = reading(handle, "throttling") };
        SUCCESS
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn nvmlDeviceGetMemoryErrorCounter(
        handle: NvmlHandle,
        kind: c_uint,
        counter: c_uint,
        location: c_uint,
        count: *mut u64,
    ) -> c_uint {
        // Volatile errors of the device's memory.
        if counter != 0 || location != 2 {
            return INVALID_ARGUMENT;
        }
        let name = if kind == 0 { "corrected" } else { "uncorrected" };
        unsafe { *count = reading(handle, name) };
        SUCCESS
    }
}
