//! Keeps the process alive when the file behind a mapping fails.
//!
//! If a file was truncated, or its disk is full or broken, then the system cannot provide the pages
//! of a mapping. A thread that touches such a page receives SIGBUS, which is fatal. This handler
//! detaches a guarded mapping from its file instead, and the process continues in plain memory.
//!
//! The handler puts a private mapping of the same file over the whole range, in one step.
//! Everything ever stored there is in the page cache, and so in the new mapping: each store
//! happened either before the step, in a page of the file, or after the step, in a private copy.
//! (The kernel removes the old pages from all processors before anybody finds the new mapping. A
//! thread that faults meanwhile waits for the step.) Later writes go to memory of this process,
//! which no disk has to have room for. A page that cannot even be read is lost, and zeros replace
//! it.
//!
//! A fault outside the guarded mappings has the effect that it would have without this handler.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

use super::layout::TAIL;
use crate::process::sys::calls::{file_identity, map_private_over, page_bytes, provide_pages};
use crate::process::sys::{SignalAction, keep_errno, raise};

/// A mapping whose faults are repaired until the value is dropped.
pub(crate) struct GuardedMapping {
    entry: &'static GuardEntry,
    /// The state of each page, which the handler uses, too.
    pages: Box<[AtomicU8]>,
}

/// A mapping as the handler sees it. Everything is atomic: a handler may run at any moment, and
/// takes no lock.
struct GuardEntry {
    /// Zero while the entry is free. Otherwise all other fields are complete.
    start: AtomicUsize,
    bytes: AtomicUsize,
    page_bytes: AtomicUsize,
    /// The descriptor of the file. The device and the inode show whether the descriptor still
    /// belongs to the file.
    file: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    state: AtomicU8,
    pages: AtomicPtr<AtomicU8>,
    tail: AtomicPtr<AtomicU64>,
    /// The tail of the ring when the mapping was detached: earlier reservations may be lost with a
    /// page.
    detached_at: AtomicU64,
}

// States of a mapping.
const ATTACHED: u8 = 0;
const DETACHING: u8 = 1;
const DETACHED: u8 = 2;
/// The entry is not initialized yet.
const UNUSED: u8 = 3;

// States of a page.
const PRESENT: u8 = 0;
const CHECKING: u8 = 1;
/// Zeros have replaced the page.
const LOST: u8 = 2;

/// A process has one ring at a time, besides those that could not be ended in time.
const MAX_MAPPINGS: usize = 16;
static ENTRIES: [GuardEntry; MAX_MAPPINGS] = [const { GuardEntry::free() }; MAX_MAPPINGS];

/// The action of the signal before ours.
static EARLIER_ACTION: OnceLock<SignalAction> = OnceLock::new();

impl GuardedMapping {
    /// Guards a mapping of `file` until the value is dropped, which has to happen before the
    /// mapping ends.
    ///
    /// # Errors
    ///
    /// If too many mappings are guarded.
    pub(crate) fn guard(start: NonNull<u8>, bytes: usize, file: &File, front: NonNull<u8>) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let page_bytes = page_bytes();
        let pages: Box<[AtomicU8]> = (0..bytes.div_ceil(page_bytes))
            .map(|_| AtomicU8::new(PRESENT))
            .collect();
        let entry = ENTRIES
            .iter()
            .find(|entry| {
                let taken = entry
                    .bytes
                    .compare_exchange(0, bytes, Ordering::Acquire, Ordering::Relaxed);
                taken.is_ok()
            })
            .ok_or_else(|| io::Error::other("too many rings are mapped"))?;
        entry.state.store(ATTACHED, Ordering::Relaxed);
        entry.page_bytes.store(page_bytes, Ordering::Relaxed);
        entry.file.store(file.as_raw_fd(), Ordering::Relaxed);
        entry.device.store(metadata.dev(), Ordering::Relaxed);
        entry.inode.store(metadata.ino(), Ordering::Relaxed);
        entry.pages.store(pages.as_ptr().cast_mut(), Ordering::Relaxed);
        // SAFETY: the front is longer than the header, which contains the tail.
        let tail = unsafe { front.as_ptr().add(TAIL) };
        entry.tail.store(tail.cast(), Ordering::Relaxed);
        entry.detached_at.store(0, Ordering::Relaxed);
        // A handler that finds the start finds the rest.
        entry.start.store(start.as_ptr() as usize, Ordering::Release);
        install_handler();
        Ok(Self { entry, pages })
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.entry.state.load(Ordering::Relaxed) != ATTACHED
    }

    /// Returns `true` if the mapping was detached after this position was reserved. While the
    /// mapping is attached, nothing is known to be lost.
    pub(crate) fn was_attached_at(&self, position: u64) -> bool {
        position < self.entry.detached_at.load(Ordering::Relaxed)
    }

    /// Returns the offsets of the lost pages among these bytes, if the bytes were reserved at a
    /// position before the mapping was detached: data written there before the loss is gone.
    pub(crate) fn lost_pages(&self, offset: usize, length: usize, position: u64) -> impl Iterator<Item = usize> {
        let page_bytes = self.entry.page_bytes.load(Ordering::Relaxed);
        let may_be_lost = self.was_attached_at(position);
        let pages = offset / page_bytes..(offset + length).div_ceil(page_bytes);
        let is_lost = move |page: &usize| {
            may_be_lost
                && self
                    .pages
                    .get(*page)
                    .is_some_and(|state| state.load(Ordering::Acquire) == LOST)
        };
        pages.filter(is_lost).map(move |page| page * page_bytes)
    }
}

