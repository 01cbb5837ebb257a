//! The layer store's own rules on every driver: what its verbs refuse, and that a refusal changes nothing.

use std::fs;

use lamina::{
    Kind, Result,
    driver::DriverKind,
    fs::{Mounted, unmount},
    store::{Key, Store},
};
use libtest_mimic::Trial;

use crate::{
    expect, expect_eq,
    lamina::{Host, with_host},
    pool::Outcome,
};

pub fn trials() -> Vec<Trial> {
    DriverKind::ALL
        .into_iter()
        .map(|driver| Trial::ignorable_test(format!("store::{driver}::rules"), move || with_host(driver, rules)))
        .collect()
}

fn key(text: &str) -> Result<Key> {
    text.parse()
}

fn refused<T>(kind: Kind, result: Result<T>) -> Outcome {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!("refused as {:?}, not {kind:?}: {error}", error.kind()).into()),
        Ok(_) => Err(format!("not refused; {kind:?} was expected").into()),
    }
}

fn rules(host: &Host) -> Outcome {
    host.pool("512M")?;
    let store = Store::open(&host.root())?.ok_or("no pool")?;
    store.prepare(&key("draft")?, None)?;
    refused(Kind::Exists, store.prepare(&key("draft")?, None))?;
    refused(Kind::Invalid, store.prepare(&key("child")?, Some(&key("draft")?)))?;
    refused(Kind::NotFound, store.prepare(&key("child")?, Some(&key("nothing")?)))?;
    refused(Kind::NotFound, store.commit(&key("layer")?, &key("nothing")?))?;
    refused(Kind::NotFound, store.remove(&key("nothing")?))?;

    let target = host.file("mounted");
    fs::create_dir(&target)?;
    Mounted::detached(&store.mounts(&key("draft")?)?)?.attach(&target)?;
    fs::write(target.join("file"), "content")?;
    refused(Kind::InUse, store.commit(&key("layer")?, &key("draft")?))?;
    refused(Kind::InUse, store.remove(&key("draft")?))?;
    expect_eq!(fs::read(target.join("file"))?, b"content");
    unmount(&target)?;

    store.commit(&key("layer")?, &key("draft")?)?;
    refused(Kind::NotFound, store.stat(&key("draft")?))?;
    refused(Kind::Invalid, store.commit(&key("again")?, &key("layer")?))?;
    store.prepare(&key("child")?, Some(&key("layer")?))?;
    refused(Kind::Exists, store.commit(&key("layer")?, &key("child")?))?;
    // Refused, it is as writable as before.
    let writable = Mounted::detached(&store.mounts(&key("child")?)?)?;
    fs::write(writable.path().join("file"), "changed")?;
    drop(writable);
    store.release(&key("child")?)?;
    refused(Kind::InUse, store.remove(&key("layer")?))?;

    store.view(&key("view")?, &key("layer")?)?;
    refused(Kind::Invalid, store.commit(&key("other")?, &key("view")?))?;
    Mounted::detached(&store.mounts(&key("view")?)?)?.attach(&target)?;
    expect_eq!(fs::read(target.join("file"))?, b"content");
    expect!(fs::write(target.join("new"), "").is_err(), "a view is written");
    unmount(&target)?;
    store.release(&key("view")?)?;

    for name in ["view", "child", "layer"] {
        store.remove(&key(name)?)?;
    }
    expect_eq!(store.walk()?.len(), 0);
    host.check()
}
