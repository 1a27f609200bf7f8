//! Names that the system reserves: the columns of a row of metrics, and the families of its own
//! metrics.

/// Columns of `metrics.jsonl` beside the metrics: every row has the first three, and the first row
/// of each file has all. A user's metric of such a name is written with a `_`
/// behind it.
///
/// ```
/// assert!(logcore::reserved_names::ROW_COLUMNS.contains(&"step"));
/// ```
pub const ROW_COLUMNS: [&str; 5] = ["step", "time", "logger", "nonfinite", "attempt"];

/// Prefixes of the metrics that the system itself logs. `metrics_prefix` is not put before them.
///
/// ```
/// use logcore::reserved_names::SYSTEM_FAMILIES;
///
/// assert!(SYSTEM_FAMILIES.iter().all(|family| family.ends_with('/')));
/// ```
pub const SYSTEM_FAMILIES: [&str; 5] = ["throughput/", "progress/", "memory/", "system/", "time/"];

/// Returns `true` if a name belongs to a family of the system.
///
/// ```
/// use logcore::reserved_names::is_system_metric;
///
/// assert!(is_system_metric("progress/percent"));
/// assert!(!is_system_metric("metrics/loss"));
/// ```
#[must_use]
pub fn is_system_metric(name: &str) -> bool {
    SYSTEM_FAMILIES.iter().any(|family| name.starts_with(family))
}
