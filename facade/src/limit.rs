//! How much one place in the code may say.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use logcore::log::{Level, Record};
use logcore::{SiteLimit, canonical_name};
use logcore_pipeline::{ForkMutex, Producer, RecordOrigin};

/// Counts what each place in the code says in a period, which is the same for all of them. What is over the limit is told in
/// one line for each place: with the first record after the period, and before a flush and the end.
pub(crate) struct Limiter {
    limit: SiteLimit,
    period: ForkMutex<Period>,
}

struct Period {
    began: Instant,
    /// By the hash of where they are, so that a look allocates nothing.
    sites: HashMap<u64, Site>,
}

/// A place in the code that has said something in this period.
struct Site {
    /// Its first record but for the message, for the line that tells of the others.
    name: String,
    level: Level,
    route: RecordOrigin,
    target: String,
    said: u64,
    left_out: u64,
}

/// A line that tells of what was left out.
struct Told {
    text: String,
    level: Level,
    route: RecordOrigin,
    target: String,
}

impl Limiter {
    pub(crate) fn new(limit: SiteLimit) -> Self {
        let period = Period {
            began: Instant::now(),
            sites: HashMap::new(),
        };
        Self {
            limit,
            period: ForkMutex::new(period),
        }
    }

    /// Whether a record may pass; counts it, if not. Errors always pass.
    pub(crate) fn admits(&self, producer: &Producer, route: RecordOrigin, record: &Record<'_>) -> bool {
        if record.level() == Level::Error {
            return true;
        }
        let (admitted, told) = self.count(route, record);
        if !admitted {
            producer.over_limit(record.level());
        }
        tell(producer, told);
        admitted
    }

    /// Tells what was left out so far.
    pub(crate) fn tell(&self, producer: &Producer) {
        let told = self.left_out(&mut self.period.lock());
        tell(producer, told);
    }

    fn count(&self, route: RecordOrigin, record: &Record<'_>) -> (bool, Vec<Told>) {
        let mut period = self.period.lock();
        let mut told = Vec::new();
        if period.began.elapsed() >= self.limit.period {
            told = self.left_out(&mut period);
            period.began = Instant::now();
            period.sites.clear();
        }
        let site = period.sites.entry(key(record));
        let site = site.or_insert_with(|| Site::of(route, record));
        let admitted = site.said < self.limit.records;
        match admitted {
            true => site.said += 1,
            false => site.left_out += 1,
        }
        (admitted, told)
    }

    fn left_out(&self, period: &mut Period) -> Vec<Told> {
        let sites = period.sites.values_mut().filter(|site| site.left_out > 0);
        let mut sites: Vec<_> = sites.collect();
        sites.sort_by(|one, other| one.name.cmp(&other.name));
        sites.into_iter().map(|site| site.tell(self.limit)).collect()
    }
}

impl Site {
    fn of(route: RecordOrigin, record: &Record<'_>) -> Self {
        let place = record.file().unwrap_or(record.target());
        Self {
            name: match record.line() {
                Some(line) => format!("{place}:{line}"),
                None => place.to_owned(),
            },
            level: record.level(),
            route,
            target: record.target().to_owned(),
            said: 0,
            left_out: 0,
        }
    }

    fn tell(&mut self, limit: SiteLimit) -> Told {
        let more = with_commas(std::mem::take(&mut self.left_out));
        Told {
            text: format!("… {more} more like this from {} within {:?}", self.name, limit.period),
            level: self.level,
            route: self.route,
            target: self.target.clone(),
        }
    }
}

/// Under no lock: the ring may be full, and whoever comes meanwhile shall not wait for more than that.
fn tell(producer: &Producer, told: Vec<Told>) {
    for told in told {
        producer.record(
            told.route,
            &Record::builder()
                .level(told.level)
                .target(&told.target)
                .args(format_args!("{}", told.text))
                .build(),
        );
    }
}

/// A hash of the place that a record comes from: file and line, or the target however it is written.
fn key(record: &Record<'_>) -> u64 {
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
    use logcore_pipeline::{NamedSink, OVER_LIMIT, Pipeline};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn so_many_pass_and_the_books_have_the_rest(
            said in prop::collection::vec((0..4_u32, any::<bool>()), 0..80),
            records in 1..6_u64,
        ) {
            let soon = Deadline::after(Duration::from_secs(20));
            let pipeline = Pipeline::start(1 << 16).unwrap();
            let producer = pipeline.producer("trainer");
            let (handle, sink) = recording();
            let sinks = vec![NamedSink {
                name: "recording".to_owned(),
                level: logcore::log::LevelFilter::Info,
                sink: Box::new(sink),
                fold: None,
            }];
            producer.open(false, None, sinks, soon).unwrap();
            // A period that no test outlives.
            let limiter = Limiter::new(SiteLimit::new(records, Duration::from_secs(3600)));
            let mut passed = 0;
            for (line, fails) in &said {
                let level = if *fails { Level::Error } else { Level::Info };
                let record = Record::builder().level(level).file_static(Some("a.rs")).line(Some(*line)).build();
                let admitted = limiter.admits(&producer, RecordOrigin::Method, &record);
                prop_assert!(admitted || !fails);
                passed += u64::from(admitted);
            }
            limiter.tell(&producer);
            let of_line = |line| said.iter().filter(|said| **said == (line, false)).count() as u64;
            let expected: Vec<_> = (0..4)
                .filter(|line| of_line(*line) > records)
                .map(|line| format!(
                    "record INFO trainer … {} more like this from a.rs:{line} within 3600s",
                    of_line(line) - records,
                ))
                .collect();
            let books = &producer.finish(Arc::default(), soon).unwrap().books["recording"];
            prop_assert_eq!(&handle.calls()[..expected.len()], &expected);
            let left_out = said.len() as u64 - passed;
            prop_assert_eq!(books.dropped.get(OVER_LIMIT).copied().unwrap_or(0), left_out);
            prop_assert_eq!(books.accepted, left_out + expected.len() as u64);
            prop_assert!(books.is_balanced());
            pipeline.end(soon).unwrap();
        }
    }

    #[test]
    fn a_period_that_ends_is_told_with_the_next_record() {
        let limiter = Limiter::new("1/1ms".parse().unwrap());
        let record = Record::builder().file_static(Some("a.rs")).line(Some(7)).build();
        let mut told = Vec::new();
        // Some call comes within the millisecond of the one before, and some comes after it.
        while told.is_empty() {
            told = limiter.count(RecordOrigin::Method, &record).1;
        }
        assert!(
            told[0].text.ends_with(" more like this from a.rs:7 within 1ms"),
            "{}",
            told[0].text
        );
        assert!(
            limiter
                .count(RecordOrigin::Method, &Record::builder().target("elsewhere").build())
                .0
        );
    }

    #[test]
    fn a_target_is_one_place_however_it_is_written() {
        let of = |target| key(&Record::builder().target(target).build());
        assert_eq!(of("my-app::data"), of("my_app.data"));
        assert_ne!(of("my_app"), of("my.app"));
    }

    #[test]
    fn long_numbers_have_commas() {
        let shown = [0, 12, 123, 1234, 123_456, 1_234_567].map(with_commas);
        assert_eq!(shown, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }
}
