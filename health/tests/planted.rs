//! Programs that stand still in known ways, and the readings of their threads.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::fs::File;
use std::hint::spin_loop;
use std::io::{BufRead as _, BufReader, Read as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use logcore_health::stall_report::{StallReport, Surroundings, advise, explain, write_report};
use logcore_health::threads::{ThreadList, ThreadReader, ThreadReading};
use rustix::process::{Pid, Signal, kill_process};

/// Set in the process that stands still. Its value is a folder.
const PLANT: &str = "LOGCORE_HEALTH_PLANT";

/// A name that would clear the screen.
const HOSTILE: &str = "a\n\u{1b}[2Jb";

/// A process of which every thread stands still in a way of its own.
struct Planted {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Planted {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "planted_program", "--nocapture", "--test-threads=1"])
            .env(PLANT, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.map_while(Result::ok).any(|line| line.ends_with("planted"));
        assert!(is_ready, "the program ended early");
        Self { child, _folder: folder }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, which is a test so that the test program can start itself.
#[test]
fn planted_program() {
    let Some(folder) = std::env::var_os(PLANT) else { return };
    let start = |name: &str, wait: Box<dyn FnOnce() + Send>| {
        let started = thread::Builder::new().name(name.to_owned()).spawn(wait);
        drop(started.unwrap());
    };
    let (one, two) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let both_hold_one = Arc::new(Barrier::new(2));
    for (name, first, second) in [("deadlock-1", &one, &two), ("deadlock-2", &two, &one)] {
        let (first, second, both) = (Arc::clone(first), Arc::clone(second), Arc::clone(&both_hold_one));
        start(
            name,
            Box::new(move || {
                let _first = first.lock();
                both.wait();
                let _second = second.lock();
            }),
        );
    }
    // The eighth never comes.
    let barrier = Arc::new(Barrier::new(8));
    for number in 0..7 {
        let barrier = Arc::clone(&barrier);
        start(&format!("collective-{number}"), Box::new(move || _ = barrier.wait()));
    }
    let (mut reader, writer) = pipe().unwrap();
    start("pipe-reader", Box::new(move || drop(reader.read(&mut [0]))));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap();
    start("socket-reader", Box::new(move || drop(stream.read(&mut [0]))));
    start("acceptor", Box::new(move || drop(listener.accept())));
    let path = Path::new(&folder).join("held");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    start("file-lock", Box::new(move || drop(File::open(path).unwrap().lock())));
    start("sleeper", Box::new(|| thread::sleep(Duration::from_secs(3600))));
    start(
        "spinner",
        Box::new(|| {
            loop {
                spin_loop();
            }
        }),
    );
    start(HOSTILE, Box::new(thread::park));
    start("logcore-writer", Box::new(thread::park));
    {
        // The harness has written half a line.
        use std::io::Write as _;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(b"\nplanted\n").unwrap();
        stdout.flush().unwrap();
    }
    let _open = (writer, peer, held, one, two);
    loop {
        thread::park();
    }
}

/// Reads until the threads are as they should be: each has been started, but needs a moment to come
/// to its wait.
fn read_until(reader: &mut ThreadReader, is_there: impl Fn(&ThreadList) -> bool) -> ThreadList {
    let begun = Instant::now();
    loop {
        let list = reader.read_threads();
        if is_there(&list) {
            return list;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{list:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn find<'a>(list: &'a ThreadList, name: &str) -> Option<&'a ThreadReading> {
    list.threads.iter().find(|thread| thread.name == name)
}

/// Returns `true` if the thread waits in the call, on a file whose name begins so.
fn waits_in(list: &ThreadList, name: &str, call: &str, file: Option<&str>) -> bool {
    find(list, name).is_some_and(|thread| {
        thread.state == Some('S')
            && thread.call.as_deref() == Some(call)
            && match file {
                None => thread.file.is_none(),
                Some(begin) => thread.file.as_ref().is_some_and(|file| file.starts_with(begin)),
            }
    })
}

#[test]
fn each_way_of_standing_still_is_read_from_outside() {
    let planted = Planted::start();
    let mut reader = ThreadReader::of_process(planted.pid());
    let list = read_until(&mut reader, |list| {
        ["deadlock-1", "deadlock-2", "collective-0", "collective-6"]
            .iter()
            .all(|name| waits_in(list, name, "futex", None))
            && waits_in(list, "pipe-reader", "read", Some("pipe:["))
            && waits_in(list, "socket-reader", "recvfrom", Some("socket:["))
            && waits_in(list, "acceptor", "accept4", Some("socket:["))
            && waits_in(list, "file-lock", "flock", Some("/"))
            && waits_in(list, "sleeper", "clock_nanosleep", None)
            // Not in the list in which the thread has just begun to sleep.
            && find(list, "sleeper").is_some_and(|sleeper| sleeper.waits_since_last == Some(0))
            && waits_in(list, r"a\n\x1b[2Jb", "futex", None)
            && find(list, "spinner").is_some_and(|spinner| {
                spinner.state == Some('R')
                    // A machine that is busy leaves the thread a part of a CPU.
                    && spinner.cpu_since_last.is_some_and(|cpu| cpu > Duration::ZERO)
            })
    });
    assert_eq!(
        (list.threads[0].tid, list.left_out),
        (planted.pid(), 0),
        "the main thread is first"
    );
    let wait = find(&list, "pipe-reader").unwrap();
    assert!(wait.kernel_wait.is_some() || wait.unread.iter().any(|cause| cause.starts_with("wchan: ")));

    let words = explain(&list).join("\n");
    for part in ["pipe-reader", "the lock on /", "sleeps for a set time", "spinner"] {
        assert!(words.contains(part), "{part} is missing in:\n{words}");
    }
    assert!(!words.contains("logcore-writer"), "{words}");
    let json = serde_json::to_value(find(&list, "file-lock").unwrap()).unwrap();
    assert_eq!((&json["call"], &json["state"]), (&"flock".into(), &"S".into()));
    assert!(json["cpu"].is_number(), "{json}");

    planted.send(Signal::STOP);
    let list = read_until(&mut reader, |list| {
        list.threads.iter().all(|thread| thread.state == Some('T'))
    });
    assert!(explain(&list)[0].ends_with("first: each is stopped by a signal, SIGSTOP or one of its kind"));
    planted.send(Signal::CONT);
    read_until(&mut reader, |list| {
        waits_in(list, "sleeper", "clock_nanosleep", None) || {
            // A sleep that was interrupted goes on in another call.
            waits_in(list, "sleeper", "restart_syscall", None)
        }
    });
}

#[test]
fn a_process_that_has_ended_is_named() {
    let mut planted = Planted::start();
    let mut reader = ThreadReader::of_process(planted.pid());
    assert!(!reader.read_threads().threads.is_empty());
    planted.child.kill().unwrap();
    planted.child.wait().unwrap();
    let list = reader.read_threads();
    assert!(list.threads.is_empty());
    assert!(
        list.problems[0].contains("has ended, or is hidden"),
        "{}",
        list.problems[0]
    );
}

#[test]
fn a_stuck_collective_is_read_from_within_and_written_down() {
    let (folder, barrier) = (tempfile::tempdir().unwrap(), Barrier::new(8));
    thread::scope(|scope| {
        for number in 0..7 {
            let wait = thread::Builder::new().name(format!("rank-{number}"));
            wait.spawn_scoped(scope, || barrier.wait()).unwrap();
        }
        let mut reader = ThreadReader::of_own_process();
        let list = read_until(&mut reader, |list| {
            (0..7).all(|number| waits_in(list, &format!("rank-{number}"), "futex", None))
        });
        assert_eq!(list.pid, std::process::id());
        let report = StallReport {
            run: "collective".to_owned(),
            rank: 2,
            attempt: 1,
            host: "here".to_owned(),
            time: SystemTime::now(),
            quiet: Duration::from_secs(60),
            limit: Duration::from_secs(60),
            usual_gap: None,
            last_step: None,
            phases: Vec::new(),
            lines: Vec::new(),
            first_stopped: None,
            gpu: Vec::new(),
            threads: list,
            surroundings: Surroundings::read(&reader),
        };
        let name = write_report(folder.path(), &report).unwrap();
        assert!(name.ends_with("-rank2.txt"), "{name}");
        let text = std::fs::read_to_string(folder.path().join("incidents").join(name)).unwrap();
        assert!(text.contains(" rank-6 ") && text.contains("in memory"), "{text}");
        assert!(text.contains(&advise(std::process::id(), &report.surroundings)[0]));
        barrier.wait();
    });
}

#[test]
fn a_reading_of_many_threads_is_short_and_bounded() {
    let (started, end) = (Barrier::new(601), Barrier::new(601));
    thread::scope(|scope| {
        for _ in 0..600 {
            let wait = || {
                started.wait();
                end.wait();
            };
            let small = thread::Builder::new().stack_size(64 << 10);
            small.spawn_scoped(scope, wait).unwrap();
        }
        started.wait();
        let begun = Instant::now();
        let list = ThreadReader::of_own_process().read_threads();
        // The limit, and a machine that does other things.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(list.threads.len() <= 512 && list.left_out > 600 - 512);
        assert!(list.threads.len() + list.left_out > 600);
        end.wait();
    });
}
