//! Hosts in memory that answer with whatever bytes a test says: odd, broken, slow or silent.
//!
//! Streams are in-memory pipes, so host names are free to choose, nothing depends on ports, and time can stand still.

#![expect(dead_code, reason = "each test file uses its own part")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::image::{Descriptor, Reference};
use parapull_snapshotter::registry::{
    Dial, Dialling, FetchError, Opened, Options, PlainHttp, Registry, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// All hosts a test's client can reach.
#[derive(Clone, Default)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    hosts: Mutex<HashMap<(String, u16), Arc<Handler>>>,
    log: Mutex<Vec<Seen>>,
    dials: Mutex<HashMap<(String, u16), usize>>,
    open: Arc<AtomicUsize>,
    acceptors: Mutex<HashMap<String, TlsAcceptor>>,
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) host: String,
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// What a host does with a request.
pub(crate) enum Reply {
    /// Writes these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Writes these bytes and closes.
    SendAndClose(Vec<u8>),
    /// Closes without a word.
    Close,
    /// Neither answers nor closes.
    Silence,
    /// Writes these bytes piece by piece for as long as the client reads, counting what went out.
    Pour(Vec<u8>, Arc<AtomicUsize>),
}

impl Network {
    /// Adds or replaces a host.
    pub(crate) fn host(
        &self,
        name: &str,
        port: u16,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) {
        self.inner
            .hosts
            .lock()
            .unwrap()
            .insert((name.to_owned(), port), Arc::new(handler));
    }

    /// A client without TLS and credentials.
    pub(crate) fn client(&self) -> Registry {
        Registry::new(self.options()).unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            plain_http: PlainHttp::Always,
            dial: Arc::new(self.clone()),
            ..Options::default()
        }
    }

    /// All requests, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.inner.log.lock().unwrap().clone()
    }

    /// How many requests a host has seen.
    pub(crate) fn requests_to(&self, host: &str) -> usize {
        self.requests()
            .iter()
            .filter(|seen| seen.host == host)
            .count()
    }

    /// How many connections a host has seen.
    pub(crate) fn dials(&self, name: &str, port: u16) -> usize {
        self.inner
            .dials
            .lock()
            .unwrap()
            .get(&(name.to_owned(), port))
            .copied()
            .unwrap_or_default()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.inner.open.load(Ordering::SeqCst)
    }

    /// Lets all tasks run until they wait.
    pub(crate) async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    async fn accept(self, key: (String, u16), connection: usize, stream: Box<dyn Stream>) {
        let acceptor = self.inner.acceptors.lock().unwrap().get(&key.0).cloned();
        match acceptor {
            Some(acceptor) if key.1 == 443 => {
                if let Ok(stream) = acceptor.accept(stream).await {
                    self.serve(key, connection, Box::new(stream)).await;
                }
            }
            Some(_) | None => self.serve(key, connection, stream).await,
        }
    }

    async fn serve(self, key: (String, u16), connection: usize, mut stream: Box<dyn Stream>) {
        self.inner.open.fetch_add(1, Ordering::SeqCst);
        let _closed = Closed(Arc::clone(&self.inner.open));
        let mut buffer = Vec::new();
        while let Ok(Some(mut seen)) = read_request(&mut *stream, &mut buffer).await {
            seen.host.clone_from(&key.0);
            seen.connection = connection;
            self.inner.log.lock().unwrap().push(seen.clone());
            let handler = self
                .inner
                .hosts
                .lock()
                .unwrap()
                .get(&key)
                .cloned()
                .expect("a known host");
            match handler(&seen) {
                Reply::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Reply::SendAndClose(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    return;
                }
                Reply::Close => return,
                Reply::Silence => {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
                Reply::Pour(bytes, counter) => {
                    for piece in bytes.chunks(1000) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        counter.fetch_add(piece.len(), Ordering::SeqCst);
                    }
                }
            }
        }
    }
}

struct Closed(Arc<AtomicUsize>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Dial for Network {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let key = (host.to_owned(), port);
            if !self.inner.hosts.lock().unwrap().contains_key(&key) {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    format!("nobody listens at {host}:{port}"),
                ));
            }
            let connection = {
                let mut dials = self.inner.dials.lock().unwrap();
                let count = dials.entry(key.clone()).or_default();
                *count += 1;
                *count
            };
            let (near, far) = tokio::io::duplex(16 << 10);
            tokio::spawn(self.clone().accept(key, connection, Box::new(far)));
            let stream: Box<dyn Stream> = Box::new(near);
            Ok(stream)
        })
    }
}

/// One host with TLS at port 443, and the options of a client that trusts it; the folder holds its certificate.
pub(crate) fn secure(
    names: &[&str],
    handler: impl Fn(&Seen) -> Reply + Send + Sync + Clone + 'static,
) -> (Network, Options, tempfile::TempDir) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let generated = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, generated.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(generated.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![generated.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let network = Network::default();
    for name in names {
        network
            .inner
            .acceptors
            .lock()
            .unwrap()
            .insert(name.clone(), TlsAcceptor::from(Arc::new(config.clone())));
        network.host(&name, 443, handler.clone());
    }
    let options = Options {
        plain_http: PlainHttp::Never,
        ca: Some(ca),
        ..network.options()
    };
    (network, options, folder)
}

/// A complete answer with a length header, which `headers` may replace.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Status\r\n");
    let says_length = |name: &str| {
        name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
    };
    if !headers.iter().any(|(name, _)| says_length(name)) {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A redirect.
pub(crate) fn redirect(to: &str) -> Reply {
    Reply::Send(reply(307, &[("Location", to)], b"see there"))
}

/// What an honest server answers to a request for a blob.
pub(crate) fn blob_reply(seen: &Seen, blob: &[u8]) -> Reply {
    let Some(range) = seen.headers.get("range").and_then(|text| asked_range(text)) else {
        return Reply::Send(reply(200, &[], blob));
    };
    let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.len());
    Reply::Send(reply(
        206,
        &[("Content-Range", &content_range)],
        &blob[range],
    ))
}

fn asked_range(text: &str) -> Option<Range<usize>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
}

/// The descriptor of some bytes.
pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        annotations: Default::default(),
    }
}

/// `r.example/team/app:1`.
pub(crate) fn app() -> Reference {
    "r.example/team/app:1".parse().unwrap()
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from(index * 7 % 251).unwrap())
        .collect()
}

/// Reads an answer to its end: whether it is ranged, and its bytes.
pub(crate) async fn read(opened: Opened) -> Result<(bool, Vec<u8>), FetchError> {
    let (ranged, mut body) = match opened {
        Opened::Ranged(body) => (true, body),
        Opened::Whole(body) => (false, body),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok((ranged, bytes))
}

async fn read_request(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        // A TLS greeting at a host that expects plain HTTP, which answers such a thing at once.
        if buffer.first() == Some(&0x16) {
            buffer.clear();
            buffer.extend_from_slice(b"TLS / HTTP/1.1\r\n\r\n");
        }
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = String::from_utf8(buffer.drain(..length).collect()).map_err(io::Error::other)?;
    Ok(Some(Seen {
        host: String::new(),
        connection: 0,
        method,
        target,
        headers,
        body,
    }))
}
