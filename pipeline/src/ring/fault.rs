//! A mapped file whose pages the system cannot provide is a fatal signal to whoever touches them: the file was cut, its disk is
//! full or has failed. Here SIGBUS within a mapping of ours parts it from the file, and the process goes on in plain memory.
//!
//! The handler puts a private mapping of the same file over the whole range, in one step. All that was ever stored there is in
//! the page cache, and so in the new mapping: a store happened either before the step, in a page of the file, or after it, in a
//! copy. (The kernel takes the old pages away, and makes sure that no processor has them, before anybody finds the new
//! mapping; a thread that faults meanwhile waits for it.) What is written from then on is memory of this process, which no disk
//! has to have room for. A page that cannot even be read is gone: zeros take its place.
//!
//! A fault that is not ours has the effect that it would have had without us.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

use crate::ring::layout::TAIL;

/// A mapping whose faults are mended until this is dropped.
pub(crate) struct Watched {
    place: &'static Place,
    /// The state of each page; the handler sees it, too.
    pages: Box<[AtomicU8]>,
}

/// A mapping, as the handler knows it. All of it is in atomics: a handler may run at any moment, and takes no lock.
struct Place {
    /// 0 while the place is free; otherwise the rest is complete.
    start: AtomicUsize,
    bytes: AtomicUsize,
    page_bytes: AtomicUsize,
    /// The file, and by what it is known: its number may be another's by now.
    file: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    state: AtomicU8,
    pages: AtomicPtr<AtomicU8>,
    tail: AtomicPtr<AtomicU64>,
    /// The tail when it was parted: what was reserved before may be gone with a page.
    parted_at: AtomicU64,
}

/// States of a mapping: it is the file, it is about to be parted from it, it has been. (`TAKEN`: it is not known yet.)
const WHOLE: u8 = 0;
const PARTING: u8 = 1;
const PARTED: u8 = 2;
const TAKEN: u8 = 3;
/// States of a page: it is that of the mapping, it is looked at, it is gone and another has its place.
const THERE: u8 = 0;
const LOOKED_AT: u8 = 1;
const GONE: u8 = 2;

/// A process has one ring at a time; those that could not be ended in time stay.
const MOST: usize = 16;
static PLACES: [Place; MOST] = [const { Place::free() }; MOST];

/// The action that the signal had before.
static EARLIER: OnceLock<libc::sigaction> = OnceLock::new();

impl Watched {
    /// Watches a mapping of `file` until the value is dropped, which has to be before the mapping ends.
    ///
    /// # Errors
    ///
    /// If too many are watched.
    pub(crate) fn begin(start: NonNull<u8>, bytes: usize, file: &File, front: NonNull<u8>) -> io::Result<Self> {
        let about = file.metadata()?;
        // SAFETY: no memory is involved.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).unwrap_or(4096);
        let pages: Box<[AtomicU8]> = (0..bytes.div_ceil(page_bytes)).map(|_| AtomicU8::new(THERE)).collect();
        let place = PLACES
            .iter()
            .find(|place| {
                let taken = place
                    .bytes
                    .compare_exchange(0, bytes, Ordering::Acquire, Ordering::Relaxed);
                taken.is_ok()
            })
            .ok_or_else(|| io::Error::other("too many rings are mapped"))?;
        place.state.store(WHOLE, Ordering::Relaxed);
        place.page_bytes.store(page_bytes, Ordering::Relaxed);
        place.file.store(file.as_raw_fd(), Ordering::Relaxed);
        place.device.store(about.dev(), Ordering::Relaxed);
        place.inode.store(about.ino(), Ordering::Relaxed);
        place.pages.store(pages.as_ptr().cast_mut(), Ordering::Relaxed);
        // SAFETY: the front is longer than the header, which the tail is in.
        let tail = unsafe { front.as_ptr().add(TAIL) };
        place.tail.store(tail.cast(), Ordering::Relaxed);
        place.parted_at.store(0, Ordering::Relaxed);
        // A handler that finds the start finds the rest.
        place.start.store(start.as_ptr() as usize, Ordering::Release);
        install();
        Ok(Self { place, pages })
    }

    pub(crate) fn has_parted(&self) -> bool {
        self.place.state.load(Ordering::Relaxed) != WHOLE
    }