impl Drop for GuardedMapping {
    fn drop(&mut self) {
        // No thread has a fault in the mapping now, because nothing borrows from it anymore.
        // Threads with faults elsewhere see the entry as it was, or as a free one. In both cases
        // the fault is not in this mapping.
        self.entry.start.store(0, Ordering::Release);
        self.entry.bytes.store(0, Ordering::Release);
    }
}

impl GuardEntry {
    const fn free() -> Self {
        Self {
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            page_bytes: AtomicUsize::new(0),
            file: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            state: AtomicU8::new(UNUSED),
            pages: AtomicPtr::new(ptr::null_mut()),
            tail: AtomicPtr::new(ptr::null_mut()),
            detached_at: AtomicU64::new(0),
        }
    }

    /// Repairs a fault; returns `false` if that is impossible.
    fn repair(&self, page: usize) -> bool {
        // After the mapping was detached, by this thread or another, the access is tried again. A
        // fault that follows concerns the page alone.
        self.detach() || self.repair_page(page)
    }

    /// Detaches the mapping from its file, or waits for a thread that does. Returns `true` if the
    /// mapping was attached until now.
    fn detach(&self) -> bool {
        match self
            .state
            .compare_exchange(ATTACHED, DETACHING, Ordering::Acquire, Ordering::Acquire)
        {
            Ok(_) => {
                // SAFETY: the front lives longer than the entry is in use.
                let tail = unsafe { &*self.tail.load(Ordering::Relaxed) };
                self.detached_at.store(tail.load(Ordering::SeqCst), Ordering::Relaxed);
                if let Some(file) = self.open_file() {
                    // If the system refuses, pages are repaired one by one.
                    self.map_over(0, self.bytes.load(Ordering::Relaxed), Some(file));
                }
                self.state.store(DETACHED, Ordering::Release);
                true
            }
            Err(DETACHING) => {
                wait_while(|| self.state.load(Ordering::Acquire) == DETACHING);
                true
            }
            Err(_) => false,
        }
    }

