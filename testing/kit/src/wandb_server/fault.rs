//! Faults: the requests that meet them, and the replies to requests without an effect.

use std::time::Duration;

use serde_json::json;

use super::request::{RequestKind, ServerRequest};
use super::state::{ServerState, UploadTarget};

/// The requests that a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultTarget {
    /// All requests.
    Any,
    /// GraphQL requests with the operation of this name.
    GraphQl(&'static str),
    /// Requests to the file stream.
    Stream,
    /// Uploads of any content.
    Put,
    /// Uploads of the content of the file of this name.
    PutOf(&'static str),
}

/// A way for the server to misbehave.
#[derive(Debug, Clone)]
pub enum ServerFault {
    /// No fault: the request meets no later one.
    Pass,
    /// An answer with this status; the request has no effect.
    Status(u16),
    /// An answer with this status and one header; the request has no effect.
    StatusWith(u16, &'static str, String),
    /// The connection is closed without an answer; the request has no effect.
    Reset,
    /// The same, but the request has its effect.
    LostReply,
    /// The answer breaks off in the middle; the request has its effect.
    Truncated,
    /// The page of a proxy; the request has no effect.
    Html,
    /// An answer with status 200 and this body; the request has no effect.
    Body(&'static str),
    /// An answer with this status and body; the request has no effect.
    StatusWithBody(u16, String),
    /// An answer that never ends; the request has its effect.
    Endless,
    /// The address of an upload has expired.
    Expired,
    /// The answer comes after this time.
    Slow(Duration),
}

impl ServerFault {
    /// Returns the reply to a request that has no effect; `None` if the request has its effect.
    pub(super) fn reply(&self) -> Option<ServerReply> {
        Some(match self {
            Self::Status(status) => {
                let text = json!({"error": format!("the test asked for {status}")});
                ServerReply::new(*status, text.to_string())
            }
            Self::StatusWith(status, name, value) => ServerReply {
                header: Some((*name, value.clone())),
                ..ServerReply::new(*status, "{}".to_owned())
            },
            // Nobody gets the reply.
            Self::Reset => ServerReply::new(0, String::new()),
            Self::Html => ServerReply::new(200, "<html><body>Sign in to the hotel</body></html>".to_owned()),
            Self::Body(text) => ServerReply::new(200, (*text).to_owned()),
            Self::StatusWithBody(status, text) => ServerReply::new(*status, text.clone()),
            Self::Expired => ServerReply::new(403, "<Error>Request has expired</Error>".to_owned()),
            Self::Pass | Self::LostReply | Self::Truncated | Self::Endless | Self::Slow(_) => return None,
        })
    }
}

/// The reply to a request.
pub(super) struct ServerReply {
    pub(super) status: u16,
    pub(super) text: String,
    /// A header beside the usual ones.
    pub(super) header: Option<(&'static str, String)>,
}

impl ServerReply {
    pub(super) fn new(status: u16, text: String) -> Self {
        let header = None;
        Self { status, text, header }
    }
}

impl ServerState {
    /// Returns the fault that a request meets. An upload that has expired is gone.
    pub(super) fn take_fault(&mut self, request: &ServerRequest) -> Option<ServerFault> {
        let kind = request.kind;
        let meets = |on: &FaultTarget| match on {
            FaultTarget::Any => true,
            FaultTarget::GraphQl(name) => kind == RequestKind::GraphQl && *name == request.operation,
            FaultTarget::Stream => kind == RequestKind::Stream,
            FaultTarget::Put => kind == RequestKind::Put,
            FaultTarget::PutOf(wanted) => match self.uploads.get(&request.path) {
                Some(UploadTarget::File { name, .. } | UploadTarget::Artifact { name, .. }) => name == wanted,
                _ => false,
            },
        };
        let at = self.faults.iter().position(|(on, _, times)| *times > 0 && meets(on))?;
        self.faults[at].2 -= 1;
        let fault = Some(self.faults[at].1.clone()).filter(|fault| !matches!(fault, ServerFault::Pass));
        if matches!(fault, Some(ServerFault::Expired)) {
            self.uploads.remove(&request.path);
        }
        fault
    }
}
