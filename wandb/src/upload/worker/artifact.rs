//! Uploads an artifact: its files, then the manifest that lists them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logcore_delivery::{DeliveryError, DeliveryErrorKind};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::folder::{RunFolder, staged_copy};
use crate::log_format::proto::{ArtifactRecord, ManifestEntry};
use crate::upload::client::RetryingClient;
use crate::upload::client::api::non_empty;
use crate::upload::client::put_file::{put, put_file, split_headers};
use crate::upload::client::replies::{ArtifactFileEdge, CreatedArtifact, CreatedManifest};
use crate::upload::client::run_identity::RunIdentity;

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

/// Number of files in one request.
const MOST_FILES: usize = 100;

/// The progress of the upload of an artifact.
#[derive(Default)]
pub(crate) struct ArtifactProgress {
    /// The server's ids of the artifact and of its manifest.
    ids: Option<(String, String)>,
    /// The stored files, each with the id of the artifact in which it was first stored.
    stored: BTreeMap<String, Option<String>>,
}

impl ArtifactProgress {
    /// Returns the number of stored files.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }
}

/// Tries to upload an artifact once, and continues where an earlier try stopped.
pub(crate) fn upload_artifact(
    client: &RetryingClient,
    run: &RunIdentity,
    files: &RunFolder,
    artifact: &ArtifactRecord,
    progress: &mut ArtifactProgress,
) -> Result<(), DeliveryError> {
    let api = &client.api;
    let create_manifest = |input: Value| -> Result<CreatedManifest, DeliveryError> {
        let part = "/createArtifactManifest/artifactManifest";
        api.query("CreateArtifactManifest", CREATE_MANIFEST, &input, part)
    };
    let (id, manifest_id) = match &progress.ids {
        Some(ids) => ids.clone(),
        None => {
            let input = creation(run, artifact);
            let created: CreatedArtifact = api.query("CreateArtifact", CREATE, &input, "/createArtifact/artifact")?;
            if created.state == "COMMITTED" {
                return Ok(());
            }
            let id = created.id.unwrap_or_default();
            let manifest = create_manifest(manifest_input(run, &id, None))?;
            progress.ids.insert((id, manifest.id)).clone()
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
    let digest = STANDARD.encode(Md5::digest(manifest.as_bytes()));
    let created = create_manifest(manifest_input(run, &id, Some(&digest)))?;
    if let Some(url) = &created.file.upload_url {
        let headers = split_headers(&created.file.upload_headers);
        put(client, url, &headers, manifest.into()).map_err(DeliveryError::of_item)?;
    }
    let input = json!({"input": {"artifactID": id}});
    let _: CreatedArtifact = api.query("CommitArtifact", COMMIT, &input, "/commitArtifact/artifact")?;
    Ok(())
}

/// Returns the reason why an artifact cannot be sent: one of its files is not a copy in the folder
/// of the run. A log may name any file of the machine, and may have been moved without its copies.
pub(crate) fn missing_copy(artifact: &ArtifactRecord, files: &RunFolder) -> Option<String> {
    let mut entries = artifact.manifest.iter().flat_map(|manifest| &manifest.contents);
    entries.find_map(|entry| {
        let path = &entry.local_path;
        match staged_copy(path).map(|copy| files.folder().open_file(&copy)) {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(format!("cannot open the copy {path}: {error}")),
            None => Some(format!("`{path}` is not a copy in the folder of the run")),
        }
    })
}

/// Opens the copy of a file.
fn open_copy(files: &RunFolder, entry: &ManifestEntry) -> Result<File, DeliveryError> {
    let opened = match staged_copy(&entry.local_path) {
        Some(copy) => files.folder().open_file(&copy),
        None => Err(io::ErrorKind::InvalidInput.into()),
    };
    opened.map_err(|error| {
        DeliveryError::permanent(DeliveryErrorKind::Unreadable, format!("{}: {error}", entry.local_path))
    })
}

/// Returns the input that creates an artifact.
fn creation(run: &RunIdentity, artifact: &ArtifactRecord) -> Value {
    json!({"input": {
        "entityName": run.entity, "projectName": run.project, "runName": run.run_id,
        "artifactTypeName": artifact.r#type, "artifactCollectionName": artifact.name,
        "digest": artifact.digest, "digestAlgorithm": "MANIFEST_MD5",
        "description": non_empty(&artifact.description), "metadata": non_empty(&artifact.metadata),
        "aliases": artifact.aliases.iter()
            .map(|alias| json!({"artifactCollectionName": artifact.name, "alias": alias}))
            .collect::<Vec<_>>(),
        "clientID": artifact.client_id, "sequenceClientID": artifact.sequence_client_id,
        "enableDigestDeduplication": true,
    }})
}

/// Uploads a part of the files. Addresses expire, so that the next try asks for new ones for the
/// remaining files.
fn upload_files(
    client: &RetryingClient,
    run_files: &RunFolder,
    [id, manifest_id]: [&str; 2],
    entries: &[&ManifestEntry],
    stored: &mut BTreeMap<String, Option<String>>,
) -> Result<(), DeliveryError> {
    let files: Vec<_> = entries
        .iter()
        .map(|entry| {
            json!({
                "artifactID": id, "artifactManifestID": manifest_id, "name": entry.path, "md5": entry.digest,
            })
        })
        .collect();
    let input = json!({"input": {"artifactFiles": files, "storageLayout": "V2"}});
    let part = "/createArtifactFiles/files/edges";
    let edges: Vec<ArtifactFileEdge> = client
        .api
        .query_list("CreateArtifactFiles", CREATE_FILES, &input, part)?;
    if edges.len() != entries.len() {
        let (found, all) = (edges.len(), entries.len());
        let text = format!("the reply has {found} of {all} files of the artifact");
        return Err(DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, text).of_item());
    }
    for (entry, edge) in entries.iter().zip(edges) {
        let target = edge.node.target;
        if let Some(url) = &target.upload_url {
            let headers = split_headers(&target.upload_headers);
            let file = open_copy(run_files, entry).map_err(DeliveryError::of_item)?;
            put_file(client, url, &headers, &entry.local_path, file).map_err(DeliveryError::of_item)?;
        }
        stored.insert(entry.path.clone(), edge.node.artifact.id);
    }
    Ok(())
}

/// Returns the manifest as JSON.
fn manifest(id: &str, contents: &[ManifestEntry], stored: &BTreeMap<String, Option<String>>) -> String {
    let files: serde_json::Map<String, Value> = contents
        .iter()
        .map(|entry| {
            let birth = stored.get(&entry.path).and_then(Option::as_deref).unwrap_or(id);
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

/// Returns the input that creates a manifest; with a digest, the manifest that will be uploaded.
fn manifest_input(run: &RunIdentity, id: &str, digest: Option<&str>) -> Value {
    json!({
        "name": "wandb_manifest.json", "digest": digest.unwrap_or_default(), "artifactID": id, "baseArtifactID": null,
        "entityName": run.entity, "projectName": run.project, "runName": run.run_id,
        "includeUpload": digest.is_some(), "manifestType": "FULL",
    })
}
