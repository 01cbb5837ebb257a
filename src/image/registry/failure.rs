//! What the registry's client complains of, as our errors.
//!
//! Invariant: whether to try again is decided by status codes and kinds of failure, never by text; no credential comes
//! into a message.

use oci_client::errors::{OciDistributionError as Complaint, OciEnvelope, OciErrorCode};

use crate::error::{Error, Kind};

/// Why a request failed, and whether the same one may succeed later.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: bool,
}

impl Failure {
    pub(super) fn last(error: Error) -> Self {
        Self { error, again: false }
    }

    pub(super) fn passing(error: Error) -> Self {
        Self { error, again: true }
    }
}

/// What `host` meant. `reached` tells whether it has answered before: one that never did is not there.
pub(super) fn failure(complaint: Complaint, host: &str, reached: bool) -> Failure {
    match complaint {
        Complaint::UnauthorizedError { .. } => Failure::last(denied(host, "401")),
        Complaint::AuthenticationFailure(text) => Failure::last(denied(host, &cut(&text))),
        Complaint::RegistryError { envelope, .. } => answered(&envelope, host),
        Complaint::ServerError { code, message, .. } => status(code, &said(&message), host),
        Complaint::RequestError(error) => match error.status() {
            Some(code) => status(code.as_u16(), "", host),
            None if error.is_connect() && !reached => Failure::last(unreachable(host, error)),
            None => Failure::passing(Error::with_source(Kind::Io, format!("talk to registry {host}"), error)),
        },
        Complaint::IoError(error) => {
            Failure::passing(Error::with_source(Kind::Io, format!("read from registry {host}"), error))
        }
        Complaint::DigestError(error) => {
            Failure::last(Error::with_source(Kind::Corrupt, format!("registry {host} sends another content"), error))
        }
        other => Failure::last(Error::with_source(Kind::Invalid, format!("talk to registry {host}"), other)),
    }
}

fn unreachable(host: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let act = format!(
        "reach registry {host} (one without TLS needs --plain-http, one with a certificate of its own --tls-verify=false)"
    );
    Error::with_source(Kind::Io, act, error)
}

fn denied(host: &str, what: &str) -> Error {
    Error::new(
        Kind::Denied,
        format!(
            "registry {host} refuses access ({what}); log in with 'skopeo login {host}' or 'docker login {host}', whose credentials are used here too"
        ),
    )
}

/// A registry's own list of errors.
fn answered(envelope: &OciEnvelope, host: &str) -> Failure {
    let words: Vec<String> = envelope.errors.iter().map(|error| cut(&error.message)).collect();
    let words = words.join("; ");
    let code = envelope.errors.first().map(|error| &error.code);
    let not_found = || Failure::last(Error::new(Kind::NotFound, format!("registry {host} does not have it: {words}")));
    match code {
        Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Failure::last(denied(host, &words)),
        Some(
            OciErrorCode::ManifestUnknown
            | OciErrorCode::NameUnknown
            | OciErrorCode::BlobUnknown
            | OciErrorCode::NotFound,
        ) => not_found(),
        Some(OciErrorCode::Toomanyrequests) => status(429, &words, host),
        _ => Failure::last(Error::new(Kind::Invalid, format!("registry {host} refuses the request: {words}"))),
    }
}

fn status(code: u16, words: &str, host: &str) -> Failure {
    let words = cut(words);
    let words = if words.is_empty() { words } else { format!(": {words}") };
    match code {
        401 | 403 => Failure::last(denied(host, &format!("{code}{words}"))),
        404 => Failure::last(Error::new(Kind::NotFound, format!("registry {host} does not have it (404{words})"))),
        429 => Failure::passing(Error::new(Kind::Io, format!("registry {host} gets too many requests (429{words})"))),
        408 | 500.. => Failure::passing(Error::new(Kind::Io, format!("registry {host} has failed ({code}{words})"))),
        _ => Failure::last(Error::new(Kind::Invalid, format!("registry {host} refuses the request ({code}{words})"))),
    }
}

/// The words of an answer that may be the list that a registry makes of errors.
fn said(message: &str) -> String {
    match serde_json::from_str::<OciEnvelope>(message) {
        Ok(envelope) => envelope.errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "),
        Err(_) => message.to_owned(),
    }
}

/// What a registry says goes to a terminal: one line, not too long, nothing that moves the cursor.
fn cut(text: &str) -> String {
    let shown: String = text.trim().chars().take(200).collect();
    shown.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::failure;
    use crate::Kind;
    use oci_client::errors::OciDistributionError as Complaint;

    #[test]
    fn what_a_registry_says_decides_whether_to_try_again() {
        let server =
            |code, message: &str| Complaint::ServerError { code, url: String::new(), message: message.to_owned() };
        for (code, kind, again) in [
            (401, Kind::Denied, false),
            (403, Kind::Denied, false),
            (404, Kind::NotFound, false),
            (400, Kind::Invalid, false),
            (429, Kind::Io, true),
            (500, Kind::Io, true),
            (503, Kind::Io, true),
        ] {
            let failure = failure(server(code, "why\n\x1b[31m"), "r:5000", true);
            assert_eq!((failure.error.kind(), failure.again), (kind, again), "{code}");
            let text = failure.error.to_string();
            assert!(text.contains("r:5000") && text.contains(&code.to_string()) && text.contains("why\\n"), "{text}");
        }
        let listed = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        let complaint =
            Complaint::RegistryError { envelope: serde_json::from_str(listed).unwrap(), url: String::new() };
        let failure = failure(complaint, "r", true);
        assert_eq!(failure.error.to_string(), "registry r does not have it: manifest unknown");
        assert_eq!((failure.error.kind(), failure.again), (Kind::NotFound, false));
    }
}
