//! The members of an archive one after the other, extended headers already applied.
//!
//! Invariant: an archive that ends inside a member is `Corrupt` with the offset; one that ends between members
//! without an end marker is told by [`Members::end_marker`], because only the caller knows whether a digest will
//! find out what is missing.

use ::tar::{GnuSparseHeader, Header};

use super::{
    BLOCK, EXTENSION_LIMIT, Input,
    header::{self, Flag, MemberKind, Parsed, Time},
    pax::{self, Pax},
    sparse::{self, SEGMENT_LIMIT, Segment},
};
use crate::{
    error::{Error, Kind, Result},
    image::{read_error, shown},
};

/// One member, as the headers describe it.
#[derive(Debug)]
pub struct Member {
    /// Its name, as stored.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Target of a link, as stored.
    pub link: Vec<u8>,
    /// Size of the file that it becomes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of last modification.
    pub mtime: Time,
    /// Time of last access, where the archive has one.
    pub atime: Option<Time>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Which parts of a sparse file are stored.
    pub segments: Option<Vec<Segment>>,
    /// Where its header stands in the archive.
    pub offset: u64,
}

impl Member {
    /// An error about this member.
    pub(crate) fn error(&self, kind: Kind, reason: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("entry {} at byte {}: {reason}", shown(&self.name), self.offset))
    }
}

/// An archive being read.
#[derive(Debug)]
pub struct Members<'a, I> {
    input: &'a mut I,
    /// Where in the archive the next byte stands.
    offset: u64,
    /// Bytes of the present member's data that were not taken yet.
    data: u64,
    /// Filler after them.
    padding: u64,
    end_marker: bool,
}

