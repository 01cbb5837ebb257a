//! A registry on loopback that does what a test wants of it: content with faults, and a list of what it was asked.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lamina::id::Digest;
use serde_json::{Value, json};

use crate::pool::Outcome;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    /// What a token is asked for with.
    pub form: String,
}

impl Request {
    /// The byte where a range begins.
    pub fn offset(&self) -> Option<u64> {
        self.headers.get("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }

    /// `METHOD PATH`, and the range, if there is one.
    fn line(&self) -> String {
        let offset = self.offset().filter(|offset| *offset > 0);
        let range = offset.map(|offset| format!(" from {offset}")).unwrap_or_default();
        format!("{} {}{range}", self.method, self.path)
    }
}

/// What is answered.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    /// The connection is cut after so many bytes of the body.
    pub cut: Option<u64>,
    /// After what there is of the body, nothing comes, and the connection stays.
    pub hangs: bool,
    /// Of what the client sends only so many bytes are read; then the connection is cut, or stays without an answer.
    pub takes: Option<u64>,
}

/// What is sent and is longer is not kept.
const KEPT: u64 = 64 << 20;

/// A body, of which a part is made each time that it is asked for.
#[derive(Clone)]
pub struct Body {
    pub size: u64,
    make: Arc<dyn Fn() -> Box<dyn Read> + Send + Sync>,
}

impl Default for Body {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        Self { size: bytes.len() as u64, make: Arc::new(move || Box::new(io::Cursor::new(Arc::clone(&bytes)))) }
    }
}

impl Body {
    pub fn of(size: u64, make: impl Fn() -> Box<dyn Read> + Send + Sync + 'static) -> Self {
        Self { size, make: Arc::new(make) }
    }

    /// The same bytes and then once more.
    pub fn twice(&self) -> Self {
        let make = Arc::clone(&self.make);
        Self { size: self.size * 2, make: Arc::new(move || Box::new(make().chain(make()))) }
    }

    /// The same bytes under another length.
    pub fn told(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// The bytes from `offset` on.
    pub fn read(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        let mut all = (self.make)();
        io::copy(&mut (&mut all).take(offset), &mut io::sink())?;
        Ok(all)
    }
}

type Answering = dyn Fn(&Request, Answer) -> Answer + Send + Sync;

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    /// Bodies that came to an end which is none.
    hanging: usize,
}

struct Inner {
    content: Mutex<HashMap<String, (String, Body)>>,
    answering: Mutex<Arc<Answering>>,
    seen: Mutex<Seen>,
    changed: Condvar,
    ends: AtomicBool,
}

/// See the module's comment. It ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            content: Mutex::default(),
            answering: Mutex::new(Arc::new(|_, answer| answer)),
            seen: Mutex::default(),
            changed: Condvar::new(),
            ends: AtomicBool::new(false),
        });
        let serving = Arc::clone(&inner);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ends.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), serving) = (stream, Arc::clone(&serving)) else { continue };
                // A client that goes away is what some tests want.
                thread::spawn(move || drop(serve(stream, &serving)));
            }
        });
        Ok(Self { address, inner, thread: Some(thread) })
    }

    /// `HOST:PORT/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// From now on answers are what `answering` makes of what they would be.
    pub fn answer(&self, answering: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) {
        *self.inner.answering.lock().unwrap() = Arc::new(answering);
    }

    /// What it was asked since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.seen.lock().unwrap().lines)
    }

    /// Waits until it lets a client wait for more of so many bodies at once.
    pub fn wait_for_hanging(&self, count: usize) -> Outcome {
        let seen = self.inner.seen.lock().unwrap();
        let wait = self.inner.changed.wait_timeout_while(seen, Duration::from_secs(60), |seen| seen.hanging < count);
        if wait.unwrap().1.timed_out() { Err("too few came for bodies that hang".into()) } else { Ok(()) }
    }

    pub fn put(&self, path: &str, kind: &str, body: impl Into<Body>) {
        self.inner.content.lock().unwrap().insert(path.to_owned(), (kind.to_owned(), body.into()));
    }

    pub fn blob(&self, repository: &str, digest: Digest, body: impl Into<Body>) {
        self.put(&format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", body);
    }

    /// An image of layers that are stored as `stored` and unpack to tars of these digests; returns its manifest's digest.
    pub fn image(&self, name: &str, layers: &[Layer], architecture: &str) -> Outcome<Digest> {
        let (repository, tag) = name.split_once(':').ok_or("no tag")?;
        let diffs: Vec<String> = layers.iter().map(|layer| layer.diff.to_string()).collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture, "os": "linux", "created": "2024-01-01T00:00:00Z", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }))?;
        let own = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(), "size": config.len(),
        });
        self.blob(repository, Digest::of(&config), config);
        let described = |layer: &Layer| {
            let kind = format!("application/vnd.oci.image.layer.v1.{}", layer.kind);
            json!({"mediaType": kind, "digest": layer.digest.to_string(), "size": layer.body.size})
        };
        let described: Vec<Value> = layers.iter().map(described).collect();
        for layer in layers {
            self.blob(repository, layer.digest, layer.body.clone());
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": own, "layers": described});
        Ok(self.manifest(repository, tag, kind, serde_json::to_vec(&manifest)?))
    }

    /// A manifest under its tag and its digest.
    pub fn manifest(&self, repository: &str, tag: &str, kind: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.put(&format!("/v2/{repository}/manifests/{digest}"), kind, bytes.clone());
        self.put(&format!("/v2/{repository}/manifests/{tag}"), kind, bytes);
        digest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.ends.store(true, Ordering::Relaxed);
        // Wakes the one that waits for connections.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A layer as a registry has it.
#[derive(Clone)]
pub struct Layer {
    pub diff: Digest,
    pub digest: Digest,
    pub kind: &'static str,
    pub body: Body,
}

impl Layer {
    /// A tar that is compressed with gzip.
    pub fn gzip(tar: &[u8]) -> Outcome<Self> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(tar)?;
        let stored = out.finish()?;
        Ok(Self { diff: Digest::of(tar), digest: Digest::of(&stored), kind: "tar+gzip", body: stored.into() })
    }

    /// A tar as it is.
    pub fn plain(digest: Digest, body: Body) -> Self {
        Self { diff: digest, digest, kind: "tar", body }
    }
}

