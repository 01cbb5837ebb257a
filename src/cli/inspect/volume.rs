//! A data volume, as `docker volume inspect` shows it.

use anyhow::Result;
use serde_json::{Value, json};

use super::if_any;
use crate::{store::Store, volume::Volumes};

/// Nothing if there is no such volume.
pub(super) fn view(store: &Store, name: &str) -> Result<Option<Value>> {
    let volumes = Volumes::of(store);
    let Some(volume) = if_any(volumes.find(name))? else { return Ok(None) };
    Ok(Some(json!({
        "CreatedAt": volume.created,
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volumes.path(&volume),
        "Name": volume.name,
        "Options": {},
        "Scope": "local",
        "Status": { "Anonymous": volume.anonymous, "Containers": volumes.users(&volume)? },
    })))
}
