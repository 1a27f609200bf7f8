//! System calls: safe functions over the C library, for files, memory, clocks, futexes, priorities
//! and the process itself.
//!
//! A crate of safe system calls would put three crates more into the smallest program, which has
//! `libc` in any case.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

#[cfg(not(loom))]
pub(crate) use self::memory::*;

/// Turns the result of a call, which is -1 after a failure, into that of a Rust function.
fn checked(result: c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Returns the time of a clock of the system; `None` if there is no such clock.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn clock_time(clock: libc::clockid_t) -> Option<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct lives through the call, which fills it.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (result == 0).then_some(time)
}

/// Sleeps while the word holds `expected`, at most for `limit`. May return early. The futex is not
/// private, because another process may share the word.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn futex_wait(word: &std::sync::atomic::AtomicU32, expected: u32, limit: Option<std::time::Duration>) {
    use std::ffi::c_long;

    // The kernel's layout of a time for this call: two machine words on every architecture.
    let time = limit.map(|limit| {
        [
            c_long::try_from(limit.as_secs()).unwrap_or(c_long::MAX),
            limit.subsec_nanos() as c_long,
        ]
    });
    let time = time.as_ref().map_or(std::ptr::null(), |time| time.as_ptr());
    // SAFETY: the word and the time live through the call, which only reads them.
    let _ = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, time) };
}

/// Wakes one thread that sleeps on the word, of any process.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn futex_wake(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: the address is only a key in the kernel's table of sleepers.
    let _ = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Raises the nice value of the calling thread to `nice`, if it is lower.
#[cfg(target_os = "linux")]
pub(crate) fn raise_thread_nice_to(nice: c_int) {
    // SAFETY: the calls take and return integers. To Linux, "process" means the calling thread
    // alone here.
    unsafe {
        let current = libc::getpriority(libc::PRIO_PROCESS as _, 0);
        libc::setpriority(libc::PRIO_PROCESS as _, 0, current.max(nice));
    }
}

/// Sends a signal to this process.
///
/// # Errors
///
/// If there is no such signal.
pub(crate) fn kill_self(number: c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    checked(unsafe { libc::kill(libc::getpid(), number) })
}

/// Returns the number of the user whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: no memory is involved, and the call cannot fail.
    unsafe { libc::geteuid() }
}

