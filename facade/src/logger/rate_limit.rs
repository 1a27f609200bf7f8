//! Rate limits for call sites: `site_limit` bounds how many records one place in the code may log
//! in a period.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use logcore::log::{Level, Record};
use logcore::{SiteLimit, canonical_name};
use logcore_pipeline::{ForkMutex, Producer, RecordArrival};

/// Counts the records of each call site in a period, and drops those beyond the limit.
///
/// One line for each call site reports the number of dropped records: with the first record after
/// the period, and before a flush and the end.
pub(crate) struct SiteRateLimiter {
    limit: SiteLimit,
    period: ForkMutex<LimitPeriod>,
}

/// The current period, which is the same for all call sites.
struct LimitPeriod {
    began: Instant,
    /// Call sites by the hash of their location, so that a lookup allocates nothing.
    sites: HashMap<u64, CallSite>,
}

/// A call site that has logged in this period.
struct CallSite {
    /// Location, level, arrival and target of the first record, for the line that reports the
    /// dropped ones.
    location: String,
    level: Level,
    arrival: RecordArrival,
    target: String,
    admitted: u64,
    dropped: u64,
}

/// A line that reports the dropped records of one call site.
struct DropNotice {
    text: String,
    level: Level,
    arrival: RecordArrival,
    target: String,
}

impl SiteRateLimiter {
    pub(crate) fn new(limit: SiteLimit) -> Self {
        let period = LimitPeriod {
            began: Instant::now(),
            sites: HashMap::new(),
        };
        Self {
            limit,
            period: ForkMutex::new(period),
        }
    }

    /// Returns `true` if the limit admits the record, and counts a record that it does not admit.
    /// It admits every error.
    pub(crate) fn admits(&self, producer: &Producer, arrival: RecordArrival, record: &Record<'_>) -> bool {
        if record.level() == Level::Error {
            return true;
        }
        let (is_admitted, notices) = self.count(arrival, record);
        if !is_admitted {
            producer.count_over_limit(record.level());
        }
        log_notices(producer, notices);
        is_admitted
    }

    /// Reports the records that were dropped so far.
    pub(crate) fn report_dropped(&self, producer: &Producer) {
        let notices = self.take_notices(&mut self.period.lock());
        log_notices(producer, notices);
    }

    fn count(&self, arrival: RecordArrival, record: &Record<'_>) -> (bool, Vec<DropNotice>) {
        let mut period = self.period.lock();
        let mut notices = Vec::new();
        if period.began.elapsed() >= self.limit.period {
            notices = self.take_notices(&mut period);
            period.began = Instant::now();
            period.sites.clear();
        }
        let site = period.sites.entry(site_hash(record));
        let site = site.or_insert_with(|| CallSite::new(arrival, record));
        let is_admitted = site.admitted < self.limit.records;
        match is_admitted {
            true => site.admitted += 1,
            false => site.dropped += 1,
        }
        (is_admitted, notices)
    }

    fn take_notices(&self, period: &mut LimitPeriod) -> Vec<DropNotice> {
        let sites = period.sites.values_mut().filter(|site| site.dropped > 0);
        let mut sites: Vec<_> = sites.collect();
        sites.sort_by(|one, other| one.location.cmp(&other.location));
        sites.into_iter().map(|site| site.take_notice(self.limit)).collect()
    }
}

impl CallSite {
    fn new(arrival: RecordArrival, record: &Record<'_>) -> Self {
        let file = record.file().unwrap_or(record.target());
        Self {
            location: match record.line() {
                Some(line) => format!("{file}:{line}"),
                None => file.to_owned(),
            },
            level: record.level(),
            arrival,
            target: record.target().to_owned(),
            admitted: 0,
            dropped: 0,
        }
    }

    fn take_notice(&mut self, limit: SiteLimit) -> DropNotice {
        let more = with_commas(std::mem::take(&mut self.dropped));
        DropNotice {
            text: format!(
                "… {more} more like this from {} within {:?}",
                self.location, limit.period
            ),
            level: self.level,
            arrival: self.arrival,
            target: self.target.clone(),
        }
    }
}

