//! Names of the system calls in which threads wait.

/// Returns the name of a system call of this machine's 64-bit programs, if it is one in which
/// threads usually wait.
pub(super) fn name_of(number: u64) -> Option<&'static str> {
    let named = CALLS.iter().find(|call| call.number() == Some(number));
    named.map(|call| call.name)
}

/// Returns `true` if the first argument of the call is the descriptor that the thread waits for.
pub(super) fn begins_with_descriptor(name: &str) -> bool {
    CALLS.iter().any(|call| call.name == name && call.has_descriptor)
}

struct SystemCall {
    name: &'static str,
    x86_64: Option<u64>,
    aarch64: Option<u64>,
    has_descriptor: bool,
}

impl SystemCall {
    fn number(&self) -> Option<u64> {
        match std::env::consts::ARCH {
            "x86_64" => self.x86_64,
            "aarch64" => self.aarch64,
            _ => None,
        }
    }
}

/// A call on a descriptor.
const fn on(name: &'static str, x86_64: u64, aarch64: u64) -> SystemCall {
    call_of(name, Some(x86_64), Some(aarch64), true)
}

/// A call on something else.
const fn call(name: &'static str, x86_64: u64, aarch64: u64) -> SystemCall {
    call_of(name, Some(x86_64), Some(aarch64), false)
}

/// A call that aarch64 does not have.
const fn old(name: &'static str, x86_64: u64, has_descriptor: bool) -> SystemCall {
    call_of(name, Some(x86_64), None, has_descriptor)
}

const fn call_of(name: &'static str, x86_64: Option<u64>, aarch64: Option<u64>, has_descriptor: bool) -> SystemCall {
    SystemCall {
        name,
        x86_64,
        aarch64,
        has_descriptor,
    }
}

/// The numbers are those of `asm/unistd_64.h` (x86_64) and `asm-generic/unistd.h` (aarch64), which
/// the kernel never changes.
const CALLS: &[SystemCall] = &[
    on("read", 0, 63),
    on("write", 1, 64),
    old("open", 2, false),
    on("close", 3, 57),
    old("poll", 7, false),
    on("ioctl", 16, 29),
    on("pread64", 17, 67),
    on("pwrite64", 18, 68),
    on("readv", 19, 65),
    on("writev", 20, 66),
    old("select", 23, false),
    call("sched_yield", 24, 124),
    call("msync", 26, 227),
    call("madvise", 28, 233),
    old("pause", 34, false),
    call("nanosleep", 35, 101),
    on("sendfile", 40, 71),
    on("connect", 42, 203),
    on("accept", 43, 202),
    on("sendto", 44, 206),
    on("recvfrom", 45, 207),
    on("sendmsg", 46, 211),
    on("recvmsg", 47, 212),
    call("wait4", 61, 260),
    call("semop", 65, 193),
    call("msgrcv", 70, 188),
    on("fcntl", 72, 25),
    on("flock", 73, 32),
    on("fsync", 74, 82),
    on("fdatasync", 75, 83),
    on("ftruncate", 77, 46),
    call("rt_sigtimedwait", 128, 137),
    call("rt_sigsuspend", 130, 133),
    call("sync", 162, 81),
    call("futex", 202, 98),
    call("io_getevents", 208, 4),
    on("getdents64", 217, 61),
    call("restart_syscall", 219, 128),
    call("semtimedop", 220, 192),
    call("clock_nanosleep", 230, 115),
    old("epoll_wait", 232, true),
    call("waitid", 247, 95),
    call("openat", 257, 56),
    call("newfstatat", 262, 79),
    call("pselect6", 270, 72),
    call("ppoll", 271, 73),
    on("splice", 275, 76),
    on("sync_file_range", 277, 84),
    on("epoll_pwait", 281, 22),
    on("fallocate", 285, 47),
    on("accept4", 288, 242),
    on("recvmmsg", 299, 243),
    on("syncfs", 306, 267),
    on("sendmmsg", 307, 269),
    on("copy_file_range", 326, 285),
    call("statx", 332, 291),
    on("io_uring_enter", 426, 426),
    call("openat2", 437, 437),
    on("epoll_pwait2", 441, 441),
    call("futex_waitv", 449, 449),
    call("futex_wait", 455, 455),
];
