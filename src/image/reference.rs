//! Image references by Docker's grammar (distribution/reference): `[host[:port]/]path[:tag][@digest]`.
//!
//! Invariant: a value is well formed and normalised: `debian` and `docker.io/library/debian:latest` are equal.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Kind, Result},
    id::Digest,
};

const DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// What an image is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path at the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag; there is always a tag or a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, if the reference names one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Refuses a name that nobody here may give: a digest says what is named, and a registry that it is so.
    ///
    /// # Errors
    /// `Invalid` for a reference with a digest.
    pub fn require_free(&self) -> Result<()> {
        if self.digest.is_none() {
            return Ok(());
        }
        let what = format!("name an image {self}: a name with a digest cannot be given; leave the digest out");
        Err(Error::new(Kind::Invalid, what))
    }

    /// Host and path in full: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as Docker shows it: `debian`.
    pub fn familiar_name(&self) -> String {
        match (self.domain.as_str(), self.path.strip_prefix(OFFICIAL)) {
            (DOMAIN, Some(official)) if !official.contains('/') => official.to_owned(),
            (DOMAIN, _) => self.path.clone(),
            _ => self.name(),
        }
    }

    /// The whole reference in full: `docker.io/library/debian:12`.
    pub fn canonical(&self) -> String {
        self.name() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

/// The form that Docker shows.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.familiar_name(), self.suffix())
    }
}

fn invalid<T>(text: &str, reason: &str) -> Result<T> {
    let text = text.escape_debug();
    Err(Error::new(Kind::Invalid, format!("image name '{text}': invalid reference format{reason}")))
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return invalid(text, ": 64 hexadecimal digits name an image ID, not a repository");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().or_else(|_| invalid(text, ": bad digest"))?)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.chars().any(char::is_uppercase) {
            return invalid(text, ": repository name must be lowercase");
        }
        if !is_domain(domain) || !is_path(path) || !tag.is_none_or(is_tag) {
            return invalid(text, "");
        }
        if domain == DOMAIN && matches!(path, "sha256" | "library/sha256") {
            return invalid(text, ": 'sha256' begins image IDs and is no repository");
        }
        let official = domain == DOMAIN && !path.contains('/');
        let path = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return invalid(text, ": repository name must not be more than 255 characters");
        }
        let tag = match tag {
            None if digest.is_none() => Some("latest"),
            tag => tag,
        };
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

/// The first part is a host if it looks like one: a dot, a port, `localhost`, or upper case.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DOMAIN, rest),
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DOMAIN, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            let digits = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
            if address.is_empty() || !address.bytes().all(digits) {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Components of lower-case letters and digits, between them one `.`, one or two `_`, or any number of `-`.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        component.bytes().all(|byte| inner(byte) || b"._-".contains(&byte))
            && component.bytes().next().is_some_and(inner)
            && component.bytes().next_back().is_some_and(inner)
            && component
                .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn names_are_normalised_and_shown_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let both = format!("debian:12@{digest}");
        for (text, canonical, shown) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("acme/my-base-image:1.0", "docker.io/acme/my-base-image:1.0", "acme/my-base-image:1.0"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/a/b__c-d---e:T_1", "localhost:5000/a/b__c-d---e:T_1", "localhost:5000/a/b__c-d---e:T_1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("Foo/bar", "Foo/bar:latest", "Foo/bar:latest"),
            (&both, &format!("docker.io/library/{both}"), &both),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.canonical(), canonical, "{text}");
            assert_eq!(reference.to_string(), shown, "{text}");
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference, "{text}");
        }
        let pinned: Reference = format!("debian@{digest}").parse().unwrap();
        assert_eq!(pinned.tag(), None);
    }

    #[test]
    fn malformed_names_are_told_in_dockers_words() {
        let long = format!("{}:t", "a".repeat(250));
        let tag = format!("a:{}", "t".repeat(129));
        for (text, reason) in [
            ("Ubuntu", "invalid reference format: repository name must be lowercase"),
            ("localhost/Ubuntu:1", "invalid reference format: repository name must be lowercase"),
            (&"0a".repeat(32), "image ID"),
            (&long, "more than 255 characters"),
            ("a@sha256:12", "bad digest"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        for text in [
            "", ":1", "a:", "a:-1", "a b", "a..b", "a___b", "-a", "a/", "/a", "a//b", "a:b:c", "x.y:p/a", "a.-b", &tag,
            "é",
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains("invalid reference format"), "{error}");
        }
    }
}
