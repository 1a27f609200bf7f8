//! The work around a fork without `exec`: a child has the memory of its parent and one of its threads.
//!
//! A child shares the ring of its parent, whose writer takes what the child says, too; it begins a ring of its own only when that
//! writer is gone, or for a logger that it sets up itself. Values that lead to threads are
//! [`PerProcess`](logcore::PerProcess). The state that the child goes on with is in a [`ForkMutex`]. The lock that says that the
//! parent lives must end with the parent.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::caller::shared::Shared;

/// A lock that no fork catches while another thread holds it: the fork waits for it, a moment at most. Nothing that may wait is
/// done under it.
pub struct ForkMutex<T> {
    number: u64,
    inner: Arc<Mutex<T>>,
}

impl<T: Send + 'static> ForkMutex<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::new(Mutex::new(value));
        let weak: Weak<Mutex<T>> = Arc::downgrade(&inner);
        lock(&MUTEXES).get_or_insert_default().insert(number, weak);
        Self { number, inner }
    }
}

impl<T> ForkMutex<T> {
    /// Takes the lock. A thread that panicked with it has left a whole value: user code runs under no lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default + Send + 'static> Default for ForkMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for ForkMutex<T> {
    fn drop(&mut self) {
        if let Some(mutexes) = &mut *lock(&MUTEXES) {
            mutexes.remove(&self.number);
        }
    }
}

/// Sees to it that the work around forks is done. Only the first call counts.
pub(crate) fn watch() {
    #[cfg(unix)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: the functions have the C signature, live for ever and do not unwind. The child is, for the system, the
            // thread that forked, so that it may give back what that has taken. Failure means that the system has no room for
            // one more handler; then a child waits for answers in vain.
            let _ = unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
        });
    }
}

/// Has children put nothing into this ring as if it were theirs.
pub(crate) fn shut_in_children(shared: &Arc<Shared>) {
    let mut rings = lock(&RINGS);
    rings.retain(|ring| ring.strong_count() > 0);
    rings.push(Arc::downgrade(shared));
}

/// A descriptor whose lock is to end with this process, as it was opened: if its number is another file's by the time of a
/// fork, it is not touched.
#[derive(Debug)]
pub(crate) struct OwnDescriptor(#[cfg_attr(not(unix), allow(dead_code))] Option<usize>);

struct Place {
    descriptor: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// Several only where the end of a ring ran out of time. Where there is no place left, the lock lasts as long as the children.
static DESCRIPTORS: [Place; 16] = [const {
    Place {
        descriptor: AtomicI32::new(FREE),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
    }
}; 16];
const FREE: i32 = -1;
const TAKEN: i32 = -2;

impl OwnDescriptor {
    /// Has every child of a fork close its copy.
    #[cfg(unix)]
    pub(crate) fn of(file: &File) -> Self {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::MetadataExt as _;

        let Ok(metadata) = file.metadata() else {
            return Self(None);
        };
        let place = DESCRIPTORS.iter().position(|place| {
            let exchanged = place
                .descriptor
                .compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed);
            exchanged.is_ok()
        });
        if let Some(place) = place.map(|at| &DESCRIPTORS[at]) {
            place.device.store(metadata.dev(), Ordering::Relaxed);
            place.inode.store(metadata.ino(), Ordering::Relaxed);
            place.descriptor.store(file.as_raw_fd(), Ordering::Release);
        }
        Self(place)
    }
}

impl Drop for OwnDescriptor {
    /// Before the descriptor is closed, so that no child looks at a number that is another file's.
    fn drop(&mut self) {
        if let Some(at) = self.0 {
            DESCRIPTORS[at].descriptor.store(FREE, Ordering::Release);
        }
    }
}

/// The locks that the thread that forks holds meanwhile.
struct Held {
    /// Before those that keep what they lock.
    _locks: Vec<Box<dyn Any>>,
    _mutexes: MutexGuard<'static, Option<HashMap<u64, Weak<dyn Hold>>>>,
    rings: MutexGuard<'static, Vec<Weak<Shared>>>,
}

static MUTEXES: Mutex<Option<HashMap<u64, Weak<dyn Hold>>>> = Mutex::new(None);
static RINGS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// A lock that can be held without a borrow.
trait Hold: Send + Sync {
    fn hold(self: Arc<Self>, until: Instant) -> Option<Box<dyn Any>>;
}

struct HeldLock<T: 'static> {
    _guard: MutexGuard<'static, T>,
    /// Dropped after the guard.
    _mutex: Arc<Mutex<T>>,
}

impl<T: Send + 'static> Hold for Mutex<T> {
    fn hold(self: Arc<Self>, until: Instant) -> Option<Box<dyn Any>> {
        let guard = lock_soon(&self, until)?;
        // SAFETY: the guard borrows from the mutex, which the struct keeps at its place and drops after the guard.
        let guard = unsafe { std::mem::transmute::<MutexGuard<'_, T>, MutexGuard<'static, T>>(guard) };
        Some(Box::new(HeldLock {
            _guard: guard,
            _mutex: self,
        }))
    }
}

/// A fork from a signal handler may have interrupted who holds a lock; the parent then goes on after this.
const PATIENCE: Duration = Duration::from_secs(1);

fn lock_soon<T>(mutex: &Mutex<T>, until: Instant) -> Option<MutexGuard<'_, T>> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_micros(20)),
        }
    }
}

#[cfg(unix)]
extern "C" fn prepare() {
    let until = Instant::now() + PATIENCE;
    let (Some(mutexes), Some(rings)) = (lock_soon(&MUTEXES, until), lock_soon(&RINGS, until)) else {
        return;
    };
    let all = mutexes.iter().flat_map(HashMap::values);
    let locks = all.filter_map(|mutex| mutex.upgrade()?.hold(until)).collect();
    let held = Held {
        _locks: locks,
        _mutexes: mutexes,
        rings,
    };
    // A thread whose locals are gone holds nothing; what is dropped here is given back.
    let _ = HELD.try_with(|place| place.try_borrow_mut().map(|mut place| *place = Some(held)));
}

#[cfg(unix)]
extern "C" fn in_parent() {
    drop(take_held());
}

#[cfg(unix)]
extern "C" fn in_child() {
    // SAFETY: always allowed.
    let pid = unsafe { libc::getpid() };
    logcore::begin_process(u64::from(pid.unsigned_abs()) << 32);
    for place in &DESCRIPTORS {
        close_copy(place);
    }
    if let Some(held) = take_held() {
        for ring in held.rings.iter().filter_map(Weak::upgrade) {
            ring.shut();
        }
    }
}

fn take_held() -> Option<Held> {
    HELD.try_with(|held| held.try_borrow_mut().ok()?.take()).ok().flatten()
}

#[cfg(unix)]
fn close_copy(place: &Place) {
    let descriptor = place.descriptor.swap(FREE, Ordering::Acquire);
    if descriptor < 0 {
        return;
    }
    let mut about = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the struct if it succeeds. The descriptor that is closed is this child's copy of that of a ring:
    // it has that file's device and inode, nobody else opens it, and its owner does not close it in a child (see `ring_file`).
    unsafe {
        if libc::fstat(descriptor, about.as_mut_ptr()) != 0 {
            return;
        }
        let about = about.assume_init();
        #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
        let (device, inode) = (about.st_dev as u64, about.st_ino as u64);
        if device == place.device.load(Ordering::Relaxed) && inode == place.inode.load(Ordering::Relaxed) {
            let _ = libc::close(descriptor);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
