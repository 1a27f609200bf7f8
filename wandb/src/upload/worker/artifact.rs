//! An artifact: files under one name, with a manifest that says what each is.

use std::fs::File;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};

use crate::folder::{RunFolder, staged_copy};
use crate::log_format::proto::{ArtifactRecord, ManifestEntry};
use crate::upload::client::api::{some, text};
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::http::RequestBody;
use crate::upload::client::put_file::{headers, put, put_file};
use crate::upload::client::retry::{RetryingClient, RunIdentity};
use crate::upload::worker::transfer::Hitch;

const CREATE: &str = "mutation CreateArtifact($input: CreateArtifactInput!) { createArtifact(input: $input) { \
     artifact { id state } } }";
const CREATE_MANIFEST: &str = "mutation CreateArtifactManifest($artifactID: ID!, $baseArtifactID: ID, $name: String!, \
     $digest: String!, $entityName: String!, $projectName: String!, $runName: String!, \
     $manifestType: ArtifactManifestType!, $includeUpload: Boolean!) { createArtifactManifest(input: {\
     artifactID: $artifactID, baseArtifactID: $baseArtifactID, name: $name, digest: $digest, entityName: $entityName, \
     projectName: $projectName, runName: $runName, type: $manifestType}) { artifactManifest { id file { \
     uploadUrl @include(if: $includeUpload) uploadHeaders @include(if: $includeUpload) } } } }";
const CREATE_FILES: &str = "mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) { \
     createArtifactFiles(input: $input) { files { edges { node { id storagePath uploadUrl uploadHeaders \
     artifact { id } } } } } }";
const COMMIT: &str = "mutation CommitArtifact($input: CommitArtifactInput!) { \
     commitArtifact(input: $input) { artifact { id digest } } }";

/// Files in one request.
const MOST_FILES: usize = 100;

/// How far the upload of an artifact has come.
#[derive(Default)]
pub(crate) struct ArtifactProgress {
    /// The server's ids of the artifact and of its manifest.
    ids: Option<(String, String)>,
    /// The files that are stored, each with the artifact that it was first stored in.
    stored: Map<String, Value>,
}

impl ArtifactProgress {
    /// How many files are stored.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }
}

/// Tries once, and goes on where an earlier try has stopped.
pub(crate) fn upload_artifact(
    client: &RetryingClient,
    run: &RunIdentity,
    files: &RunFolder,
    artifact: &ArtifactRecord,
    progress: &mut ArtifactProgress,
) -> Result<(), Hitch> {
    let ask = |operation: &str, query: &str, variables: &Value, part: &str| {
        let answer = client.api.ask(operation, query, variables, part);
        answer.map_err(Hitch::Server)
    };
    let (id, manifest_id) = match &progress.ids {
        Some(ids) => ids.clone(),
        None => {
            let created = ask(
                "CreateArtifact",
                CREATE,
                &creation(run, artifact),
                "/createArtifact/artifact",
            )?;
            if created["state"] == "COMMITTED" {
                return Ok(());
            }
            let id = text(&created["id"]);
            let input = manifest_input(run, &id, "", false);
            let manifest = ask("CreateArtifactManifest", CREATE_MANIFEST, &input, MANIFEST)?;
            progress.ids.insert((id, text(&manifest["id"]))).clone()
        }
    };
    let empty = Vec::new();
    let contents = artifact.manifest.as_ref().map_or(&empty, |manifest| &manifest.contents);
    let stored = &mut progress.stored;
    let left: Vec<_> = contents
        .iter()
        .filter(|entry| !stored.contains_key(&entry.path))
        .collect();
    for entries in left.chunks(MOST_FILES) {
        upload_files(client, files, [&id, &manifest_id], entries, stored)?;
    }
    let manifest = manifest(&id, contents, stored);
    let input = manifest_input(run, &id, &STANDARD.encode(Md5::digest(manifest.as_bytes())), true);
    let created = ask("CreateArtifactManifest", CREATE_MANIFEST, &input, MANIFEST)?;
    if let Some(url) = created["file"]["uploadUrl"].as_str() {
        let headers = headers(&created["file"]["uploadHeaders"]);
        put(client, url, &headers, RequestBody::Bytes(manifest.into())).map_err(Hitch::Content)?;
    }
    let input = json!({"input": {"artifactID": id}});
    ask("CommitArtifact", COMMIT, &input, "/commitArtifact/artifact")?;
    Ok(())
}

