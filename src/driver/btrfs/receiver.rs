//! What a send stream's receiver would hold, as far as the stream speaks of it: names, where they were moved, and what
//! was done to them.
//!
//! The kernel names things as they are called at that step. While it works it moves directories away to names such as
//! `o257-7-0` and to their places only later, so a name means nothing by itself: this follows each through all moves.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::fs::send_stream::Command;

/// Names as the stream has moved them so far.
#[derive(Debug)]
pub(super) struct Receiver {
    nodes: Vec<Node>,
    /// Every name that the stream spoke of.
    names: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Node {
    /// `None` for the root and for what was removed.
    place: Option<(usize, OsString)>,
    children: HashMap<OsString, usize>,
    did: Did,
}

#[derive(Clone, Copy, Debug, Default)]
struct Did {
    /// It was made here or moved here, so what the parent has under its name is something else.
    arrived: bool,
    data: bool,
    metadata: bool,
}

const ROOT: usize = 0;

/// Where the trees can differ.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Names that came, went, or changed.
    pub(super) names: BTreeSet<PathBuf>,
    /// Among them those, by their names in the child, that are not what the parent has there.
    pub(super) arrived: BTreeSet<PathBuf>,
    /// Files, by a name in the child, whose metadata or content was changed.
    pub(super) files: Vec<(PathBuf, bool)>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], names: BTreeSet::new() }
    }

    pub(super) fn apply(&mut self, command: Command) {
        match command {
            Command::Create(path) => {
                let node = self.node(&path);
                self.nodes[node].did = Did { arrived: true, data: true, metadata: true };
                self.names.insert(path);
            }
            Command::Rename(from, to) => {
                let node = self.node(&from);
                self.nodes[node].did.arrived = true;
                self.detach(node);
                self.attach(node, &to);
                self.names.extend([from, to]);
            }
            Command::Link(new, _) => {
                let node = self.node(&new);
                self.nodes[node].did.arrived = true;
                self.names.insert(new);
            }
            Command::Remove(path) => {
                let node = self.node(&path);
                self.detach(node);
                self.names.insert(path);
            }
            Command::Data(path) => {
                let node = self.node(&path);
                self.nodes[node].did.data = true;
                self.names.insert(path);
            }
            Command::Metadata(path) => {
                let node = self.node(&path);
                self.nodes[node].did.metadata = true;
                self.names.insert(path);
            }
        }
    }

    pub(super) fn finish(self) -> Touched {
        let mut touched = Touched::default();
        // The root itself is never listed.
        for (index, node) in self.nodes.iter().enumerate().skip(ROOT + 1) {
            let did = node.did;
            if !(did.arrived || did.data || did.metadata) {
                continue;
            }
            let Some(path) = self.path(index) else { continue };
            if did.arrived {
                touched.arrived.insert(path.clone());
            }
            if did.data || did.metadata {
                touched.files.push((path.clone(), did.data));
            }
            touched.names.insert(path);
        }
        touched.names.extend(self.names);
        touched
    }

    /// The node that `path` names now; nodes are made as the stream speaks of them.
    fn node(&mut self, path: &Path) -> usize {
        path.iter().fold(ROOT, |at, name| match self.nodes[at].children.get(name) {
            Some(node) => *node,
            None => {
                self.nodes.push(Node { place: Some((at, name.to_owned())), ..Node::default() });
                let node = self.nodes.len() - 1;
                self.nodes[at].children.insert(name.to_owned(), node);
                node
            }
        })
    }

    fn detach(&mut self, node: usize) {
        if let Some((parent, name)) = self.nodes[node].place.take() {
            self.nodes[parent].children.remove(&name);
        }
    }

    fn attach(&mut self, node: usize, path: &Path) {
        let name = path.file_name().map_or_else(OsString::new, OsStr::to_owned);
        let parent = self.node(path.parent().unwrap_or(Path::new("")));
        // What had the name before, if the stream did not remove it, has it no more.
        if let Some(before) = self.nodes[parent].children.insert(name.clone(), node) {
            self.nodes[before].place = None;
        }
        self.nodes[node].place = Some((parent, name));
    }

    /// The last name of a node; `None` if it or something above it was removed.
    fn path(&self, node: usize) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            let (parent, name) = self.nodes[at].place.as_ref()?;
            names.push(name);
            at = *parent;
        }
        Some(names.into_iter().rev().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Receiver;
    use crate::fs::send_stream::Command;
    use std::path::PathBuf;

    #[test]
    fn a_file_is_followed_through_the_moves_of_its_directories() {
        let mut receiver = Receiver::new();
        let path = |text: &str| PathBuf::from(text);
        // Two directories swap their names while a file in one of them is changed.
        for command in [
            Command::Rename(path("a"), path("o257-7-0")),
            Command::Rename(path("b"), path("a")),
            Command::Data(path("o257-7-0/file")),
            Command::Rename(path("o257-7-0"), path("b")),
            Command::Create(path("o300-9-0")),
            Command::Remove(path("o300-9-0")),
        ] {
            receiver.apply(command);
        }
        let touched = receiver.finish();
        assert_eq!(touched.arrived, [path("a"), path("b")].into());
        assert_eq!(touched.files, [(path("b/file"), true)]);
        assert!(touched.names.contains(&path("b/file")));
    }
}
