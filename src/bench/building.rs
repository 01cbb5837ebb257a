//! Builds within this process, without a word.

use std::{collections::BTreeMap, path::Path};

use super::registry::connection;
use crate::{
    build::{self, Events, dockerfile::Dockerfile, ignore::Ignore},
    error::Result,
    id::ImageId,
    image::catalog::Image,
    runtime::Network,
    store::Store,
};

/// Builds the image `tag` of a Dockerfile and the files in `context`.
pub(super) fn build(store: &Store, dockerfile: &str, context: &Path, tag: &str) -> Result<Image> {
    let options = build::Options {
        dockerfile: Dockerfile::parse("Dockerfile", dockerfile)?,
        ignore: Ignore::default(),
        tags: vec![tag.parse()?],
        args: BTreeMap::new(),
        target: None,
        cache: true,
        network: Network::None,
        source: Box::new(connection()),
        epoch: None,
    };
    build::build(store, &options, context, &mut Silent)
}

struct Silent;

impl Events for Silent {
    fn step(&mut self, _: usize, _: usize, _: &str) {}
    fn cached(&mut self) {}
    fn made(&mut self, _: ImageId) {}
    fn note(&mut self, _: &str) {}
}
