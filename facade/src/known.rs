//! The names that a thread has looked up, so that it asks for each only once.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logcore_pipeline::NameId;

/// A metric of a logger, as the thread knows it.
#[derive(Clone)]
pub(crate) struct Known {
    /// From [`next_setup`].
    pub(crate) setup: u64,
    pub(crate) logged: Arc<str>,
    pub(crate) metric: u32,
    /// The short form of its name, if it has one.
    pub(crate) id: Option<NameId>,
}

/// A number for a logger as it is set up now; none has had it before.
pub(crate) fn next_setup() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a thread knows. A loop logs the same names in the same order: each is first looked for where the one before it
/// was followed the last time, which is a comparison, where a map would need a hash and a lock.
#[derive(Default)]
pub(crate) struct KnownNames {
    slots: Vec<Slot>,
    /// By set-up and metric.
    places: HashMap<(u64, u32), usize>,
    last: usize,
    next: usize,
}

struct Slot {
    known: Known,
    /// What came after it the last time.
    then: usize,
}

/// How many names a thread remembers; with more it begins anew.
const MOST: usize = 16 << 10;

impl KnownNames {
    /// The metric of a name, if the name is the one that is expected next.
    #[inline]
    pub(crate) fn find(&mut self, setup: u64, name: &str) -> Option<&Known> {
        let Slot { known, then } = self.slots.get(self.next)?;
        // A handle has the very text that is kept here, not only an equal one.
        if known.setup != setup || !(ptr::eq(&*known.logged, name) || *known.logged == *name) {
            return None;
        }
        self.last = self.next;
        self.next = *then;
        Some(known)
    }

    /// Expects from now on after the last name what was not found there.
    pub(crate) fn learn(&mut self, known: Known) {
        let key = (known.setup, known.metric);
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => {
                if self.slots.len() == MOST {
                    self.slots.clear();
                    self.places.clear();
                }
                let at = self.slots.len();
                self.places.insert(key, at);
                self.slots.push(Slot { known, then: 0 });
                at
            }
        };
        if let Some(last) = self.slots.get_mut(self.last) {
            last.then = at;
        }
        self.last = at;
        self.next = self.slots[at].then;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a name up as a call does; returns whether the thread knew it. A metric's number is its name's bytes.
    fn ask(names: &mut KnownNames, setup: u64, name: &str) -> bool {
        if let Some(known) = names.find(setup, name) {
            assert_eq!((known.setup, &*known.logged), (setup, name));
            return true;
        }
        names.learn(Known {
            setup,
            logged: name.into(),
            metric: name.bytes().fold(0, |sum, byte| sum * 256 + u32::from(byte)),
            id: None,
        });
        false
    }

    #[test]
    fn a_loop_asks_for_each_name_once() {
        let mut names = KnownNames::default();
        for round in 0..10 {
            for (setup, name) in [(1, "loss"), (1, "acc"), (2, "loss"), (1, "lr")] {
                assert_eq!(ask(&mut names, setup, name), round > 0, "{round} {setup} {name}");
            }
        }
        assert_eq!(names.slots.len(), 4);
    }

    #[test]
    fn another_way_through_the_loop_costs_a_question_at_each_turn() {
        let mut names = KnownNames::default();
        let round =
            |names: &mut KnownNames, all: &[&str]| -> usize { all.iter().filter(|name| !ask(names, 1, name)).count() };
        let train = ["a", "b", "c", "d", "e"];
        let validation = ["x", "y", "z"];
        assert_eq!(round(&mut names, &train), 5);
        assert_eq!(round(&mut names, &validation), 3);
        for _ in 0..3 {
            assert_eq!(round(&mut names, &train), 0);
            assert_eq!(round(&mut names, &train), 1);
            assert_eq!(round(&mut names, &train), 0);
            assert_eq!(round(&mut names, &validation), 1);
        }
    }

    #[test]
    fn however_many_names_there_are_memory_is_bounded() {
        let mut names = KnownNames::default();
        for setup in 0..2 * MOST as u64 {
            ask(&mut names, setup, "loss");
        }
        assert!(names.slots.len() <= MOST && names.places.len() == names.slots.len());
    }
}
