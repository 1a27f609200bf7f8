//! File systems that are full, shut down or frozen while a training logs into them. Each case is a
//! child process, this test program run again, in a mount namespace of its own, which takes its
//! mounts along when it ends. Without the right to mount, or without the programs that make file
//! systems, the tests do nothing; `faults.rs` has the tests that need no file system.
#![cfg(all(target_os = "linux", feature = "file", feature = "jsonl"))]
#![allow(unsafe_code, reason = "room is taken, and memory")]
#![allow(clippy::print_stdout, reason = "a test that tries nothing says so")]

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facade::{LogConfig, OnFull, RingPlace, setup_logging};

const CASE: &str = "DISKS_CASE";
const FOLDER: &str = "DISKS_FOLDER";

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let folder = std::env::var_os(FOLDER).unwrap();
    let (system, trouble, place) = parts(&case);
    let disk = Disk::mount(Path::new(&folder), system);
    let config = LogConfig {
        name: "child".into(),
        log_dir: Path::new(&folder).join("disk/logs"),
        run: "flat".into(),
        enable_console: false,
        ring_place: if place == "here" {
            RingPlace::LogDir
        } else {
            RingPlace::Auto
        },
        // A frozen disk takes nothing for seconds.
        ring_bytes: if trouble == "frozen" { 8 << 20 } else { 1 << 20 },
        on_full: if place == "drop" { OnFull::Drop } else { OnFull::Wait },
        finish_timeout: 5.0,
        flush_timeout: 2.0,
        ..LogConfig::default()
    };
    let leads_away = |logs: &Path| {
        let mut names = fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path());
        let ring = names
            .find(|path| path.extension().is_some_and(|end| end == "ring"))
            .unwrap();
        fs::read(ring).unwrap().starts_with(b"at /dev/shm/")
    };
    let logger = setup_logging(config.clone()).unwrap();
    let in_memory = place == "drop" || place == "auto" && system != "ext4";
    assert_eq!(leads_away(&config.log_dir), in_memory && memory_is_of_the_machine());

    let over = AtomicBool::new(false);
    let (slowest_call, slowest_page) = thread::scope(|scope| {
        let calls = scope.spawn(|| {
            slowest(&over, || {
                logger.info("a line that is long enough to come around in the ring".repeat(20));
                logger.log_metrics([("value", 1)]);
            })
        });
        let pages = scope.spawn(|| slowest(&over, take_a_page));
        match trouble {
            "full" => disk.fill(),
            "shut down" => disk.shut_down(),
            "frozen" => disk.freeze(),
            _ => unreachable!("{trouble}"),
        }
        over.store(true, Ordering::Relaxed);
        (calls.join().unwrap(), pages.join().unwrap())
    });
    #[cfg(feature = "media")]
    if trouble == "full" {
        logger.log_text("sample", "x".repeat(1 << 20), None);
        let left = fs::read_dir(config.log_dir.join("media")).into_iter().flatten();
        let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            names.iter().all(|name| name == "text"),
            "no part of a file is left: {names:?}"
        );
    }
    println!("{case}: a call took up to {slowest_call:?}, a page of memory {slowest_page:?}");
    if trouble == "frozen" {
        assert!(
            slowest_page < FROZEN / 2,
            "the program had no memory for {slowest_page:?}"
        );
        let may_wait = !in_memory || !memory_is_of_the_machine();
        assert!(may_wait || slowest_call < FROZEN / 2, "a call took {slowest_call:?}");
    }
    // Calls that a disk does not take are lost. The process must survive and report them.
    drop(logger.finish());
}

/// In a container with its own `/dev/shm`, the ring is on the disk.
fn memory_is_of_the_machine() -> bool {
    fs::read_link("/proc/self/ns/ipc").unwrap() == Path::new("ipc:[4026531839]")
}

/// `xfs, full, here` in its parts.
fn parts(case: &str) -> (&str, &str, &str) {
    let mut parts = case.split(", ");
    let mut next = || parts.next().unwrap();
    (next(), next(), next())
}

