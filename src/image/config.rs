//! Image configurations (OCI image-spec, "OCI Image Configuration"), which are also Docker's.
//!
//! Invariant: the bytes are kept exactly as they came, because the image ID is their digest.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use oci_spec::image::{Arch, ImageConfiguration};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Kind, Result},
    id::{DiffId, Digest, ImageId},
};

/// The most bytes of JSON that are read: a configuration or manifest of sane size has a few thousand.
pub const JSON_LIMIT: u64 = 4 << 20;

/// The most layers of an image that comes from elsewhere. Docker makes 125 at most; overlayfs stacks 500, whose numbers have
/// to fit into a page, and a pull has two open files for each while 1024 are usual; the other drivers bear any number.
pub const LAYERS_LIMIT: usize = 256;

/// The most steps of a history, of which 4 MiB could hold more than a million; each takes a hundred bytes of memory.
const STEPS_LIMIT: usize = 4096;

/// A configuration: its bytes and what they say.
#[derive(Clone, Debug)]
pub struct Config {
    bytes: Vec<u8>,
    parsed: ImageConfiguration,
    diff_ids: Vec<DiffId>,
}

/// A step that is to be added to an image.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The command.
    pub created_by: &'a str,
    /// A remark.
    pub comment: &'a str,
    /// Who made it.
    pub author: &'a str,
    /// When.
    pub created: Timestamp,
    /// The layer that it made, if it made one.
    pub layer: Option<DiffId>,
}

impl Step<'_> {
    fn row(&self) -> Value {
        let mut row = Map::new();
        row.insert("created".into(), self.created.to_string().into());
        for (key, text) in [("created_by", self.created_by), ("comment", self.comment), ("author", self.author)] {
            if !text.is_empty() {
                row.insert(key.into(), text.into());
            }
        }
        if self.layer.is_none() {
            row.insert("empty_layer".into(), true.into());
        }
        row.into()
    }
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryRow {
    /// When, in RFC 3339.
    pub created: Option<String>,
    /// By which command.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// The layer that it made; `None` for a step that changed only the configuration.
    pub diff_id: Option<DiffId>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// `Invalid` for what is not one.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() as u64 > JSON_LIMIT {
            let text = format!("image configuration has {} bytes and the limit is {JSON_LIMIT}", bytes.len());
            return Err(Error::new(Kind::Invalid, text));
        }
        Counted::require_few(&bytes)?;
        let parsed: ImageConfiguration = serde_json::from_slice(&bytes)
            .map_err(|error| Error::with_source(Kind::Invalid, "read the image configuration", error))?;
        let diff_ids = parsed.rootfs().diff_ids().iter().map(|text| text.parse()).collect::<Result<_>>()?;
        Ok(Self { bytes, parsed, diff_ids })
    }

    /// Refuses an image that has more layers than every driver bears.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn require_bearable(&self) -> Result<()> {
        let count = self.diff_ids.len();
        if count <= LAYERS_LIMIT {
            return Ok(());
        }
        Err(Error::new(
            Kind::Invalid,
            format!("image {} has {count} layers and the limit is {LAYERS_LIMIT}", self.id()),
        ))
    }

    /// A new one for a root file system that was imported, as Docker writes it.
    ///
    /// # Errors
    /// None that can be foreseen.
    pub fn imported(layer: DiffId, source: &str, created: Timestamp) -> Result<Self> {
        let created = created.to_string();
        Self::from_value(&json!({
            "architecture": Arch::default(),
            "config": {},
            "created": created,
            "history": [{ "created": created, "comment": format!("Imported from {source}") }],
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        }))
    }

    /// One without layers, for this machine: what `FROM scratch` starts with.
    ///
    /// # Errors
    /// None that can be foreseen.
    pub fn empty() -> Result<Self> {
        Self::from_value(&json!({
            "architecture": Arch::default(),
            "config": {},
            "history": [],
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
        }))
    }

    /// A new one that is one step further: `change` is given what the parent says about how a container runs, the
    /// object `config`.
    ///
    /// # Errors
    /// `Invalid` if the parent is not an object.
    pub fn stepped(&self, step: &Step<'_>, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Self> {
        let mut value = self.value()?;
        let malformed = || Error::new(Kind::Invalid, "the parent's configuration has no list of layers");
        let object = value.as_object_mut().ok_or_else(malformed)?;
        object.insert("created".into(), step.created.to_string().into());
        if !step.author.is_empty() {
            object.insert("author".into(), step.author.into());
        }
        match object.entry("history").or_insert(Value::Null) {
            Value::Array(rows) => rows.push(step.row()),
            other => *other = Value::Array(vec![step.row()]),
        }
        match object.entry("config").or_insert(Value::Null) {
            Value::Object(config) => change(config),
            other => {
                let mut config = Map::new();
                change(&mut config);
                *other = Value::Object(config);
            }
        }
        if let Some(layer) = step.layer {
            let layers = value.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut).ok_or_else(malformed)?;
            layers.push(layer.to_string().into());
        }
        Self::from_value(&value)
    }

    /// How a container of it runs: the object `config`, with what Docker knows beyond the image-spec.
    ///
    /// # Errors
    /// `Invalid` if it is no JSON.
    pub fn runs(&self) -> Result<Map<String, Value>> {
        match self.value()?.get_mut("config").map(Value::take) {
            Some(Value::Object(config)) => Ok(config),
            _ => Ok(Map::new()),
        }
    }

    /// The labels in that.
    ///
    /// # Errors
    /// As [`Config::runs`].
    pub fn labels(&self) -> Result<BTreeMap<String, String>> {
        let runs = self.runs()?;
        let labels = runs.get("Labels").and_then(Value::as_object).into_iter().flatten();
        Ok(labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
    }

    fn value(&self) -> Result<Value> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| Error::with_source(Kind::Invalid, "read the parent's configuration", error))
    }

    fn from_value(value: &Value) -> Result<Self> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::with_source(Kind::Invalid, "write the image configuration", error))?;
        Self::parse(bytes)
    }

    /// Exactly as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says: command, environment, user and the rest.
    pub fn spec(&self) -> &ImageConfiguration {
        &self.parsed
    }

    /// The image's identity.
    pub fn id(&self) -> ImageId {
        ImageId(Digest::of(&self.bytes))
    }

    /// The layers, lowest first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// When the image was made, in RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.parsed.created().as_deref()
    }

    /// The steps that made it, oldest first, each with its layer. Layers that no step tells about, as images without
    /// a history have them, come as rows with nothing but the layer.
    ///
    /// # Errors
    /// `Corrupt` when more steps claim a layer than there are layers.
    pub fn history(&self) -> Result<Vec<HistoryRow>> {
        let mut layers = self.diff_ids.iter().copied();
        let mut rows = Vec::new();
        for step in self.parsed.history().iter().flatten() {
            let diff_id = match step.empty_layer() {
                Some(true) => None,
                _ => Some(layers.next().ok_or_else(|| {
                    let count = self.diff_ids.len();
                    Error::new(Kind::Corrupt, format!("too many non-empty layers in history section ({count} layers)"))
                })?),
            };
            rows.push(HistoryRow {
                created: step.created().clone(),
                created_by: step.created_by().clone().unwrap_or_default(),
                comment: step.comment().clone().unwrap_or_default(),
                diff_id,
            });
        }
        rows.extend(layers.map(|layer| HistoryRow { diff_id: Some(layer), ..HistoryRow::default() }));
        Ok(rows)
    }
}

