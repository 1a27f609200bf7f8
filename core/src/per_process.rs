//! Values that each process has for itself, although it was forked from another.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which process of those that were forked from one another this is: 0 in the first that logs.
#[doc(hidden)]
#[inline]
pub fn process_number() -> u64 {
    NUMBER.load(Ordering::Relaxed)
}

/// A child of a fork begins. `number` is 0 for no child, and of no two processes that live.
#[doc(hidden)]
pub fn begin_process(number: u64) {
    NUMBER.store(number, Ordering::Relaxed);
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A value that a child of a fork makes anew: whatever its parent has in it leads to threads that the child has not, and a lock
/// that another thread held at the fork stays locked there for ever.
///
/// ```
/// use logcore::PerProcess;
/// use std::sync::Mutex;
///
/// static OPEN: PerProcess<Mutex<Vec<String>>> = PerProcess::new(|_| Mutex::default());
/// OPEN.get().lock().unwrap().push("a file".to_owned());
/// assert_eq!(OPEN.get().lock().unwrap().len(), 1);
/// ```
pub struct PerProcess<T> {
    make: fn(Option<&T>) -> T,
    first: OnceLock<Node<T>>,
}

/// The value of one process; its children keep it in memory, and never look into it.
struct Node<T> {
    number: u64,
    value: T,
    next: OnceLock<Box<Node<T>>>,
}

impl<T> PerProcess<T> {
    /// A value that `make` makes when it is first asked for; a child gives it what its parent had, which may be locked.
    pub const fn new(make: fn(Option<&T>) -> T) -> Self {
        Self {
            make,
            first: OnceLock::new(),
        }
    }

    /// The same, which has a value already.
    pub(crate) fn with(value: T, make: fn(Option<&T>) -> T) -> Self {
        Self {
            make,
            first: OnceLock::from(Node::new(value)),
        }
    }

    /// The value of this process.
    #[inline]
    pub fn get(&self) -> &T {
        let first = self.first.get_or_init(|| Node::new((self.make)(None)));
        match first.number == process_number() {
            true => &first.value,
            false => self.find(first),
        }
    }

    #[cold]
    fn find<'a>(&self, mut node: &'a Node<T>) -> &'a T {
        while node.number != process_number() {
            let made = || Box::new(Node::new((self.make)(Some(&node.value))));
            node = node.next.get_or_init(made);
        }
        &node.value
    }
}

impl<T> Node<T> {
    fn new(value: T) -> Self {
        Self {
            number: process_number(),
            value,
            next: OnceLock::new(),
        }
    }
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new(|_| T::default())
    }
}