    fn repair_page(&self, page: usize) -> bool {
        let page_bytes = self.page_bytes.load(Ordering::Relaxed);
        // SAFETY: `guard` made a state for each page, and a thread that drops them has no fault in
        // the mapping.
        let state = unsafe { &*self.pages.load(Ordering::Relaxed).add(page) };
        match state.compare_exchange(PRESENT, CHECKING, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) if self.can_be_written(page * page_bytes, page_bytes) => {
                // The fault happened before the mapping was detached.
                state.store(PRESENT, Ordering::Release);
                true
            }
            Ok(_) => {
                let is_mapped = self.map_over(page * page_bytes, page_bytes, None);
                state.store(if is_mapped { LOST } else { PRESENT }, Ordering::Release);
                is_mapped
            }
            Err(CHECKING) => {
                wait_while(|| state.load(Ordering::Acquire) == CHECKING);
                true
            }
            // Another thread's fault was repaired before this one was examined.
            Err(_) => true,
        }
    }

    /// Returns the descriptor, if it still belongs to the file.
    fn open_file(&self) -> Option<RawFd> {
        let descriptor: RawFd = self.file.load(Ordering::Relaxed);
        let expected = (self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed));
        // If the program has closed the descriptor itself, the call fails or finds another file.
        let identity = file_identity(descriptor).ok()?;
        (identity == expected).then_some(descriptor)
    }

    /// Puts a private mapping of the file, or of zeros, over a part of the range. Returns `true` on
    /// success.
    fn map_over(&self, offset: usize, bytes: usize, file: Option<RawFd>) -> bool {
        let start = ptr::with_exposed_provenance_mut(self.start.load(Ordering::Relaxed) + offset);
        // SAFETY: the range is part of the mapping, which belongs to us until the entry is free.
        // Reads and writes there are of atomics and of bytes, for which every value is valid. The
        // head of the file explains what happens to stores.
        unsafe { map_private_over(start, bytes, file).is_ok() }
    }

    /// Returns `true` if the system provides the page now. The system answers without a signal.
    fn can_be_written(&self, offset: usize, bytes: usize) -> bool {
        let start = ptr::with_exposed_provenance_mut(self.start.load(Ordering::Relaxed) + offset);
        provide_pages(start, bytes).is_ok()
    }
}

/// Waits for another thread that is in its handler, where no signal delays it. A child of a fork
/// may have the state without the thread, so the wait is bounded.
fn wait_while(is_busy: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if !is_busy() {
            return;
        }
        // On Linux this is the system call `sched_yield` and nothing else.
        std::thread::yield_now();
    }
}

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Complete before the handler can run.
        let _ = EARLIER_ACTION.set(SignalAction::installed(libc::SIGBUS));
        // SAFETY: `handle_bus_error` is async-signal-safe.
        let action = unsafe { SignalAction::with_handler(handle_bus_error) };
        // No other signal meanwhile: its handler might wait for this one.
        action.blocking_all().install(libc::SIGBUS);
    });
}

/// Calls only async-signal-safe functions (see `signal-safety(7)`), and `mmap` and `madvise`, which
/// on Linux are system calls and nothing else: no allocation, no lock.
extern "C" fn handle_bus_error(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    keep_errno(|| {
        // SAFETY: the kernel passes a valid pointer to a handler with SA_SIGINFO.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        if !is_missing_page(code) || !repair(address) {
            pass_on(number, code, info, context);
        }
    });
}

/// Returns `true` if the system had no page. Other causes are `kill`, an unaligned address, or
/// broken memory.
fn is_missing_page(code: c_int) -> bool {
    const BUS_ADRERR: c_int = 2;
    const BUS_OBJERR: c_int = 3;
    matches!(code, BUS_ADRERR | BUS_OBJERR)
}

fn repair(address: usize) -> bool {
    for entry in &ENTRIES {
        let start = entry.start.load(Ordering::Acquire);
        let Some(offset) = address.checked_sub(start).filter(|_| start != 0) else {
            continue;
        };
        if offset < entry.bytes.load(Ordering::Relaxed) {
            return entry.repair(offset / entry.page_bytes.load(Ordering::Relaxed));
        }
    }
    false
}

/// Does what would happen without our handler.
fn pass_on(number: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(earlier) = EARLIER_ACTION.get() else { return };
    // After a fault the access is tried again when the handler returns, and faults again. A sent
    // signal has to be sent again.
    let was_sent = code <= 0;
    if earlier.is_ignored() && was_sent {
        return;
    }
    if earlier.is_ignored() || earlier.is_default() {
        // A fault cannot be ignored.
        SignalAction::install_default(number);
        if was_sent {
            raise(number);
        }
        return;
    }
    // SAFETY: called by a handler, with what the kernel passed to it.
    unsafe { earlier.call(number, info, context) };
    // The standard library's handler, which every program has, sets the default action and expects
    // the access to be tried again.
    if was_sent && SignalAction::installed(number).is_default() {
        raise(number);
    }
}
