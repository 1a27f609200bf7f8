//! Windowed averages, statistics and a compact, bounded history of metrics for logcore.
