//! A process that is killed while it rotates leaves a number free; what it wrote is found all the same.

use std::fs;

use logcore_appender::{Appender, Rotation};

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