/// Writes to stderr without the standard library's lock, and returns the number of bytes that were
/// written.
///
/// # Errors
///
/// If the stream is closed or full, or a signal came first.
pub(crate) fn write_to_stderr(bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live through the call, which only reads them. The descriptor may be closed.
    let count = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Returns `true` if stderr takes some bytes without waiting.
pub(crate) fn stderr_is_ready() -> bool {
    let mut stream = libc::pollfd {
        fd: libc::STDERR_FILENO,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: the struct lives through the call, which fills it. The descriptor may be closed.
    let count = unsafe { libc::poll(&raw mut stream, 1, 0) };
    count == 1 && stream.revents & libc::POLLOUT != 0
}

/// Makes calls on a pipe return instead of waiting.
///
/// # Errors
///
/// If the system refuses.
pub(crate) fn set_nonblocking(pipe: &io::PipeWriter) -> io::Result<()> {
    // SAFETY: the descriptor is open through the call, which involves no memory.
    checked(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })
}

/// Returns the device and the inode of an open file. Async-signal-safe.
///
/// # Errors
///
/// If the descriptor is not open.
pub(crate) fn file_identity(descriptor: RawFd) -> io::Result<(u64, u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the struct lives through the call, which involves no other memory.
    checked(unsafe { libc::fstat(descriptor, stat.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, and then has filled the struct.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

/// Makes the disk allocate the first `bytes` bytes of an empty file.
///
/// # Errors
///
/// If the disk has no room. The code of the error is `EOPNOTSUPP` if the file system allocates only
/// when it is written to.
pub(crate) fn reserve_room(file: &File, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    reserve(file.as_raw_fd(), length)
}

#[cfg(target_os = "linux")]
fn reserve(descriptor: RawFd, length: libc::off_t) -> io::Result<()> {
    // SAFETY: no memory is involved. `posix_fallocate` would write to the file page by page where
    // the file system cannot allocate.
    checked(unsafe { libc::fallocate(descriptor, 0, 0, length) })
}

#[cfg(target_vendor = "apple")]
fn reserve(descriptor: RawFd, length: libc::off_t) -> io::Result<()> {
    let request = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: length,
        fst_bytesalloc: 0,
    };
    // SAFETY: the struct lives through the call, which involves no other memory.
    checked(unsafe { libc::fcntl(descriptor, libc::F_PREALLOCATE, &raw const request) })?;
    // SAFETY: no memory is involved.
    checked(unsafe { libc::ftruncate(descriptor, length) })
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn reserve(descriptor: RawFd, length: libc::off_t) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::posix_fallocate(descriptor, 0, length) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Returns the number of bytes that a file of this process may have (`ulimit -f`); `None` if there
/// is no limit.
pub(crate) fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the struct lives through the call, which fills it. Without an answer there is no
    // limit.
    let _ = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
}

/// Returns the magic number of the file system of a folder, see `statfs(2)`.
///
/// # Errors
///
/// If the folder cannot be reached.
#[cfg(target_os = "linux")]
pub(crate) fn file_system_type(folder: &std::path::Path) -> io::Result<u32> {
    use std::os::unix::ffi::OsStrExt as _;

    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path and the struct live through the call.
    checked(unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, and then has filled the struct.
    let stat = unsafe { stat.assume_init() };
    // The type of the field differs between systems; the numbers have 32 bits.
    Ok(stat.f_type as u32)
}

/// Mappings.
#[cfg(not(loom))]
mod memory {
    use std::ptr::{self, NonNull};

    use super::*;

    const READ_AND_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

    /// Maps the first `bytes` bytes of a file, or anonymous memory, which children of a fork share.
    ///
    /// # Errors
    ///
    /// If the system has no memory or no address range left.
    pub(crate) fn map_shared(bytes: usize, file: Option<&File>) -> io::Result<NonNull<u8>> {
        let (descriptor, kind) = match file {
            Some(file) => (file.as_raw_fd(), 0),
            None => (-1, libc::MAP_ANON),
        };
        let flags = libc::MAP_SHARED | kind;
        // SAFETY: a new mapping at an address of the system's choice touches no memory in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, READ_AND_WRITE, flags, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // The system gives the lowest page only to programs that ask for it.
        NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Ends a mapping.
    ///
    /// # Safety
    ///
    /// [`map_shared`] returned the mapping, with this length, and nothing borrows from it.
    pub(crate) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
        // SAFETY: by the caller's promise.
        let _ = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }

    /// Puts a private mapping of the beginning of a file, or of zeros, over a part of a mapping.
    /// Async-signal-safe: on Linux this is a system call and nothing else.
    ///
    /// # Errors
    ///
    /// If the descriptor is not open or the system has no memory left.
    ///
    /// # Safety
    ///
    /// The range belongs to a mapping of the caller, and every value is valid for everything that
    /// borrows from the range.
    #[cfg(target_os = "linux")]
    pub(crate) unsafe fn map_private_over(start: *mut u8, bytes: usize, file: Option<RawFd>) -> io::Result<()> {
        let (descriptor, kind) = match file {
            Some(descriptor) => (descriptor, 0),
            None => (-1, libc::MAP_ANON),
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | kind;
        // SAFETY: by the caller's promise.
        let mapped = unsafe { libc::mmap(start.cast(), bytes, READ_AND_WRITE, flags, descriptor, 0) };
        match mapped {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Makes the system provide pages for writing, and answer without a signal if it cannot.
    /// Async-signal-safe: on Linux this is a system call and nothing else.
    ///
    /// # Errors
    ///
    /// If the system has no page, or there is no mapping.
    #[cfg(target_os = "linux")]
    pub(crate) fn provide_pages(start: *mut u8, bytes: usize) -> io::Result<()> {
        // SAFETY: the advice changes no byte of any range, and the kernel refuses a range that is
        // not mapped.
        checked(unsafe { libc::madvise(start.cast(), bytes, libc::MADV_POPULATE_WRITE) })
    }

    /// Makes faults of a mapped file read the page that is touched, and none after that one.
    ///
    /// # Errors
    ///
    /// If there is no mapping.
    #[cfg(target_os = "linux")]
    pub(crate) fn read_single_pages(start: *mut u8, bytes: usize) -> io::Result<()> {
        // SAFETY: as in `provide_pages`.
        checked(unsafe { libc::madvise(start.cast(), bytes, libc::MADV_RANDOM) })
    }

    /// Returns the size of a page of memory, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn page_bytes() -> usize {
        // SAFETY: no memory is involved. Every Linux knows the answer.
        unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
    }
}
