//! A request that has come as a whole.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::KEY;
use super::state::ServerState;

/// A request that has come as a whole.
pub(super) struct ServerRequest {
    pub(super) kind: RequestKind,
    pub(super) path: String,
    /// `true` if the body was compressed.
    pub(super) gzip: bool,
    /// Name of the GraphQL operation.
    pub(super) operation: String,
    /// The header of this name.
    authorization: String,
    /// The body without its compression.
    body: Vec<u8>,
    /// The body of a GraphQL request.
    graphql: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    GraphQl,
    Stream,
    Put,
    Other,
}

impl ServerRequest {
    pub(super) async fn receive(request: Request<Incoming>) -> Result<Self, CutConnection> {
        let (head, body) = request.into_parts();
        let mut body = body.collect().await.map_err(|_| CutConnection)?.to_bytes().to_vec();
        let header = |name: &str| {
            let value = head.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let gzip = header("content-encoding") == "gzip";
        if gzip {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body.as_slice())
                .read_to_end(&mut plain)
                .map_err(|_| CutConnection)?;
            body = plain;
        }
        let path = head.uri.path().to_owned();
        let kind = match (head.method.as_str(), path.as_str()) {
            ("POST", "/graphql") => RequestKind::GraphQl,
            ("POST", path) if path.ends_with("/file_stream") => RequestKind::Stream,
            ("PUT", _) => RequestKind::Put,
            _ => RequestKind::Other,
        };
        let graphql: Value = match kind {
            RequestKind::GraphQl => serde_json::from_slice(&body).unwrap_or_default(),
            _ => Value::Null,
        };
        Ok(Self {
            kind,
            path,
            gzip,
            operation: operation_of(&graphql),
            authorization: header("authorization").to_owned(),
            body,
            graphql,
        })
    }

    /// Has its effect on the state; returns the status and the text of the reply.
    pub(super) fn apply(&self, state: &mut ServerState, base: &str) -> (u16, Value) {
        let is_known = self.authorization == format!("Basic {}", STANDARD.encode(format!("api:{KEY}")));
        match self.kind {
            RequestKind::Put if !self.authorization.is_empty() => (400, json!({"error": "no key belongs here"})),
            RequestKind::Put => state.put(&self.path, self.body.clone()),
            RequestKind::GraphQl | RequestKind::Stream if !is_known => (401, json!({"error": "user is not logged in"})),
            RequestKind::GraphQl => (200, state.graphql(&self.operation, &self.graphql["variables"], base)),
            RequestKind::Stream => state.stream(&self.path, &self.body),
            // The target of a captive portal.
            RequestKind::Other if self.path == "/portal" => (200, json!("sign in")),
            RequestKind::Other => (404, json!({})),
        }
    }
}

fn operation_of(graphql: &Value) -> String {
    if let Some(name) = graphql["operationName"].as_str() {
        return name.to_owned();
    }
    let query = graphql["query"].as_str().unwrap_or_default();
    let mut words = query
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty());
    words
        .find(|word| !matches!(*word, "query" | "mutation"))
        .unwrap_or_default()
        .to_owned()
}

/// The error that cuts a connection.
#[derive(Debug)]
pub(super) struct CutConnection;

impl std::fmt::Display for CutConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for CutConnection {}
