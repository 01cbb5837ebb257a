//! The requests that OCI's distribution-spec knows, at one repository of a registry; asynchronous, each made once.
//!
//! Invariant: what is held in memory of an answer has a limit, whatever the registry sends; nobody but the registry itself,
//! and who it sends to for a token, gets credentials.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::Stream;
use reqwest::{
    Body, Client, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE},
    redirect::Policy,
};

use super::{
    Connection,
    credentials::Credentials,
    failure::Failure,
    login::{Access, Login},
};
use crate::{
    error::{Error, Kind, Result},
    id::Digest,
    image::config::JSON_LIMIT,
    units::Bytes,
};

/// What kinds of manifest there are.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// As much as is read of an answer that tells of an error.
const WORDS_LIMIT: usize = 8 << 10;

/// As many redirections as one request follows.
const REDIRECTIONS: usize = 10;

/// See the module's comment.
pub(super) struct Requests {
    peer: Peer,
    /// Of the repository, with a slash at its end.
    base: Url,
    login: Login,
}

/// What became of a wish for a blob of another repository.
pub(super) enum Mounting {
    Done,
    /// The blob is to be sent, to here if the registry has begun an upload.
    Refused(Option<Url>),
}

/// Who is asked, and how.
pub(super) struct Peer {
    client: Client,
    /// For errors.
    pub(super) host: String,
    /// Whether it has answered before: one that never did is not there.
    reached: AtomicBool,
}

impl Requests {
    /// For the repository `path` at `host`.
    pub(super) fn new(
        (host, path): (&str, &str),
        connection: &Connection,
        credentials: Credentials,
        access: Access<'_>,
    ) -> Result<Self> {
        let scheme = if connection.plain_http { "http" } else { "https" };
        // Docker's own registry has a name that only people use.
        let server = if host == "docker.io" { "index.docker.io" } else { host };
        let unfit = |error| Error::with_source(Kind::Invalid, format!("'{host}/{path}' makes no URL"), error);
        let root = Url::parse(&format!("{scheme}://{server}/v2/")).map_err(unfit)?;
        let base = root.join(&format!("{path}/")).map_err(unfit)?;
        let peer = Peer { client: client(connection)?, host: host.to_owned(), reached: AtomicBool::new(false) };
        Ok(Self { peer, base, login: Login::new(root, path, credentials, access) })
    }

    /// The registry's host and port.
    pub(super) fn host(&self) -> &str {
        &self.peer.host
    }

    /// Why there is no more of an answer.
    pub(super) fn failure(&self, error: reqwest::Error) -> Failure {
        self.peer.failure(error)
    }

    /// Asks who may come in, and logs in.
    pub(super) async fn log_in(&self) -> Result<(), Failure> {
        self.login.authorization(&self.peer).await.map(drop)
    }

    /// The bytes of a manifest, by its tag or digest.
    pub(super) async fn manifest(&self, wanted: &str) -> Result<Vec<u8>, Failure> {
        let url = self.url(&["manifests", wanted])?;
        let request = self.peer.client.get(url.clone()).header(ACCEPT, MANIFESTS);
        let response = self.ask(&url, request, &[StatusCode::OK]).await?;
        self.peer.body(response, JSON_LIMIT, "a manifest").await
    }

