use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use proptest::prelude::*;
use rustix::fs::OFlags;

use super::*;

/// Creates a folder `run` with a file and links of all kinds, beside a precious file.
fn hostile_folder() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    let run = outside.path().join("run");
    fs::create_dir_all(run.join("media/deep")).unwrap();
    fs::write(outside.path().join("precious"), "precious").unwrap();
    fs::write(run.join("media/deep/file"), "ours").unwrap();
    symlink("../precious", run.join("to-file")).unwrap();
    symlink(outside.path(), run.join("out")).unwrap();
    symlink("..", run.join("media/up")).unwrap();
    symlink("media/deep", run.join("within")).unwrap();
    outside
}

#[test]
fn files_beneath_are_read_and_replaced() {
    let outside = hostile_folder();
    let run = Folder::open(&outside.path().join("run")).unwrap();
    assert_eq!(run.read(Path::new("media/deep/file"), 9).unwrap(), b"ours");
    let media = run.folder(Path::new("media")).unwrap();
    media.replace(Path::new("deep/file"), b"new").unwrap();
    assert_eq!(run.read(Path::new("media/deep/file"), 9).unwrap(), b"new");
    // The link is replaced, and its target stays.
    run.replace(Path::new("to-file"), b"new").unwrap();
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
    assert_eq!(run.read(Path::new("to-file"), 9).unwrap(), b"new");
}

proptest! {
    /// For any path, reads and writes stay beneath the folder.
    #[test]
    fn no_path_leads_out(
        components in proptest::collection::vec(
            prop_oneof![
                "media", "deep", "file", "to-file", "out", "up", "within", "run", "precious", "\\.\\.", "\\.", "", "\0"
            ],
            0..5,
        ),
    ) {
        let outside = hostile_folder();
        let run = Folder::open(&outside.path().join("run")).unwrap();
        let path: PathBuf = components.join("/").into();
        let stepwise = match crate::files::is_plain_relative(&path) {
            true => run.0.open_stepwise(&path, OFlags::RDONLY | OFlags::NONBLOCK),
            false => Err(io::ErrorKind::InvalidInput.into()),
        };
        let stepwise = stepwise
            .and_then(|file| crate::files::check_regular(file.into()))
            .and_then(|file| crate::files::open::read_file(file, 99));
        for bytes in [run.read(&path, 99), stepwise].into_iter().flatten() {
            prop_assert_eq!(bytes, b"ours");
        }
        let _ = run.create_dir_all(&path);
        let _ = run.replace(&path, b"new");
        let _ = run.create_new(&path);
        if let Ok(mut file) = run.append(&path) {
            file.write_all(b"more").unwrap();
        }
        let _ = run.rename(&path, Path::new("media/deep/moved"));
        let _ = run.rename(Path::new("media/deep/moved"), &path);
        let _ = run.remove_file(&path);
        let _ = run.remove_dir(&path);
        prop_assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
        let entries = fs::read_dir(outside.path()).unwrap();
        let beside: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(beside.len(), 2, "{:?}", beside);
    }
}

#[test]
fn append_rename_and_remove_follow_no_link() {
    let outside = hostile_folder();
    let run = Folder::open(&outside.path().join("run")).unwrap();
    for path in ["to-file", "out/precious", "media/up/to-file"] {
        assert!(run.append(Path::new(path)).is_err(), "{path}");
        assert!(run.create_new(Path::new(path)).is_err(), "{path}");
    }
    let new = Path::new("media/new");
    run.append(new).unwrap().write_all(b"a").unwrap();
    run.append(new).unwrap().write_all(b"b").unwrap();
    assert_eq!(run.read(new, 9).unwrap(), b"ab");
    assert!(run.create_new(new).is_err());
    run.rename(new, Path::new("to-file")).unwrap();
    assert_eq!(run.read(Path::new("to-file"), 9).unwrap(), b"ab");
    assert!(!run.is_removed());
    run.create_dir_all(Path::new("short")).unwrap();
    let short = run.folder(Path::new("short")).unwrap();
    run.remove_dir(Path::new("short")).unwrap();
    assert!(short.is_removed());
    run.remove_file(Path::new("out")).unwrap();
    assert!(run.remove_dir(Path::new("media")).is_err(), "it is not empty");
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
}

#[test]
fn entries_have_their_own_kind() {
    let outside = hostile_folder();
    let run = Folder::open(&outside.path().join("run")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(outside.path().join("run/socket")).unwrap();
    let mut entries: Vec<_> = run.entries().unwrap().into_iter().map(|e| (e.name, e.kind)).collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("media", EntryKind::Folder),
        ("out", EntryKind::Link),
        ("socket", EntryKind::Other),
        ("to-file", EntryKind::Link),
        ("within", EntryKind::Link),
    ];
    assert_eq!(entries, expected.map(|(name, kind)| (name.into(), kind)));
}

#[test]
fn both_ways_of_opening_refuse_the_same_paths() {
    let outside = hostile_folder();
    let run = Folder::open(&outside.path().join("run")).unwrap();
    for path in ["to-file", "out/precious", "media/up/media/deep/file", "within/file"] {
        let path = Path::new(path);
        let stepwise = run.0.open_stepwise(path, OFlags::RDONLY).unwrap_err();
        for error in [run.open_file(path).unwrap_err(), stepwise] {
            assert!(
                matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory),
                "{}: {error}",
                path.display()
            );
        }
    }
}
