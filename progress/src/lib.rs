//! Throughput, ETA and bars for logcore.
