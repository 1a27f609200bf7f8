//! Statistics of libtorch's CUDA allocator, through `shim.cpp`.
#![allow(unsafe_code, reason = "the shim is C++")]

use std::ffi::c_int;

unsafe extern "C" {
    fn torch_cuda_memory(ordinal: c_int, allocated: *mut u64, reserved: *mut u64) -> bool;
}

/// Returns the bytes of live tensors on a device and the bytes reserved from the driver; `None` if
/// CUDA is not in use. They equal `torch.cuda.memory_allocated()` and `memory_reserved()`.
pub(crate) fn usage(ordinal: usize) -> Option<(u64, u64)> {
    let (mut allocated, mut reserved) = (0, 0);
    // SAFETY: the shim writes two numbers, keeps neither address, and catches all exceptions.
    let known = unsafe { torch_cuda_memory(c_int::try_from(ordinal).ok()?, &mut allocated, &mut reserved) };
    known.then_some((allocated, reserved))
}
