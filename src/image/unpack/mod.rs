//! A layer archive applied to a mounted tree.
//!
//! The tree shows what the parents hold, whichever driver made it; the archive's members replace, add and, through
//! whiteouts (OCI image-spec, "Image Layer Filesystem Changeset"), remove. The result does not depend on where in the
//! archive a whiteout stands.
//!
//! Invariants: nothing outside the tree is read, written or followed to, whatever links the archive or an earlier layer
//! planted ([`tree`] resolves every parent inside the root); what cannot be taken as it stands is refused by name; on an
//! error the tree is left half-written for the caller to throw away; memory does not grow with the archive.

mod name;
mod node;
mod placed;
mod prune;
mod tree;

use std::{io::Read, os::fd::BorrowedFd};

use self::{name::Name, tree::Tree};
use super::{
    outline::{Outline, Recorded},
    tar::{Input, Member, MemberKind, Members, with_chunks},
};
use crate::{
    error::{Act as _, Error, Kind, Result},
    id::DiffId,
    interrupt,
    units::Bytes,
};

/// What a layer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// sha256 of the whole uncompressed archive.
    pub diff_id: DiffId,
    /// Apparent bytes of its regular files, hard links once: Docker's size of a layer.
    pub size: Bytes,
    /// Bytes of the whole uncompressed archive.
    pub length: Bytes,
    /// How many members it had.
    pub entries: u64,
    /// Whether the archive had its end marker.
    pub end_marker: bool,
}

impl Unpacked {
    /// Checks that this is what was expected. Without a digest to compare, an archive that stops between two members
    /// may have lost the rest, so then the end marker must be there.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn verify(&self, expected: Option<DiffId>) -> Result<()> {
        match expected {
            Some(expected) if expected != self.diff_id => Err(Error::new(
                Kind::Corrupt,
                format!("the layer's content has digest {} and {expected} was expected", self.diff_id),
            )),
            None if !self.end_marker => Err(Error::new(
                Kind::Corrupt,
                format!("the archive is cut off after {} entries: its end marker is missing", self.entries),
            )),
            _ => Ok(()),
        }
    }
}

/// How much room is asked for at a time; it covers the file system's own blocks for small files too.
const ROOM_STEP: u64 = 16 << 20;

/// What one member may take besides its content: an inode and a share of its directory.
const ROOM_PER_ENTRY: u64 = 4096;

