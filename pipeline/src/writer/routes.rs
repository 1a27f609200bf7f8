//! Decides which sinks receive the records of a logger. Pure: nothing here calls a sink.

use log::LevelFilter;

/// The index of a sink in the [`SinkTable`](super::sink_table::SinkTable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SinkIndex(pub(super) usize);

/// A sink, and the minimum level of the records that it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SinkRoute {
    pub(super) sink: SinkIndex,
    pub(super) level: LevelFilter,
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
/// such as one terminal, the first receives the records, with the lowest minimum level of them all.
pub(super) fn record_routes<'p, 's>(
    own: &'p [SinkRoute],
    parents: impl Iterator<Item = &'p [SinkRoute]>,
    shared: &[SinkIndex],
    sink: impl Fn(SinkIndex) -> Option<RoutedSink<'s>>,
) -> Vec<SinkRoute> {
    let shared = shared.iter().map(|sink| SinkRoute {
        sink: *sink,
        level: LevelFilter::Trace,
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
            Some(route) => route.level = route.level.max(candidate.level),
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
        SinkRoute { sink, level }
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
    fn sinks_without_interest_in_records_have_no_route() {
        let own = [route(4, LevelFilter::Trace), route(5, LevelFilter::Trace)];
        assert_eq!(record_routes(&own, std::iter::empty(), &[], sink), []);
    }
}
