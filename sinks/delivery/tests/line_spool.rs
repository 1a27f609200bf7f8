//! A sink whose spool is a file of lines, over a real server, disk and kill.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use logcore::files::Folder;
use logcore::{Deadline, Notices};
use logcore_delivery::{
    DeliveryControl, DeliveryError, DeliveryErrorKind, DeliveryPosition, HttpClient, HttpSettings, Lane, LineMark,
    RetryingClient, SpoolBooks, load_position, lock_delivery, save_position,
};
use tempfile::TempDir;

const POSITION: &str = "position.json";
const SPOOL: &str = "metrics.jsonl";

/// A server on the loopback interface that answers each request with the next reply of a list, and
/// then with 200. An empty reply closes the connection.
struct Server {
    url: String,
    /// The lines of the requests that were accepted.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(replies: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let accepted = Arc::clone(&lines);
        let serve = move || {
            let mut replies = replies.iter();
            for stream in listener.incoming().flatten() {
                let Ok(body) = read_request(&stream) else { continue };
                let reply = *replies.next().unwrap_or(&"200 OK\r\n");
                if reply.starts_with("200") {
                    accepted.lock().unwrap().extend(body.lines().map(str::to_owned));
                }
                if !reply.is_empty() {
                    let end = "content-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = (&stream).write_all(format!("HTTP/1.1 {reply}{end}").as_bytes());
                }
            }
        };
        thread::Builder::new().spawn(serve).unwrap();
        Self { url, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// Reads a request, and returns its body.
fn read_request(stream: &TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The requests to the server.
struct Api {
    http: HttpClient,
    url: String,
}

impl Api {
    fn send(&self, lines: &str) -> Result<(), DeliveryError> {
        let reply = self.http.send(self.http.client().post(&self.url), lines.to_owned())?;
        match reply.status.is_success() {
            true => Ok(()),
            false => Err(DeliveryError::from_status(
                reply.status.as_u16(),
                None,
                &reply.body,
                reply.retry_after(),
            )),
        }
    }
}

/// A control with its printed notices.
fn control() -> (Arc<DeliveryControl>, Arc<Mutex<Vec<String>>>) {
    let control = Arc::new(DeliveryControl::new("MLflow", None));
    let printed = Arc::<Mutex<Vec<String>>>::default();
    let lines = Arc::clone(&printed);
    control.set_notices(Notices::new(move |_, text| lines.lock().unwrap().push(text.to_owned())));
    (control, printed)
}

/// Writes lines to the spool, as a sink does.
fn spool(folder: &TempDir, lines: &[&str]) -> SpoolBooks {
    let mut books = SpoolBooks::default();
    let mut file = File::create(folder.path().join(SPOOL)).unwrap();
    let mut end = 0;
    for line in lines {
        books.accept();
        books.spool();
        writeln!(file, "{line}").unwrap();
        end += line.len() as u64 + 1;
        books.mark(end, 0);
    }
    books
}

/// Delivers the spool, two lines in a request, until its end or the end of time. Is killed after
/// `most` requests.
fn deliver(
    folder: &TempDir,
    server: &Server,
    control: &Arc<DeliveryControl>,
    most: usize,
) -> Result<(), DeliveryError> {
    let path = folder.path().join(SPOOL);
    let folder = Folder::open(folder.path()).unwrap();
    let lock = folder.append(Path::new("position.lock")).unwrap();
    lock_delivery(&lock)?;
    let http = HttpClient::start("test", &HttpSettings::new(&server.url, Duration::from_secs(20)))?;
    let url = server.url.clone();
    let client = RetryingClient {
        api: Arc::new(Api { http, url }),
        control: Arc::clone(control),
        lane: Lane::Rows,
    };
    let file = File::open(&path).unwrap();
    let kept: LineMark = load_position(&folder, Path::new(POSITION)).unwrap().unwrap_or_default();
    let start = kept.find_in(&file).unwrap().unwrap_or(0);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text[usize::try_from(start).unwrap()..].split_inclusive('\n').collect();
    let mut reached = start;
    for lines in lines.chunks(2).take(most) {
        client.persist(|api| api.send(&lines.concat()))?;
        reached += lines.concat().len() as u64;
        let last = reached - lines.last().map_or(0, |line| line.len() as u64)..reached;
        let mark = LineMark::behind_line(&file, last).unwrap();
        save_position(&folder, Path::new(POSITION), &mark).unwrap();
        control.set_position(DeliveryPosition { reached, missing: 0 });
    }
    Ok(())
}

#[test]
fn lines_arrive_once_though_the_server_fails_in_several_ways() {
    let server = Server::start(&["503 Unavailable\r\n", "", "429 Too Many\r\nretry-after: 0\r\n"]);
    let folder = TempDir::new().unwrap();
    let mut books = spool(&folder, &["one", "two", "three", "four", "five"]);
    let (control, printed) = control();
    let start = Instant::now();
    deliver(&folder, &server, &control, usize::MAX).unwrap();
    assert_eq!(server.lines(), ["one", "two", "three", "four", "five"]);
    // Half a second, one second, and at least one second for a server that has no capacity.
    assert!(start.elapsed() > Duration::from_millis(2500), "{:?}", start.elapsed());
    let printed = printed.lock().unwrap();
    let kept = "; the run continues, and its log is kept on disk until the server accepts it";
    assert_eq!(printed[0], format!("MLflow: the server answered 503{kept}"));
    assert!(printed[1].starts_with("MLflow: incomplete reply"), "{}", printed[1]);
    assert!(
        printed[2].starts_with("MLflow: the server limits the rate"),
        "{}",
        printed[2]
    );
    assert!(
        printed[3].contains("accepts requests again") && printed.len() == 4,
        "{printed:?}"
    );
    let books = books.delivered_to(control.position());
    assert!(books.balanced());
    assert_eq!((books.delivered, books.spooled), (5, 0));
}

#[test]
fn a_killed_delivery_goes_on_behind_its_mark() {
    let (server, folder) = (Server::start(&[]), TempDir::new().unwrap());
    let mut books = spool(&folder, &["one", "two", "three", "four", "five"]);
    let (killed, _) = control();
    deliver(&folder, &server, &killed, 1).unwrap();
    let early = books.delivered_to(killed.position());
    assert_eq!((early.delivered, early.spooled), (2, 3));
    deliver(&folder, &server, &control().0, usize::MAX).unwrap();
    assert_eq!(server.lines(), ["one", "two", "three", "four", "five"]);
    // Everything is there, so that one more delivery sends nothing.
    deliver(&folder, &server, &control().0, usize::MAX).unwrap();
    assert_eq!(server.lines().len(), 5);
}

#[test]
fn a_spool_that_was_replaced_is_sent_from_its_beginning() {
    let (server, folder) = (Server::start(&[]), TempDir::new().unwrap());
    spool(&folder, &["one", "two", "three"]);
    deliver(&folder, &server, &control().0, usize::MAX).unwrap();
    // As long as the first one, and the file has the same inode.
    spool(&folder, &["neo", "owt", "eerht", "four"]);
    deliver(&folder, &server, &control().0, usize::MAX).unwrap();
    assert_eq!(server.lines()[3..], ["neo", "owt", "eerht", "four"]);
}

#[test]
fn what_a_server_refuses_at_the_end_stays_on_disk() {
    let server = Server::start(&["401 Unauthorized\r\n"]);
    let folder = TempDir::new().unwrap();
    let mut books = spool(&folder, &["one"]);
    let (control, printed) = control();
    control.run_ended(Deadline::after(Duration::from_secs(20)));
    let error = deliver(&folder, &server, &control, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), DeliveryErrorKind::GaveUp);
    let cause = control.current_error().unwrap();
    assert_eq!(cause.kind(), DeliveryErrorKind::KeyRefused);
    assert_eq!(printed.lock().unwrap().len(), 1);
    let books = books.delivered_to(control.position());
    assert_eq!((books.delivered, books.spooled), (0, 1));
    assert!(books.balanced());
    // A sync sends the line later.
    deliver(&folder, &server, &self::control().0, usize::MAX).unwrap();
    assert_eq!(server.lines(), ["one"]);
}
