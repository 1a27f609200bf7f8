//! The end of a run: its files and its status.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::SystemTime;

use logcore::files::is_plain_relative;
use logcore::sync::lock;
use logcore::{RunState, StoredMedia, epoch_seconds};
use logcore_delivery::{DeliveryError, DeliveryErrorKind, Lane, RequestBody, RetryingClient};

use super::{Uploader, unreadable};
use crate::api::{MlflowApi, RunStatus};
use crate::batches::to_millis;
use crate::documents::{CONFIG, SUMMARY};
use crate::spool::ROWS;

impl Uploader {
    /// Sends the end of the run.
    pub(super) fn finish(&mut self) -> Result<RunState, DeliveryError> {
        let (end, ended) = match &self.plan.live {
            Some(live) => (*lock(&live.end), None),
            None => {
                let manifest = self.documents.manifest.as_ref();
                (
                    self.documents.end(&self.plan.dir),
                    manifest.and_then(|manifest| manifest.ended),
                )
            }
        };
        let ended = to_millis(ended.unwrap_or_else(|| epoch_seconds(SystemTime::now())));
        let status = match end {
            RunState::Finished => RunStatus::Finished,
            RunState::Failed => RunStatus::Failed,
            // Of a folder without a run nothing else is known than that its rows end.
            _ if self.documents.manifest.is_none() && self.plan.live.is_none() => RunStatus::Finished,
            _ => RunStatus::Killed,
        };
        self.client
            .persist(|api| api.update_run(&self.remote.id, status, Some(ended)))?;
        if let Some(live) = &self.plan.live {
            live.delivered.complete();
        }
        // Many files take long, so that they come last.
        self.send_artifacts()?;
        self.state.complete = true;
        self.state.attempts = self.documents.attempts();
        self.save_state();
        Ok(end)
    }

    /// Uploads the documents and the media of the run, and the rows if their values are not all on
    /// the server.
    fn send_artifacts(&mut self) -> Result<(), DeliveryError> {
        if !self.plan.settings.has_artifacts {
            return Ok(());
        }
        let Some(root) = proxy_path(&self.remote.artifact_uri) else {
            let text = format!(
                "MLflow: no files are uploaded, because the server keeps artifacts elsewhere ({}); start it with \
                 `--artifacts-destination`, or set `sinks.mlflow.artifacts` to false",
                logcore_delivery::quote(&self.remote.artifact_uri)
            );
            self.client.control.print_notice("artifacts", &text);
            return Ok(());
        };
        let client = RetryingClient {
            lane: Lane::Files,
            ..self.client.clone()
        };
        let documents = [Some(CONFIG), Some(SUMMARY), self.state.thinned.then_some(ROWS)];
        for name in documents.into_iter().flatten() {
            self.send_file(&client, &root, name)?;
        }
        for name in self.media_files().iter().skip(self.state.media_sent) {
            self.send_file(&client, &root, name)?;
            self.state.media_sent += 1;
            if self.state.media_sent.is_multiple_of(FILES_A_SAVE) {
                self.save_state();
            }
        }
        Ok(())
    }

    fn send_file(&self, client: &RetryingClient<MlflowApi>, root: &[String], name: &str) -> Result<(), DeliveryError> {
        let path = || self.plan.dir.join(name);
        let sent = client.persist_unless(
            |error| !error.is_temporary(),
            |api| {
                let file = match self.plan.folder.open_file(Path::new(name)) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(unreadable(&path(), &error)),
                };
                let content = RequestBody::file(file, &client.control, Lane::Files);
                let content = content.map_err(|error| unreadable(&path(), &error))?;
                api.put_artifact(root, name, content)
            },
        );
        match sent {
            Err(error) if error.kind() != DeliveryErrorKind::GaveUp => {
                let text = format!("the file {name} is not uploaded: {error}");
                client.control.skip(&text);
                Ok(())
            }
            sent => sent,
        }
    }

    /// Returns the paths of the media files that the index names, each once, in the order of the
    /// index.
    fn media_files(&self) -> Vec<String> {
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        let Ok(index) = self.plan.folder.open_file(Path::new(MEDIA_INDEX)) else {
            return files;
        };
        let mut index = BufReader::new(index);
        let mut line = Vec::new();
        // A line without an end is torn, or longer than one of ours.
        while index.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok() && !line.is_empty() {
            // A line that somebody has damaged names nothing.
            let media = serde_json::from_slice::<StoredMedia>(&line).ok();
            let file = media.and_then(|media| media.description.file);
            let file = file.filter(|file| is_plain_relative(Path::new(&file.path)) && file.path.starts_with(MEDIA));
            files.extend(file.map(|file| file.path).filter(|path| seen.insert(path.clone())));
            if files.len() == MOST_FILES {
                let text = format!("media behind the first {MOST_FILES} files of {MEDIA_INDEX} are not uploaded");
                self.client.control.skip(&text);
                break;
            }
            line.clear();
        }
        files
    }
}

/// The index of the media of a run.
const MEDIA_INDEX: &str = "media.jsonl";
/// The folder of the media.
const MEDIA: &str = "media/";
/// Most bytes of a line of the index. That of a histogram has its ranges.
const LONGEST_LINE: u64 = 16 << 20;
/// Number of uploaded files after which the position is saved.
const FILES_A_SAVE: usize = 32;
/// Most media files of a run on the server, each of which is a request.
const MOST_FILES: usize = 10_000;

/// Returns the segments of a run's folder behind the server's proxy for artifacts; `None` if the
/// artifacts are elsewhere.
fn proxy_path(artifact_uri: &str) -> Option<Vec<String>> {
    // `mlflow-artifacts://host/…` names another server, which would get the login.
    let path = artifact_uri.strip_prefix("mlflow-artifacts:/")?;
    let segments: Vec<_> = path.split('/').map(str::to_owned).collect();
    let is_plain = |segment: &String| !matches!(&**segment, "" | "." | "..");
    segments.iter().all(is_plain).then_some(segments)
}
