//! What a registry answers, or does not, as our errors.
//!
//! Invariant: whether to try again is decided by status codes and kinds of failure, never by text; no credential comes
//! into a message.

use std::{
    error::{self, Error as _},
    io,
    time::Duration,
};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;

use crate::error::{Error, Kind};

/// Why a request failed, and whether the same one may succeed later.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: bool,
    /// How long the registry asks to be left alone.
    pub(super) pause: Option<Duration>,
}

/// A registry's own list of errors.
#[derive(Deserialize)]
struct Complaints {
    errors: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    message: String,
}

impl Failure {
    pub(super) fn last(error: Error) -> Self {
        Self { error, again: false, pause: None }
    }

    pub(super) fn passing(error: Error) -> Self {
        Self { error, again: true, pause: None }
    }

    /// `host` said nothing, or not all. `reached` tells whether it has answered before: one that never did is not there.
    pub(super) fn unanswered(error: reqwest::Error, host: &str, reached: bool) -> Self {
        // Where it went is no secret of ours, and may be one of theirs.
        let error = error.without_url();
        if error.is_connect() && !reached {
            let remedy = remedy(&error).map(|remedy| format!(" ({remedy})")).unwrap_or_default();
            let act = format!("reach registry {host}{remedy}");
            return Self::last(Error::with_source(Kind::Io, act, error));
        }
        if error.is_redirect() {
            let why = error.source().map(|why| format!(" ({why})")).unwrap_or_default();
            return Self::last(Error::new(Kind::Invalid, format!("registry {host} redirects without end{why}")));
        }
        let act = format!("talk to registry {host}");
        if error.is_builder() {
            return Self::last(Error::with_source(Kind::Invalid, act, error));
        }
        Self::passing(Error::with_source(Kind::Io, act, error))
    }

    /// `host` said no. `body` is what it says beside the code, or the beginning of that.
    pub(super) fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8], host: &str) -> Self {
        let code = status.as_u16();
        let words = cut(&said(body));
        let words = if words.is_empty() { words } else { format!(": {words}") };
        let passing = |what: &str| {
            let error = Error::new(Kind::Io, format!("registry {host} {what} ({code}{words})"));
            Self { error, again: true, pause: headers.get(RETRY_AFTER).and_then(|text| asked(text.to_str().ok()?)) }
        };
        let last = |kind, what: &str| Self::last(Error::new(kind, format!("registry {host} {what} ({code}{words})")));
        match code {
            401 | 403 => Self::last(denied(host, &format!("{code}{words}"))),
            404 => last(Kind::NotFound, "does not have it"),
            429 => passing("gets too many requests"),
            408 | 500.. => passing("has failed"),
            _ => last(Kind::Invalid, "refuses the request"),
        }
    }
}

/// What helps where TLS does not come about.
fn remedy(error: &reqwest::Error) -> Option<&'static str> {
    match refused_by_tls(error.source()?)? {
        rustls::Error::InvalidCertificate(_) => Some("one with a certificate of its own needs --tls-verify=false"),
        rustls::Error::InvalidMessage(_) => Some("one without TLS needs --plain-http"),
        _ => None,
    }
}

fn refused_by_tls<'a>(cause: &'a (dyn error::Error + 'static)) -> Option<&'a rustls::Error> {
    // What such an error wraps is not its source.
    let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match (cause.downcast_ref(), wrapped) {
        (Some(found), _) => Some(found),
        (None, Some(wrapped)) => refused_by_tls(wrapped),
        (None, None) => refused_by_tls(cause.source()?),
    }
}

fn denied(host: &str, what: &str) -> Error {
    Error::new(
        Kind::Denied,
        format!(
            "registry {host} refuses access ({what}); log in with 'skopeo login {host}' or 'docker login {host}', whose credentials are used here too"
        ),
    )
}

/// The words of an answer that may be the list that a registry makes of errors.
fn said(body: &[u8]) -> String {
    match serde_json::from_slice::<Complaints>(body) {
        Ok(complaints) => {
            let words: Vec<String> = complaints.errors.into_iter().map(|complaint| complaint.message).collect();
            words.join("; ")
        }
        // What is no text says nothing.
        Err(_) => match str::from_utf8(body) {
            Ok(text) => text.to_owned(),
            Err(end) if end.error_len().is_none() => String::from_utf8_lossy(&body[..end.valid_up_to()]).into_owned(),
            Err(_) => String::new(),
        },
    }
}

/// What a registry says goes to a terminal: one line, not too long, nothing that moves the cursor.
fn cut(text: &str) -> String {
    let shown: String = text.trim().chars().take(200).collect();
    shown.escape_debug().to_string()
}

/// Retry-After (RFC 9110): seconds, or a date.
fn asked(text: &str) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let then = rfc2822::parse(text.trim()).ok()?.timestamp();
            Some(Duration::try_from(then.duration_since(Timestamp::now())).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, asked};
    use crate::Kind;
    use reqwest::{StatusCode, header::HeaderMap};
    use std::time::Duration;

    #[test]
    fn what_a_registry_says_decides_whether_to_try_again() {
        for (code, kind, again) in [
            (302, Kind::Invalid, false),
            (401, Kind::Denied, false),
            (403, Kind::Denied, false),
            (404, Kind::NotFound, false),
            (400, Kind::Invalid, false),
            (408, Kind::Io, true),
            (429, Kind::Io, true),
            (500, Kind::Io, true),
            (503, Kind::Io, true),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            let failure = Failure::answered(status, &HeaderMap::new(), b"why\n\x1b[31m\xe2\x82", "r:5000");
            assert_eq!((failure.error.kind(), failure.again, failure.pause), (kind, again, None), "{code}");
            let text = failure.error.to_string();
            assert!(text.contains("r:5000") && text.contains(&code.to_string()) && text.contains("why\\n"), "{text}");
        }
        let listed = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"},{"code":"X"}]}"#;
        let failure = Failure::answered(StatusCode::NOT_FOUND, &HeaderMap::new(), listed, "r");
        assert_eq!(failure.error.to_string(), "registry r does not have it (404: manifest unknown;)");
    }

    #[test]
    fn bytes_that_are_no_text_are_not_shown() {
        let failure = Failure::answered(StatusCode::NOT_FOUND, &HeaderMap::new(), b"\x1f\x8b\xff\0", "r");
        assert_eq!(failure.error.to_string(), "registry r does not have it (404)");
    }

    #[test]
    fn a_pause_is_told_in_seconds_or_as_a_date() {
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(asked("Wed, 21 Oct 2099 07:28:00 GMT") > Some(Duration::from_secs(1_000_000)));
        for other in ["", "-1", "soon", "1.5"] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
