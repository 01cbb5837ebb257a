//! The mounts of `RUN --mount=type=...,target=...`.

use super::nearest;
use crate::{
    error::{Error, Kind, Result},
    units::Bytes,
};

const TYPES: [&str; 3] = ["bind", "cache", "tmpfs"];

const KEYS: [&str; 17] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
];

/// Something that is mounted for one `RUN` and is no part of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMount {
    /// A directory or file of the context, of a stage, or of an image; writes to it are dropped.
    Bind {
        /// A stage or an image; without it the context.
        from: Option<String>,
        /// A path in it; without it the root.
        source: Option<String>,
        /// Where, absolute or relative to the working directory.
        target: String,
        /// Whether writing fails; the default.
        read_only: bool,
    },
    /// A directory that stays between builds.
    Cache {
        /// Which cache it is; the target if the file gives none.
        id: String,
        /// Where, absolute or relative to the working directory.
        target: String,
        /// What stands in it at first: a stage or an image; without it nothing.
        from: Option<String>,
        /// The directory in `from`; without it the root.
        source: Option<String>,
        /// Whether writing fails; not by default.
        read_only: bool,
        /// Who else may use it at the same time.
        sharing: Sharing,
        /// The permissions of a new cache; by default 0755.
        mode: Option<u32>,
        /// The user of a new cache; by default 0.
        uid: Option<u32>,
        /// The group of a new cache; by default 0.
        gid: Option<u32>,
    },
    /// Memory.
    Tmpfs {
        /// Where, absolute or relative to the working directory.
        target: String,
        /// The most that it holds.
        size: Option<Bytes>,
    },
}

/// How builds that run at the same time share a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All write to the same one.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// The fields of a mount before its type says which it may have.
#[derive(Default)]
struct Fields {
    kind: Option<&'static str>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    size: Option<Bytes>,
    id: Option<String>,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl RunMount {
    /// The stage or image that it shows.
    pub fn into_from(self) -> Option<String> {
        match self {
            Self::Bind { from, .. } | Self::Cache { from, .. } => from,
            Self::Tmpfs { .. } => None,
        }
    }

    /// Reads `type=cache,target=/x,...`; each value goes through `expand` first, but `from` may have no variable.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for unknown types, keys and values, a key that the type has not, and a missing target.
    pub(super) fn parse(text: &str, expand: impl Fn(&str) -> Result<String>) -> Result<Self> {
        let mut fields = Fields::default();
        for field in text.split(',') {
            match field.split_once('=') {
                Some((key, value)) => {
                    if key.eq_ignore_ascii_case("from") && value.contains('$') {
                        return fail(format!(
                            "'from={value}': a mount's 'from' has no variables; name a stage instead"
                        ));
                    }
                    fields.set(&key.to_lowercase(), &expand(value)?, field)?;
                }
                None => fields.switch(&field.to_lowercase(), field)?,
            }
        }
        fields.mount()
    }
}

impl Fields {
    fn switch(&mut self, key: &str, field: &str) -> Result<()> {
        self.read_only = match key {
            "readonly" | "ro" => Some(true),
            "readwrite" | "rw" => Some(false),
            _ if KEYS.contains(&key) => return fail(format!("'{field}' of a mount needs a value")),
            _ => return unknown(key, field),
        };
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<()> {
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "type" => self.kind = Some(kind(&value.to_lowercase())?),
            "from" => self.from = text(),
            "source" | "src" => self.source = text(),
            "target" | "dst" | "destination" => self.target = text(),
            "readonly" | "ro" => self.read_only = Some(boolean(value, field)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(value, field)?),
            "size" => self.size = Some(value.parse()?),
            "id" => self.id = text(),
            "sharing" => self.sharing = Some(sharing(value)?),
            "mode" => self.mode = Some(number(value, 8, field)?),
            "uid" => self.uid = Some(number(value, 10, field)?),
            "gid" => self.gid = Some(number(value, 10, field)?),
            _ => return unknown(key, field),
        }
        Ok(())
    }

    fn mount(self) -> Result<RunMount> {
        let kind = self.kind.unwrap_or("bind");
        self.check(kind)?;
        let Some(target) = self.target else {
            return fail(format!("a mount of type '{kind}' needs a target: 'target=PATH'"));
        };
        let (from, source) = (self.from, self.source);
        Ok(match kind {
            "bind" => RunMount::Bind { from, source, target, read_only: self.read_only.unwrap_or(true) },
            "cache" => RunMount::Cache {
                id: self.id.unwrap_or_else(|| target.clone()),
                target,
                from,
                source,
                read_only: self.read_only.unwrap_or(false),
                sharing: self.sharing.unwrap_or_default(),
                mode: self.mode,
                uid: self.uid,
                gid: self.gid,
            },
            _ => RunMount::Tmpfs { target, size: self.size },
        })
    }

