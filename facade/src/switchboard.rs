//! Levels on the caller's side: what passes goes into the ring.

use std::sync::Arc;

use logcore::Directives;
use logcore::log::{LevelFilter, Log, Metadata, Record};
use logcore_pipeline::{Port, Route};

/// A logger's dispatches, one for each way in which a record can come to it.
pub(crate) struct Switchboard {
    method: Box<dyn Log>,
    addressed: Box<dyn Log>,
    facade: Box<dyn Log>,
}

impl Switchboard {
    pub(crate) fn new(port: &Arc<Port>, level: LevelFilter, directives: &Directives) -> Self {
        let dispatch = |route| dispatch(Arc::clone(port), route, level, directives.clone());
        Self {
            method: dispatch(Route::Method),
            addressed: dispatch(Route::Addressed),
            facade: dispatch(Route::Facade),
        }
    }

    pub(crate) fn of(&self, route: Route) -> &dyn Log {
        match route {
            Route::Method => &*self.method,
            Route::Addressed => &*self.addressed,
            Route::Facade => &*self.facade,
        }
    }
}

fn dispatch(port: Arc<Port>, route: Route, level: LevelFilter, directives: Directives) -> Box<dyn Log> {
    let mut dispatch = fern::Dispatch::new().level(level);
    if !directives.is_empty() {
        dispatch = dispatch.filter(move |metadata| directives.allows(metadata.target(), metadata.level()));
    }
    let appender: Box<dyn Log> = Box::new(RingAppender { port, route });
    dispatch.chain(appender).into_log().1
}

/// The end of the caller's side.
struct RingAppender {
    port: Arc<Port>,
    route: Route,
}

impl Log for RingAppender {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.port.record(self.route, record);
    }

    fn flush(&self) {}
}
