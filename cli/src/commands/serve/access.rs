//! Which requests may read: those with the token, to a name of this server, from its own pages.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use logcore::files;
use sha2::{Digest as _, Sha256};

use super::Server;

/// The environment variable that holds a token.
const VARIABLE: &str = "LOGCORE_TOKEN";
/// Least and most characters of a token that somebody has chosen.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=256;
/// Most bytes of a token file.
const MAX_FILE: u64 = 1024;

/// The secret that a reader needs.
pub(super) struct Token(String);

impl Token {
    /// Takes the token of the file or of the environment, or else makes one of 128 random bits.
    pub(super) fn choose(file: Option<&Path>) -> Result<Self> {
        let (text, source) = match (file, std::env::var(VARIABLE)) {
            (Some(path), _) => {
                let mut text = String::new();
                let cannot_read = || {
                    let path = path.display();
                    format!("cannot read the token in {path}. Name a file that you may read")
                };
                let file = files::open(path).with_context(cannot_read)?;
                file.take(MAX_FILE)
                    .read_to_string(&mut text)
                    .with_context(cannot_read)?;
                (text.trim().to_owned(), path.display().to_string())
            }
            (None, Ok(text)) => (text, VARIABLE.to_owned()),
            (None, Err(std::env::VarError::NotUnicode(_))) => (String::new(), VARIABLE.to_owned()),
            (None, Err(std::env::VarError::NotPresent)) => return Self::random(),
        };
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
        ensure!(
            is_plain && LENGTHS.contains(&text.len()),
            "cannot use the token in {source}: it needs {} to {} letters, digits or any of -_.~",
            LENGTHS.start(),
            LENGTHS.end()
        );
        Ok(Self(text))
    }

    fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("cannot make a token")?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Compares digests, whose common beginnings tell nothing about the token.
    fn is(&self, other: &[u8]) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other)
    }
}

/// The conditions of a request.
pub(super) struct Access {
    token: Option<Token>,
    /// Browsers have one store of cookies for all ports of a host.
    cookie: String,
    hosts: Vec<String>,
}

impl Access {
    /// `host` is the address that the server listens on: one that the user has named is allowed.
    pub(super) fn new(token: Option<Token>, port: u16, allowed: &[String], host: IpAddr) -> Self {
        let mut hosts = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        if !host.is_unspecified() {
            hosts.push(match host {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        hosts.extend(allowed.iter().map(|host| host.to_ascii_lowercase()));
        Self {
            token,
            cookie: format!("logcore-{port}"),
            hosts,
        }
    }

    /// Returns the answer to a request that must not reach the runs.
    fn refuse(&self, request: &Request) -> Option<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let allow = [(header::ALLOW, "GET, HEAD")];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allow, "cannot change anything here\n").into_response());
        }
        let Some(host) = self.host(request) else {
            let text = "cannot show the runs under this name. Open localhost, or allow the name with --allow-host\n";
            return Some((StatusCode::FORBIDDEN, text).into_response());
        };
        if !is_own_origin(request.headers(), host) {
            return Some((StatusCode::FORBIDDEN, "cannot answer a page of another origin\n").into_response());
        }
        let token = self.token.as_ref()?;
        if let Some(given) = given_token(request).filter(|_| request.uri().path() == "/") {
            return Some(match token.is(given.as_bytes()) {
                true => self.let_in(token),
                false => refuse_token(),
            });
        }
        let has_cookie =
            cookies(request.headers()).any(|(name, value)| name == self.cookie && token.is(value.as_bytes()));
        (!has_cookie).then(refuse_token)
    }

    /// Returns the one name of this server that the request is for.
    fn host<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let mut named = request.headers().get_all(header::HOST).iter();
        let host = named.next()?.to_str().ok()?;
        let is_one = named.next().is_none() && request.uri().authority().is_none_or(|authority| authority == host);
        let name = match host.find(']') {
            Some(end) if host.starts_with('[') => host.split_at(end + 1),
            _ => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        let is_port = |rest: &str| {
            let port = rest.strip_prefix(':').unwrap_or_default();
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        };
        let is_known = self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name.0));
        let has_port = name.1.is_empty() || is_port(name.1);
        (is_one && is_known && has_port).then_some(host)
    }

    /// Sets the cookie, and leads to the address without the token.
    fn let_in(&self, token: &Token) -> Response {
        let cookie = format!("{}={}; HttpOnly; SameSite=Strict", self.cookie, token.text());
        let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, "./".to_owned())];
        (StatusCode::SEE_OTHER, headers).into_response()
    }
}

/// Lets only requests with access through, and forbids browsers to show or send what they get
/// elsewhere.
pub(super) async fn check(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let mut response = match server.access.refuse(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let all: [(HeaderName, &str); 5] = [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    response
}

fn refuse_token() -> Response {
    let text = "cannot show the runs: the token is absent or wrong. Reload the page, or open the address that `logcore \
                serve` has printed\n";
    (StatusCode::UNAUTHORIZED, text).into_response()
}

/// A page elsewhere has another origin; only some requests name theirs.
fn is_own_origin(headers: &HeaderMap, host: &str) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    })
}

/// Returns the token in the address. Tokens have no characters that an address escapes.
fn given_token(request: &Request) -> Option<&str> {
    let mut pairs = request.uri().query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("token="))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('='))
}
