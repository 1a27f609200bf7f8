//! The server as browsers, other pages and other people meet it.
#![cfg(feature = "serve")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const ROW: &str = "{\"step\":1,\"time\":1.5,\"logger\":\"a\",\"loss\":0.5}\n";

/// The program over a folder with one run, on a free port.
struct Server {
    child: Child,
    url: String,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_run(&folder.path().join("one"));
        let mut child = command(folder.path(), arguments)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut url)
            .unwrap();
        let url = url.trim().to_owned();
        let authority = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        Self {
            child,
            address: authority.parse().unwrap(),
            url,
            folder,
        }
    }

    fn token(&self) -> &str {
        self.url.split_once("?token=").unwrap().1
    }

    /// Returns the lines of a request that has access.
    fn access(&self) -> String {
        let Self { address, .. } = self;
        format!(
            "Host: {address}\r\nCookie: a=b; logcore-{}={}\r\n",
            address.port(),
            self.token()
        )
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\n{}", self.access()))
    }

    fn ask(&self, request: &str) -> Answer {
        let mut stream = self.open(&format!("{request}Connection: close\r\n"));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::new(&bytes)
    }

    fn open(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        stream
    }

    /// Opens a stream of news about the run, and reads it up to its first event.
    fn open_news(&self) -> BufReader<TcpStream> {
        let request = format!("GET /news?key=one HTTP/1.1\r\n{}", self.access());
        let mut news = BufReader::new(self.open(&request));
        assert_eq!(next_event(&mut news).0, "versions");
        news
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn new(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn command(log_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcore"));
    command
        .arg("serve")
        .arg(log_dir)
        .args(arguments)
        .env_remove("LOGCORE_TOKEN");
    command
}

fn write_run(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::write(
        folder.join("run.json"),
        r#"{"id":"a1","name":"mnist","state":"finished"}"#,
    )
    .unwrap();
    fs::write(folder.join("metrics.jsonl"), ROW).unwrap();
}

/// Returns the kind of the next event, and its JSON.
fn next_event(news: &mut BufReader<TcpStream>) -> (String, Value) {
    let mut kind = None;
    loop {
        let mut line = String::new();
        assert!(news.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if let Some(name) = line.strip_prefix("event: ") {
            kind = Some(name.trim().to_owned());
        } else if let (Some(data), Some(kind)) = (line.strip_prefix("data: "), kind.take()) {
            return (kind, serde_json::from_str(data).unwrap());
        }
    }
}

#[test]
fn a_reader_needs_the_token_once() {
    let server = Server::start(&[]);
    let token = server.token();
    assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let host = format!("Host: {}\r\n", server.address);
    let ask = |path: &str| server.ask(&format!("GET {path} HTTP/1.1\r\n{host}"));
    for path in ["/", "/?token=", "/?token=0123", "/run?key=one", "/news", "/elsewhere"] {
        let refused = ask(path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(!refused.text().contains(token) && refused.header("set-cookie").is_none());
    }
    assert_eq!(
        ask(&format!("/run?key=one&token={token}")).status,
        401,
        "only the page takes it"
    );
    let let_in = ask(&format!("/?token={token}"));
    assert_eq!((let_in.status, let_in.header("location")), (303, Some("./")));
    let cookie = let_in.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let page = server.ask(&format!("GET / HTTP/1.1\r\n{host}Cookie: {cookie}\r\n"));
    assert_eq!(page.status, 200);
    assert!(page.text().starts_with("<!doctype html>") && page.text().contains("mnist"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
}

#[test]
fn other_names_other_pages_and_other_methods_are_refused() {
    let server = Server::start(&["--allow-host", "Trainer.example"]);
    let cookie = server.access().lines().nth(1).unwrap().to_owned();
    let status = |method: &str, headers: &str| {
        server
            .ask(&format!("{method} HTTP/1.1\r\n{headers}{cookie}\r\n"))
            .status
    };
    let own = format!("Host: {}\r\n", server.address);
    for host in [
        "localhost:1",
        "127.0.0.1",
        "[::1]:7117",
        "trainer.example:80",
        "LOCALHOST",
    ] {
        assert_eq!(status("GET /", &format!("Host: {host}\r\n")), 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "localhost:80:80",
        "[::1",
        "",
    ] {
        assert!(
            matches!(status("GET /", &format!("Host: {host}\r\n")), 400 | 403),
            "{host}"
        );
    }
    assert_eq!(status("GET /", "Host: localhost\r\nHost: evil.example\r\n"), 403);
    assert_eq!(status("GET http://evil.example/", &own), 403);
    assert_eq!(
        status("GET /", &format!("{own}Origin: http://{}\r\n", server.address)),
        200
    );
    for origin in ["http://evil.example", "null", "http://localhost:1", ""] {
        assert_eq!(
            status("GET /run?key=one", &format!("{own}Origin: {origin}\r\n")),
            403,
            "{origin}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        assert_eq!(status(&format!("{method} /"), &own), 405, "{method}");
    }
    let head = server.ask(&format!("HEAD / HTTP/1.1\r\n{own}{cookie}\r\n"));
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn only_listed_runs_have_data() {
    let server = Server::start(&[]);
    let data = server.get("/run?key=one");
    assert_eq!(
        (data.status, data.header("content-type")),
        (200, Some("application/octet-stream"))
    );
    assert!(data.body.ends_with(&0.5_f64.to_le_bytes()));
    let part = server.get("/part?key=one&metric=loss&from=1&to=9");
    assert!(part.status == 200 && part.body.ends_with(&0.5_f64.to_le_bytes()));
    // A run that is not there ends the answer, and the page asks for it again.
    let size = data.body.len();
    for (query, count) in [("key=one&key=one", 2), ("key=one&key=two&key=one", 1)] {
        let several = server.get(&format!("/run?{query}"));
        assert_eq!((several.status, several.body.len()), (200, count * size), "{query}");
        assert_eq!(several.body, data.body.repeat(count));
    }
    for path in [
        "/run?key=two",
        "/run?key=two&key=one",
        "/run?key=..%2Fone",
        "/run?key=%2Fetc",
        "/run?key=one%00",
        "/one/run.json",
        "/..%2f..%2fetc/passwd",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    for path in ["/run", "/part?key=one", "/part?key=one&metric=loss&from=-1&to=x"] {
        assert_eq!(server.get(path).status, 400, "{path}");
    }
}

#[test]
fn media_have_no_scripts_no_origin_and_a_type_of_ours() {
    let server = Server::start(&[]);
    let media = server.folder.path().join("one/media");
    fs::create_dir_all(media.join("files")).unwrap();
    for name in ["page.html", "files/page.html", "odd.svg"] {
        fs::write(media.join(name), "<script>alert(1)</script>").unwrap();
    }
    let get = |path: &str| server.get(&format!("/media?key=one&path={path}"));
    for (path, kind, disposition) in [
        ("media/page.html", "text/html; charset=utf-8", "inline"),
        ("media/files/page.html", "application/octet-stream", "attachment"),
        ("media/odd.svg", "application/octet-stream", "attachment"),
    ] {
        let answer = get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("content-disposition"), Some(disposition), "{path}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("sandbox; default-src 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
    }
    for path in [
        "run.json",
        "media/../run.json",
        "media/none",
        "/etc/passwd",
        "media%2F..%2Frun.json",
    ] {
        assert_eq!(get(path).status, 404, "{path}");
    }
    let request = format!(
        "GET /media?key=one&path=media/page.html HTTP/1.1\r\nHost: {}\r\n",
        server.address
    );
    assert_eq!(server.ask(&request).status, 401, "without the token");
    assert_eq!(server.get("/media?key=one").status, 400);
}

#[test]
fn rows_are_in_the_stream_within_a_second() {
    let server = Server::start(&[]);
    server.get("/run?key=one");
    let mut news = server.open_news();
    let path = server.folder.path().join("one/metrics.jsonl");
    let mut file = File::options().append(true).open(path).unwrap();
    for step in 2..5 {
        let begun = Instant::now();
        file.write_all(format!("{{\"step\":{step},\"time\":9.5,\"logger\":\"a\",\"loss\":7}}\n").as_bytes())
            .unwrap();
        let (kind, rows) = next_event(&mut news);
        assert_eq!((kind.as_str(), &rows["rows"][0][2]), ("rows", &step.into()));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    write_run(&server.folder.path().join("two"));
    let (kind, run) = next_event(&mut news);
    assert_eq!((kind.as_str(), &run["runs"][0]["key"]), ("run", &"two".into()));
    fs::remove_dir_all(server.folder.path().join("one")).unwrap();
    let (kind, gone) = next_event(&mut news);
    assert_eq!((kind.as_str(), &gone["key"]), ("gone", &"one".into()));
}

#[test]
fn more_readers_than_there_are_places_wait() {
    let server = Server::start(&[]);
    let mut streams: Vec<_> = (0..64).map(|_| server.open_news()).collect();
    let refused = server.get("/news?key=one");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(server.get("/run?key=one").status, 200);
    drop(streams.pop());
    // The server sees the end of a connection once it looks.
    let begun = Instant::now();
    loop {
        let mut stream = server.open(&format!("GET /news HTTP/1.1\r\n{}", server.access()));
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        match &status {
            b"HTTP/1.1 200" => break,
            _ => assert!(begun.elapsed() < Duration::from_secs(30), "no place becomes free"),
        }
    }
}

#[test]
fn a_connection_without_a_whole_request_ends() {
    let server = Server::start(&[]);
    let halves = ["", "GET / HTTP/1.1\r\nHost: loc"];
    let mut open = halves.map(|half| server.open(half));
    // One that follows news may be quiet.
    let mut news = server.open_news();
    for stream in &mut open {
        let timeout = Some(Duration::from_secs(30));
        stream.set_read_timeout(timeout).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(
            !answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    write_run(&server.folder.path().join("two"));
    assert_eq!(next_event(&mut news).0, "run");
}

#[test]
fn tokens_come_from_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "0123456789abcdef-_.~\n").unwrap();
    let server = Server::start(&["--token-file", file.to_str().unwrap()]);
    assert_eq!(server.token(), "0123456789abcdef-_.~");
    let fails = |arguments: &[&str], token: Option<&str>| -> String {
        let mut command = command(folder.path(), arguments);
        command.envs(token.map(|token| ("LOGCORE_TOKEN", token)));
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.code() == Some(2) && stdout.is_empty());
        String::from_utf8(stderr).unwrap()
    };
    let error = fails(&[], Some("secret"));
    assert!(
        error.contains("LOGCORE_TOKEN") && !error.contains("`secret`"),
        "{error}"
    );
    fs::write(&file, "0123456789abcdef 0123456789abcdef").unwrap();
    let error = fails(&["--token-file", file.to_str().unwrap()], None);
    assert!(error.contains("cannot use the token in"), "{error}");
    let error = fails(&["--token-file", "absent"], None);
    assert!(error.contains("cannot read the token in absent"), "{error}");
    let error = fails(&["--no-token", "--host", "0.0.0.0"], None);
    assert!(error.contains("cannot serve without a token"), "{error}");
    let port = server.address.port().to_string();
    let error = fails(&["--port", &port], None);
    assert!(error.contains("cannot listen on"), "{error}");
}

#[test]
fn a_server_without_a_token_ends_when_it_is_told_to() {
    let mut server = Server::start(&["--no-token"]);
    let page = server.ask(&format!("GET / HTTP/1.1\r\nHost: {}\r\n", server.address));
    assert_eq!((page.status, server.url.ends_with('/')), (200, true));
    assert_eq!(server.ask("GET / HTTP/1.1\r\nHost: evil.example\r\n").status, 403);
    #[cfg(unix)]
    {
        let kill = Command::new("kill")
            .arg(server.child.id().to_string())
            .status()
            .unwrap();
        assert!(kill.success() && server.child.wait().unwrap().success());
    }
}
