//! An artifact: files under one name, with a manifest that says what each is.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};

use super::link::{GivenUp, Identity, Link};
use super::transfer::{headers, put, put_content};
use crate::proto::{Artifact, ManifestEntry};

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

pub(crate) fn upload_artifact(link: &Link, run: &Identity, artifact: &Artifact) -> Result<(), GivenUp> {
    let input = json!({"input": {
        "entityName": run.entity, "projectName": run.project, "runName": run.run_id,
        "artifactTypeName": artifact.r#type, "artifactCollectionName": artifact.name,
        "digest": artifact.digest, "digestAlgorithm": "MANIFEST_MD5",
        "description": some(&artifact.description), "metadata": some(&artifact.metadata),
        "aliases": artifact.aliases.iter()
            .map(|alias| json!({"artifactCollectionName": artifact.name, "alias": alias}))
            .collect::<Vec<_>>(),
        "clientID": artifact.client_id, "sequenceClientID": artifact.sequence_client_id,
        "enableDigestDeduplication": true,
    }});
    let created = link.ask("CreateArtifact", CREATE, &input, "/createArtifact/artifact")?;
    if created["state"] == "COMMITTED" {
        return Ok(());
    }
    let id = text(&created["id"]);
    let empty = Vec::new();
    let contents = artifact.manifest.as_ref().map_or(&empty, |manifest| &manifest.contents);
    let manifest_id = {
        let input = manifest_input(run, &id, "", false);
        text(&link.ask("CreateArtifactManifest", CREATE_MANIFEST, &input, MANIFEST)?["id"])
    };
    let mut born = Map::new();
    for entries in contents.chunks(MOST_FILES) {
        upload_files(link, &id, &manifest_id, entries, &mut born)?;
    }
    upload_manifest(link, run, &id, contents, &born)?;
    link.ask(
        "CommitArtifact",
        COMMIT,
        &json!({"input": {"artifactID": id}}),
        "/commitArtifact/artifact",
    )?;
    Ok(())
}

const MANIFEST: &str = "/createArtifactManifest/artifactManifest";

/// Uploads a part of the files; `born` learns in which artifact each was stored first.
fn upload_files(
    link: &Link,
    id: &str,
    manifest_id: &str,
    entries: &[ManifestEntry],
    born: &mut Map<String, Value>,
) -> Result<(), GivenUp> {
    let files: Vec<_> = entries
        .iter()
        .map(|entry| json!({"artifactID": id, "artifactManifestID": manifest_id, "name": entry.path, "md5": entry.digest}))
        .collect();
    let input = json!({"input": {"artifactFiles": files, "storageLayout": "V2"}});
    let edges = link.ask(
        "CreateArtifactFiles",
        CREATE_FILES,
        &input,
        "/createArtifactFiles/files/edges",
    )?;
    let nodes: Vec<&Value> = edges
        .as_array()
        .into_iter()
        .flatten()
        .map(|edge| &edge["node"])
        .collect();
    // The answer has the files in the order of the question.
    for (entry, node) in entries.iter().zip(nodes) {
        born.insert(entry.path.clone(), node["artifact"]["id"].clone());
        // Without an address the server has the content already.
        if let Some(url) = node["uploadUrl"].as_str() {
            let headers = headers(&node["uploadHeaders"]);
            link.until_refused(|api| put(api, url, &headers, Path::new(&entry.local_path)))?;
        }
    }
    Ok(())
}

fn upload_manifest(
    link: &Link,
    run: &Identity,
    id: &str,
    contents: &[ManifestEntry],
    born: &Map<String, Value>,
) -> Result<(), GivenUp> {
    let files: Map<String, Value> = contents
        .iter()
        .map(|entry| {
            let birth = born.get(&entry.path).and_then(Value::as_str).unwrap_or(id);
            (
                entry.path.clone(),
                json!({"digest": entry.digest, "size": entry.size, "birthArtifactID": birth}),
            )
        })
        .collect();
    let manifest = json!({
        "version": 1, "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": {"storageLayout": "V2"}, "contents": files,
    })
    .to_string();
    let input = manifest_input(run, id, &STANDARD.encode(Md5::digest(manifest.as_bytes())), true);
    let created = link.ask("CreateArtifactManifest", CREATE_MANIFEST, &input, MANIFEST)?;
    let file = &created["file"];
    let Some(url) = file["uploadUrl"].as_str() else {
        return Ok(());
    };
    let headers = headers(&file["uploadHeaders"]);
    link.until_refused(|api| put_content(api, url, &headers, manifest.clone().into()))
}

fn manifest_input(run: &Identity, id: &str, digest: &str, upload: bool) -> Value {
    json!({
        "name": "wandb_manifest.json", "digest": digest, "artifactID": id, "baseArtifactID": null,
        "entityName": run.entity, "projectName": run.project, "runName": run.run_id,
        "includeUpload": upload, "manifestType": "FULL",
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