/// One request, one answer, one connection.
fn serve(stream: TcpStream, inner: &Inner) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = read(&mut reader)?;
    let mut length = request.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if request.path == "/token" {
        (&mut reader).take(length).read_to_string(&mut request.form)?;
        length = 0;
    }
    inner.seen.lock().unwrap().lines.push(request.line());
    let usual = usual(&request, inner);
    let answering = Arc::clone(&inner.answering.lock().unwrap());
    let mut answer = answering(&request, usual);
    if request.method != "GET" {
        let mut sent = (&mut reader).take(answer.takes.unwrap_or(length));
        if request.method == "PUT" && answer.status == 201 && length <= KEPT {
            let mut bytes = Vec::new();
            sent.read_to_end(&mut bytes)?;
            answer.status = keep(&request, bytes, inner);
        } else {
            io::copy(&mut sent, &mut io::sink())?;
        }
    }
    if answer.takes.is_none() {
        // One that tells the range itself has that body.
        let told = answer.headers.iter().any(|(name, _)| *name == "Content-Range");
        let offset = if answer.status == 206 && !told { request.offset().unwrap_or(0) } else { 0 };
        write(&stream, &request, &answer, offset)?;
    }
    if answer.hangs {
        inner.seen.lock().unwrap().hanging += 1;
        inner.changed.notify_all();
        // Until the other side goes away.
        io::copy(&mut reader, &mut io::sink())?;
        inner.seen.lock().unwrap().hanging -= 1;
    }
    Ok(())
}

/// Keeps what was sent; a blob only if it has the digest that was told.
fn keep(request: &Request, bytes: Vec<u8>, inner: &Inner) -> u16 {
    let (path, kind) = match request.path.split_once("uploads/upload?digest=") {
        Some((blobs, digest)) if digest == Digest::of(&bytes).to_string().replace(':', "%3A") => {
            (format!("{blobs}{}", Digest::of(&bytes)), "application/octet-stream")
        }
        Some(_) => return 400,
        None => (request.path.clone(), request.headers.get("content-type").map_or("", String::as_str)),
    };
    inner.content.lock().unwrap().insert(path, (kind.to_owned(), bytes.into()));
    201
}

fn read(reader: &mut impl io::BufRead) -> io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Request { method, path, headers, form: String::new() })
}

/// What a registry without faults answers.
fn usual(request: &Request, inner: &Inner) -> Answer {
    let here =
        |status, path: &str| Answer { status, headers: vec![("Location", path.to_owned())], ..Answer::default() };
    match request.method.as_str() {
        "POST" => {
            let (uploads, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
            return here(202, &format!("{uploads}upload"));
        }
        "PUT" => return here(201, &request.path),
        _ if request.path == "/v2/" => return Answer { status: 200, ..Answer::default() },
        _ => {}
    }
    let content = inner.content.lock().unwrap();
    let Some((kind, body)) = content.get(&request.path) else { return Answer { status: 404, ..Answer::default() } };
    let status = if request.offset().is_some() { 206 } else { 200 };
    Answer { status, headers: vec![("Content-Type", kind.clone())], body: body.clone(), ..Answer::default() }
}

fn write(mut out: &TcpStream, request: &Request, answer: &Answer, offset: u64) -> io::Result<()> {
    let left = answer.body.size.saturating_sub(offset);
    let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\nContent-Length: {left}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    out.write_all((head + "\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let most = answer.cut.unwrap_or(left);
    let mut buffered = io::BufWriter::with_capacity(1 << 18, out);
    io::copy(&mut answer.body.read(offset)?.take(most), &mut buffered)?;
    buffered.flush()
}
