//! Trees and files to fill images with: the same bytes in every run.

use std::{
    fs::{self, File},
    io::{self, PipeReader, Write},
    path::{Path, PathBuf},
    thread,
};

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    error::{Act as _, Result},
    interrupt,
    units::Bytes,
};

/// Files in a directory.
const WIDTH: usize = 100;

/// Bytes in a file of [`fill`].
pub(super) const FILE: usize = 512;

/// Makes `files` files of [`FILE`] random bytes below `root`, a hundred per directory.
pub(super) fn fill(root: &Path, files: usize) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(1);
    let mut content = [0u8; FILE];
    for number in 0..files {
        let path = root.join(nth(number));
        if number % WIDTH == 0 {
            interrupt::check()?;
            let directory = path.parent().unwrap_or(root);
            fs::create_dir(directory).act(|| format!("make {}", directory.display()))?;
        }
        random.fill_bytes(&mut content);
        fs::write(&path, content).act(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A tar of what [`fill`] makes, as it is read.
pub(super) fn archive(files: usize) -> Result<PipeReader> {
    stream(move |tar| small_files(tar, Path::new(""), files))
}

/// A tar that `pack` fills while it is read. If it cannot be written to its end, its reader sees it cut off.
pub(super) fn stream(pack: impl FnOnce(&mut Packer) -> io::Result<()> + Send + 'static) -> Result<PipeReader> {
    let (reader, writer) = io::pipe().act(|| "make a pipe")?;
    thread::spawn(move || {
        let mut tar = tar::Builder::new(io::BufWriter::with_capacity(1 << 18, writer));
        // If that fails, the reader has gone, and says itself why.
        let _ = pack(&mut tar).and_then(|()| tar.into_inner()?.flush());
    });
    Ok(reader)
}

/// Where a tar is written to.
pub(super) type Packer = tar::Builder<io::BufWriter<io::PipeWriter>>;

/// Adds what [`fill`] makes below `at`.
pub(super) fn small_files(tar: &mut Packer, at: &Path, files: usize) -> io::Result<()> {
    let mut random = SmallRng::seed_from_u64(1);
    let mut content = [0u8; FILE];
    for number in 0..files {
        let path = at.join(nth(number));
        if let Some(directory) = path.parent().filter(|_| number % WIDTH == 0) {
            add_directory(tar, directory)?;
        }
        random.fill_bytes(&mut content);
        add_file(tar, &path, FILE as u64, content.as_slice())?;
    }
    Ok(())
}

/// Adds a directory.
pub(super) fn add_directory(tar: &mut Packer, path: &Path) -> io::Result<()> {
    let mut header = header(tar::EntryType::Directory, 0o755, 0);
    tar.append_data(&mut header, path, io::empty())
}

/// Adds a file of the first `size` bytes of `content`.
pub(super) fn add_file(
    tar: &mut tar::Builder<impl Write>,
    path: &Path,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, size);
    tar.append_data(&mut header, path, content.take(size))
}

/// Adds a file of random bytes.
pub(super) fn add_noise(tar: &mut Packer, path: &Path, size: Bytes) -> io::Result<()> {
    add_file(tar, path, size.0, Noise(SmallRng::seed_from_u64(size.0)))
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(1_700_000_000);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

/// Random bytes without end: nothing on the way can compress or deduplicate them.
struct Noise(SmallRng);

impl io::Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.fill_bytes(buffer);
        Ok(buffer.len())
    }
}

/// The path of file `number` of [`fill`].
pub(super) fn nth(number: usize) -> PathBuf {
    PathBuf::from(format!("d{:05}/f{:03}", number / WIDTH, number % WIDTH))
}

/// Makes a file of `size` random bytes: nothing on the way can compress or deduplicate it.
pub(super) fn big_file(path: &Path, size: Bytes) -> Result<()> {
    let act = || format!("write {}", path.display());
    let mut file = File::create_new(path).act(act)?;
    let mut random = SmallRng::seed_from_u64(2);
    let mut block = vec![0u8; 1 << 20];
    let mut left = size.0;
    while left > 0 {
        interrupt::check()?;
        random.fill_bytes(&mut block);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..length]).act(act)?;
        left -= length as u64;
    }
    file.sync_all().act(act)
}
