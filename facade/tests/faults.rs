//! A system that fails: the file of a ring is cut, there is no more memory or no further thread.
//! Each case is a child process: this test program, run again.
#![cfg(all(target_os = "linux", feature = "file", feature = "jsonl"))]
#![allow(unsafe_code, reason = "faults are made, and limits set")]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr;

use facade::{LogConfig, RingPlace, setup_logging};

const CASE: &str = "FAULTS_CASE";
const FOLDER: &str = "FAULTS_FOLDER";
const LINES: u32 = 20_000;

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "child".into(),
        log_dir: folder.into(),
        run: "flat".into(),
        enable_console: false,
        ring_place: RingPlace::LogDir,
        ring_bytes: 1 << 18,
        ..LogConfig::default()
    }
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let folder = std::env::var_os(FOLDER).unwrap();
    let folder = Path::new(&folder);
    match case.as_str() {
        "cut" => log_while_the_ring_is_cut(folder),
        "a fault of the program" => {
            let _logger = setup_logging(config(folder)).unwrap();
            touch_what_is_not_there();
        }
        "a fault that the program mends" => mend_own_fault(folder),
        "a signal that is sent" => {
            let _logger = setup_logging(config(folder)).unwrap();
            // SAFETY: ends the process.
            unsafe { libc::raise(libc::SIGBUS) };
        }
        "little memory" => log_with_little_memory(folder),
        #[cfg(feature = "health")]
        "one thread" => log_with_one_more_thread(folder),
        _ => unreachable!("{case}"),
    }
}

fn log_while_the_ring_is_cut(folder: &Path) {
    let logger = setup_logging(config(folder)).unwrap();
    logger.log_metrics_at(0, [("first", 0)]);
    logger.flush().unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let logger = logger.clone();
            let cut = folder.join("cut");
            let work = move || {
                while !cut.exists() {
                    std::thread::yield_now();
                }
                for number in 0..LINES {
                    logger.info(format_args!("{thread} {number}"));
                    if thread == 0 {
                        // Zeros up to the end of a frame, behind the beginning of a page, would
                        // look like lost data. Three values leave none there, and two would leave
                        // half the id of a name.
                        let value = f64::from(number) + 0.1;
                        let values = [("value", value), ("other", value), ("third", value)];
                        logger.log_metrics_at(u64::from(number) + 1, values);
                    }
                }
            };
            std::thread::Builder::new()
                .name(format!("talk-{thread}"))
                .spawn(work)
                .unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(logger.finish().sink("file").unwrap().delivered, u64::from(3 * LINES));
}

/// A mapping of a file that is empty.
fn empty_mapping(folder: &Path) -> *mut u8 {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(folder.join("empty"))
        .unwrap();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the system's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), 4096, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.cast()
}

fn touch_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: the mapping exists, and the test wants the signal.
    unsafe { empty_mapping(folder.path()).write_volatile(1) };
}

static MENDED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn mend(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's information; the page is this test's own.
    unsafe {
        let page = (*info).si_addr() as usize & !4095;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
    }
    MENDED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

/// The handler that had the signal before us gets the faults that are not ours, and none that is.
fn mend_own_fault(folder: &Path) {
    // SAFETY: the handler has the form that the flags announce.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = mend as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
    let logger = setup_logging(config(folder)).unwrap();
    // SAFETY: the mapping is there, and `mend` makes the page.
    unsafe { empty_mapping(folder).write_volatile(1) };
    assert_eq!(MENDED.load(std::sync::atomic::Ordering::Relaxed), 1);
    fs::write(ring(folder), "").unwrap();
    (0..LINES).for_each(|number| logger.info(number));
    drop(logger.finish());
    assert_eq!(MENDED.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(lines(folder).len(), LINES as usize);
}

/// As `ulimit -v` does.
fn log_with_little_memory(folder: &Path) {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let bytes = pages * 4096 + (160 << 20);
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: numbers alone are passed.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    for place in [RingPlace::Auto, RingPlace::Memory] {
        let logger = setup_logging(LogConfig {
            ring_place: place,
            ring_bytes: 1 << 29,
            ..config(folder)
        });
        let logger = logger.unwrap();
        logger.info("said");
        drop(logger.finish());
    }
    assert_eq!(lines(folder).len(), 2);
}

fn start(case: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the signal or the exit code of the child, and its text on stderr.
fn end(child: Child) -> (Option<i32>, Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.signal(), output.status.code(), said)
}

fn ring(folder: &Path) -> std::path::PathBuf {
    let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .find(|path| path.extension().is_some_and(|end| end == "ring"))
        .unwrap()
}

fn lines(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    text.lines()
        .map(|line| line.splitn(4, " | ").nth(3).unwrap().to_owned())
        .collect()
}

#[test]
fn a_ring_that_is_cut_costs_the_run_nothing() {
    // All of it; so that there is something left of the data; and of the header.
    for length in [0, 300_000, 2_000] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start("cut", folder.path());
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("ready")));
        let file = File::options().write(true).open(ring(folder.path())).unwrap();
        file.set_len(length).unwrap();
        fs::write(folder.path().join("cut"), "").unwrap();
        // Until it has ended.
        said.for_each(drop);
        let (signal, code, words) = end(child);
        assert_eq!((signal, code), (None, Some(0)), "{words}");
        assert_eq!(words.matches("continues in plain memory").count(), 1, "{words}");
        let lines = lines(folder.path());
        for thread in ["0", "1", "2"] {
            let of_thread = lines
                .iter()
                .filter_map(|line| line.split_once(' '))
                .filter(|(name, _)| *name == thread);
            assert!(
                of_thread
                    .map(|(_, number)| number.to_owned())
                    .eq((0..LINES).map(|number| number.to_string()))
            );
        }
        let rows = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!(
            rows.lines()
                .filter(|row| row.contains("metrics/value") && row.contains("metrics/other"))
                .count(),
            LINES as usize
        );
        assert!(facade::recover(folder.path()).is_empty());
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            left.iter().all(|name| !name.to_string_lossy().starts_with(".logcore")),
            "{left:?}"
        );
    }
}