/// Applies the archive `tar` to the tree at `root`. `room` is told how many more bytes are about to be written, before
/// they are, so that the volume can be grown.
///
/// # Errors
/// `Invalid` for what is not a tar archive or holds something that is refused, `Corrupt` for a damaged one, `Full`,
/// `Interrupted`, and what the system says. The tree is then half-written.
pub fn unpack(
    root: BorrowedFd<'_>,
    tar: impl Read + Send,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<Unpacked> {
    unpack_outlined(root, tar, room, None)
}

/// Applies an archive that is no layer to the directory `into` of the tree at `root`: names that mean a whiteout in a
/// layer are names, and neither does a directory make way for a file nor the reverse, as Docker's `cp` has it.
///
/// # Errors
/// As [`unpack`]; what was unpacked before stays.
pub fn unpack_into(
    root: BorrowedFd<'_>,
    into: &[u8],
    tar: impl Read + Send,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<Unpacked> {
    unpack_with(root, Sort::Copied(into), tar, room, None)
}

/// Applies an archive that is no layer to the tree at `root`, as `ADD` of a Dockerfile does it: names are names, also
/// below the root where they begin with a slash, the root itself stays as it is, a directory goes through a symlink that
/// leads to one, and everything belongs to `owner` if there is one.
///
/// # Errors
/// As [`unpack`]; `Invalid` also for a name that no layer can hold.
pub(crate) fn unpack_added(
    root: BorrowedFd<'_>,
    owner: Option<(u32, u32)>,
    tar: impl Read + Send,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<Unpacked> {
    unpack_with(root, Sort::Added(owner), tar, room, None)
}

/// [`unpack`], with what the archive has beside the content of files going to `outline`.
///
/// # Errors
/// As [`unpack`], and those of writing the outline.
pub(super) fn unpack_outlined(
    root: BorrowedFd<'_>,
    tar: impl Read + Send,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
    outline: Option<&Outline>,
) -> Result<Unpacked> {
    unpack_with(root, Sort::Layer, tar, room, outline)
}

/// What an archive is for, and with that what its names mean.
#[derive(Clone, Copy, Debug)]
enum Sort<'a> {
    Layer,
    /// Files for this directory of the tree.
    Copied(&'a [u8]),
    /// Files for the root, all of this owner if there is one.
    Added(Option<(u32, u32)>),
}

impl Sort<'_> {
    fn name(self, stored: &[u8]) -> Result<Name> {
        match self {
            Self::Layer => Name::parse(stored),
            Self::Copied(_) => Name::plain(stored),
            Self::Added(_) => Name::added(stored),
        }
    }
}

fn unpack_with(
    root: BorrowedFd<'_>,
    sort: Sort<'_>,
    tar: impl Read + Send,
    room: &mut dyn FnMut(Bytes) -> Result<()>,
    outline: Option<&Outline>,
) -> Result<Unpacked> {
    let before_loss = || outline.map_or(Ok(()), |outline| outline.write_out(root));
    let work = |chunks: &mut _| {
        let mut input = Recorded::new(chunks, outline);
        let mut members = Members::new(&mut input);
        let tree = Tree::new(root, &before_loss);
        let tree = match sort {
            Sort::Layer => tree,
            Sort::Copied(into) => tree.into(into),
            Sort::Added(_) => tree.following(),
        };
        let room = Room { ask: room, left: 0 };
        let mut unpacker = Unpacker { tree, sort, room, size: 0, outline };
        let mut entries = 0;
        while let Some(mut member) = members.next()? {
            interrupt::check()?;
            entries += 1;
            if let Sort::Added(Some((uid, gid))) = sort {
                (member.uid, member.gid) = (uid.into(), gid.into());
            }
            unpacker.member(&member, &mut members)?;
        }
        unpacker.tree.leave()?;
        let end_marker = members.end_marker();
        input.drain()?;
        Ok((Bytes(unpacker.size), entries, end_marker))
    };
    let ((size, entries, end_marker), tally) = with_chunks(tar, work)?;
    Ok(Unpacked { diff_id: DiffId(tally.digest), size, length: Bytes(tally.length), entries, end_marker })
}

/// Asks for room in steps, because each question costs system calls.
struct Room<'a> {
    ask: &'a mut dyn FnMut(Bytes) -> Result<()>,
    left: u64,
}

impl Room<'_> {
    fn take(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.left {
            let step = bytes.max(ROOM_STEP);
            (self.ask)(Bytes(step))?;
            self.left = step;
        }
        self.left -= bytes;
        Ok(())
    }
}

struct Unpacker<'a> {
    tree: Tree<'a>,
    sort: Sort<'a>,
    room: Room<'a>,
    size: u64,
    outline: Option<&'a Outline>,
}

fn path_of(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

impl Unpacker<'_> {
    fn member<I: Input>(&mut self, member: &Member, members: &mut Members<'_, I>) -> Result<()> {
        let act = || format!("entry {} at byte {}", super::shown(&member.name), member.offset);
        self.room.take(ROOM_PER_ENTRY)?;
        match self.sort.name(&member.name).act(act)? {
            Name::Root if matches!(self.sort, Sort::Layer) => self.tree.root(member).act(act),
            // The directory that it is unpacked in is there, and its owner's.
            Name::Root => Ok(()),
            Name::Whiteout { parent, name } => self.tree.whiteout(parent, name).act(act),
            Name::Opaque { directory } => self.tree.opaque(directory).act(act),
            Name::Entry { parent, name } => {
                let parent = self.tree.below(parent);
                if member.kind != MemberKind::File {
                    return self.tree.place(member, parent, name).act(act);
                }
                let path = self.outline.map(|outline| (outline, path_of(&parent, &name)));
                let file = self.tree.create(parent, name).act(act)?;
                if let Some((outline, path)) = path.filter(|_| file.named && member.segments.is_none()) {
                    outline.content(&path, member.size)?;
                }
                // An archive's own errors name their place themselves.
                node::write(&file, member, members, &mut |bytes| self.room.take(bytes))?;
                self.size = self.size.saturating_add(member.size);
                self.tree.finish(&file, member).act(act)
            }
        }
    }
}
