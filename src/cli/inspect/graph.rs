//! Docker's `GraphDriver`: where a container or an image lies in the pool, and what only Lamina knows of it. All values in
//! `Data` are texts, as Docker's are.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::{
    container::{Container, Containers},
    image::catalog::{Catalog, Image},
    store::{Info, Store},
};

pub(super) fn of_container(store: &Store, container: &Container, snapshot: &Info) -> Result<Value> {
    let mut data = place(store, snapshot)?;
    let mut add = |name: &str, text: String| data.insert(name.into(), text.into());
    add("OwnBytes", store.usage(&snapshot.key)?.exclusive.0.to_string());
    if let Some(target) = Containers::new(store).seen_at(container)? {
        add("MergedDir", target.display().to_string());
    }
    Ok(of(store, data))
}

/// The uppermost layer of an image; one without layers lies nowhere.
pub(super) fn of_image(store: &Store, image: &Image) -> Result<Value> {
    let catalog = Catalog::new(store);
    let mut data = match image.top() {
        Some(top) => place(store, &store.stat(&top)?)?,
        None => Map::new(),
    };
    data.insert("OwnBytes".into(), catalog.own(image, &catalog.sharing()?)?.0.to_string().into());
    Ok(of(store, data))
}

fn of(store: &Store, data: Map<String, Value>) -> Value {
    json!({ "Name": store.driver().kind(), "Data": data })
}

fn place(store: &Store, snapshot: &Info) -> Result<Map<String, Value>> {
    let own = [("VolumeId", snapshot.volume.to_string()), ("CacheId", snapshot.cache_id.to_string())];
    let all = own.into_iter().chain(store.place(&snapshot.key)?);
    Ok(all.map(|(name, text)| (name.to_owned(), text.into())).collect())
}
