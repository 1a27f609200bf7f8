//! The names that a thread has looked up, so that it asks for each only once.

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

/// What a thread knows, in the order in which its loop comes by: nearly always the next name is the next here, and a
/// comparison finds it where a map would need a hash and a lock.
#[derive(Default)]
pub(crate) struct KnownNames {
    sequence: Vec<Known>,
    next: usize,
}

/// How far ahead a name is looked for: calls that a loop leaves out now and then are skipped.
const AHEAD: usize = 16;
/// How many names a thread remembers.
const MOST: usize = 1024;

impl KnownNames {
    #[inline]
    pub(crate) fn find(&mut self, setup: u64, name: &str) -> Option<&Known> {
        // A handle has the very text that is kept here, not only an equal one.
        let is_it = |known: &Known| known.setup == setup && (ptr::eq(&*known.logged, name) || *known.logged == *name);
        if !self.sequence.get(self.next).is_some_and(is_it) {
            let length = self.sequence.len();
            let mut ahead = (self.next + 1..).map(|at| at % length).take(AHEAD.min(length));
            self.next = ahead.find(|at| is_it(&self.sequence[*at]))?;
        }
        let found = &self.sequence[self.next];
        self.next += 1;
        Some(found)
    }

    /// Remembers what was not found, and expects after it what came after it this time.
    pub(crate) fn learn(&mut self, known: Known) {
        if self.sequence.len() < MOST {
            self.next = self.sequence.len();
            self.sequence.push(known);
        } else {
            self.next %= MOST;
            self.sequence[self.next] = known;
        }
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(names: &mut KnownNames, setup: u64, name: &str) -> bool {
        let found = names
            .find(setup, name)
            .map(|known| (known.setup, known.logged.to_string()));
        match found {
            Some(found) => assert_eq!(found, (setup, name.to_owned())),
            None => {
                names.learn(Known {
                    setup,
                    logged: name.into(),
                    metric: 0,
                    id: None,
                });
                return false;
            }
        }
        true
    }

    #[test]
    fn a_loop_asks_for_each_name_once() {
        let mut names = KnownNames::default();
        for round in 0..10 {
            for (setup, name) in [(1, "loss"), (1, "accuracy"), (2, "loss"), (1, "lr")] {
                assert_eq!(ask(&mut names, setup, name), round > 0, "{round} {setup} {name}");
            }
            if round % 3 == 1 {
                assert_eq!(ask(&mut names, 1, "validation"), round > 1);
            }
        }
        assert_eq!(names.sequence.len(), 5);
    }

    #[test]
    fn however_many_names_there_are_memory_is_bounded() {
        let mut names = KnownNames::default();
        for _ in 0..3 {
            for name in 0..5000 {
                ask(&mut names, 1, &name.to_string());
            }
        }
        assert_eq!(names.sequence.len(), MOST);
    }
}