/// A configuration of which only the long lists count.
#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    history: Count,
    #[serde(default)]
    rootfs: CountedLayers,
}

#[derive(Default, Deserialize)]
struct CountedLayers {
    #[serde(default)]
    diff_ids: Count,
}

/// How many elements a list has, of which none is kept; what is no list is for others to refuse.
#[derive(Default)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_any(Counting)
    }
}

impl Counted {
    fn require_few(bytes: &[u8]) -> Result<()> {
        let counted: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::with_source(Kind::Invalid, "read the image configuration", error))?;
        for (count, what) in [(counted.history.0, "steps of history"), (counted.rootfs.diff_ids.0, "layers")] {
            if count > STEPS_LIMIT {
                let text = format!("image configuration has {count} {what} and the limit is {STEPS_LIMIT}");
                return Err(Error::new(Kind::Invalid, text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Step};
    use crate::id::{DiffId, Digest};
    use jiff::Timestamp;

    fn layer(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    #[test]
    fn import_and_commit_make_configurations_that_keep_what_they_do_not_know() {
        let imported = Config::imported(layer("a"), "-", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(imported.diff_ids(), [layer("a")]);
        assert_eq!(imported.history().unwrap()[0].comment, "Imported from -");
        assert_eq!(imported.history().unwrap()[0].created_by, "");
        let mut value: serde_json::Value = serde_json::from_slice(imported.bytes()).unwrap();
        value["unknown.field"] = 7.into();
        value["config"]["Cmd"] = serde_json::json!(["sh"]);
        let parent = Config::parse(serde_json::to_vec_pretty(&value).unwrap()).unwrap();
        assert_ne!(parent.id(), imported.id());
        let (created, layer_b) = (Timestamp::UNIX_EPOCH, Some(layer("b")));
        let step = Step { created_by: "sh", comment: "note", author: "A", created, layer: layer_b };
        let child = parent.stepped(&step, |_| {}).unwrap();
        assert_eq!(child.diff_ids(), [layer("a"), layer("b")]);
        let rows = child.history().unwrap();
        assert_eq!((rows.len(), rows[1].diff_id, rows[1].comment.as_str()), (2, Some(layer("b")), "note"));
        let value: serde_json::Value = serde_json::from_slice(child.bytes()).unwrap();
        assert_eq!((&value["unknown.field"], &value["config"]["Cmd"][0]), (&7.into(), &"sh".into()));
    }

    #[test]
    fn history_is_paired_with_layers() {
        let config = |history: &str| {
            let text = format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":{history}}}"#,
                layer("a")
            );
            Config::parse(text.into_bytes()).unwrap().history()
        };
        let rows = config(r#"[{"created_by":"x"},{"created_by":"ENV","empty_layer":true}]"#).unwrap();
        assert_eq!((rows[0].diff_id, rows[1].diff_id), (Some(layer("a")), None));
        assert_eq!(config("[]").unwrap()[0].diff_id, Some(layer("a")));
        let error = config("[{},{}]").unwrap_err().to_string();
        assert!(error.contains("too many non-empty layers in history section"), "{error}");
    }

    #[test]
    fn malformed_configurations_are_refused() {
        for bad in
            ["", "[]", "{}", r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}"#]
        {
            assert!(Config::parse(bad.into()).is_err(), "{bad}");
        }
    }
}
