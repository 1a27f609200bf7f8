//! Real files: rotated, moved, deleted, cut off, full.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use logcore_appender::{Appender, Rotation};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn put(appender: &mut Appender, text: &str) {
    appender.append(format!("{text}\n").as_bytes(), 1);
    appender.deliver_now().unwrap();
}

#[test]
fn rotation_by_size_splits_no_record_and_keeps_the_configured_number_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let rotation = Rotation {
        max_bytes: Some(20),
        keep: 2,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    for i in 0..10 {
        appender.append(format!("line {i}\n").as_bytes(), 1);
    }
    appender.append(b"a record that is longer than a file may be\n", 1);
    appender.append(b"end\n", 1);
    appender.deliver().unwrap();
    assert_eq!(read(&path), "end\n");
    assert_eq!(
        read(&folder.path().join("training.log.1")),
        "a record that is longer than a file may be\n"
    );
    assert_eq!(read(&folder.path().join("training.log.2")), "line 8\nline 9\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    assert_eq!(appender.books().delivered, 12);
}

#[test]
fn the_first_record_of_each_file_has_its_first_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let rotation = Rotation {
        max_bytes: Some(20),
        keep: 9,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    appender.set_first_form(Arc::new(|row| [b"1st ", row].concat()));
    for i in 0..5 {
        appender.append(format!("row {i}\n").as_bytes(), 1);
    }
    appender.deliver_now().unwrap();
    let files = ["rows.2", "rows.1", "rows"].map(|name| read(&folder.path().join(name)));
    assert_eq!(files, ["1st row 0\nrow 1\n", "1st row 2\nrow 3\n", "1st row 4\n"]);
    assert_eq!(appender.books().delivered, 5);
}

#[test]
fn a_failed_rotation_continues_in_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    // A folder under the name of a rotated file makes every rotation fail.
    fs::create_dir_all(folder.path().join("training.log.1/x")).unwrap();
    let rotation = Rotation {
        max_bytes: Some(20),
        keep: 1,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    for i in 0..10 {
        put(&mut appender, &format!("line {i}"));
    }
    let expected: String = (0..10).map(|i| format!("line {i}\n")).collect();
    assert_eq!(read(&path), expected);
    assert_eq!(appender.books().delivered, 10);
}

#[test]
fn rotation_by_day_compares_the_day_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    fs::write(&path, "yesterday\n").unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(yesterday)
        .unwrap();
    let rotation = Rotation {
        daily: true,
        utc: true,
        keep: 3,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    put(&mut appender, "today");
    put(&mut appender, "still today");
    assert_eq!(read(&path), "today\nstill today\n");
    assert_eq!(read(&folder.path().join("training.log.1")), "yesterday\n");
}

#[test]
fn a_moved_or_deleted_file_is_created_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/training.log");
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    put(&mut appender, "one");
    fs::rename(&path, folder.path().join("moved")).unwrap();
    // The path is checked at most ten times a second.
    std::thread::sleep(std::time::Duration::from_millis(110));
    put(&mut appender, "two");
    assert_eq!(
        (read(&folder.path().join("moved")).as_str(), read(&path).as_str()),
        ("one\n", "two\n")
    );
    fs::remove_dir_all(folder.path().join("deep")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(110));
    put(&mut appender, "three");
    assert_eq!(read(&path), "three\n");
}

#[test]
fn open_ends_a_line_that_a_killed_process_left_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    fs::write(&path, "whole\nstum").unwrap();
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    put(&mut appender, "new");
    assert_eq!(read(&path), "whole\nstum\nnew\n");
    assert_eq!(appender.books().accepted, 1);
}

#[cfg(unix)]
#[test]
fn a_full_disk_that_is_freed_again_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    appender.append(b"kept\n", 1);
    let error = appender.deliver_now().unwrap_err();
    assert_eq!(error.reason(), "disk full");
    assert!(error.to_string().contains("training.log"), "{error}");
    fs::remove_file(&path).unwrap();
    put(&mut appender, "later");
    assert_eq!(read(&path), "kept\nlater\n");
    assert_eq!(appender.books().delivered, 2);
}

#[cfg(unix)]
#[test]
fn finish_on_a_full_disk_balances_the_books() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    appender.append(b"lost\n", 3);
    assert!(appender.finish().is_err());
    let books = appender.books();
    assert_eq!(books.dropped["disk full"], 3);
    assert!(books.balanced());
}

#[test]
fn different_spellings_of_a_path_share_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("training.log");
    let winding = folder.path().join(".").join("training.log");
    let mut first = Appender::open(&plain, Rotation::default()).unwrap();
    let mut second = Appender::open(&winding, Rotation::default()).unwrap();
    assert_eq!(first.path(), second.path());
    for i in 0..1000 {
        first.append(format!("{}\n", "a".repeat(i % 80)).as_bytes(), 1);
        second.append(format!("{}\n", "b".repeat(i % 80)).as_bytes(), 1);
    }
    first.deliver_now().unwrap();
    let text = read(&plain);
    assert_eq!(text.lines().count(), 2000);
    assert!(text.lines().all(|line| !(line.contains('a') && line.contains('b'))));
}

#[test]
fn open_fails_if_the_folder_cannot_be_created() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(Appender::open(&folder.path().join("file/below/training.log"), Rotation::default()).is_err());
}

#[cfg(target_os = "linux")]
#[test]
#[allow(unsafe_code, reason = "what others do to our descriptors")]
fn a_descriptor_that_the_program_closes_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("training.log");
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    put(&mut appender, "one");
    let mut descriptors = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let leads_here = |descriptor: &std::path::PathBuf| fs::read_link(descriptor).is_ok_and(|path_of| path_of == path);
    let ours = descriptors.find(leads_here).unwrap();
    let number = ours.file_name().unwrap().to_str().unwrap().parse().unwrap();
    // SAFETY: closing the appender's descriptor is the purpose of the test, and the appender does
    // not close it again.
    assert_eq!(unsafe { libc::close(number) }, 0);
    // The next file that the program opens gets the number of the closed descriptor.
    let foreign = fs::File::create(folder.path().join("foreign")).unwrap();
    put(&mut appender, "two");
    put(&mut appender, "three");
    assert_eq!(read(&path), "one\ntwo\nthree\n");
    assert_eq!(appender.books().delivered, 3);
    drop(foreign);
    assert_eq!(read(&folder.path().join("foreign")), "");
}

#[test]
fn a_deleted_file_loses_no_line_that_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    for number in 0..50 {
        fs::remove_file(&path).unwrap();
        put(&mut appender, &format!("line {number}"));
        assert_eq!(read(&path), format!("line {number}\n"));
    }
}

#[test]
fn a_rotation_moves_and_deletes_only_regular_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let rotation = Rotation {
        max_bytes: Some(10),
        keep: 2,
        ..Rotation::default()
    };
    fs::create_dir(folder.path().join("training.log.2")).unwrap();
    let mut appender = Appender::open(&path, rotation).unwrap();
    for number in 0..9 {
        put(&mut appender, &format!("line {number}"));
    }
    assert!(folder.path().join("training.log.2").is_dir());
    let all = read(&folder.path().join("training.log.1")) + &read(&path);
    assert_eq!(all, (0..9).map(|number| format!("line {number}\n")).collect::<String>());
}

#[test]
fn extreme_limits_of_a_rotation_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let rotation = Rotation {
        max_bytes: Some(1),
        keep: usize::MAX,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    for number in 0..5 {
        put(&mut appender, &format!("line {number}"));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
}
