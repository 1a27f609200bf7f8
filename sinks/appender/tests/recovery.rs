//! Recovery: records that a killed process has written are not written again.

use std::fs;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use logcore_appender::{Appender, FilePosition, FirstForm, Rotation};

#[test]
fn recover_continues_at_the_position_and_writes_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let place = {
        let mut killed = Appender::open(&path, Rotation::default()).unwrap();
        killed.append(b"before\n", 1);
        killed.deliver_now().unwrap();
        let (place, complete) = killed.position();
        assert!(complete);
        killed.append(b"one\n", 1);
        killed.append(b"two\n", 1);
        assert!(
            !killed.position().1,
            "a record that waits in memory makes the position incomplete"
        );
        killed.deliver_now().unwrap();
        place
    };
    // The kill cut the second record, and before it another process had appended a line.
    fs::write(&path, "before\nother\none\ntw").unwrap();
    for _ in 0..2 {
        let mut next = Appender::recover(&place).unwrap();
        for record in ["one\n", "two\n", "three\n"] {
            next.append(record.as_bytes(), 1);
        }
        next.finish().unwrap();
        assert_eq!(next.books().delivered, 3);
        drop(next);
        // The second recovery finds all records.
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nother\none\ntwo\nthree\n");
    }
}

#[test]
fn recover_completes_a_file_whose_first_record_has_a_form_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let first_form: FirstForm = Arc::new(|row| [row.trim_ascii_end(), b" first\n"].concat());
    let append_all = |appender: &mut Appender| {
        appender.set_first_form(Arc::clone(&first_form));
        for row in ["one\n", "two\n"] {
            appender.append(row.as_bytes(), 1);
        }
    };
    let place = {
        let mut killed = Appender::open(&path, Rotation::default()).unwrap();
        let (place, _) = killed.position();
        append_all(&mut killed);
        killed.deliver_now().unwrap();
        place
    };
    let whole = fs::read_to_string(&path).unwrap();
    assert_eq!(whole, "one first\ntwo\n");
    for end in (0..=whole.len()).rev() {
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(end as u64)
            .unwrap();
        let mut next = Appender::recover(&place).unwrap();
        append_all(&mut next);
        next.finish().unwrap();
        assert_eq!(next.books().delivered, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{end}");
    }
}

#[test]
fn recover_finds_the_position_after_a_rotation() {
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
        killed.deliver_now().unwrap();
        let (place, _) = killed.position();
        for record in [b"record 2\n", b"record 3\n"] {
            killed.append(record, 1);
        }
        killed.deliver_now().unwrap();
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
fn recover_looks_beyond_the_gap_of_a_killed_rotation() {
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
    killed.deliver_now().unwrap();
    let (place, _) = killed.position();
    for number in 1..5 {
        killed.append(line(number).as_bytes(), 1);
        killed.deliver_now().unwrap();
    }
    drop(killed);
    // The next rotation was killed after its first rename.
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
fn a_rotation_fills_a_gap_before_it_deletes_a_file() {
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

fn line(number: u32) -> String {
    format!("line number {number:02}\n")
}

/// Returns the position of a killed process after its first line; the process has written more
/// lines since.
fn killed(path: &Path, rotation: Rotation, written: u32) -> FilePosition {
    let mut killed = Appender::open(path, rotation).unwrap();
    killed.append(line(0).as_bytes(), 1);
    killed.deliver_now().unwrap();
    let (place, _) = killed.position();
    for number in 1..=written {
        killed.append(line(number).as_bytes(), 1);
        killed.deliver_now().unwrap();
    }
    place
}

/// Returns the contents of the files after all lines since the position were appended again.
fn recovered(folder: &Path, place: &FilePosition, lines: u32) -> String {
    let mut next = Appender::recover(place).unwrap();
    for number in 1..=lines {
        next.append(line(number).as_bytes(), 1);
    }
    next.finish().unwrap();
    assert_eq!(next.books().delivered, u64::from(lines));
    let files = (0..10).rev().map(|number| match number {
        0 => folder.join("training.log"),
        number => folder.join(format!("training.log.{number}")),
    });
    files.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
}

fn lines(numbers: RangeInclusive<u32>) -> String {
    numbers.map(line).collect()
}

#[test]
fn a_position_whose_file_was_rotated_away_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rotation = Rotation {
        max_bytes: Some(40),
        keep: 2,
        ..Rotation::default()
    };
    let place = killed(&folder.path().join("training.log"), rotation, 9);
    assert_eq!(recovered(folder.path(), &place, 9), lines(4..=9));
    // Two more lines were not written yet. Their file replaces the oldest one.
    assert_eq!(recovered(folder.path(), &place, 11), lines(6..=11));
}

#[test]
fn a_file_that_others_changed_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let place = killed(&path, Rotation::default(), 3);
    // Lines 1 to 3 are gone with the old contents, and the process continued after a line of
    // another process.
    for contents in [
        format!("mine\n{}", lines(4..=5)),
        format!("mine\n{}line num", lines(4..=5)),
    ] {
        fs::write(&path, &contents).unwrap();
        let whole = contents.strip_suffix("line num").unwrap_or(&contents);
        assert_eq!(recovered(folder.path(), &place, 6), whole.to_owned() + &line(6));
        // The same with a new file under the old name.
        fs::remove_file(&path).unwrap();
        fs::write(folder.path().join("new"), &contents).unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(recovered(folder.path(), &place, 6), whole.to_owned() + &line(6));
    }
    for contents in ["", "other\n"] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, contents).unwrap();
        assert_eq!(recovered(folder.path(), &place, 6), contents.to_owned() + &lines(1..=6));
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(recovered(folder.path(), &place, 6), lines(1..=6));
}

#[cfg(unix)]
#[test]
fn recover_does_not_block_on_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let place = killed(&path, Rotation::default(), 3);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Appender::recover(&place).is_err());
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let mut next = Appender::recover(&place).unwrap();
    next.append(line(1).as_bytes(), 1);
    next.finish().unwrap();
    assert_eq!(next.books().delivered, 1);
}

#[test]
fn a_live_logger_of_the_same_file_does_not_disturb_a_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let place = killed(&path, Rotation::default(), 2);
    let mut live = Appender::open(&path, Rotation::default()).unwrap();
    let mut next = Appender::recover(&place).unwrap();
    live.append(b"live\n", 1);
    for number in 1..=3 {
        next.append(line(number).as_bytes(), 1);
    }
    next.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), lines(0..=2) + "live\n" + &line(3));
}

#[test]
fn an_incomplete_record_is_completed_in_its_file_beyond_the_size_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let rotation = Rotation {
        max_bytes: Some(40),
        keep: 5,
        ..Rotation::default()
    };
    let place = killed(&path, rotation, 0);
    let long = format!("a record of {} bytes\n", "many ".repeat(20));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let cut = || {
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        file.write_all(&long.as_bytes()[..60]).unwrap();
    };
    cut();
    let mut next = Appender::recover(&place).unwrap();
    for record in [&long, &line(1)] {
        next.append(record.as_bytes(), 1);
    }
    next.finish().unwrap();
    assert_eq!(next.books().delivered, 2);
    drop(next);
    assert_eq!(
        (read("training.log.1"), read("training.log")),
        (line(0) + &long, line(1))
    );

    // A writer that does not have the record ends its line.
    cut();
    let mut other = Appender::open(&path, rotation).unwrap();
    other.append(line(2).as_bytes(), 1);
    other.finish().unwrap();
    let stump = line(1) + &long[..60] + "\n";
    assert_eq!((read("training.log.1"), read("training.log")), (stump, line(2)));
}