/// Does the work again and again; returns how long the longest took.
fn slowest(over: &AtomicBool, work: impl Fn()) -> Duration {
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        work();
        slowest = slowest.max(start.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    slowest
}

/// The work that any allocation may have to do.
fn take_a_page() {
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, which is written to and given back.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        page.cast::<u8>().write_volatile(1);
        libc::munmap(page, 4096);
    }
}

const FROZEN: Duration = Duration::from_secs(3);

/// A file system in a file.
struct Disk<'a> {
    folder: &'a Path,
}

impl<'a> Disk<'a> {
    fn mount(folder: &'a Path, system: &str) -> Self {
        // XFS takes no less than 300 MB.
        let make = match system {
            "btrfs" => "truncate -s 120M image && mkfs.btrfs -q -M image",
            "xfs" => "truncate -s 310M image && mkfs.xfs -q image",
            _ => "truncate -s 64M image && mkfs.ext4 -q image",
        };
        run(
            folder,
            &format!("{make} && mkdir disk && mount -o loop image disk && rm image"),
        );
        Self { folder }
    }

    /// Takes all the room that there is, as the pages of the ring are to be written again.
    fn fill(&self) {
        let file = File::create(self.folder.join("disk/filling")).unwrap();
        run(self.folder, "sync -f disk");
        // A backup with shared blocks, on file systems that support them.
        run(self.folder, "cp -a --reflink=auto disk/logs disk/backup; sync -f disk");
        let mut at = 0;
        for bytes in [64 << 20, 8 << 20, 1 << 20, 64 << 10, 4096] {
            // SAFETY: the descriptor is open; no memory is involved.
            while unsafe { libc::posix_fallocate(file.as_raw_fd(), at, bytes) } == 0 {
                at += bytes;
            }
        }
        for _ in 0..8 {
            run(self.folder, "sync -f disk || true");
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn shut_down(&self) {
        run(self.folder, "sync -f disk; xfs_io -x -c shutdown disk");
        thread::sleep(Duration::from_secs(2));
    }

    fn freeze(&self) {
        // Another process thaws it, and is there before it is frozen: nothing stays frozen if this
        // one is killed.
        let thaw = format!("sleep {}; fsfreeze -u disk", FROZEN.as_secs());
        let mut thaw = command(self.folder, &thaw).process_group(0).spawn().unwrap();
        run(self.folder, "sync -f disk; fsfreeze -f disk");
        assert!(thaw.wait().unwrap().success());
    }
}

fn command(folder: &Path, words: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", words]).current_dir(folder).stdout(Stdio::null());
    command
}

fn run(folder: &Path, words: &str) {
    assert!(command(folder, words).status().unwrap().success(), "{words}");
}

/// Returns `true` if this process may mount, and has the programs that make these file systems.
fn may_mount(program: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let try_it = format!(
        "command -v {program} && command -v fsfreeze && command -v unshare && truncate -s 16M image && mkfs.ext4 -q image && mkdir disk && \
         unshare -m --propagation private mount -o loop image disk"
    );
    let may = command(folder.path(), &try_it)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !may {
        println!("nothing is tried: no mounts are allowed, or there is no {program}");
    }
    may
}

fn survives(program: &str, cases: &[&str]) {
    if !may_mount(program) {
        return;
    }
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args(["-m", "--propagation", "private"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(
            (output.status.signal(), output.status.code()),
            (None, Some(0)),
            "{case}: {said}"
        );
        println!("{said}");
    }
}

#[test]
fn a_full_btrfs_costs_only_what_is_counted() {
    survives("mkfs.btrfs", &["btrfs, full, here", "btrfs, full, auto"]);
}

#[test]
fn a_full_or_shut_down_xfs_costs_only_what_is_counted() {
    let cases = ["xfs, full, here", "xfs, shut down, here", "xfs, shut down, auto"];
    survives("mkfs.xfs", &cases);
}

#[test]
fn a_frozen_disk_does_not_stop_the_run() {
    survives("mkfs.ext4", &["ext4, frozen, auto", "ext4, frozen, drop"]);
}

#[test]
fn a_frozen_xfs_does_not_stop_the_run() {
    survives("mkfs.xfs", &["xfs, frozen, auto"]);
}
