//! Which page frames of memory hold a file: mmap(2) and `/proc/PID/pagemap`.
//!
//! Two names of one cached file, as two mounts of overlayfs have, show the same frames, and two copies of it others.

use std::{
    ffi::c_void,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    ptr::{self, NonNull},
};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};

/// The pages of a file, mapped to be looked at; they are read if they are not in memory.
#[derive(Debug)]
pub struct MappedFile {
    start: NonNull<c_void>,
    length: usize,
}

/// Of an entry of the page map: in memory, and in which frame (`proc_pid_pagemap(5)`).
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

impl MappedFile {
    /// Maps all of `file`, which is not empty.
    ///
    /// # Errors
    /// The kernel's errno: `EINVAL` for an empty file.
    pub fn map(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses a place where nothing else is, and nobody reads or writes through it: were the file cut
        // shorter meanwhile, nothing would fault.
        let start = unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, flags, file, 0)? };
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mapped at the address 0"))?;
        Ok(Self { start, length })
    }

    /// How many pages it has.
    pub fn pages(&self) -> usize {
        self.length.div_ceil(page_size())
    }

    /// The frames of those of its pages that are in memory now.
    ///
    /// # Errors
    /// The kernel's errno: `ENOENT` without `CONFIG_PROC_PAGE_MONITOR`; `Unsupported` where it hides the frames from
    /// those who have no `CAP_SYS_ADMIN`.
    pub fn frames(&self) -> io::Result<Vec<u64>> {
        const ENTRY: usize = size_of::<u64>();
        let mut entries = vec![0; self.pages() * ENTRY];
        let first = self.start.as_ptr().addr() / page_size() * ENTRY;
        File::open("/proc/self/pagemap")?.read_exact_at(&mut entries, first as u64)?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let present = entries.iter().map(|entry| u64::from_ne_bytes(*entry)).filter(|entry| entry & PRESENT != 0);
        let frames: Vec<u64> = present.map(|entry| entry & FRAME).collect();
        if frames.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel hides the numbers of page frames"));
        }
        Ok(frames)
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `map` got, and nothing refers to what is in it.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.length) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs::File, io};

    use super::{MappedFile, page_size};

    #[test]
    fn two_names_of_a_file_have_its_frames_and_a_copy_has_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), vec![1; 3 * page_size() - 5]).unwrap();
        std::fs::hard_link(path("file"), path("link")).unwrap();
        std::fs::copy(path("file"), path("copy")).unwrap();
        let maps = ["file", "link", "copy"].map(|name| MappedFile::map(&File::open(path(name)).unwrap()).unwrap());
        let [file, link, copy] = maps.each_ref().map(|mapped| match mapped.frames() {
            // Without privilege the kernel tells no numbers.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => BTreeSet::new(),
            frames => frames.unwrap().into_iter().collect::<BTreeSet<_>>(),
        });
        if rustix::process::geteuid().is_root() && !file.is_empty() {
            assert_eq!((file.len(), &file), (3, &link));
            assert!(maps.iter().all(|mapped| mapped.pages() == 3));
            assert_eq!((copy.len(), copy.intersection(&file).count()), (3, 0));
        }
    }
}
