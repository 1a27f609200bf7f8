//! Tests of hostile folders: the paths in their logs, and the links and pipes in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use logcore::Notices;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::tests::FakeServer;
use crate::log_format::LogWriter;
use crate::log_format::proto::{
    ArtifactRecord, EnvironmentRecord, ExitRecord, FilesItem, FilesRecord, ManifestEntry, ManifestRecord, OutputRaw,
    RecordKind, RunRecord,
};
use crate::{SyncError, SyncOptions, SyncReport, sync};

const SECRET: &str = "a private key";
const PRECIOUS: &str = "precious";
const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

/// A folder that somebody has sent, in a home folder with secrets.
struct SentFolder {
    home: TempDir,
    run: PathBuf,
    log: PathBuf,
}

impl SentFolder {
    fn new(names: &[String]) -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        fs::write(home.path().join(".ssh/id_rsa"), SECRET).unwrap();
        fs::write(home.path().join(".bashrc"), PRECIOUS).unwrap();
        let run = home.path().join("sent/wandb/run-20260101_000000-x");
        fs::create_dir_all(run.join("files")).unwrap();
        let log = run.join("run-x.wandb");
        let mut writer = LogWriter::create(&log, []).unwrap();
        writer.append(RecordKind::Run(Box::new(RunRecord {
            run_id: "x".to_owned(),
            project: "loot".to_owned(),
            entity: "attacker".to_owned(),
            ..RunRecord::default()
        })));
        writer.append(RecordKind::Environment(Box::new(EnvironmentRecord {
            host: "elsewhere".to_owned(),
            username: "mallory".to_owned(),
            ..EnvironmentRecord::default()
        })));
        let files = names.iter().map(|name| FilesItem {
            path: name.clone(),
            policy: 0,
            r#type: 0,
        });
        writer.append(RecordKind::Files(FilesRecord { files: files.collect() }));
        for (at, name) in names.iter().enumerate() {
            writer.append(RecordKind::Artifact(Box::new(ArtifactRecord {
                name: format!("a{at}"),
                client_id: format!("c{at}"),
                manifest: Some(ManifestRecord {
                    contents: vec![ManifestEntry {
                        path: "x".to_owned(),
                        local_path: name.clone(),
                        ..ManifestEntry::default()
                    }],
                    ..ManifestRecord::default()
                }),
                ..ArtifactRecord::default()
            })));
        }
        writer.append(RecordKind::Output(OutputRaw {
            output_type: 1,
            line: "touch /tmp/pwned\n".to_owned(),
            ..OutputRaw::default()
        }));
        writer.append(RecordKind::Exit(ExitRecord::default()));
        writer.write_out().unwrap();
        Self { home, run, log }
    }

    fn sync(&self, server: &FakeServer) -> (Result<SyncReport, SyncError>, Vec<String>) {
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let mut options = options(server);
        let words = Arc::clone(&notices);
        options.notices = Some(Notices::new(move |_, line| words.lock().unwrap().push(line.to_owned())));
        let report = sync(&self.log, &options, |_, _| {});
        let notices = notices.lock().unwrap().clone();
        (report, notices)
    }

    fn is_unharmed(&self) -> bool {
        let read = |name: &str| fs::read_to_string(self.home.path().join(name)).unwrap();
        read(".bashrc") == PRECIOUS && read(".ssh/id_rsa") == SECRET
    }
}