    /// The pages among these bytes that are gone, by their offsets, if the bytes were reserved at a position before the mapping was
    /// parted: what was written there before then is gone with them.
    pub(crate) fn gone(&self, offset: usize, length: usize, at: u64) -> impl Iterator<Item = usize> {
        let page_bytes = self.place.page_bytes.load(Ordering::Relaxed);
        let reserved_before = at < self.place.parted_at.load(Ordering::Relaxed);
        let pages = offset / page_bytes..(offset + length).div_ceil(page_bytes);
        let gone = move |page: &usize| {
            reserved_before
                && self
                    .pages
                    .get(*page)
                    .is_some_and(|state| state.load(Ordering::Acquire) == GONE)
        };
        pages.filter(gone).map(move |page| page * page_bytes)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // No thread has a fault in the mapping now: nobody borrows from it any more. Those with faults elsewhere see the place
        // as it was or as a free one, and neither is theirs.
        self.place.start.store(0, Ordering::Release);
        self.place.bytes.store(0, Ordering::Release);
    }
}

impl Place {
    const fn free() -> Self {
        Self {
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            page_bytes: AtomicUsize::new(0),
            file: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            state: AtomicU8::new(TAKEN),
            pages: AtomicPtr::new(ptr::null_mut()),
            tail: AtomicPtr::new(ptr::null_mut()),
            parted_at: AtomicU64::new(0),
        }
    }

    /// Mends a fault; `false` if that cannot be.
    fn mend(&self, page: usize) -> bool {
        // The thread that has parted it, or has waited for the one that did, tries again. A fault that comes then is of the page
        // alone.
        self.part() || self.mend_page(page)
    }

    /// Parts the mapping from its file, or waits for who does; returns whether it was whole until now.
    fn part(&self) -> bool {
        match self
            .state
            .compare_exchange(WHOLE, PARTING, Ordering::Acquire, Ordering::Acquire)
        {
            Ok(_) => {
                // SAFETY: the front lives longer than the place is taken.
                let tail = unsafe { &*self.tail.load(Ordering::Relaxed) };
                self.parted_at.store(tail.load(Ordering::SeqCst), Ordering::Relaxed);
                if self.is_its_file() {
                    // Where the system refuses, pages are mended one by one.
                    self.map_over(0, self.bytes.load(Ordering::Relaxed), self.file.load(Ordering::Relaxed));
                }
                self.state.store(PARTED, Ordering::Release);
                true
            }
            Err(PARTING) => {
                wait_while(|| self.state.load(Ordering::Acquire) == PARTING);
                true
            }
            Err(_) => false,
        }
    }

    fn mend_page(&self, page: usize) -> bool {
        let page_bytes = self.page_bytes.load(Ordering::Relaxed);
        // SAFETY: `begin` made a state for each page, and who drops them has no fault in the mapping.
        let state = unsafe { &*self.pages.load(Ordering::Relaxed).add(page) };
        match state.compare_exchange(THERE, LOOKED_AT, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) if self.can_be_written(page * page_bytes, page_bytes) => {
                // The fault was that of the mapping before it was parted.
                state.store(THERE, Ordering::Release);
                true
            }
            Ok(_) => {
                let mapped = self.map_over(page * page_bytes, page_bytes, -1);
                state.store(if mapped { GONE } else { THERE }, Ordering::Release);
                mapped
            }
            Err(LOOKED_AT) => {
                wait_while(|| state.load(Ordering::Acquire) == LOOKED_AT);
                true
            }
            // Another thread's fault was mended before this one was looked at.
            Err(_) => true,
        }
    }

    /// Whether the descriptor still is that of the file.
    fn is_its_file(&self) -> bool {
        let mut about = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the struct lives through the call, and all zero is a valid value of it.
        let (failed, about) = unsafe {
            let failed = libc::fstat(self.file.load(Ordering::Relaxed), about.as_mut_ptr()) != 0;
            (failed, about.assume_init())
        };
        !failed
            && (about.st_dev, about.st_ino) == (self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed))
    }

    /// Puts a private mapping of the file, or of nothing, over a part of the range; returns whether it could.
    fn map_over(&self, offset: usize, bytes: usize, file: c_int) -> bool {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = if file < 0 { libc::MAP_ANONYMOUS } else { 0 };
        let start = self.start.load(Ordering::Relaxed) + offset;
        // SAFETY: the range is that of the mapping, which belongs to us until the place is free. Reads and writes there are of
        // atomics and of bytes, of which every value is valid; see the head of the file for what becomes of stores.
        let mapped = unsafe {
            libc::mmap(
                ptr::with_exposed_provenance_mut(start),
                bytes,
                access,
                libc::MAP_PRIVATE | libc::MAP_FIXED | kind,
                file,
                0,
            )
        };
        mapped != libc::MAP_FAILED
    }

    /// Whether the system provides the page now. It says so without a signal.
    fn can_be_written(&self, offset: usize, bytes: usize) -> bool {
        let start = ptr::with_exposed_provenance_mut(self.start.load(Ordering::Relaxed) + offset);
        // SAFETY: the range is that of the mapping, and the advice changes none of its bytes.
        unsafe { libc::madvise(start, bytes, libc::MADV_POPULATE_WRITE) == 0 }
    }
}

