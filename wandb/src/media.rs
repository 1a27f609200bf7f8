//! Media values in the form of W&B: a JSON value for the row, and a file in `files/media/`.
//!
//! The file of a value is there before its name is known: the name contains the step, which the
//! logger chooses last, so that a slow encoder does not delay rows.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use logcore::{EncodedMedia, MediaContent, MediaError, StagedMedia, Table, media_path};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::folder::StagedFile;
use crate::folder::{FILES, RunFolder};
use crate::log_format;

/// The greatest number of rows in the artifact of a table.
const MOST_ROWS: usize = 200_000;
/// The greatest number of rows in the table file of the run.
const SHOWN_ROWS: usize = 10_000;

/// A value whose file is written, without a name and a step.
pub(crate) struct StoredMedia {
    pub(crate) value: Value,
    file: Option<StoredMediaFile>,
}

/// A written file without its final name.
struct StoredMediaFile {
    staged: StagedFile,
    /// The kind of the value, which decides the folder.
    content: MediaContent,
    suffix: &'static str,
    digest: String,
    size: u64,
}

impl StoredMedia {
    /// Writes the file of a value; a link to `staged`, if W&B has the same content.
    pub(crate) fn new(
        encoded: &EncodedMedia,
        staged: Option<&StagedMedia>,
        run: &Arc<RunFolder>,
    ) -> Result<Self, MediaError> {
        let mut value = row_value(encoded);
        if let Some(caption) = &encoded.caption {
            value["caption"] = caption.as_str().into();
        }
        let Some(file) = &encoded.file else {
            return Ok(Self { value, file: None });
        };
        let (content, suffix, own) = match &encoded.content {
            MediaContent::Text => (MediaContent::Html, ".html", Some(page_of(&file.bytes))),
            content => (content.clone(), file.suffix, shortened(encoded)?),
        };
        let file = match (own, staged) {
            (None, Some(staged)) => StoredMediaFile {
                staged: link_or_copy(staged, run)?,
                content,
                suffix,
                digest: staged.digest().to_owned(),
                size: staged.size(),
            },
            (own, _) => {
                let bytes = own.as_deref().unwrap_or(&file.bytes);
                StoredMediaFile {
                    staged: StagedFile::new(run, |staged| staged.write_all(bytes))?,
                    content,
                    suffix,
                    digest: hex(&Sha256::digest(bytes)),
                    size: bytes.len() as u64,
                }
            }
        };
        Ok(Self {
            value,
            file: Some(file),
        })
    }

    /// Moves the file to its path in `files/`. Returns the value for the row and the path.
    pub(crate) fn name(mut self, key: &str, step: u64) -> Result<(Value, Option<String>), MediaError> {
        let Some(file) = self.file else {
            return Ok((self.value, None));
        };
        let path = media_path(&file.content, key, step, &file.digest, file.suffix);
        file.staged.persist(&Path::new(FILES).join(&path))?;
        self.value["path"] = path.as_str().into();
        self.value["sha256"] = file.digest.into();
        self.value["size"] = json!(file.size);
        Ok((self.value, Some(path)))
    }
}

/// Gives the content of a media file a name in the folder of the run. Where links are impossible,
/// the content is copied.
fn link_or_copy(media: &StagedMedia, run: &Arc<RunFolder>) -> io::Result<StagedFile> {
    StagedFile::link(run, |folder, path| media.link(folder, path))
        .or_else(|_| StagedFile::new(run, |copy| io::copy(&mut media.open()?, copy)))
}

/// Returns the value for the row, without a file and a caption.
fn row_value(encoded: &EncodedMedia) -> Value {
    match &encoded.content {
        MediaContent::Image { format, width, height } => {
            json!({"_type": "image-file", "format": format, "width": width, "height": height})
        }
        MediaContent::Histogram { counts, edges } => {
            let edges: Vec<_> = edges.iter().copied().map(log_format::json::value).collect();
            json!({"_type": "histogram", "values": counts, "bins": edges})
        }
        MediaContent::Table { columns, rows } => {
            let rows = (*rows).min(MOST_ROWS as u64);
            json!({"_type": "table-file", "ncols": columns, "nrows": rows, "log_mode": "IMMUTABLE"})
        }
        // W&B has no texts, but pages.
        _ => json!({"_type": "html-file"}),
    }
}

/// Returns a page that shows a text as it is.
fn page_of(text: &[u8]) -> Vec<u8> {
    let mut page = String::from("<pre style=\"white-space:pre-wrap\">");
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            other => page.push(other),
        }
    }
    // Writing to a text cannot fail.
    let _ = write!(page, "</pre>");
    page.into_bytes()
}

/// Returns the table file of W&B, if it has fewer rows than the table.
fn shortened(encoded: &EncodedMedia) -> Result<Option<Vec<u8>>, MediaError> {
    let long = encoded.table.as_ref().filter(|table| table.len() > SHOWN_ROWS);
    let shorten = |table: &Table| {
        json_of(&RunTableFile {
            columns: table.columns(),
            data: &table.rows()[..SHOWN_ROWS],
        })
    };
    long.map(shorten).transpose()
}