    /// The bytes of a blob, and with which one they begin: at `offset` or before.
    pub(super) async fn blob(&self, digest: Digest, offset: u64) -> Result<(Response, u64), Failure> {
        let url = self.url(&["blobs", &digest.to_string()])?;
        let mut request = self.peer.client.get(url.clone());
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let response = self.ask(&url, request, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT]).await?;
        if response.status() == StatusCode::OK {
            return Ok((response, 0));
        }
        let begin = match response.headers().get(CONTENT_RANGE) {
            Some(range) => range.to_str().ok().and_then(first_byte).filter(|first| *first <= offset),
            None => Some(offset),
        };
        let begin = begin.ok_or_else(|| self.odd("sends other bytes of a layer than it was asked for"))?;
        Ok((response, begin))
    }

    /// Whether the repository has a blob.
    pub(super) async fn has_blob(&self, digest: Digest) -> Result<bool, Failure> {
        let url = self.url(&["blobs", &digest.to_string()])?;
        let request = self.peer.client.head(url.clone());
        let response = self.ask(&url, request, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Has the registry give the repository a blob that its repository `from` has.
    pub(super) async fn mount_blob(&self, digest: Digest, from: &str) -> Result<Mounting, Failure> {
        let mut url = self.url(&["blobs", "uploads", ""])?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let request = self.peer.client.post(url.clone()).header(CONTENT_LENGTH, 0);
        let response = self.ask(&url, request, &[StatusCode::CREATED, StatusCode::ACCEPTED]).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mounting::Done),
            _ => Ok(Mounting::Refused(location(&response))),
        }
    }

    /// Sends a blob of `size` bytes, to `place` if an upload has begun there.
    pub(super) async fn upload(
        &self,
        (digest, size): (Digest, u64),
        place: Option<Url>,
        parts: impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut place = match place {
            Some(place) => place,
            None => self.begin_upload().await?,
        };
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let request = self.peer.client.put(place.clone());
        let request = request.header(CONTENT_LENGTH, size).header(CONTENT_TYPE, "application/octet-stream");
        let request = request.body(Body::wrap_stream(parts));
        self.ask(&place, request, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await.map(drop)
    }

    async fn begin_upload(&self) -> Result<Url, Failure> {
        let url = self.url(&["blobs", "uploads", ""])?;
        let request = self.peer.client.post(url.clone()).header(CONTENT_LENGTH, 0);
        let response = self.ask(&url, request, &[StatusCode::ACCEPTED]).await?;
        location(&response).ok_or_else(|| self.odd("does not tell where to send a layer"))
    }

    /// Publishes a manifest under a tag or its digest.
    pub(super) async fn put_manifest(&self, wanted: &str, media_type: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let url = self.url(&["manifests", wanted])?;
        let request = self.peer.client.put(url.clone()).header(CONTENT_TYPE, media_type).body(bytes);
        self.ask(&url, request, &[StatusCode::CREATED]).await.map(drop)
    }

    /// What lies below the repository. No part of it can lead elsewhere: the URL escapes them.
    fn url(&self, parts: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(parts),
            Err(()) => return Err(Failure::last(Error::new(Kind::Invalid, format!("'{}' has no path", self.base)))),
        };
        Ok(url)
    }

    /// Makes a request to `url`; other answers than these are failures.
    async fn ask(&self, url: &Url, request: RequestBuilder, good: &[StatusCode]) -> Result<Response, Failure> {
        // A layer may be sent elsewhere, with a URL that says enough (CVE-2020-15157).
        let known = if url.origin() == self.base.origin() { self.login.authorization(&self.peer).await? } else { None };
        // None of a layer: the stream of its bytes is there once.
        let same = request.try_clone();
        let request = match &known {
            Some(known) => request.header(AUTHORIZATION, known),
            None => request,
        };
        let mut response = self.peer.send(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(known) = known
            && self.login.forget(&known).await
        {
            let Some(mut request) = same else {
                return Err(Failure { again: true, ..self.peer.refusal(response).await });
            };
            if let Some(new) = self.login.authorization(&self.peer).await? {
                request = request.header(AUTHORIZATION, new);
            }
            response = self.peer.send(request).await?;
        }
        if good.contains(&response.status()) { Ok(response) } else { Err(self.peer.refusal(response).await) }
    }

    fn odd(&self, what: &str) -> Failure {
        Failure::last(Error::new(Kind::Invalid, format!("registry {} {what}", self.peer.host)))
    }
}

impl Peer {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.failure(error))?;
        self.reached.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// Why there is no answer, or no more of it.
    pub(super) fn failure(&self, error: reqwest::Error) -> Failure {
        Failure::unanswered(error, &self.host, self.reached.load(Ordering::Relaxed))
    }

    /// What an answer means that is not the wanted one.
    pub(super) async fn refusal(&self, mut response: Response) -> Failure {
        let mut words = Vec::new();
        // Those that do not come are not missed: the status says what happened.
        while let Ok(Some(part)) = response.chunk().await {
            words.extend_from_slice(&part[..part.len().min(WORDS_LIMIT - words.len())]);
            if words.len() == WORDS_LIMIT {
                break;
            }
        }
        Failure::answered(response.status(), response.headers(), &words, &self.host)
    }

    /// All of an answer that is `what`.
    pub(super) async fn body(&self, mut response: Response, limit: u64, what: &str) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.failure(error))? {
            if (bytes.len() + part.len()) as u64 > limit {
                let what = format!("registry {} sends {what} of more than {}", self.host, Bytes(limit));
                return Err(Failure::last(Error::new(Kind::Invalid, what)));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }
}

fn location(response: &Response) -> Option<Url> {
    response.url().join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// Of a Content-Range (RFC 9110), such as `bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes")?.trim_start().split_once('-')?.0.parse().ok()
}

fn client(connection: &Connection) -> Result<Client> {
    // Another provider that is installed does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .tls_danger_accept_invalid_certs(!connection.tls_verify)
        .connect_timeout(connection.patience)
        .redirect(Policy::limited(REDIRECTIONS))
        // Where an answer sends to does not learn who sent.
        .referer(false)
        .user_agent(concat!("lamina/", env!("CARGO_PKG_VERSION")));
    // The client cannot be made where there are none, unless it is told to do without.
    if connection.tls_verify && rustls_native_certs::load_native_certs().certs.is_empty() {
        if !connection.plain_http {
            let what =
                "talk to a registry: this machine has no certificates of authorities; install package ca-certificates";
            return Err(Error::new(Kind::MissingProgram, what));
        }
        client = client.tls_certs_only([]);
    }
    client.build().map_err(|error| Error::with_source(Kind::Io, "make a client of registries", error))
}
