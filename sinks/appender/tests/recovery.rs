//! What a killed process has written is found by the next, and not written again.

use std::fs;

use logcore_appender::{Appender, Rotation};

#[test]
fn a_new_process_goes_on_behind_a_mark_and_writes_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let place = {
        let mut killed = Appender::open(&path, Rotation::default()).unwrap();
        killed.append(b"before\n", 1);
        killed.deliver(true).unwrap();
        let (place, complete) = killed.place();
        assert!(complete);
        killed.append(b"one\n", 1);
        killed.append(b"two\n", 1);
        assert!(!killed.place().1, "what waits in memory is in no mark");
        killed.deliver(true).unwrap();
        place
    };
    // The kill cut the second record, and another process has appended a line of its own before.
    fs::write(&path, "before\nother\none\ntw").unwrap();
    for _ in 0..2 {
        let mut next = Appender::recover(&place).unwrap();
        for record in ["one\n", "two\n", "three\n"] {
            next.append(record.as_bytes(), 1);
        }
        next.finish().unwrap();
        assert_eq!(next.books().delivered, 3);
        drop(next);
        // The second time everything is found.
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nother\none\ntwo\nthree\n");
    }
}

#[test]
fn a_mark_is_found_again_behind_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let rotation = Rotation {
        max_bytes: Some(12),
        keep: 5,
        ..Rotation::default()
    };
    let place = {
        let mut killed = Appender::open(&path, rotation).unwrap();
        killed.append(b"record 1\n", 1);
        killed.deliver(true).unwrap();
        let (place, _) = killed.place();
        for record in [b"record 2\n", b"record 3\n"] {
            killed.append(record, 1);
        }
        killed.deliver(true).unwrap();
        place
    };
    let mut next = Appender::recover(&place).unwrap();
    for record in ["record 2\n", "record 3\n", "record 4\n"] {
        next.append(record.as_bytes(), 1);
    }
    next.finish().unwrap();
    let read = |number: &str| fs::read_to_string(folder.path().join(format!("training.log{number}"))).unwrap();
    assert_eq!(
        [read(".3"), read(".2"), read(".1"), read("")].concat(),
        "record 1\nrecord 2\nrecord 3\nrecord 4\n"
    );
}

#[test]
fn a_number_that_a_killed_rotation_left_free_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let rotation = Rotation {
        max_bytes: Some(30),
        keep: 500,
        ..Rotation::default()
    };
    let line = |number: u32| format!("line number {number:02}\n");
    let mut killed = Appender::open(&path, rotation).unwrap();
    killed.append(line(0).as_bytes(), 1);
    killed.deliver(true).unwrap();
    let (place, _) = killed.place();
    for number in 1..5 {
        killed.append(line(number).as_bytes(), 1);
        killed.deliver(true).unwrap();
    }
    drop(killed);
    // The rotation that came next was killed behind its first rename.
    let numbered = |number: u32| folder.path().join(format!("training.log.{number}"));
    let oldest = (1..).take_while(|number| numbered(*number).exists()).last().unwrap();
    fs::rename(numbered(oldest), numbered(oldest + 1)).unwrap();

    let mut next = Appender::recover(&place).unwrap();
    for number in 1..6 {
        next.append(line(number).as_bytes(), 1);
    }
    next.finish().unwrap();
    let files = fs::read_dir(folder.path()).unwrap();
    let all: String = files
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for number in 0..6 {
        assert_eq!(all.matches(&line(number)).count(), 1, "{number}");
    }
}

#[test]
fn a_gap_is_filled_and_costs_no_file_that_is_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let numbered = |number: u32| folder.path().join(format!("training.log.{number}"));
    for (path, text) in [(&path, "new\n"), (&numbered(1), "1\n"), (&numbered(3), "3\n")] {
        fs::write(path, text).unwrap();
    }
    let rotation = Rotation {
        max_bytes: Some(4),
        keep: 3,
        ..Rotation::default()
    };
    let mut appender = Appender::open(&path, rotation).unwrap();
    appender.append(b"newest\n", 1);
    appender.finish().unwrap();
    let texts = [path, numbered(1), numbered(2), numbered(3)].map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(texts, ["newest\n", "new\n", "1\n", "3\n"]);
    assert!(!numbered(4).exists());
}
