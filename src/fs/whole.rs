//! A file that appears under its name whole or not at all.
//!
//! Invariant: until it is published nothing has its name; a process that is killed before leaves nothing at all where
//! the file system has unnamed files (`O_TMPFILE`), and elsewhere a file with another name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat},
    io::Errno,
};

use crate::{
    crash,
    error::{Act as _, Error, Kind, Result},
    id::CacheId,
};

/// See the module's comment.
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    target: PathBuf,
    /// The name that it has until it gets its own.
    temporary: PathBuf,
    named: bool,
}

impl WholeFile {
    /// A new file that only its owner may read, to become `target`. What lies there stays until then. Through a link, it
    /// is what the link leads to.
    ///
    /// # Errors
    /// `Invalid` if `target` is there and no regular file; the system's.
    pub fn create(target: &Path) -> Result<Self> {
        let act = || format!("make {}", target.display());
        let target = match fs::canonicalize(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(target).act(act)?,
            there => regular(there.act(act)?)?,
        };
        let directory = target.parent().unwrap_or(&target);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // Short, as a name of 255 bytes must find room for the rest.
        let name: String = name.chars().take(32).collect();
        let temporary = directory.join(format!(".{name}.{}", CacheId::random().short()));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => (File::from(fd), false),
            // A file system that has none says so in one of these ways (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let mut options = OpenOptions::new();
                (options.write(true).create_new(true).mode(0o600).open(&temporary).act(act)?, true)
            }
            Err(errno) => return Err(errno).act(act),
        };
        Ok(Self { file, target, temporary, named })
    }

    /// Makes it durable, and gives it its name.
    ///
    /// # Errors
    /// The system's; then nothing of it stays.
    pub fn publish(mut self) -> Result<()> {
        let act = |target: &Path| format!("write {}", target.display());
        self.file.sync_all().act(|| act(&self.target))?;
        crash::point(crash::Point::ArchiveSaved);
        if !self.named {
            // A link cannot take the place of another file; a name can.
            let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, unnamed, CWD, &self.temporary, AtFlags::SYMLINK_FOLLOW).act(|| act(&self.target))?;
            self.named = true;
        }
        fs::rename(&self.temporary, &self.target).act(|| act(&self.target))?;
        self.named = false;
        let directory = self.target.parent().unwrap_or(&self.target);
        File::open(directory).and_then(|directory| directory.sync_all()).act(|| act(&self.target))
    }
}

fn regular(target: PathBuf) -> Result<PathBuf> {
    let kind = fs::metadata(&target).act(|| format!("look at {}", target.display()))?.file_type();
    if kind.is_file() {
        return Ok(target);
    }
    let what = match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "no regular file",
    };
    Err(Error::new(
        Kind::Invalid,
        format!("make {}: it is {what}; name a file, or write to standard output", target.display()),
    ))
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.named
            && let Err(error) = fs::remove_file(&self.temporary)
        {
            tracing::warn!("remove {}: {error}", self.temporary.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WholeFile;
    use std::{fs, io::Write as _};

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("file"), directory.path().join("link"));
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let mut file = WholeFile::create(&target).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(names(), 0);
        for content in ["first", "second"] {
            let mut file = WholeFile::create(&target).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file.publish().unwrap();
            assert_eq!((fs::read_to_string(&target).unwrap().as_str(), names()), (content, 1));
        }
        std::os::unix::fs::symlink(&target, &link).unwrap();
        WholeFile::create(&link).unwrap().publish().unwrap();
        assert_eq!((fs::read(&target).unwrap().len(), link.is_symlink()), (0, true));
        assert!(WholeFile::create(directory.path()).unwrap_err().to_string().contains("a directory"));
        assert!(WholeFile::create("/dev/null".as_ref()).unwrap_err().to_string().contains("a device"));
    }
}