/// Waits for another thread that is in its handler, where no signal holds it up. A child of a fork may have the state without the
/// thread, so the wait ends.
fn wait_while(busy: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if !busy() {
            return;
        }
        // SAFETY: no memory is involved; a system call that takes no lock of the process.
        unsafe { libc::sched_yield() };
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut earlier = MaybeUninit::zeroed();
        // SAFETY: the struct lives through the call, which fills it; all zero, if it failed, is the default action.
        let earlier = unsafe {
            libc::sigaction(libc::SIGBUS, ptr::null(), earlier.as_mut_ptr());
            earlier.assume_init()
        };
        // Complete before the handler can run.
        let _ = EARLIER.set(earlier);
        // SAFETY: all zero is a valid value of this C struct, and what matters is set: on the stack that is meant for it, where
        // there is one, and with no other signal meanwhile, whose handler might wait for what this one does.
        unsafe {
            let mut new: libc::sigaction = MaybeUninit::zeroed().assume_init();
            new.sa_sigaction = handler as *const () as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigfillset(&raw mut new.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const new, ptr::null_mut());
        }
    });
}

/// Calls only functions that are async-signal-safe, see `signal-safety(7)`, and `mmap` and `madvise`, which on Linux are system
/// calls and nothing else: no allocation, no lock.
extern "C" fn handler(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: always a valid pointer, of this thread; what was interrupted may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel gives a valid one to a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if !is_of_a_file(code) || !mend(address) {
        pass_on(number, code, info, context);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Whether the system had no page: no `kill`, no address that is odd, no memory that is broken.
fn is_of_a_file(code: c_int) -> bool {
    const BUS_ADRERR: c_int = 2;
    const BUS_OBJERR: c_int = 3;
    matches!(code, BUS_ADRERR | BUS_OBJERR)
}

fn mend(address: usize) -> bool {
    for place in &PLACES {
        let start = place.start.load(Ordering::Acquire);
        let Some(offset) = address.checked_sub(start).filter(|_| start != 0) else {
            continue;
        };
        if offset < place.bytes.load(Ordering::Relaxed) {
            return place.mend(offset / place.page_bytes.load(Ordering::Relaxed));
        }
    }
    false
}

/// Does what would be done were our handler not there.
fn pass_on(number: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    type Plain = extern "C" fn(c_int);
    let Some(earlier) = EARLIER.get() else { return };
    // The access is made again when this returns, and faults again; one who sent the signal has to send it again.
    let was_sent = code <= 0;
    // SAFETY: whoever installed an earlier handler gave a function of the form that its flags say, and it gets what the kernel
    // gave us. The rest involves no memory.
    unsafe {
        match earlier.sa_sigaction {
            libc::SIG_IGN if was_sent => {}
            // A fault cannot be ignored.
            libc::SIG_IGN | libc::SIG_DFL => {
                libc::signal(number, libc::SIG_DFL);
                if was_sent {
                    libc::raise(number);
                }
            }
            action if earlier.sa_flags & libc::SA_SIGINFO != 0 => {
                mem::transmute::<usize, WithInfo>(action)(number, info, context);
            }
            action => mem::transmute::<usize, Plain>(action)(number),
        }
        // The standard library's handler, which is there in every program, counts on the access to be made again.
        let mut now: libc::sigaction = MaybeUninit::zeroed().assume_init();
        if was_sent
            && earlier.sa_sigaction > libc::SIG_IGN
            && libc::sigaction(number, ptr::null(), &raw mut now) == 0
            && now.sa_sigaction == libc::SIG_DFL
        {
            libc::raise(number);
        }
    }
}
