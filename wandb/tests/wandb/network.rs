//! The way to a server: proxies, and authorities that a machine knows or not. The environment says
//! which, so each case is a child process.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::processes::RunningChild;
use testkit::wandb_server::WandbServer;

/// A forward proxy. It leads everybody to one server, whatever the address says.
struct Proxy {
    address: SocketAddr,
    /// The first line of each connection.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        thread::Builder::new()
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let seen = Arc::clone(&kept);
                    // A connection that breaks off is the client's affair.
                    let pass = move || drop(pass_on(stream, to, &seen));
                    thread::Builder::new().spawn(pass).unwrap();
                }
            })
            .unwrap();
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn pass_on(mut client: TcpStream, to: SocketAddr, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let first = String::from_utf8_lossy(&head)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let tunnel = first.starts_with("CONNECT ");
    seen.lock().unwrap().push(first);
    let mut server = TcpStream::connect(to)?;
    match tunnel {
        true => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
        false => server.write_all(&head)?,
    }
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::Builder::new().spawn(move || io::copy(&mut from_client, &mut to_server))?;
    io::copy(&mut server, &mut client)?;
    Ok(())
}

/// An authority of its own, as a file, and what it says of a server.
fn authority(folder: &TempDir, name: &str) -> (PathBuf, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (path, TlsAcceptor::from(Arc::new(config)))
}

/// Runs the child, and checks that the server has its rows.
fn delivers(server: &WandbServer, address: &str, environment: &[(&str, &str)]) {
    let folder = TempDir::new().unwrap();
    let mut running = RunningChild::start_in("online", &folder, address, environment);
    running.wait_for("logged");
    running.go_on();
    running.wait_for("logged");
    let errors = running.errors();
    assert_eq!(errors.len(), 1, "only the address: {errors:#?}");
    let run = server.run();
    assert_eq!(run.steps(), (0..200).collect::<Vec<_>>());
    assert!(run.files.contains_key("config.yaml"));
}

/// No name server knows this: only the proxy leads anywhere.
const NOWHERE: &str = "http://wandb.invalid";

#[test]
fn proxies_are_used_that_wandb_or_the_machine_names() {
    for variable in ["WANDB_HTTP_PROXY", "HTTP_PROXY", "http_proxy"] {
        let server = WandbServer::start();
        let proxy = Proxy::start(server.address());
        delivers(&server, NOWHERE, &[(variable, &proxy.url())]);
        let seen = proxy.seen();
        assert!(
            seen.iter()
                .any(|line| line.starts_with("POST http://wandb.invalid/graphql")),
            "{variable}: {seen:?}"
        );
    }
}

#[test]
fn no_proxy_is_used_where_the_machine_says_so() {
    let (server, elsewhere) = (WandbServer::start(), WandbServer::start());
    let proxy = Proxy::start(elsewhere.address());
    let environment = [("HTTP_PROXY", &*proxy.url()), ("NO_PROXY", "127.0.0.1")];
    delivers(&server, &server.url(), &environment);
    assert!(proxy.seen().is_empty(), "{:?}", proxy.seen());
}

#[test]
fn tls_goes_through_a_proxy_in_a_tunnel() {
    let folder = TempDir::new().unwrap();
    let (authority, identity) = authority(&folder, "ca.pem");
    let server = WandbServer::start_tls(identity);
    let proxy = Proxy::start(server.address());
    for variable in ["WANDB_HTTPS_PROXY", "HTTPS_PROXY"] {
        server.state().runs.clear();
        let environment = [
            (variable, &*proxy.url()),
            ("SSL_CERT_FILE", authority.to_str().unwrap()),
        ];
        delivers(&server, &server.url(), &environment);
    }
    let tunnel = format!("CONNECT {} HTTP/1.1", server.address());
    assert!(proxy.seen().iter().all(|line| *line == tunnel), "{:?}", proxy.seen());
}

#[test]
fn a_server_whose_authority_is_unknown_gets_nothing_until_it_is_known() {
    let folder = TempDir::new().unwrap();
    let (known, identity) = authority(&folder, "ca.pem");
    let (other, _) = authority(&folder, "other.pem");
    let server = WandbServer::start_tls(identity);
    let environment = [("SSL_CERT_FILE", other.to_str().unwrap())];
    let mut running = RunningChild::start_in("online", &folder, &server.url(), &environment);
    running.wait_for("logged");
    running.go_on();
    running.wait_for("logged");
    let errors = running.errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(
        errors[0].contains("certificate") && errors[0].contains("SSL_CERT_FILE"),
        "{errors:#?}"
    );
    assert!(errors[1].contains("200 of 200 calls are only on disk"), "{errors:#?}");
    assert!(server.state().requests.is_empty());
    let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
    let others: Vec<_> = text.lines().filter(|line| !line.contains("| INFO ")).collect();
    assert!(
        others.is_empty(),
        "what libraries say of it is none of the run's: {others:#?}"
    );
    let environment = [("SSL_CERT_FILE", known.to_str().unwrap())];
    RunningChild::start_in("sync", &folder, &server.url(), &environment).wait_for("Delivered");
    assert_eq!(server.run().steps(), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_machine_that_knows_no_authority_reaches_a_server_without_tls() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let nothing = folder.path().join("none.pem");
    let environment = [
        ("SSL_CERT_FILE", nothing.to_str().unwrap()),
        ("SSL_CERT_DIR", folder.path().to_str().unwrap()),
    ];
    delivers(&server, &server.url(), &environment);
}
