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

/// A tar of what [`fill`] makes, as it is read. If it cannot be written to its end, its reader sees it cut off.
pub(super) fn archive(files: usize) -> Result<PipeReader> {
    let (reader, writer) = io::pipe().act(|| "make a pipe")?;
    thread::spawn(move || {
        // The reader has gone, and says itself why.
        let _ = pack(io::BufWriter::with_capacity(1 << 18, writer), files);
    });
    Ok(reader)
}

fn pack(out: impl Write, files: usize) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut random = SmallRng::seed_from_u64(1);
    let mut content = [0u8; FILE];
    let mut header = tar::Header::new_gnu();
    header.set_mtime(1_700_000_000);
    for number in 0..files {
        let path = nth(number);
        if let Some(directory) = path.parent().filter(|_| number % WIDTH == 0) {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, directory, io::empty())?;
        }
        random.fill_bytes(&mut content);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(FILE as u64);
        archive.append_data(&mut header, path, content.as_slice())?;
    }
    archive.into_inner()?.flush()
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