/// The content of the artifact of a table, from which W&B's page reads the table.
pub(crate) fn table_artifact(table: &Table) -> Result<Vec<u8>, MediaError> {
    let rows = &table.rows()[..table.len().min(MOST_ROWS)];
    let columns = table.columns().iter().enumerate();
    let types: Map<String, Value> = columns
        .map(|(at, name)| (name.clone(), type_of(rows.iter().map(|row| &row[at]))))
        .collect();
    json_of(&ArtifactTableFile {
        kind: "table",
        column_types: json!({"params": {"type_map": types}, "wb_type": "typedDict"}),
        columns: table.columns(),
        data: rows,
        log_mode: "IMMUTABLE",
        ncols: table.columns().len(),
        nrows: rows.len(),
    })
}

/// Returns a notice if W&B drops rows of a table.
pub(crate) fn table_remark(table: &Table) -> Option<String> {
    let (all, cut) = (table.len(), table.len().saturating_sub(MOST_ROWS));
    (cut > 0).then(|| format!("dropping {cut} of {all} rows of a table: W&B accepts {MOST_ROWS}"))
}

fn json_of(file: &impl Serialize) -> Result<Vec<u8>, MediaError> {
    serde_json::to_vec(file).map_err(|error| MediaError::Malformed(error.to_string()))
}

/// The table file of the run.
#[derive(Serialize)]
struct RunTableFile<'a> {
    columns: &'a [String],
    data: &'a [Vec<Value>],
}

/// The table file of the artifact.
#[derive(Serialize)]
struct ArtifactTableFile<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    column_types: Value,
    columns: &'a [String],
    data: &'a [Vec<Value>],
    log_mode: &'a str,
    ncols: usize,
    nrows: usize,
}

/// Returns W&B's type of a column. Any cell may be null.
fn type_of<'a>(cells: impl Iterator<Item = &'a Value>) -> Value {
    let mut found: BTreeSet<&str> = cells
        .filter_map(|cell| match cell {
            Value::Null => None,
            Value::Bool(_) => Some("boolean"),
            Value::Number(_) => Some("number"),
            Value::String(_) => Some("string"),
            Value::Array(_) | Value::Object(_) => Some("any"),
        })
        .collect();
    if found.is_empty() {
        found.insert("unknown");
    }
    found.insert("none");
    let allowed: Vec<_> = found.into_iter().map(|name| json!({"wb_type": name})).collect();
    json!({"params": {"allowed_types": allowed}, "wb_type": "union"})
}

/// Returns bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use logcore::{Html, Media, Text};

    use super::*;

    fn stored(folder: &Path, media: impl Media) -> (Value, String) {
        let run = Arc::new(RunFolder::open(&folder.join("run-x.wandb")).unwrap());
        let encoded = EncodedMedia::of(media).unwrap();
        let staged = encoded
            .file
            .as_ref()
            .map(|file| StagedMedia::write(folder, &file.bytes).unwrap());
        let stored = StoredMedia::new(&encoded, staged.as_ref(), &run).unwrap();
        let (value, path) = stored.name("val/note", 3).unwrap();
        (value, path.unwrap())
    }

    fn read(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn a_file_is_named_for_its_key_step_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let (value, path) = stored(folder.path(), Html::new("<b>x</b>"));
        assert!(
            path.starts_with("media/html/val/note_3_") && path.ends_with(".html"),
            "{path}"
        );
        assert_eq!(value["path"], path.as_str());
        assert_eq!(value["_type"], "html-file");
        assert_eq!(value["size"], 8);
        assert!(path.contains(&value["sha256"].as_str().unwrap()[..20]));
        assert_eq!(fs::read(folder.path().join("files").join(path)).unwrap(), b"<b>x</b>");
    }

    #[test]
    fn a_text_is_a_page_that_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let (value, path) = stored(folder.path(), Text::new("<script> & more"));
        assert_eq!(value["_type"], "html-file");
        let page = fs::read_to_string(folder.path().join("files").join(path)).unwrap();
        assert!(page.ends_with(">&lt;script> &amp; more</pre>"), "{page}");
    }

    #[test]
    fn the_artifact_of_a_table_has_the_types_of_the_columns() {
        let table = Table::new(["a", "b"]).row([json!(1), json!("x")]);
        let artifact = read(&table_artifact(&table).unwrap());
        let types = &artifact["column_types"]["params"]["type_map"];
        let number =
            json!({"params": {"allowed_types": [{"wb_type": "none"}, {"wb_type": "number"}]}, "wb_type": "union"});
        assert_eq!(types["a"], number);
    }

    /// As in the official client: 10,000 rows in the file of the run, 200,000 in the artifact, and
    /// the rest is dropped.
    #[test]
    fn the_rows_of_a_long_table_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        for (rows, kept) in [(SHOWN_ROWS + 1, SHOWN_ROWS + 1), (MOST_ROWS + 2, MOST_ROWS)] {
            let mut table = Table::new(["a"]);
            (0..rows).for_each(|at| table.push([at]));
            let artifact = read(&table_artifact(&table).unwrap());
            let remark = table_remark(&table).unwrap_or_default();
            let (value, path) = stored(folder.path(), table);
            let file = read(&fs::read(folder.path().join("files").join(path)).unwrap());
            assert_eq!(file["data"].as_array().unwrap().len(), SHOWN_ROWS);
            assert_eq!(artifact["data"].as_array().unwrap().len(), kept);
            assert_eq!((&artifact["nrows"], &value["nrows"]), (&json!(kept), &json!(kept)));
            assert_eq!(artifact["data"][kept - 1], json!([kept - 1]));
            assert_eq!(remark.contains("2 of 200002"), rows > MOST_ROWS, "{remark}");
        }
    }
}