fn options(server: &FakeServer) -> SyncOptions {
    let options = json!({"base_url": server.url, "api_key": KEY});
    SyncOptions {
        options: options.as_object().unwrap().clone(),
        retry_limit: Some(Duration::from_secs(10)),
        ..SyncOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// A log names any paths, as files and as copies for artifacts.
    #[test]
    fn a_log_never_reaches_a_file_outside_of_its_folder(
        parts in prop::collection::vec(
            prop_oneof![
                Just("..".to_owned()), Just(".".to_owned()), Just(String::new()), Just("out".to_owned()),
                Just("key".to_owned()), Just(".ssh".to_owned()), Just("id_rsa".to_owned()),
                Just("artifacts".to_owned()), Just("files".to_owned()), Just("\0".to_owned()), Just("file:".to_owned()),
            ],
            0..7,
        ),
    ) {
        let made = parts.join("/");
        let sent = SentFolder::new(&[]);
        let home = sent.home.path().display();
        let names = [
            made.clone(), format!("{home}/{made}"), format!("{home}/.ssh/id_rsa"), "../../../../.ssh/id_rsa".to_owned(),
            "key".to_owned(), "out/id_rsa".to_owned(), format!("file://{home}/.ssh/id_rsa"),
            format!("{home}/x/artifacts/out/id_rsa"), format!("{home}/x/artifacts/one/key"),
        ];
        let sent = SentFolder::new(&names);
        let ssh = sent.home.path().join(".ssh");
        symlink(ssh.join("id_rsa"), sent.run.join("files/key")).unwrap();
        symlink(&ssh, sent.run.join("files/out")).unwrap();
        fs::create_dir_all(sent.run.join("artifacts/one")).unwrap();
        symlink(ssh.join("id_rsa"), sent.run.join("artifacts/one/key")).unwrap();
        symlink(&ssh, sent.run.join("artifacts/out")).unwrap();
        let server = FakeServer::start(|_, _| {});
        let _ = sent.sync(&server);
        prop_assert!(!server.all().contains(SECRET), "{}", server.all());
        prop_assert!(sent.is_unharmed());
    }
}

#[test]
fn skipped_files_are_reported_and_the_rest_is_delivered() {
    let sent = SentFolder::new(&["../../../../.ssh/id_rsa".to_owned()]);
    let server = FakeServer::start(|_, _| {});
    let (report, notices) = sent.sync(&server);
    let skipped = report.unwrap().skipped;
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(
        skipped
            .iter()
            .all(|what| notices.iter().any(|line| line.contains(what))),
        "{notices:?}"
    );
    assert!(skipped[0].contains("leads out of its folder"), "{skipped:?}");
    assert!(server.all().contains("complete"), "{}", server.all());
}

/// The notice also names the foreign writer.
#[test]
fn the_destination_is_printed_before_anything_is_sent() {
    let sent = SentFolder::new(&[]);
    let server = FakeServer::start(|_, _| {});
    let notices = Arc::<Mutex<Vec<(bool, String)>>>::default();
    let mut options = options(&server);
    let (words, seen) = (Arc::clone(&notices), server.url.clone());
    let watch = Arc::new(server);
    let watched = Arc::clone(&watch);
    options.notices = Some(Notices::new(move |_, line| {
        words.lock().unwrap().push((watched.all().is_empty(), line.to_owned()));
    }));
    sync(&sent.log, &options, |_, _| {}).unwrap();
    let notices = notices.lock().unwrap();
    let (before, line) = &notices[0];
    assert!(before, "{notices:?}");
    for word in [
        seen.as_str(),
        "attacker",
        "loot",
        "mallory",
        "elsewhere",
        "another writer than you",
    ] {
        assert!(line.contains(word), "{line} lacks {word}");
    }
}

#[test]
fn links_in_place_of_own_files_are_replaced_and_not_followed() {
    let sent = SentFolder::new(&[]);
    let precious = sent.home.path().join(".bashrc");
    let ours = [
        "files/output.log",
        "files/config.yaml",
        "files/wandb-summary.json",
        "files/wandb-metadata.json",
        "run-x.wandb.upload",
        "run-x.wandb.upload.new",
        "run-x.wandb.uploaded",
        "run-x.wandb.syncstate",
    ];
    for name in ours {
        symlink(&precious, sent.run.join(name)).unwrap();
    }
    let server = FakeServer::start(|_, _| {});
    sent.sync(&server).0.unwrap();
    assert!(sent.is_unharmed());
    let console = sent.run.join("files/output.log");
    assert!(!console.is_symlink());
    assert_eq!(fs::read_to_string(console).unwrap(), "touch /tmp/pwned\n");
}

/// `artifacts` is a link to a folder of the user, and the log names its files as copies.
#[test]
fn nothing_is_removed_through_a_link() {
    let sent = SentFolder::new(&["/x/artifacts/.ssh/id_rsa".to_owned()]);
    symlink(sent.home.path(), sent.run.join("artifacts")).unwrap();
    let server = FakeServer::start(|_, _| {});
    let _ = sent.sync(&server);
    assert!(sent.is_unharmed());
}

/// Pipes and folders in place of files do not block a sync.
#[test]
fn pipes_and_folders_in_place_of_files_do_not_block() {
    let names = [
        "files/pipe",
        "run-x.wandb.upload",
        "run-x.wandb.uploaded",
        "run-x.wandb.synced",
        "files/output.log",
        "../settings",
    ];
    let sent = SentFolder::new(&["pipe".to_owned(), "folder".to_owned()]);
    fs::create_dir(sent.run.join("files/folder")).unwrap();
    for name in names {
        let made = std::process::Command::new("mkfifo").arg(sent.run.join(name)).status();
        assert!(made.unwrap().success());
    }
    let server = FakeServer::start(|_, _| {});
    let (report, notices) = sent.sync(&server);
    assert_eq!(report.unwrap().skipped.len(), 4, "{notices:?}");
    assert!(
        notices
            .iter()
            .any(|line| line.contains("ignoring") && line.contains("settings: it is a pipe")),
        "{notices:?}"
    );
    let log = sent.run.join("run-pipe.wandb");
    fs::rename(sent.run.join("files/pipe"), &log).unwrap();
    let refused = sync(&log, &SyncOptions::default(), |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("a pipe"), "{refused}");
}

#[test]
fn a_link_to_a_log_is_neither_found_nor_synced() {
    let sent = SentFolder::new(&[]);
    let other = sent.home.path().join("sent/wandb/run-other");
    fs::create_dir(&other).unwrap();
    symlink(&sent.log, other.join("run-y.wandb")).unwrap();
    let root = sent.home.path().join("sent");
    assert_eq!(crate::find_logs(&root), [sent.log.as_path()].map(Path::to_owned));
    let refused = sync(&other.join("run-y.wandb"), &SyncOptions::default(), |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("link"), "{refused}");
}