/// Why an artifact cannot be sent, now or later: its files are not all copies in the run's folder. A log may name any file of
/// the machine, and may have been moved without its copies.
pub(crate) fn missing_copy(artifact: &ArtifactRecord, files: &RunFolder) -> Option<String> {
    let mut entries = artifact.manifest.iter().flat_map(|manifest| &manifest.contents);
    entries.find_map(|entry| {
        let place = &entry.local_path;
        match staged_copy(place).map(|copy| files.folder().open_file(&copy)) {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(format!("the copy of its file, {place}: {error}")),
            None => Some(format!("`{place}` is no copy of a file in the run's folder")),
        }
    })
}

fn open_copy(files: &RunFolder, entry: &ManifestEntry) -> Result<File, UploadError> {
    let opened = match staged_copy(&entry.local_path) {
        Some(copy) => files.folder().open_file(&copy),
        None => Err(io::ErrorKind::InvalidInput.into()),
    };
    opened.map_err(|error| UploadError::last(UploadErrorKind::Unreadable, format!("{}: {error}", entry.local_path)))
}

fn creation(run: &RunIdentity, artifact: &ArtifactRecord) -> Value {
    json!({"input": {
        "entityName": run.entity, "projectName": run.project, "runName": run.run_id,
        "artifactTypeName": artifact.r#type, "artifactCollectionName": artifact.name,
        "digest": artifact.digest, "digestAlgorithm": "MANIFEST_MD5",
        "description": some(&artifact.description), "metadata": some(&artifact.metadata),
        "aliases": artifact.aliases.iter()
            .map(|alias| json!({"artifactCollectionName": artifact.name, "alias": alias}))
            .collect::<Vec<_>>(),
        "clientID": artifact.client_id, "sequenceClientID": artifact.sequence_client_id,
        "enableDigestDeduplication": true,
    }})
}

const MANIFEST: &str = "/createArtifactManifest/artifactManifest";

/// Uploads a part of the files. Their addresses are good for a while: those that are left at the next try get new ones.
fn upload_files(
    client: &RetryingClient,
    run_files: &RunFolder,
    [id, manifest_id]: [&str; 2],
    entries: &[&ManifestEntry],
    stored: &mut Map<String, Value>,
) -> Result<(), Hitch> {
    let files: Vec<_> = entries
        .iter()
        .map(|entry| json!({"artifactID": id, "artifactManifestID": manifest_id, "name": entry.path, "md5": entry.digest}))
        .collect();
    let input = json!({"input": {"artifactFiles": files, "storageLayout": "V2"}});
    let edges = client.api.ask(
        "CreateArtifactFiles",
        CREATE_FILES,
        &input,
        "/createArtifactFiles/files/edges",
    );
    let edges = edges.map_err(Hitch::Server)?;
    // The answer has the files in the order of the question, and all of them.
    let nodes: Vec<_> = edges
        .as_array()
        .into_iter()
        .flatten()
        .map(|edge| &edge["node"])
        .collect();
    if nodes.len() != entries.len() {
        let text = format!(
            "the reply has {} of {} files of the artifact",
            nodes.len(),
            entries.len()
        );
        return Err(Hitch::Content(UploadError::again(UploadErrorKind::NotUnderstood, text)));
    }
    for (entry, node) in entries.iter().zip(nodes) {
        // Without an address the server has the content already.
        if let Some(url) = node["uploadUrl"].as_str() {
            let headers = headers(&node["uploadHeaders"]);
            let file = open_copy(run_files, entry).map_err(Hitch::Content)?;
            put_file(client, url, &headers, &entry.local_path, file).map_err(Hitch::Content)?;
        }
        stored.insert(entry.path.clone(), node["artifact"]["id"].clone());
    }
    Ok(())
}

fn manifest(id: &str, contents: &[ManifestEntry], stored: &Map<String, Value>) -> String {
    let files: Map<String, Value> = contents
        .iter()
        .map(|entry| {
            let birth = stored.get(&entry.path).and_then(Value::as_str).unwrap_or(id);
            (
                entry.path.clone(),
                json!({"digest": entry.digest, "size": entry.size, "birthArtifactID": birth}),
            )
        })
        .collect();
    json!({
        "version": 1, "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": {"storageLayout": "V2"}, "contents": files,
    })
    .to_string()
}

fn manifest_input(run: &RunIdentity, id: &str, digest: &str, upload: bool) -> Value {
    json!({
        "name": "wandb_manifest.json", "digest": digest, "artifactID": id, "baseArtifactID": null,
        "entityName": run.entity, "projectName": run.project, "runName": run.run_id,
        "includeUpload": upload, "manifestType": "FULL",
    })
}
