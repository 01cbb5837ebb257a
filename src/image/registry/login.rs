//! How to come in at a registry: as anybody, with a password, or with a token that another server gives for it
//! (distribution-spec's "token authentication").
//!
//! Invariant: one token is asked for at a time, and a new one before the old one ends or when the registry no longer takes
//! it; a password goes to nobody whom the registry itself has not named, and over TLS if the registry has it; no secret is
//! in an error or a log.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_auth::ChallengeParser;
use reqwest::{
    RequestBuilder, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{credentials::Credentials, failure::Failure, requests::Peer};
use crate::error::{Error, Kind};

/// A token of sane size has a few thousand bytes.
const TOKEN_LIMIT: u64 = 1 << 20;

/// As many seconds as a token is good at least, and if nothing is said; and at most. Docker's clients take no token for
/// shorter, so no server means less. One that ends earlier, or while the machine sleeps, is refused and then forgotten.
const SHORTEST: u64 = 60;
const LONGEST: u64 = 24 * 60 * 60;

/// So long before its end a token is good no more: a request takes its time.
const MARGIN: Duration = Duration::from_secs(10);

/// What a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access<'a> {
    Pull,
    /// With what may be had from these repositories.
    Push {
        neighbours: &'a [String],
    },
}

/// See the module's comment.
pub(super) struct Login {
    /// Where a registry tells how to come in.
    root: Url,
    scopes: Vec<String>,
    credentials: Credentials,
    way: Mutex<Option<Way>>,
}

enum Way {
    Open,
    Password(HeaderValue),
    Token { realm: Url, service: Option<String>, token: Option<(HeaderValue, Instant)> },
}

#[derive(Default, Deserialize)]
struct Given {
    token: Option<String>,
    /// Its name of OAuth 2; some give both.
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Login {
    /// For the repository `path` of the registry whose API begins at `root`.
    pub(super) fn new(root: Url, path: &str, credentials: Credentials, access: Access<'_>) -> Self {
        let (actions, neighbours) = match access {
            Access::Pull => ("pull", &[][..]),
            Access::Push { neighbours } => ("pull,push", neighbours),
        };
        let mut scopes = vec![format!("repository:{path}:{actions}")];
        scopes.extend(neighbours.iter().map(|from| format!("repository:{from}:pull")));
        Self { root, scopes, credentials, way: Mutex::default() }
    }

    /// What a request says to be let in.
    pub(super) async fn authorization(&self, peer: &Peer) -> Result<Option<HeaderValue>, Failure> {
        let mut way = self.way.lock().await;
        let way = match &mut *way {
            Some(way) => way,
            unknown => unknown.insert(self.way(peer).await?),
        };
        match way {
            Way::Open => Ok(None),
            Way::Password(known) => Ok(Some(known.clone())),
            Way::Token { token: Some((token, end)), .. } if Instant::now() < *end => Ok(Some(token.clone())),
            Way::Token { realm, service, token } => {
                let new = self.token(peer, realm, service.as_deref()).await?;
                Ok(Some(token.insert(new).0.clone()))
            }
        }
    }

    /// Has a new token asked for if `refused` is the one that is in use; whether there is sense in asking again.
    pub(super) async fn forget(&self, refused: &HeaderValue) -> bool {
        match &mut *self.way.lock().await {
            Some(Way::Token { token, .. }) => {
                if token.as_ref().is_some_and(|(known, _)| known == refused) {
                    *token = None;
                }
                true
            }
            _ => false,
        }
    }

    async fn way(&self, peer: &Peer) -> Result<Way, Failure> {
        let response = peer.send(peer.client().get(self.root.clone())).await?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(peer.refusal(response).await);
        }
        if !response.headers().contains_key(WWW_AUTHENTICATE) {
            return Ok(Way::Open);
        }
        if response.url().origin() != self.root.origin() {
            let other = response.url().host_str().unwrap_or_default();
            let what = format!("registry {} sends to {other} to log in, which gets no credentials of it", peer.host);
            return Err(Failure::last(Error::new(Kind::Denied, what)));
        }
        match bearer(response.headers()) {
            Some((realm, service)) => Ok(Way::Token { realm: self.realm(&peer.host, &realm)?, service, token: None }),
            None => Ok(self.password()?.map_or(Way::Open, Way::Password)),
        }
    }

    /// Who gives tokens, and may be told the password.
    fn realm(&self, host: &str, text: &str) -> Result<Url, Failure> {
        let refused = |kind, what| Failure::last(Error::new(kind, format!("registry {host} {what}")));
        match Url::parse(text) {
            Ok(url) if url.scheme() == "https" || url.scheme() == self.root.scheme() => Ok(url),
            Ok(url) if url.scheme() == "http" => {
                Err(refused(Kind::Denied, "wants the credentials sent without TLS, which only --plain-http allows"))
            }
            _ => Err(refused(Kind::Invalid, "names no place that gives tokens")),
        }
    }

