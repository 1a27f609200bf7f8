//! Links, pipes, devices, folders and sockets in place of the file.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use logcore_appender::{Appender, Rotation};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const SMALL: Rotation = Rotation {
    max_bytes: Some(20),
    daily: true,
    utc: true,
    keep: 2,
};

fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// The reading end of a pipe, which is open when this returns.
fn open_reader(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).unwrap()
}

/// Reads so many bytes; a pipe has them soon.
fn read_from(pipe: &mut File, count: usize) -> String {
    let mut bytes = vec![0; count];
    let mut read = 0;
    while read < count {
        match pipe.read(&mut bytes[read..]) {
            Ok(some) => read += some,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn open_refuses_what_is_not_a_file_and_names_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make_pipe(&path("pipe"));
    drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
    fs::create_dir(path("folder")).unwrap();
    symlink("pipe", path("link")).unwrap();
    for (name, words) in [
        ("pipe", "it is a pipe that nobody reads"),
        ("link", "it is a pipe that nobody reads"),
        ("socket", "it is a socket"),
        ("folder", "directory"),
    ] {
        let Err(error) = Appender::open(&path(name), SMALL) else {
            panic!("{name}")
        };
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_link_of_the_user_is_followed_and_never_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("training.log"), folder.path().join("other disk"));
    symlink(&other, &path).unwrap();
    let mut appender = Appender::open(&path, SMALL).unwrap();
    let expected: String = (0..9).map(|number| format!("line number {number}\n")).collect();
    for line in expected.split_inclusive('\n') {
        appender.append(line.as_bytes(), 1);
        appender.deliver_now().unwrap();
    }
    assert_eq!(fs::read_to_string(&other).unwrap(), expected);
    assert!(path.is_symlink());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_pipe_is_never_rotated_and_a_slow_reader_gets_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    make_pipe(&path);
    let mut reader = open_reader(&path);
    let mut appender = Appender::open(&path, SMALL).unwrap();
    // More than fits into a pipe.
    let lines: Vec<String> = (0..5000)
        .map(|number| format!("line {number:06} {}\n", "y".repeat(80)))
        .collect();
    let all: usize = lines.iter().map(String::len).sum();
    for line in &lines {
        appender.append(line.as_bytes(), 1);
    }
    // Without a reader, `deliver` returns early and the records are kept.
    let since = Instant::now();
    assert_eq!(appender.deliver().unwrap_err().reason(), "nobody reads");
    assert!(since.elapsed() < Duration::from_secs(1));
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_from(&mut reader, all));
        appender.deliver_now().unwrap();
        assert_eq!(reader.join().unwrap(), lines.concat());
    });
    assert_eq!(appender.books().delivered, 5000);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_closed_reader_is_an_error_and_the_next_reader_gets_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    make_pipe(&path);
    let reader = open_reader(&path);
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    drop(reader);
    appender.append(b"one\n", 1);
    for _ in 0..3 {
        let since = Instant::now();
        assert!(appender.deliver_now().is_err());
        assert!(since.elapsed() < Duration::from_secs(1));
    }
    let mut reader = open_reader(&path);
    appender.append(b"two\n", 1);
    appender.deliver_now().unwrap();
    assert_eq!(read_from(&mut reader, 8), "one\ntwo\n");
}

#[test]
fn finish_on_a_full_pipe_drops_the_rest_and_returns_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    make_pipe(&path);
    let _reader = open_reader(&path);
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    let record = vec![b'x'; 1 << 20];
    let since = Instant::now();
    for _ in 0..40 {
        appender.append(&record, 1);
        let _ = appender.deliver();
    }
    assert!(appender.finish().is_err());
    drop(appender.books());
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let books = appender.books();
    assert!(books.balanced() && books.dropped["nobody reads"] == 40, "{books:?}");
}

#[test]
fn a_file_that_is_replaced_by_a_pipe_during_the_run_blocks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let mut appender = Appender::open(&path, SMALL).unwrap();
    appender.append(b"one\n", 1);
    appender.deliver_now().unwrap();
    let kinds: [fn(&Path); 3] = [
        make_pipe,
        |path| fs::create_dir(path).unwrap(),
        |path| {
            drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        },
    ];
    for (number, make) in kinds.into_iter().enumerate() {
        fs::remove_file(&path).unwrap();
        make(&path);
        let line = format!("kept {number}\n");
        appender.append(line.as_bytes(), 1);
        assert!(appender.deliver_now().is_err());
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        appender.deliver_now().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), line);
    }
    assert!(appender.books().balanced() && appender.books().delivered == 4);
}
