//! The reader against metadata made by `thin_restore`, compared with what went in.

use std::{fmt::Write as _, fs::File, io::Write as _, path::PathBuf, process::Command};

use super::{Difference, Mapping, Metadata, Source};
use crate::Kind;

/// Metadata of a pool with 65536 chunks, made from `body`, the XML of its devices.
fn restore(body: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (xml, image) = (directory.path().join("xml"), directory.path().join("metadata"));
    let head =
        r#"<superblock uuid="" time="2" transaction="0" version="2" data_block_size="128" nr_data_blocks="65536">"#;
    File::create(&xml).unwrap().write_all(format!("{head}{body}</superblock>").as_bytes()).unwrap();
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let restored = Command::new("thin_restore").arg("-i").arg(&xml).arg("-o").arg(&image).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    (directory, image)
}

fn device(id: u32, mappings: &[(u64, u64)]) -> String {
    let mapped = mappings.len();
    let mut text =
        format!(r#"<device dev_id="{id}" mapped_blocks="{mapped}" transaction="0" creation_time="0" snap_time="1">"#);
    for (from, to) in mappings {
        write!(text, r#"<single_mapping origin_block="{from}" data_block="{to}" time="1"/>"#).unwrap();
    }
    text + "</device>"
}

#[test]
fn devices_and_mappings_are_those_that_went_in() {
    let many: Vec<(u64, u64)> = (0..20_000).map(|chunk| (chunk * 3, chunk)).collect();
    let (_directory, image) = restore(&(device(0, &[(0, 30_000)]) + &device(7, &many)));
    let source = Source::open(&image).unwrap();
    let metadata = Metadata::open(&source, 0).unwrap();
    let superblock = metadata.superblock();
    assert_eq!((superblock.chunk_sectors, superblock.data_chunks, superblock.held_root), (128, 65_536, 0));
    assert_eq!(superblock.metadata_blocks, 4096);
    let devices: Vec<(u64, u64)> = metadata.devices().unwrap().into_iter().map(|(id, is)| (id, is.mapped)).collect();
    assert_eq!(devices, [(0, 1), (7, 20_000)]);
    assert_eq!(metadata.chunk_of(0, 0).unwrap(), Some(30_000));
    assert_eq!(metadata.chunk_of(7, 59_997).unwrap(), Some(19_999));
    assert_eq!(metadata.chunk_of(7, 59_998).unwrap(), None);
    assert_eq!(metadata.chunk_of(1, 0).unwrap(), None);
}

#[test]
fn a_comparison_finds_what_was_written_and_given_back() {
    let parent: Vec<(u64, u64)> = (0..10_000).map(|chunk| (chunk, chunk)).collect();
    let mut child = parent.clone();
    child[5_000].1 = 20_000;
    child.remove(9_000);
    child.push((12_000, 20_001));
    let one_leaf = [(3, 25_000)];
    let (_directory, image) = restore(&(device(1, &parent) + &device(2, &child) + &device(3, &one_leaf)));
    let source = Source::open(&image).unwrap();
    let metadata = Metadata::open(&source, 0).unwrap();
    let mapping = |virtual_chunk, chunk| Mapping { virtual_chunk, chunk };
    let expected = Difference { own: vec![mapping(5_000, 20_000), mapping(12_000, 20_001)], gone: vec![9_000] };
    assert_eq!(metadata.compare(1, 2).unwrap(), expected);
    assert_eq!(metadata.compare(1, 1).unwrap(), Difference::default());
    // Trees of different height.
    let difference = metadata.compare(1, 3).unwrap();
    assert_eq!((difference.own, difference.gone.len()), (vec![mapping(3, 25_000)], 9_999));
    assert_eq!(metadata.compare(1, 4).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn what_no_other_device_has_is_found() {
    use std::os::unix::fs::FileExt as _;
    let many: Vec<(u64, u64)> = (0..20_000).map(|chunk| (chunk, chunk)).collect();
    let devices = device(1, &many) + &device(2, &[(5, 30_000), (9, 30_001)]) + &device(3, &[(7, 30_002)]);
    let (_directory, image) = restore(&devices);
    let source = Source::open(&image).unwrap();
    let metadata = Metadata::open(&source, 0).unwrap();
    let count = |id| metadata.unshared(id).unwrap().map(|chunks| chunks.len());
    assert_eq!([count(1), count(2), count(3), count(4)], [Some(20_000), Some(2), Some(1), None]);
    // Device 3 gets the tree of device 1, as a snapshot of it has.
    let at = metadata.superblock().mappings;
    let mut leaf = source.block(at).unwrap();
    let values = 32 + 8 * usize::try_from(super::le32(&leaf, 20)).unwrap();
    leaf.copy_within(values..values + 8, values + 16);
    let sum = super::checksum(&leaf, 121_107).to_le_bytes();
    leaf[..4].copy_from_slice(&sum);
    File::options().write(true).open(&image).unwrap().write_all_at(&leaf, at * 4096).unwrap();
    assert_eq!([count(1), count(2), count(3)], [Some(0), Some(2), Some(0)]);
    // An inner node of its own over leaves that the other has too.
    let root = metadata.device(1).unwrap().unwrap();
    let mut inner = source.block(root).unwrap();
    let unused = 4_000u64;
    inner[8..16].copy_from_slice(&unused.to_le_bytes());
    let sum = super::checksum(&inner, 121_107).to_le_bytes();
    inner[..4].copy_from_slice(&sum);
    leaf[values + 16..values + 24].copy_from_slice(&unused.to_le_bytes());
    let sum = super::checksum(&leaf, 121_107).to_le_bytes();
    leaf[..4].copy_from_slice(&sum);
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(&inner, unused * 4096).unwrap();
    file.write_all_at(&leaf, at * 4096).unwrap();
    assert_eq!([count(1), count(3)], [Some(0), Some(0)]);
}

#[test]
fn damage_is_told_and_never_used() {
    use std::os::unix::fs::FileExt as _;
    let many: Vec<(u64, u64)> = (0..5_000).map(|chunk| (chunk, chunk)).collect();
    let (_directory, image) = restore(&device(1, &many));
    let pristine = std::fs::read(&image).unwrap();
    let file = File::options().write(true).open(&image).unwrap();
    let mut told = 0;
    for block in 0..40u64 {
        file.write_all_at(&pristine, 0).unwrap();
        file.write_all_at(b"damage", block * 4096 + 100).unwrap();
        let source = Source::open(&image).unwrap();
        let read = || {
            let metadata = Metadata::open(&source, 0)?;
            Ok::<_, crate::Error>((metadata.devices()?.len(), metadata.compare(1, 1)?, metadata.chunk_of(1, 4_999)?))
        };
        match read() {
            Ok(all) => assert_eq!(all, (1, Difference::default(), Some(4_999))),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt, "{error}");
                told += 1;
            }
        }
    }
    // The superblock, both inner roots, the details' leaf, the inner node and one leaf of the mappings.
    assert!(told >= 4, "{told}");
}
