//! Values that a forked child must not share with its parent.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns the number of this process among processes that were forked from each other; 0 for the
/// first.
#[doc(hidden)]
#[inline]
pub fn process_number() -> u64 {
    NUMBER.load(Ordering::Relaxed)
}

/// Sets the number of this process, just after a fork. The number is not 0, and no other living
/// process has it.
#[doc(hidden)]
pub fn begin_process(number: u64) {
    NUMBER.store(number, Ordering::Relaxed);
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A static value that each process creates for itself.
///
/// A forked child inherits the memory of its parent, but not its threads. The parent's value may
/// refer to such a thread, and a lock that another thread held during the fork stays locked
/// forever. So the child creates a new value.
///
/// ```
/// use logcore::PerProcess;
/// use std::sync::Mutex;
///
/// static OPEN_FILES: PerProcess<Mutex<Vec<String>>> = PerProcess::new(|_| Mutex::default());
/// OPEN_FILES.get().lock().unwrap().push("training.log".to_owned());
/// assert_eq!(OPEN_FILES.get().lock().unwrap().len(), 1);
/// ```
pub struct PerProcess<T> {
    make: fn(Option<&T>) -> T,
    first: OnceLock<ProcessNode<T>>,
}

/// The value of one process. Children keep the node in memory but do not use its value.
struct ProcessNode<T> {
    number: u64,
    value: T,
    next: OnceLock<Box<ProcessNode<T>>>,
}

impl<T> PerProcess<T> {
    /// Creates a value lazily: the first call of [`get`](Self::get) calls `make`. In a child,
    /// `make` receives the value of the parent, which may be locked.
    pub const fn new(make: fn(Option<&T>) -> T) -> Self {
        Self {
            make,
            first: OnceLock::new(),
        }
    }

    /// Creates a value for this process at once.
    pub(crate) fn with_value(value: T, make: fn(Option<&T>) -> T) -> Self {
        Self {
            make,
            first: OnceLock::from(ProcessNode::new(value)),
        }
    }

    /// Returns the value of this process.
    #[inline]
    pub fn get(&self) -> &T {
        let first = self.first.get_or_init(|| ProcessNode::new((self.make)(None)));
        match first.number == process_number() {
            true => &first.value,
            false => self.find(first),
        }
    }

    #[cold]
    fn find<'a>(&self, mut node: &'a ProcessNode<T>) -> &'a T {
        while node.number != process_number() {
            let made = || Box::new(ProcessNode::new((self.make)(Some(&node.value))));
            node = node.next.get_or_init(made);
        }
        &node.value
    }
}

impl<T> ProcessNode<T> {
    fn new(value: T) -> Self {
        Self {
            number: process_number(),
            value,
            next: OnceLock::new(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerProcess").field(self.get()).finish()
    }
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new(|_| T::default())
    }
}
