//! The archives that `ADD` unpacks: tar, as it is or compressed with gzip, bzip2, xz or zstd. What is none of these, or
//! cannot be decoded, is a file like any other.
//!
//! Invariant: a decoder takes no more memory than what the usual presets of its program ask for, whatever a file says.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use liblzma::{
    bufread::XzDecoder,
    stream::{CONCATENATED, Stream},
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    image::{
        compression::{Compression, Decoder, decode_within},
        tar::is_header,
    },
};

/// `xz -9` needs 65 MiB, and no preset more.
const XZ_MEMORY: u64 = 100 << 20;

/// 64 MiB, the window of `zstd --ultra -21`. `--ultra -22` and `--long` go beyond, for files larger than that.
const ZSTD_WINDOW_LOG: u32 = 26;

/// Whether `input`, called `name` in errors, is a tar: decoded, it begins with a tar's header.
///
/// # Errors
/// When a decoder cannot be started; `Unsupported` for a compression that would take too much memory.
pub(super) fn is_archive(input: impl Read + Send, name: &str) -> Result<bool> {
    let mut block = [0; 512];
    match decoded(input)?.read_exact(&mut block) {
        Ok(()) => Ok(is_header(&block)),
        Err(error) if needs_memory(&error) => Err(Error::new(
            Kind::Unsupported,
            format!("{name}: decoding it takes too much memory; compress it with a smaller window"),
        )),
        // What cannot be decompressed is no archive, and copied as it is.
        Err(_) => Ok(false),
    }
}

/// The uncompressed bytes of `input`.
///
/// # Errors
/// When a decoder cannot be started, or the first bytes cannot be read.
pub(super) fn decoded<'a>(input: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    // A regular file gives all that fits.
    let start = input.fill_buf().act(|| "read the archive's first bytes")?;
    Ok(match start {
        [b'B', b'Z', b'h', ..] => Box::new(Decoder::new(MultiBzDecoder::new(input), "bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                .map_err(|error| Error::with_source(Kind::Io, "start the xz decoder", io::Error::from(error)))?;
            Box::new(Decoder::new(XzDecoder::new_stream(input, stream), "xz"))
        }
        start => {
            // What is known and cannot be decoded, as lz4, is a file like any other.
            let compression = Compression::sniff(start).unwrap_or(Compression::None);
            decode_within(compression, input, ZSTD_WINDOW_LOG)?
        }
    })
}

/// Whether a decoder gave up at its limit: liblzma's LZMA_MEMLIMIT_ERROR, zstd's 'frame parameter unsupported' for windows.
fn needs_memory(error: &io::Error) -> bool {
    let text = error.to_string();
    ["memory limit reached", "requires too much memory"].iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::{decoded, is_archive};

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    fn xz(data: &[u8], dictionary: u32) -> Vec<u8> {
        use liblzma::{
            stream::{Check, Filters, LzmaOptions, Stream},
            write::XzEncoder,
        };
        let mut options = LzmaOptions::new_preset(1).unwrap();
        options.dict_size(dictionary);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
        let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(data).unwrap();
        // Before its length is known, so that the frame asks for the whole window.
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(data: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn streams_are_joined_and_damage_is_told() {
        let data: Vec<u8> = (0..99_999u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for compress in [|data: &[u8]| xz(data, 1 << 20), bzip2] {
            let both = [compress(&data[..1000]), compress(&data[1000..])].concat();
            let mut all = Vec::new();
            decoded(&both[..]).unwrap().read_to_end(&mut all).unwrap();
            assert_eq!(all, data);
            let error = decoded(&both[..both.len() - 9]).unwrap().read_to_end(&mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("is cut off"), "{error}");
            let mut damaged = both.clone();
            let middle = damaged.len() / 2;
            damaged[middle..middle + 9].fill(7);
            let error = decoded(&damaged[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("is damaged"), "{error}");
        }
    }

    #[test]
    fn only_a_tar_is_an_archive() {
        for archive in [tar(), xz(&tar(), 1 << 20), bzip2(&tar()), zstd(&tar(), 26)] {
            assert!(is_archive(&archive[..], "x").unwrap());
            let cut = archive.len().min(20);
            assert!(!is_archive(&archive[..cut], "x").unwrap());
        }
        let text = b"a text of some length".repeat(100);
        for other in [text.clone(), xz(&text, 1 << 20), bzip2(&text), vec![0; 1024], b"BZh".to_vec(), Vec::new()] {
            assert!(!is_archive(&other[..], "x").unwrap());
        }
        // Memory for it would be the file's to choose: it is neither unpacked nor taken for something else.
        for large in [xz(&tar(), 200 << 20), zstd(&tar(), 27)] {
            let error = is_archive(&large[..], "big.tar").unwrap_err().to_string();
            assert!(error.contains("big.tar: decoding it takes too much memory"), "{error}");
        }
    }
}