/// Logs the notices. The caller holds no lock, because the ring may be full and other callers must
/// not wait for it here.
fn log_notices(producer: &Producer, notices: Vec<DropNotice>) {
    for notice in notices {
        producer.record(
            notice.arrival,
            &Record::builder()
                .level(notice.level)
                .target(&notice.target)
                .args(format_args!("{}", notice.text))
                .build(),
        );
    }
}

/// Returns a hash of the record's call site: file and line, or the canonical target.
fn site_hash(record: &Record<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match record.file() {
        Some(file) => file.hash(&mut hasher),
        None => canonical_name(record.target()).hash(&mut hasher),
    }
    record.line().hash(&mut hasher);
    hasher.finish()
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use logcore::Deadline;
    use logcore::testing::recording;
    use logcore_pipeline::{NamedSink, OVER_LIMIT, Pipeline, Propagation, RecordOrigin};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_limiter_admits_the_limit_and_the_books_count_the_rest(
            logged in prop::collection::vec((0..4_u32, any::<bool>()), 0..80),
            records in 1..6_u64,
        ) {
            let soon = Deadline::after(Duration::from_secs(20));
            let pipeline = Pipeline::start(1 << 16).unwrap();
            let producer = pipeline.producer("trainer");
            let (handle, sink) = recording();
            let sinks = vec![NamedSink::new("recording", logcore::log::LevelFilter::Info, Box::new(sink))];
            producer.open(Propagation::None, None, sinks, soon).unwrap();
            // Longer than any test runs.
            let limiter = SiteRateLimiter::new(SiteLimit::new(records, Duration::from_secs(3600)));
            let mut passed = 0;
            for (line, fails) in &logged {
                let level = if *fails { Level::Error } else { Level::Info };
                let record = Record::builder().level(level).file_static(Some("a.rs")).line(Some(*line)).build();
                let admitted = limiter.admits(&producer, RecordOrigin::Method.into(), &record);
                prop_assert!(admitted || !fails);
                passed += u64::from(admitted);
            }
            limiter.report_dropped(&producer);
            let of_line = |line| logged.iter().filter(|logged| **logged == (line, false)).count() as u64;
            let expected: Vec<_> = (0..4)
                .filter(|line| of_line(*line) > records)
                .map(|line| format!(
                    "record INFO trainer … {} more like this from a.rs:{line} within 3600s",
                    of_line(line) - records,
                ))
                .collect();
            let books = &producer.finish(Arc::default(), soon).unwrap().books["recording"];
            prop_assert_eq!(&handle.calls()[..expected.len()], &expected);
            let dropped = logged.len() as u64 - passed;
            prop_assert_eq!(books.dropped.get(OVER_LIMIT).copied().unwrap_or(0), dropped);
            prop_assert_eq!(books.accepted, dropped + expected.len() as u64);
            prop_assert!(books.balanced());
            pipeline.end(soon).unwrap();
        }
    }

    #[test]
    fn the_first_record_after_a_period_brings_its_drop_notices() {
        let limiter = SiteRateLimiter::new("1/1ms".parse().unwrap());
        let record = Record::builder().file_static(Some("a.rs")).line(Some(7)).build();
        let mut notices = Vec::new();
        // The limiter drops a call within a millisecond of the previous one, and a later call ends
        // the period.
        while notices.is_empty() {
            notices = limiter.count(RecordOrigin::Method.into(), &record).1;
        }
        assert!(
            notices[0].text.ends_with(" more like this from a.rs:7 within 1ms"),
            "{}",
            notices[0].text
        );
        assert!(
            limiter
                .count(
                    RecordOrigin::Method.into(),
                    &Record::builder().target("elsewhere").build()
                )
                .0
        );
    }

    #[test]
    fn a_target_is_one_call_site_however_it_is_written() {
        let of = |target| site_hash(&Record::builder().target(target).build());
        assert_eq!(of("my-app::data"), of("my_app.data"));
        assert_ne!(of("my_app"), of("my.app"));
    }

    #[test]
    fn long_numbers_have_commas() {
        let shown = [0, 12, 123, 1234, 123_456, 1_234_567].map(with_commas);
        assert_eq!(shown, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }
}
