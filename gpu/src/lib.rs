//! GPU and host memory readings for logcore.
