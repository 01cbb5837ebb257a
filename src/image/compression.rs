//! Compressed streams: recognised by their first bytes, decoded as they come.
//!
//! Invariant: a stream that ends early is an error, and a decoder's window stays below 32 MiB.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::{
    error::{Act as _, Error, Kind, Result},
    store::BlobFormat,
};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

/// The most bytes that [`Compression::sniff`] looks at.
const LOOK: usize = 10;

/// `zstd --ultra` and `--long` go beyond; memory would then not stay small.
const ZSTD_WINDOW_LOG: u32 = 25;

impl Compression {
    /// Tells it by a stream's first bytes.
    ///
    /// # Errors
    /// `Invalid` for a compression that is recognised and not supported.
    pub fn sniff(start: &[u8]) -> Result<Self> {
        let unsupported = |name| {
            let text = format!("{name} compression is not supported; recompress with gzip or zstd");
            Err(Error::new(Kind::Invalid, text))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or a skippable frame before one (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..] => unsupported("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => unsupported("lz4"),
            _ => Ok(Self::None),
        }
    }
}

impl Compression {
    /// How a layer that comes so is kept.
    pub(super) const fn kept_as(self) -> BlobFormat {
        match self {
            Self::None => BlobFormat::Plain,
            Self::Gzip => BlobFormat::Gzip,
            Self::Zstd => BlobFormat::Zstd,
        }
    }
}

/// A stream whose first bytes were looked at, from its start.
pub type Recognised<R> = Chain<Cursor<Vec<u8>>, R>;

/// How `input` is compressed, and all of its bytes, those that were looked at too.
///
/// # Errors
/// A failed read of the first bytes, and `Invalid` as [`Compression::sniff`].
pub fn recognise<R: Read>(mut input: R) -> Result<(Compression, Recognised<R>)> {
    let mut start = Vec::with_capacity(LOOK);
    let read = (&mut input).take(LOOK as u64).read_to_end(&mut start);
    read.map_err(|error| super::read_error(error, "read the archive's first bytes"))?;
    Ok((Compression::sniff(&start)?, Cursor::new(start).chain(input)))
}

/// The uncompressed bytes of `input`, which is compressed so.
///
/// # Errors
/// When a decoder cannot be started.
pub fn decode<'a>(compression: Compression, input: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    decode_within(compression, BufReader::with_capacity(1 << 16, input), ZSTD_WINDOW_LOG)
}

/// As [`decode`], with windows of zstd up to two to the power of `window_log` bytes.
///
/// # Errors
/// When a decoder cannot be started.
pub(crate) fn decode_within<'a>(
    compression: Compression,
    input: impl BufRead + Send + 'a,
    window_log: u32,
) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(Decoder::new(MultiGzDecoder::new(input), "gzip")),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).act(|| "start the zstd decoder")?;
            decoder.window_log_max(window_log).act(|| "limit the zstd decoder's memory")?;
            Box::new(Decoder::new(decoder, "zstd"))
        }
    })
}

/// The uncompressed bytes of `input`, and how it was compressed.
///
/// # Errors
/// As [`recognise`] and [`decode`].
pub fn decompress<'a>(input: impl Read + Send + 'a) -> Result<(Box<dyn Read + Send + 'a>, Compression)> {
    let (compression, whole) = recognise(input)?;
    Ok((decode(compression, whole)?, compression))
}

/// Gives a decoder's complaints the form that tells damage from a failing disk.
#[derive(Debug)]
pub(crate) struct Decoder<R> {
    decoder: R,
    name: &'static str,
}

impl<R> Decoder<R> {
    /// Of the compression `name`.
    pub(crate) fn new(decoder: R, name: &'static str) -> Self {
        Self { decoder, name }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            let name = self.name;
            match error.kind() {
                _ if error.raw_os_error().is_some() => error,
                _ if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => error,
                io::ErrorKind::UnexpectedEof => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the {name} stream is cut off"))
                }
                _ => io::Error::new(io::ErrorKind::InvalidData, format!("the {name} stream is damaged: {error}")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, decompress};
    use crate::{error::Kind, image::read_error};
    use flate2::{Compression as Level, write::GzEncoder};
    use std::io::{Read as _, Write as _};

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(data: &[u8]) -> crate::Result<(Vec<u8>, Compression)> {
        let (mut reader, compression) = decompress(data)?;
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map_err(|error| read_error(error, "read"))?;
        Ok((all, compression))
    }

    #[test]
    fn each_compression_is_recognised_and_members_are_joined() {
        let data = vec![7u8; 300_000];
        let both = [gzip(&data[..1000]), gzip(&data[1000..])].concat();
        assert_eq!(plain(&both).unwrap(), (data.clone(), Compression::Gzip));
        let frames = [zstd::encode_all(&data[..9], 3).unwrap(), zstd::encode_all(&data[9..], 3).unwrap()].concat();
        assert_eq!(plain(&frames).unwrap(), (data.clone(), Compression::Zstd));
        assert_eq!(plain(&data).unwrap(), (data, Compression::None));
        assert_eq!(plain(b"").unwrap(), (Vec::new(), Compression::None));
    }

    #[test]
    fn every_cut_and_damage_is_an_error() {
        let data: Vec<u8> = (0..9999u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for stream in [gzip(&data), zstd::encode_all(&data[..], 3).unwrap()] {
            for cut in [11, 20, stream.len() / 2, stream.len() - 1] {
                let error = plain(&stream[..cut]).unwrap_err();
                assert_eq!(error.kind(), Kind::Corrupt, "{error}");
                assert!(error.to_string().contains("cut off"), "{error}");
            }
        }
        let mut damaged = gzip(&data);
        let end = damaged.len() - 6;
        damaged[end] ^= 1;
        assert_eq!(plain(&damaged).unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn known_but_unsupported_is_said() {
        for (start, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh91AY&SY", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")] {
            let error = Compression::sniff(start).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(name) && error.to_string().contains("not supported"), "{error}");
        }
        assert_eq!(Compression::sniff(b"BZhello").unwrap(), Compression::None);
    }
}
