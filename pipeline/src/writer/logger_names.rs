//! The loggers by name, in the order of their families.

use std::collections::BTreeSet;

use logcore::canonical_name;

use crate::frame::body::LoggerId;

/// The loggers by canonical name. Loggers of one name, of which one is ending, stand beside each other; the newest counts.
#[derive(Default)]
pub(crate) struct Names(BTreeSet<(String, LoggerId)>);

impl Names {
    pub(crate) fn insert(&mut self, name: &str, id: LoggerId) {
        self.0.insert((canonical_name(name).into_owned(), id));
    }

    pub(crate) fn remove(&mut self, name: &str, id: LoggerId) {
        self.0.remove(&(canonical_name(name).into_owned(), id));
    }

    /// The logger of a canonical name.
    pub(crate) fn find(&self, name: &str) -> Option<LoggerId> {
        let name = name.to_owned();
        let all = self.0.range((name.clone(), FIRST)..=(name, LAST));
        all.map(|(_, id)| *id).next_back()
    }

    /// The logger of this name and those beneath it, whose records may go to it.
    pub(crate) fn family(&self, name: &str) -> Vec<LoggerId> {
        let name = canonical_name(name);
        if name == ROOT {
            return self.0.iter().map(|(_, id)| *id).collect();
        }
        let itself = (name.clone().into_owned(), FIRST)..=(name.clone().into_owned(), LAST);
        // The character behind `.` begins nothing that lies beneath.
        let beneath = (format!("{name}."), FIRST)..(format!("{name}/"), FIRST);
        let all = self.0.range(itself).chain(self.0.range(beneath));
        all.map(|(_, id)| *id).collect()
    }
}

const FIRST: LoggerId = LoggerId(0);
const LAST: LoggerId = LoggerId(u32::MAX);

/// The logger above all.
const ROOT: &str = "root";

/// The names above a canonical name, nearest first; `root` is above all.
pub(crate) fn parents(name: &str) -> impl Iterator<Item = &str> {
    let above = std::iter::successors(Some(name), |name| Some(name.rsplit_once('.')?.0)).skip(1);
    above.chain((name != ROOT).then_some(ROOT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parents_are_nearest_first() {
        assert_eq!(
            parents(&canonical_name("a.b::c")).collect::<Vec<_>>(),
            ["a.b", "a", "root"]
        );
        assert_eq!(parents("a").collect::<Vec<_>>(), ["root"]);
        assert_eq!(parents("root").count(), 0);
    }

    proptest! {
        #[test]
        fn a_family_has_all_that_have_its_name_above_them(
            names in prop::collection::vec("(root|[a-b/ _-]{1,2}([.][a-b/ _-]{1,2}){0,2})", 1..9),
            asked: prop::sample::Selector,
        ) {
            let mut all = Names::default();
            for (id, name) in (0..).zip(&names) {
                all.insert(name, LoggerId(id));
            }
            let asked = canonical_name(asked.select(&names)).into_owned();
            let is_of_it = |name: &String| {
                let name = canonical_name(name);
                name == asked || parents(&name).any(|parent| parent == asked)
            };
            let expected: Vec<_> = (0..).zip(&names).filter(|(_, name)| is_of_it(name)).map(|(id, _)| LoggerId(id)).collect();
            let mut family = all.family(&asked);
            family.sort_unstable();
            prop_assert_eq!(&family, &expected);
            let newest = (0..).zip(&names).filter(|(_, name)| canonical_name(name) == asked).last();
            prop_assert_eq!(all.find(&asked), newest.map(|(id, _)| LoggerId(id)));
            for (id, name) in (0..).zip(&names) {
                all.remove(name, LoggerId(id));
            }
            prop_assert!(all.family("root").is_empty());
        }
    }
}
