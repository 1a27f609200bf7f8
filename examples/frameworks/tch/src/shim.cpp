// What libtorch's allocator for CUDA counts. This interface is C++ and changes with libtorch, so it is compiled against the headers
// of the libtorch that is linked. It needs no headers of CUDA, and builds with a libtorch for the processor, too.

#include <c10/core/CachingDeviceAllocator.h>

extern "C" bool torch_cuda_memory(int ordinal, uint64_t *allocated, uint64_t *reserved) {
    try {
        c10::DeviceAllocator *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        if (!allocator->initialized()) {
            return false;
        }
        const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(ordinal));
        const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
        *allocated = static_cast<uint64_t>(stats.allocated_bytes[all].current);
        *reserved = static_cast<uint64_t>(stats.reserved_bytes[all].current);
        return true;
    } catch (...) {
        return false; // a libtorch without CUDA, or no such device
    }
}
