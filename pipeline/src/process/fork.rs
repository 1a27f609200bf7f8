//! The work around a fork without `exec`: a child has the memory of its parent, and only one of its
//! threads.
//!
//! A child shares the ring of its parent, and the parent's writer delivers the calls of the child,
//! too. The child begins a ring of its own only when that writer is gone, or for a logger that it
//! sets up itself.
//!
//! - Values that refer to threads are [`PerProcess`](logcore::PerProcess).
//! - State that the child continues with is in a [`ForkMutex`], so that no fork finds it half
//!   changed.
//! - The lock that proves the parent to be alive must end with the parent, so children close their
//!   copies of its descriptor (`ExclusiveDescriptor`).

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use logcore::sync::lock;

use super::sys::HeldLock;

/// A lock that no fork finds held by another thread: the thread that forks takes the lock first,
/// for at most a second.
///
/// Code that may block must not run under the lock. Under a lock, only [inner](Self::inner) locks
/// may be taken.
///
/// ```
/// use logcore_pipeline::ForkMutex;
///
/// let steps = ForkMutex::new(vec![1, 2]);
/// steps.lock().push(3);
/// assert_eq!(*steps.lock(), [1, 2, 3]);
/// ```
pub struct ForkMutex<T> {
    place: Place,
    inner: Arc<Mutex<T>>,
}

impl<T: Send + 'static> ForkMutex<T> {
    /// Creates a lock around `value`.
    pub fn new(value: T) -> Self {
        Self::at(false, value)
    }

    /// Creates a lock that threads take while they hold another `ForkMutex`, and under which they
    /// take none.
    ///
    /// ```
    /// use logcore_pipeline::ForkMutex;
    ///
    /// let (steps, ledger) = (ForkMutex::new(0), ForkMutex::inner(0));
    /// let mut steps = steps.lock();
    /// *steps += 1;
    /// *ledger.lock() += *steps;
    /// assert_eq!(*ledger.lock(), 1);
    /// ```
    pub fn inner(value: T) -> Self {
        Self::at(true, value)
    }

    fn at(is_inner: bool, value: T) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let place = (is_inner, NEXT.fetch_add(1, Ordering::Relaxed));
        let inner = Arc::new(Mutex::new(value));
        let weak: Weak<Mutex<T>> = Arc::downgrade(&inner);
        lock(&MUTEXES).insert(place, weak);
        Self { place, inner }
    }
}

impl<T> ForkMutex<T> {
    /// Takes the lock, even if a thread panicked while holding it. The value is consistent, because
    /// no code of users runs under the lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.inner)
    }
}

impl<T: Default + Send + 'static> Default for ForkMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for ForkMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ForkMutex").field(&self.inner).finish()
    }
}

impl<T> Drop for ForkMutex<T> {
    fn drop(&mut self) {
        lock(&MUTEXES).remove(&self.place);
    }
}

/// Something that a child of a fork must not use as its own.
pub(crate) trait InheritedByChildren: Send + Sync {
    /// Runs in the child, before any code of the program.
    fn close_in_child(&self);
}

/// Has the work around forks done. Only the first call counts.
pub(crate) fn watch_forks() {
    #[cfg(unix)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| super::sys::call_around_forks(prepare, in_parent, in_child));
    }
}

/// Has every child of a fork close this value.
pub(crate) fn close_in_children(inherited: Weak<dyn InheritedByChildren>) {
    let mut all = lock(&INHERITED);
    all.retain(|inherited| inherited.strong_count() > 0);
    all.push(inherited);
}

/// `true` for an inner lock, and the number of the lock. The thread that forks takes the locks in
/// this order, as all threads do: otherwise the forking thread and another one could wait for each
/// other.
type Place = (bool, u64);
type ForkMutexes = BTreeMap<Place, Weak<dyn HoldAcrossFork>>;
type Inherited = Vec<Weak<dyn InheritedByChildren>>;

static MUTEXES: Mutex<ForkMutexes> = Mutex::new(BTreeMap::new());
static INHERITED: Mutex<Inherited> = Mutex::new(Vec::new());

/// The locks that the forking thread holds during the fork.
struct ForkLocks {
    /// Dropped before the maps that own the mutexes.
    _mutexes: Vec<Box<dyn Any>>,
    _all_mutexes: MutexGuard<'static, ForkMutexes>,
    inherited: MutexGuard<'static, Inherited>,
}

thread_local! {
    static FORK_LOCKS: RefCell<Option<ForkLocks>> = const { RefCell::new(None) };
}

/// A lock that can be held without a borrow.
trait HoldAcrossFork: Send + Sync {
    fn hold(self: Arc<Self>, until: Instant) -> Option<Box<dyn Any>>;
}

impl<T: Send + 'static> HoldAcrossFork for Mutex<T> {
    fn hold(self: Arc<Self>, until: Instant) -> Option<Box<dyn Any>> {
        HeldLock::hold(self, |mutex| lock_until(mutex, until)).map(|held| Box::new(held) as Box<dyn Any>)
    }
}

/// A signal handler that forks may have interrupted the very thread that holds a lock. Then the
/// parent continues after this time.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

fn lock_until<T>(mutex: &Mutex<T>, until: Instant) -> Option<MutexGuard<'_, T>> {
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
    let until = Instant::now() + LOCK_TIMEOUT;
    let (Some(all_mutexes), Some(inherited)) = (lock_until(&MUTEXES, until), lock_until(&INHERITED, until)) else {
        return;
    };
    let mutexes = all_mutexes.values();
    let locks = ForkLocks {
        _mutexes: mutexes.filter_map(|mutex| mutex.upgrade()?.hold(until)).collect(),
        _all_mutexes: all_mutexes,
        inherited,
    };
    // If the thread's locals are gone, `locks` is dropped here and the fork holds nothing.
    let _ = FORK_LOCKS.try_with(|held| held.try_borrow_mut().map(|mut held| *held = Some(locks)));
}

#[cfg(unix)]
extern "C" fn in_parent() {
    drop(take_fork_locks());
}

#[cfg(unix)]
extern "C" fn in_child() {
    logcore::begin_process(u64::from(std::process::id()) << 32);
    super::sys::close_inherited_descriptors();
    if let Some(locks) = take_fork_locks() {
        for inherited in locks.inherited.iter().filter_map(Weak::upgrade) {
            inherited.close_in_child();
        }
    }
}

#[cfg(unix)]
fn take_fork_locks() -> Option<ForkLocks> {
    FORK_LOCKS
        .try_with(|held| held.try_borrow_mut().ok()?.take())
        .ok()
        .flatten()
}