    async fn token(&self, peer: &Peer, realm: &Url, service: Option<&str>) -> Result<(HeaderValue, Instant), Failure> {
        let request = match &self.credentials {
            Credentials::Token(known) => self.exchange(peer, realm, service, known),
            _ => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(self.scopes.iter().map(|scope| ("scope", scope)));
                url.query_pairs_mut().extend_pairs(service.map(|service| ("service", service)));
                let request = peer.client().get(url);
                match self.password()? {
                    Some(password) => request.header(AUTHORIZATION, password),
                    None => request,
                }
            }
        };
        let asked = Instant::now();
        let response = peer.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(peer.refusal(response).await);
        }
        let bytes = peer.body(response, TOKEN_LIMIT, "a token").await?;
        let given: Given = serde_json::from_slice(&bytes).unwrap_or_default();
        let unfit = || Failure::last(Error::new(Kind::Invalid, format!("registry {} gives no token", peer.host)));
        let mut tokens = [given.token, given.access_token].into_iter().flatten();
        let token = tokens.find(|token| !token.is_empty()).ok_or_else(unfit)?;
        let lifetime = Duration::from_secs(given.expires_in.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST));
        Ok((secret(format!("Bearer {token}"))?, asked + lifetime - MARGIN))
    }

    /// Asks for a token with the identity token `known` (OAuth 2's "refreshing").
    fn exchange(&self, peer: &Peer, realm: &Url, service: Option<&str>, known: &str) -> RequestBuilder {
        let mut form = realm.clone();
        form.set_query(None);
        let scopes = self.scopes.join(" ");
        let said = [("grant_type", "refresh_token"), ("client_id", "lamina"), ("scope", &scopes)];
        form.query_pairs_mut().extend_pairs(said).append_pair("refresh_token", known);
        form.query_pairs_mut().extend_pairs(service.map(|service| ("service", service)));
        let request = peer.client().post(realm.clone());
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.body(form.query().unwrap_or_default().to_owned())
    }

    fn password(&self) -> Result<Option<HeaderValue>, Failure> {
        match &self.credentials {
            // A token is for who gives tokens.
            Credentials::Nobody | Credentials::Token(_) => Ok(None),
            Credentials::Basic(user, password) => {
                secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).map(Some)
            }
        }
    }
}

fn secret(text: String) -> Result<HeaderValue, Failure> {
    let unfit = |_| Failure::last(Error::new(Kind::Invalid, "a registry's token has bytes that no header has"));
    let mut value = HeaderValue::try_from(text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The realm and the service of the first challenge that asks for a token.
fn bearer(headers: &HeaderMap) -> Option<(String, Option<String>)> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let challenges = texts.flat_map(|text| ChallengeParser::new(text).filter_map(Result::ok));
    challenges.filter(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer")).find_map(|challenge| {
        let parameter = |wanted: &str| {
            let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some((parameter("realm")?, parameter("service")))
    })
}

#[cfg(test)]
mod tests {
    use super::{Access, Credentials, Login, bearer};
    use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    #[test]
    fn a_password_is_asked_for_over_tls_if_the_registry_has_it() {
        for (root, realm, taken) in [
            ("https://r/v2/", "https://other/token", true),
            ("https://r/v2/", "http://r/token", false),
            ("http://r/v2/", "http://other/token", true),
            ("http://r/v2/", "https://r/token", true),
            ("http://r/v2/", "file:///etc/passwd", false),
            ("https://r/v2/", "token", false),
        ] {
            let login = Login::new(root.parse().unwrap(), "x", Credentials::Nobody, Access::Pull);
            assert_eq!(login.realm("r", realm).is_ok(), taken, "{root} {realm}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_it_is_offered() {
        let asks = |texts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(text));
            }
            bearer(&headers)
        };
        let expected = Some(("https://a/t?x=1".to_owned(), Some("r, \"s\"".to_owned())));
        let full = r#"Bearer realm="https://a/t?x=1", Service="r, \"s\"", scope="repository:x:pull""#;
        assert_eq!(asks(&[full]), expected);
        assert_eq!(asks(&["Basic realm=\"x\"", full]), expected);
        assert_eq!(asks(&["bearer realm=x"]), Some(("x".to_owned(), None)));
        for other in ["Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer", "\"", ""] {
            assert_eq!(asks(&[other]), None, "{other}");
        }
    }
}