/// Extended headers that wait for their member.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<'a, I: Input> Members<'a, I> {
    /// Reads the archive that starts at the next byte of `input`.
    pub fn new(input: &'a mut I) -> Self {
        Self { input, offset: 0, data: 0, padding: 0, end_marker: false }
    }

    /// Whether the archive's end marker was seen.
    pub fn end_marker(&self) -> bool {
        self.end_marker
    }

    /// Where in the archive the next byte stands; right after [`Members::next`], the member's data.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes of the present member's data were not taken yet.
    pub fn remaining(&self) -> u64 {
        self.data
    }

    /// The next member; `None` at the end.
    ///
    /// # Errors
    /// `Invalid` for what is no tar archive or has a member that cannot be understood, `Corrupt` for a damaged one.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend the data")]
    pub fn next(&mut self) -> Result<Option<Member>> {
        self.pass(self.data + self.padding)?;
        (self.data, self.padding) = (0, 0);
        let mut extensions = Extensions::default();
        loop {
            let at = self.offset;
            let Some(block) = self.header()? else {
                let pending = extensions.name.is_some() || extensions.link.is_some() || extensions.pax.is_some();
                return if pending { Err(self.cut(BLOCK as u64)) } else { Ok(None) };
            };
            let header = Header::from_byte_slice(&block);
            let parsed = header::parse(header).map_err(|reason| bad(header, at, &reason))?;
            let refuse = |reason: &str| Err(bad(header, at, reason));
            match parsed.flag {
                Flag::LongName if extensions.name.is_none() => extensions.name = Some(self.long(&parsed, at)?),
                Flag::LongLink if extensions.link.is_none() => extensions.link = Some(self.long(&parsed, at)?),
                Flag::Pax if extensions.pax.is_none() => {
                    let data = self.extension(&parsed, at)?;
                    extensions.pax = Some(pax::parse(&data).map_err(|reason| bad(header, at, &reason))?);
                }
                Flag::LongName | Flag::LongLink | Flag::Pax => {
                    return refuse("two extended headers of one sort precede it");
                }
                Flag::GlobalPax => {
                    self.extension(&parsed, at)?;
                }
                Flag::GnuSparse | Flag::Member(_) => return self.member(header, parsed, extensions, at).map(Some),
            }
        }
    }

    /// The next bytes of the present member's data; empty when all were taken.
    ///
    /// # Errors
    /// `Corrupt` when the archive ends before the data do.
    pub fn data(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let (at, missing) = (self.offset, self.data);
        let here = self.input.fill().map_err(|error| read_error(error, format!("read the archive at byte {at}")))?;
        if here.is_empty() {
            return Err(cut_at(at, missing));
        }
        let most = here.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
        Ok(&here[..most])
    }

    /// Takes `count` of the bytes that [`Members::data`] showed.
    pub fn take(&mut self, count: usize) {
        self.input.consume(count);
        self.offset += count as u64;
        self.data -= count as u64;
    }

    /// All of the present member's data, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Members::data`].
    pub fn read_all(&mut self, limit: u64) -> Result<Option<Vec<u8>>> {
        if self.data > limit {
            return Ok(None);
        }
        let mut all = Vec::new();
        loop {
            let here = self.data()?;
            if here.is_empty() {
                return Ok(Some(all));
            }
            all.extend_from_slice(here);
            let count = here.len();
            self.take(count);
        }
    }

    fn cut(&self, missing: u64) -> Error {
        cut_at(self.offset, missing)
    }

    fn pass(&mut self, count: u64) -> Result<()> {
        let at = self.offset;
        let passed =
            self.input.skip(count).map_err(|error| read_error(error, format!("read the archive at byte {at}")))?;
        self.offset += passed;
        if passed < count { Err(self.cut(count - passed)) } else { Ok(()) }
    }

    /// A whole block, or what there is of it.
    fn block(&mut self) -> Result<([u8; BLOCK], usize)> {
        let mut block = [0; BLOCK];
        let mut length = 0;
        while length < BLOCK {
            let at = self.offset;
            let here =
                self.input.fill().map_err(|error| read_error(error, format!("read the archive at byte {at}")))?;
            if here.is_empty() {
                break;
            }
            let count = here.len().min(BLOCK - length);
            block[length..length + count].copy_from_slice(&here[..count]);
            self.input.consume(count);
            self.offset += count as u64;
            length += count;
        }
        Ok((block, length))
    }

    /// The next header; `None` at the end marker or where the archive just ends.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let at = self.offset;
        let (block, length) = self.block()?;
        match length {
            0 if at == 0 => return Err(Error::new(Kind::Invalid, "the archive is empty (0 bytes)")),
            0 => return Ok(None),
            BLOCK => {}
            _ if at == 0 => return Err(Error::new(Kind::Invalid, format!("is not a tar archive ({length} bytes)"))),
            _ => return Err(self.cut((BLOCK - length) as u64)),
        }
        if block == [0; BLOCK] {
            // Two zero blocks end an archive. Go and GNU tar take one at the very end for two.
            let (second, length) = self.block()?;
            if second[..length].iter().any(|byte| *byte != 0) {
                return Err(Error::new(Kind::Corrupt, format!("the archive has a lone zero block at byte {at}")));
            }
            self.end_marker = true;
            return Ok(None);
        }
        match header::checksum_fits(Header::from_byte_slice(&block)) {
            true => Ok(Some(block)),
            false if at == 0 => Err(Error::new(Kind::Invalid, "is not a tar archive (no header at its start)")),
            false => Err(Error::new(
                Kind::Corrupt,
                format!("the archive is damaged: the header at byte {at} does not match its checksum"),
            )),
        }
    }

    fn extension(&mut self, parsed: &Parsed, at: u64) -> Result<Vec<u8>> {
        if parsed.size > EXTENSION_LIMIT {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the extended header at byte {at} has {} bytes and at most {EXTENSION_LIMIT} are accepted",
                    parsed.size
                ),
            ));
        }
        self.data = parsed.size;
        let data = self.read_all(EXTENSION_LIMIT)?.unwrap_or_default();
        self.pass(padding(parsed.size))?;
        Ok(data)
    }

    /// GNU tar's long names end with a zero byte.
    fn long(&mut self, parsed: &Parsed, at: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(parsed, at)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn member(&mut self, header: &Header, parsed: Parsed, extensions: Extensions, at: u64) -> Result<Member> {
        let pax = extensions.pax.unwrap_or_default();
        let kind = match parsed.flag {
            Flag::Member(kind) => kind,
            _ => MemberKind::File,
        };
        let stored = if kind == MemberKind::File { pax.size.unwrap_or(parsed.size) } else { 0 };
        let name = extensions.name.or(pax.sparse.name.clone()).or(pax.path).unwrap_or(parsed.name);
        let mut member = Member {
            name,
            kind,
            link: extensions.link.or(pax.link).unwrap_or(parsed.link),
            size: stored,
            mode: parsed.mode,
            uid: pax.uid.unwrap_or(parsed.uid),
            gid: pax.gid.unwrap_or(parsed.gid),
            mtime: pax.mtime.unwrap_or(Time { seconds: parsed.mtime, nanoseconds: 0 }),
            atime: pax.atime,
            xattrs: pax.xattrs,
            segments: None,
            offset: at,
        };
        self.data = stored;
        self.padding = padding(stored);
        if parsed.flag == Flag::GnuSparse {
            let (map, real, more) =
                sparse::from_header(header).map_err(|reason| member.error(Kind::Invalid, reason))?;
            member.segments = Some(map);
            member.size = real;
            if more {
                self.extended_map(&mut member)?;
            }
        } else if kind == MemberKind::File && (pax.sparse.in_header() || pax.sparse.in_data()) {
            member.size = pax
                .sparse
                .real_size
                .ok_or_else(|| member.error(Kind::Invalid, "it is a sparse file without its real size"))?;
            member.segments = Some(pax.sparse.map);
            if pax.sparse.major == Some(1) {
                self.leading_map(&mut member)?;
            }
        }
        if let Some(map) = &member.segments {
            sparse::check(map, member.size, self.data).map_err(|reason| member.error(Kind::Invalid, reason))?;
        }
        Ok(member)
    }

    /// The headers that follow an old GNU sparse header with more than four segments.
    fn extended_map(&mut self, member: &mut Member) -> Result<()> {
        loop {
            let (block, length) = self.block()?;
            if length < BLOCK {
                return Err(self.cut((BLOCK - length) as u64));
            }
            // `GnuExtSparseHeader`: 21 slots of 24 bytes, then whether another follows.
            let slots: Vec<GnuSparseHeader> = block[..504].chunks_exact(24).map(slot).collect();
            let map = member.segments.get_or_insert_default();
            sparse::push(map, &slots).map_err(|reason| member.error(Kind::Invalid, reason))?;
            if block[504] == 0 {
                return Ok(());
            }
        }
    }

    /// The map of PAX format 1.0: decimal numbers, one a line, in the first blocks of the data.
    fn leading_map(&mut self, member: &mut Member) -> Result<()> {
        let malformed = |member: &Member| member.error(Kind::Invalid, "its sparse map is malformed");
        let start = self.data;
        let mut count = None;
        let mut numbers: Vec<u64> = Vec::new();
        while count.is_none_or(|count: u64| (numbers.len() as u64) < count * 2) {
            let number = self.map_number().and_then(|number| number.ok_or_else(|| malformed(member)))?;
            match count {
                None if number > SEGMENT_LIMIT as u64 => {
                    return Err(member.error(
                        Kind::Invalid,
                        format!("it has {number} sparse segments; the limit is {SEGMENT_LIMIT}"),
                    ));
                }
                None => count = Some(number),
                Some(_) => numbers.push(number),
            }
        }
        let rest = padding(start - self.data);
        if rest > self.data {
            return Err(malformed(member));
        }
        self.data -= rest;
        self.pass(rest)?;
        member.segments =
            Some(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect());
        Ok(())
    }

    /// One line of the map.
    fn map_number(&mut self) -> Result<Option<u64>> {
        let mut digits = Vec::new();
        loop {
            let Some(byte) = self.data()?.first().copied() else { return Ok(None) };
            self.take(1);
            match byte {
                b'\n' => return Ok(pax::decimal(&digits)),
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Ok(None),
            }
        }
    }
}

fn slot(bytes: &[u8]) -> GnuSparseHeader {
    let mut slot = GnuSparseHeader { offset: [0; 12], numbytes: [0; 12] };
    slot.offset.copy_from_slice(&bytes[..12]);
    slot.numbytes.copy_from_slice(&bytes[12..]);
    slot
}

fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn bad(header: &Header, at: u64, reason: &str) -> Error {
    Error::new(Kind::Invalid, format!("entry {} at byte {at}: {reason}", shown(&header.path_bytes())))
}

fn cut_at(offset: u64, missing: u64) -> Error {
    Error::new(Kind::Corrupt, format!("the archive is cut off at byte {offset} ({missing} more bytes were announced)"))
}
