//! Decides which sinks receive the records of a logger. Pure: nothing here calls a sink.

use log::{Level, LevelFilter};

use crate::frame::types::LevelRule;

/// The index of a sink in the [`SinkTable`](super::sink_table::SinkTable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SinkIndex(pub(super) usize);

/// A sink, and the minimum levels of the records that it receives; see
/// [`NamedSink`](crate::NamedSink).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SinkRoute {
    pub(super) sink: SinkIndex,
    pub(super) level: LevelFilter,
    pub(super) directed_level: LevelFilter,
    pub(super) foreign_level: LevelFilter,
}

impl SinkRoute {
    /// Returns `true` if the sink receives records of this level by this rule.
    pub(super) fn admits(&self, level: Level, rule: LevelRule) -> bool {
        level <= self.limit(rule)
    }

    fn limit(&self, rule: LevelRule) -> LevelFilter {
        match rule {
            LevelRule::Usual => self.level,
            LevelRule::Directed if self.level == LevelFilter::Off => LevelFilter::Off,
            LevelRule::Directed => self.directed_level,
            LevelRule::Foreign => self.level.min(self.foreign_level),
        }
    }

    /// Adds the levels of another sink that has the same destination.
    fn widen(&mut self, other: &Self) {
        let widest = |rule| self.limit(rule).max(other.limit(rule));
        *self = Self {
            sink: self.sink,
            level: widest(LevelRule::Usual),
            directed_level: widest(LevelRule::Directed),
            foreign_level: widest(LevelRule::Foreign),
        };
    }
}

/// The properties of a sink that matter to routing.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoutedSink<'a> {
    pub(super) wants_records: bool,
    pub(super) destination: Option<&'a str>,
}

/// Returns the routes of a logger's records.
///
/// The candidates are the logger's own sinks, then those of the parents that it propagates to
/// (nearest first), then the sinks that every logger has. Of several sinks with one destination,
/// such as one terminal, the first receives the records, with the lowest minimum levels of them
/// all.
pub(super) fn record_routes<'p, 's>(
    own: &'p [SinkRoute],
    parents: impl Iterator<Item = &'p [SinkRoute]>,
    shared: &[SinkIndex],
    sink: impl Fn(SinkIndex) -> Option<RoutedSink<'s>>,
) -> Vec<SinkRoute> {
    let shared = shared.iter().map(|sink| SinkRoute {
        sink: *sink,
        level: LevelFilter::Trace,
        directed_level: LevelFilter::Trace,
        foreign_level: LevelFilter::Off,
    });
    let candidates = own.iter().chain(parents.flatten()).copied().chain(shared);
    let mut routes: Vec<SinkRoute> = Vec::new();
    for candidate in candidates {
        let Some(RoutedSink {
            wants_records: true,
            destination,
        }) = sink(candidate.sink)
        else {
            continue;
        };
        let has_same_destination = |route: &&mut SinkRoute| {
            destination.is_some() && sink(route.sink).is_some_and(|other| other.destination == destination)
        };
        match routes.iter_mut().find(has_same_destination) {
            Some(route) => route.widen(&candidate),
            None => routes.push(candidate),
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(sink: usize, level: LevelFilter) -> SinkRoute {
        let sink = SinkIndex(sink);
        SinkRoute {
            sink,
            level,
            directed_level: LevelFilter::Trace,
            foreign_level: LevelFilter::Off,
        }
    }

    /// Sinks 0 and 3 are one terminal, 1 and 2 are files, 4 wants no records, 5 is gone.
    fn sink(index: SinkIndex) -> Option<RoutedSink<'static>> {
        let routed = |wants_records, destination| {
            Some(RoutedSink {
                wants_records,
                destination,
            })
        };
        match index.0 {
            0 | 3 => routed(true, Some("terminal")),
            1 | 2 => routed(true, None),
            4 => routed(false, None),
            _ => None,
        }
    }

    #[test]
    fn own_sinks_come_before_those_of_parents_and_shared_ones() {
        let own = [route(1, LevelFilter::Warn)];
        let parent = [route(0, LevelFilter::Info)];
        let routes = record_routes(&own, [&parent[..]].into_iter(), &[SinkIndex(2)], sink);
        let expected = [
            route(1, LevelFilter::Warn),
            route(0, LevelFilter::Info),
            route(2, LevelFilter::Trace),
        ];
        assert_eq!(routes, expected);
    }

    #[test]
    fn one_destination_has_one_route_with_the_lowest_minimum_level() {
        let own = [route(0, LevelFilter::Warn), route(1, LevelFilter::Warn)];
        let parent = [route(3, LevelFilter::Debug), route(2, LevelFilter::Debug)];
        let routes = record_routes(&own, [&parent[..]].into_iter(), &[], sink);
        let expected = [
            route(0, LevelFilter::Debug),
            route(1, LevelFilter::Warn),
            route(2, LevelFilter::Debug),
        ];
        assert_eq!(routes, expected);
    }

    #[test]
    fn widened_route_admits_what_one_of_its_sinks_admits() {
        use LevelFilter::{Debug, Info, Off, Trace, Warn};
        let with = |level, directed_level, foreign_level| SinkRoute {
            sink: SinkIndex(0),
            level,
            directed_level,
            foreign_level,
        };
        let routes = [
            with(Info, Trace, Off),
            with(Off, Trace, Debug),
            with(Warn, Warn, Debug),
            with(Debug, Info, Trace),
        ];
        for (one, other) in routes
            .iter()
            .flat_map(|one| routes.iter().map(move |other| (one, other)))
        {
            let mut both = *one;
            both.widen(other);
            for rule in [LevelRule::Usual, LevelRule::Directed, LevelRule::Foreign] {
                for level in Level::iter() {
                    let expected = one.admits(level, rule) || other.admits(level, rule);
                    assert_eq!(both.admits(level, rule), expected, "{one:?} {other:?} {level} {rule:?}");
                }
            }
        }
        assert!(
            !routes[1].admits(Level::Error, LevelRule::Directed),
            "a sink that is off stays off"
        );
        assert!(!routes[0].admits(Level::Debug, LevelRule::Foreign));
        assert!(
            routes[3].admits(Level::Debug, LevelRule::Foreign) && !routes[3].admits(Level::Trace, LevelRule::Foreign)
        );
    }

    #[test]
    fn sinks_without_interest_in_records_have_no_route() {
        let own = [route(4, LevelFilter::Trace), route(5, LevelFilter::Trace)];
        assert_eq!(record_routes(&own, std::iter::empty(), &[], sink), []);
    }
}
