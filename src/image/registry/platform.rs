//! What an image runs on: `os/architecture[/variant]`, in the words of Go, as the image-spec has them.

use std::{fmt, str::FromStr};

use oci_spec::image::{Arch, Descriptor, ImageIndex};

use crate::error::{Error, Kind, Result};

/// A platform; by default that of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Default for Platform {
    fn default() -> Self {
        Self { os: "linux".to_owned(), architecture: Arch::default().to_string(), variant: None }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `OS/ARCHITECTURE[/VARIANT]`, or the architecture alone. Names that machines have besides Go's are taken, too.
    fn from_str(text: &str) -> Result<Self> {
        let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => ("", "", None),
        };
        if !word(os) || !architecture.bytes().all(|byte| byte == b'_' || word(&char::from(byte).to_string())) {
            return Err(invalid(text));
        }
        if architecture.is_empty() || !variant.is_none_or(word) {
            return Err(invalid(text));
        }
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            other => other,
        };
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) })
    }
}

fn invalid(text: &str) -> Error {
    let text = text.escape_debug();
    Error::new(Kind::Invalid, format!("platform '{text}' is not OS/ARCHITECTURE[/VARIANT], as in linux/arm64"))
}

impl Platform {
    /// The image for this platform in a list. Where the list has several variants and none is asked for, its first.
    pub(super) fn choose<'a>(&self, index: &'a ImageIndex) -> Result<&'a Descriptor> {
        index.manifests().iter().find(|descriptor| self.fits(descriptor)).ok_or_else(|| {
            // Attestations call themselves unknown/unknown.
            let others = index.manifests().iter().filter_map(Self::of);
            let others: Vec<String> = others.filter(|p| p.os != "unknown").map(|p| p.to_string()).collect();
            let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            Error::new(Kind::NotFound, format!("there is no image for {self}; there are: {others}"))
        })
    }

    /// Whether a configuration's words are this platform's.
    pub(super) fn has(&self, os: &str, architecture: &str) -> bool {
        self.os == os && self.architecture == architecture
    }

    /// One that does not say is for every platform.
    fn fits(&self, descriptor: &Descriptor) -> bool {
        let Some(other) = Self::of(descriptor) else { return true };
        // arm64 has one variant in use, which some lists name.
        let variant = self.variant.as_deref();
        let same = variant.is_none() || other.variant.as_deref().or(Some("v8")) == variant;
        self.has(&other.os, &other.architecture) && same
    }

    fn of(descriptor: &Descriptor) -> Option<Self> {
        let platform = descriptor.platform().as_ref()?;
        Some(Self {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn platforms_are_read_and_chosen() {
        let shown = |text: &str| text.parse::<Platform>().map(|platform| platform.to_string());
        assert_eq!(shown("linux/arm/v7").unwrap(), "linux/arm/v7");
        assert_eq!(shown("x86_64").unwrap(), "linux/amd64");
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/amd64/", "lin ux/amd64", "linux/a.b"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
        let entry = |digit: &str, platform: &str| {
            let digest = digit.repeat(64);
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:{digest}","platform":{platform}}}"#
            )
        };
        let entries = [
            entry("0", r#"{"os":"unknown","architecture":"unknown"}"#),
            entry("1", r#"{"os":"linux","architecture":"arm","variant":"v5"}"#),
            entry("2", r#"{"os":"linux","architecture":"arm","variant":"v7"}"#),
            entry("3", r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#),
        ];
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let index = serde_json::from_str(&index).unwrap();
        let chosen = |text: &str| {
            let platform: Platform = text.parse().unwrap();
            platform.choose(&index).map(|descriptor| descriptor.digest().digest()[..1].to_owned())
        };
        for (platform, expected) in [("arm", "1"), ("linux/arm/v7", "2"), ("arm64", "3"), ("linux/arm64/v8", "3")] {
            assert_eq!(chosen(platform).unwrap(), expected, "{platform}");
        }
        let error = chosen("linux/s390x").unwrap_err().to_string();
        assert!(error.contains("linux/s390x; there are: linux/arm/v5, linux/arm/v7, linux/arm64/v8"), "{error}");
    }
}