    /// Whether the keys are ones that the type has.
    fn check(&self, kind: &str) -> Result<()> {
        let (cache, tmpfs) = (kind == "cache", kind == "tmpfs");
        let misplaced = [
            ("from", self.from.is_some() && tmpfs),
            ("source", self.source.is_some() && tmpfs),
            ("readonly", self.read_only == Some(true) && tmpfs),
            ("size", self.size.is_some() && !tmpfs),
            ("id", self.id.is_some() && !cache),
            ("sharing", self.sharing.is_some() && !cache),
            ("mode", self.mode.is_some() && !cache),
            ("uid", self.uid.is_some() && !cache),
            ("gid", self.gid.is_some() && !cache),
        ];
        match misplaced.iter().find(|(_, misplaced)| *misplaced) {
            Some((key, _)) => fail(format!("a mount of type '{kind}' has no '{key}'")),
            None => Ok(()),
        }
    }
}

fn kind(value: &str) -> Result<&'static str> {
    if let "secret" | "ssh" = value {
        return fail(format!("mounts of type '{value}' are not supported; there are 'bind', 'cache' and 'tmpfs'"));
    }
    let known = TYPES.into_iter().find(|known| *known == value);
    known.map_or_else(|| fail(format!("unknown mount type '{value}'{}", nearest::hint(value, TYPES))), Ok)
}

/// As Go's `strconv.ParseBool`.
fn boolean(value: &str, field: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => fail(format!("'{field}' of a mount is neither true nor false")),
    }
}

fn number(value: &str, radix: u32, field: &str) -> Result<u32> {
    u32::from_str_radix(value, radix).or_else(|_| fail(format!("'{field}' of a mount is no number of base {radix}")))
}

fn sharing(value: &str) -> Result<Sharing> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => {
            let hint = nearest::hint(value, ["shared", "private", "locked"]);
            fail(format!("a cache is 'shared', 'private' or 'locked', not '{value}'{hint}"))
        }
    }
}

fn unknown<T>(key: &str, field: &str) -> Result<T> {
    fail(format!("unknown key '{key}' in '{field}' of a mount{}", nearest::hint(key, KEYS)))
}

fn fail<T>(reason: String) -> Result<T> {
    Err(Error::new(Kind::Invalid, reason))
}

#[cfg(test)]
mod tests {
    use super::{RunMount, Sharing};
    use crate::units::Bytes;

    fn parse(text: &str) -> Result<RunMount, String> {
        RunMount::parse(text, |value| Ok(value.replace("$N", "5"))).map_err(|error| error.to_string())
    }

    #[test]
    fn mounts_have_their_types_defaults() {
        let target = || "/x".to_owned();
        let bind = |from: Option<&str>, source: Option<&str>, read_only| RunMount::Bind {
            from: from.map(str::to_owned),
            source: source.map(str::to_owned),
            target: target(),
            read_only,
        };
        for (text, expected) in [
            ("target=/x", bind(None, None, true)),
            ("type=bind,dst=/x,rw", bind(None, None, false)),
            ("TYPE=Bind,destination=/x,ro=false,from=base,src=/y", bind(Some("base"), Some("/y"), false)),
            ("type=tmpfs,target=/x", RunMount::Tmpfs { target: target(), size: None }),
            ("type=tmpfs,target=/x,size=$Nm", RunMount::Tmpfs { target: target(), size: Some(Bytes::mib(5)) }),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        let cache = |id: &str, sharing, mode, uid| RunMount::Cache {
            id: id.to_owned(),
            target: target(),
            from: None,
            source: None,
            read_only: false,
            sharing,
            mode,
            uid,
            gid: uid,
        };
        assert_eq!(parse("type=cache,target=/x").unwrap(), cache("/x", Sharing::Shared, None, None));
        assert_eq!(
            parse("type=cache,target=/x,id=a,sharing=locked,mode=0750,uid=$N,gid=$N").unwrap(),
            cache("a", Sharing::Locked, Some(0o750), Some(5))
        );
    }

    #[test]
    fn wrong_mounts_are_told() {
        for (text, told) in [
            ("type=secret,id=a", "mounts of type 'secret' are not supported"),
            ("type=ssh", "mounts of type 'ssh' are not supported"),
            ("type=cach,target=/x", "unknown mount type 'cach'; did you mean 'cache'?"),
            ("type=cache", "a mount of type 'cache' needs a target"),
            ("type=cache,traget=/x", "unknown key 'traget' in 'traget=/x' of a mount; did you mean 'target'?"),
            ("target", "'target' of a mount needs a value"),
            ("nonsense", "unknown key 'nonsense'"),
            ("", "unknown key ''"),
            ("from=$X,target=/x", "'from=$X': a mount's 'from' has no variables"),
            ("target=/x,mode=0755", "a mount of type 'bind' has no 'mode'"),
            ("target=/x,size=1m", "a mount of type 'bind' has no 'size'"),
            ("type=cache,target=/x,mode=9", "'mode=9' of a mount is no number of base 8"),
            ("type=cache,target=/x,uid=-1", "'uid=-1' of a mount is no number of base 10"),
            ("type=cache,target=/x,sharing=lock", "a cache is 'shared', 'private' or 'locked', not 'lock'; did you"),
            ("target=/x,ro=maybe", "'ro=maybe' of a mount is neither true nor false"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}