#[test]
fn a_memory_fault_of_the_program_still_ends_the_process() {
    for case in ["a fault of the program", "a signal that is sent"] {
        let folder = tempfile::tempdir().unwrap();
        let (signal, _, words) = end(start(case, folder.path()));
        assert_eq!(signal, Some(libc::SIGBUS), "{case}: {words}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (signal, code, words) = end(start("a fault that the program mends", folder.path()));
    assert_eq!((signal, code), (None, Some(0)), "{words}");
}

#[test]
fn a_process_that_may_have_little_memory_has_a_small_ring() {
    let folder = tempfile::tempdir().unwrap();
    let (signal, code, words) = end(start("little memory", folder.path()));
    assert_eq!((signal, code), (None, Some(0)), "{words}");
    assert!(
        words.contains("the ring has") && words.contains("instead of"),
        "{words}"
    );
}

/// Logs where only the writer finds a thread, as under `ulimit -u` and in a container with a limit
/// of its processes.
#[cfg(feature = "health")]
fn log_with_one_more_thread(folder: &Path) {
    let threads = fs::read_dir("/proc/self/task").unwrap().count() as u64;
    let limit = libc::rlimit {
        rlim_cur: threads + 1,
        rlim_max: threads + 1,
    };
    // SAFETY: the limit lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }, 0);
    let logger = setup_logging(LogConfig {
        on_signal: facade::OnSignal::Ask,
        finish_timeout: 60.0,
        ..config(folder)
    })
    .unwrap();
    logger.log_metrics_at(3, [("loss", f64::NAN)]);
    let begin = std::time::Instant::now();
    logger.finish();
    // A quarter of `finish_timeout` is the time for findings that nobody tells.
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

#[cfg(feature = "health")]
#[test]
fn a_process_without_further_threads_says_so_and_ends_its_run() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    /// A user of no other process. The limit counts the threads of a user, and not those of root.
    const USER: u32 = 61_517;

    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // The user may not reach the folder of the build.
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let logs = folder.path().join("logs");
    let child = Command::new(&program)
        .args(["--exact", "the_child", "--nocapture"])
        .env(CASE, "one thread")
        .env(FOLDER, &logs)
        .current_dir(folder.path())
        .uid(USER)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(child) = child else {
        println!("nothing is tested: this user may not start a process of another one");
        return;
    };
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    for text in [
        "nobody watches the run: cannot start a thread",
        "signals end the process without a last word, and `stop_requested` hears of none: cannot start a thread",
    ] {
        assert_eq!(told.matches(text).count(), 1, "{text}: {told}");
    }
    let read = |name: &str| fs::read_to_string(logs.join(name)).unwrap();
    assert!(read("training.log").contains("loss is NaN at step 3"));
    let events = read("events.jsonl");
    assert!(
        events.lines().count() == 1 && events.contains(r#""incident":"3-any-nan.json""#),
        "{events}"
    );
    assert!(logs.join("incidents/3-any-nan.json").is_file());
    let run: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
    assert_eq!(run["state"], "finished", "{run}");
}
