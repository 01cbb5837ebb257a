//! The few requests of Docker's HTTP API that are measured, on the socket of its daemon.
//!
//! Invariant: a request that is refused is an error with the daemon's words, and none outlasts a signal.

use std::{
    fmt,
    io::{self, Read},
    path::Path,
    pin::pin,
    thread,
    time::Duration,
};

use futures_util::stream;
use reqwest::{Body, Client, Method, RequestBuilder, Url, header::CONTENT_TYPE};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::timeout,
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    interrupt,
};

/// How often a request that takes its time looks for a signal.
const LOOK: Duration = Duration::from_millis(100);

/// As much of a tar as is read at a time, and how many such parts wait to be sent.
const PART: usize = 1 << 18;
const PARTS: usize = 4;

pub(super) struct Api {
    runtime: Runtime,
    client: Client,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("requests to Docker's daemon")
    }
}

impl Api {
    pub(super) fn new(socket: &Path) -> Result<Self> {
        // Without one no client is made, though nothing is encrypted here; another that is installed does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let act = || "make a client of Docker's daemon";
        let client = Client::builder().unix_socket(socket).no_proxy().tls_certs_only([]).build();
        let client = client.map_err(|error| Error::with_source(Kind::Io, act(), error))?;
        // No other thread's turn is waited for between the answer and the clock.
        let runtime = Builder::new_current_thread().enable_all().build().act(act)?;
        Ok(Self { runtime, client })
    }

    /// Asks, and tells what the answer holds; null if it is empty.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        wanted: Option<&Value>,
    ) -> Result<Value> {
        let mut request = self.client.request(method, url(path, query)?);
        if let Some(wanted) = wanted {
            request = request.header(CONTENT_TYPE, "application/json").body(wanted.to_string());
        }
        let said = self.answer(request, path)?;
        if said.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&said).map_err(|error| no_json(path, error))
    }

    /// Sends a tar, as it is read. The answer is a line for each step.
    pub(super) fn send(&self, path: &[&str], query: &[(&str, &str)], tar: &mut (dyn Read + Send)) -> Result<()> {
        let (to, from) = mpsc::channel(PARTS);
        let parts = stream::unfold(from, async |mut from| from.recv().await.map(|part| (part, from)));
        let request = self.client.post(url(path, query)?);
        let request = request.header(CONTENT_TYPE, "application/x-tar").body(Body::wrap_stream(parts));
        let said = thread::scope(|scope| {
            scope.spawn(move || read_parts(tar, &to));
            self.answer(request, path)
        })?;
        for line in serde_json::Deserializer::from_slice(&said).into_iter::<Value>() {
            if let Some(words) = line.map_err(|error| no_json(path, error))?["error"].as_str() {
                return Err(refused(path, words));
            }
        }
        Ok(())
    }

    fn answer(&self, request: RequestBuilder, path: &[&str]) -> Result<Vec<u8>> {
        let lost = |error| Error::with_source(Kind::Io, format!("ask Docker for {}", path.join("/")), error);
        self.runtime.block_on(async {
            let mut asked = pin!(async {
                let response = request.send().await?;
                Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
            });
            let (status, said) = loop {
                match timeout(LOOK, &mut asked).await {
                    Ok(answered) => break answered.map_err(lost)?,
                    Err(_) => interrupt::check()?,
                }
            };
            if status.is_success() {
                return Ok(said.to_vec());
            }
            let told: Value = serde_json::from_slice(&said).unwrap_or_default();
            Err(refused(path, told["message"].as_str().unwrap_or(status.as_str())))
        })
    }
}

fn no_json(path: &[&str], error: serde_json::Error) -> Error {
    Error::with_source(Kind::Io, format!("read what Docker answers to {}", path.join("/")), error)
}

fn refused(path: &[&str], words: &str) -> Error {
    Error::new(Kind::Io, format!("Docker refuses {}: {words}", path.join("/")))
}

fn url(path: &[&str], query: &[(&str, &str)]) -> Result<Url> {
    let text = format!("http://docker/{}", path.join("/"));
    let mut url =
        Url::parse(&text).map_err(|error| Error::with_source(Kind::Invalid, format!("'{text}' is no URL"), error))?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Ends when nobody takes any more.
fn read_parts(tar: &mut dyn Read, to: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut part = vec![0; PART];
        let read = tar.read(&mut part).map(|length| {
            part.truncate(length);
            part
        });
        let last = read.as_ref().map_or(true, Vec::is_empty);
        if read.as_ref().is_ok_and(Vec::is_empty) || to.blocking_send(read).is_err() || last {
            return;
        }
    }
}
