//! A rank that holds the others up in synchronous training. Each rank is this test program, run
//! again.
#![cfg(all(unix, feature = "file", feature = "health", feature = "jsonl"))]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use facade::{LogConfig, setup_logging};
use logcore_health::skew::{SkewCause, SkewChange, SkewWatch};
use logcore_health::slot::{RankState, SlotFolder};

const FOLDER: &str = "SLOW_RANKS_FOLDER";
const EXCHANGE: &str = "SLOW_RANKS_EXCHANGE";
const WORLD: u32 = 3;
/// The rank that computes four times as long as the others.
const SLOW: u32 = 1;
/// A limit for anything that should happen soon, on a machine with much to do.
const SOON: Duration = Duration::from_secs(90);

/// Does nothing unless it is a rank, which trains until its parent is gone.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let rank: u32 = std::env::var("RANK").unwrap().parse().unwrap();
    let mut exchange = TcpStream::connect(std::env::var(EXCHANGE).unwrap()).unwrap();
    let logger = setup_logging(LogConfig {
        name: "trainer".into(),
        run: "run".into(),
        log_dir: folder.into(),
        enable_console: false,
        rank_wait: 30.0,
        ..LogConfig::default()
    })
    .unwrap();
    logger.start_progress(1_000_000, "Train");
    loop {
        thread::sleep(Duration::from_millis(if rank == SLOW { 40 } else { 10 }));
        {
            let _others = logger.phase("allreduce");
            let shared = exchange.write_all(&[0]).and_then(|()| exchange.read_exact(&mut [0]));
            if shared.is_err() {
                return;
            }
        }
        logger.update_progress(1, 1);
    }
}

/// Lets each rank go on once all have come, until one of them is gone.
fn exchange(listener: &TcpListener) {
    let mut ranks: Vec<TcpStream> = (0..WORLD).map(|_| listener.accept().unwrap().0).collect();
    let mut share = || {
        ranks.iter_mut().try_for_each(|rank| rank.read_exact(&mut [0]))?;
        ranks.iter_mut().try_for_each(|rank| rank.write_all(&[0]))
    };
    while share().is_ok() {}
}

/// Ranks that are killed with this value.
struct Ranks(Vec<Child>);

impl Ranks {
    fn start(folder: &Path, exchange: &str) -> Self {
        let start = |rank: u32| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "the_child", "--nocapture"])
                .env(FOLDER, folder)
                .env(EXCHANGE, exchange)
                .envs(
                    [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", WORLD)]
                        .map(|(name, value)| (name, value.to_string())),
                )
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        };
        Self((0..WORLD).map(start).collect())
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for rank in &mut self.0 {
            let _ = rank.kill();
            let _ = rank.wait();
        }
    }
}

#[test]
fn the_rank_that_waits_least_in_the_exchange_is_the_slow_one() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::scope(|scope| {
        scope.spawn(|| exchange(&listener));
        let _ranks = Ranks::start(folder.path(), &address);
        let slots = SlotFolder::new(&folder.path().join("run"));
        let mut watch = SkewWatch::new();
        let until = Instant::now() + SOON;
        let (told, states) = loop {
            let states: Vec<RankState> = slots.read_all(WORLD, 1);
            let told = watch.observe(&states, SystemTime::now());
            if !told.is_empty() {
                break (told, states);
            }
            assert!(Instant::now() < until, "{states:?}");
            thread::sleep(Duration::from_secs(1));
        };
        let [SkewChange::Began(skew)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((skew.rank, skew.cause), (SLOW, SkewCause::Step), "{skew}");
        assert!(skew.factor > 2.0, "{skew}");
        // They go at one pace, by which the ranks agree on a step to stop at.
        let paces = states.iter().map(|state| state.pace);
        let (slowest, fastest) = (paces.clone().fold(f32::MAX, f32::min), paces.fold(0.0, f32::max));
        assert!(fastest < 1.3 * slowest && fastest < 30.0, "{states:?}");
    });
}
