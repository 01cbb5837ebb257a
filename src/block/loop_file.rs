//! A file seen as a block device: attached to a loop device with direct I/O, so that pool data is not cached twice,
//! and with 4096-byte blocks, so that nothing below has to read before it writes.
//!
//! Invariant: a [`LoopFile`] keeps no descriptor of its device, so it never is the user that keeps a detach waiting.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use loopdev::{LoopControl, LoopDevice};

use crate::{
    error::{Act as _, Error, Kind, Result},
    sys::{
        self,
        loop_dev::{self, Backing},
    },
    units::Bytes,
};

/// The logical block size of every loop device of ours.
const BLOCK_SIZE: u32 = 4096;

/// How often another process may snatch the free device that the kernel named.
const RACES: u32 = 64;

/// A regular file attached to a loop device. It stays attached when this is dropped.
#[derive(Debug)]
pub struct LoopFile {
    file: PathBuf,
    backing: Backing,
    device: PathBuf,
    number: (u32, u32),
}

/// What others did to an attached file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It has no name any more, or another file has it.
    Removed,
    /// It is shorter than its device.
    CutOff {
        /// Its length.
        has: Bytes,
        /// The device's.
        needs: Bytes,
    },
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("was removed or replaced while the pool was up"),
            Self::CutOff { has, needs } => write!(
                f,
                "was cut off while the pool was up: it has {has} of {needs} ({} of {} bytes); what was there is lost",
                has.0, needs.0
            ),
        }
    }
}

impl LoopFile {
    /// Attaches the file at `path` to a free loop device.
    ///
    /// # Errors
    /// `NotFound` without the file, `Invalid` if it is not a regular file, `Unsupported` without the loop driver.
    pub fn attach(path: &Path) -> Result<Self> {
        let act = || format!("attach {} to a loop device", path.display());
        let backing_file = open_regular(path).act(act)?;
        let control = LoopControl::open().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(
                Kind::Unsupported,
                format!("{}: there is no /dev/loop-control (CONFIG_BLK_DEV_LOOP; 'modprobe loop')", act()),
            ),
            _ => Error::with_source(crate::error::kind_of(&error), act(), error),
        })?;
        for _ in 0..RACES {
            let device = control.next_free().act(|| "open a free loop device").act(act)?;
            match configure(&device, &backing_file) {
                Ok(()) => {
                    let attached = Self::of(&device, path, &backing_file);
                    return attached.map_err(|error| error.and_undo(device.detach().act(|| "detach it")));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error).act(act),
            }
        }
        Err(Error::new(Kind::InUse, format!("{}: others took the free device {RACES} times", act())))
    }

    /// The loop device that holds the file at `path` already.
    ///
    /// # Errors
    /// `NotFound` without the file; `InUse` if somebody attached it otherwise than [`LoopFile::attach`] does; when a loop
    /// device cannot be asked.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let act = || format!("look for the loop device of {}", path.display());
        let wanted = backing_of(&open_regular(path).act(act)?).act(act)?;
        for entry in fs::read_dir("/sys/block").act(act)? {
            let entry = entry.act(act)?;
            // This directory is there only while the device holds a file, so free devices need not be opened.
            if !entry.path().join("loop").exists() {
                continue;
            }
            let device = Path::new("/dev").join(entry.file_name());
            if held_by(&device).act(|| format!("ask {}", device.display())).act(act)? == Some(wanted) {
                let is_whole = File::open(&device).and_then(loop_dev::is_whole).act(act)?;
                if !is_whole {
                    let device = device.display();
                    let what = format!(
                        "{}: {device} shows a part of it, or not to be written; end that with 'losetup -d {device}'",
                        act()
                    );
                    return Err(Error::new(Kind::InUse, what));
                }
                let number = number_of(&device).act(act)?;
                return Ok(Some(Self { file: path.to_owned(), backing: wanted, device, number }));
            }
        }
        Ok(None)
    }

    /// What the loop device `device` holds, if it is one and holds something; `file` is what the file was called.
    ///
    /// # Errors
    /// When the device cannot be asked.
    pub fn on(device: &Path, file: &Path) -> Result<Option<Self>> {
        let act = || format!("ask {} what it holds", device.display());
        let is_loop = device.file_name().is_some_and(|name| name.to_string_lossy().starts_with("loop"));
        if !is_loop {
            return Ok(None);
        }
        let Some(backing) = held_by(device).act(act)? else { return Ok(None) };
        let number = number_of(device).act(act)?;
        Ok(Some(Self { file: file.to_owned(), backing, device: device.to_owned(), number }))
    }

    fn of(device: &LoopDevice, path: &Path, backing_file: &File) -> Result<Self> {
        let act = || format!("look at the loop device of {}", path.display());
        let node = device.path().ok_or_else(|| Error::new(Kind::NotFound, "its node has no path")).act(act)?;
        let number = (device.major().act(act)?, device.minor().act(act)?);
        Ok(Self { file: path.to_owned(), backing: backing_of(backing_file).act(act)?, device: node, number })
    }

    /// The device node.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Major and minor number.
    pub fn number(&self) -> (u32, u32) {
        self.number
    }

    /// Whether it does direct I/O; some file systems cannot.
    ///
    /// # Errors
    /// When the device cannot be asked.
    pub fn is_direct(&self) -> Result<bool> {
        let act = || format!("ask {} for direct I/O", self.device.display());
        loop_dev::is_direct(File::open(&self.device).act(act)?).act(act)
    }

    /// What happened to the file since it was attached, if anything did.
    ///
    /// # Errors
    /// When the file or the device cannot be asked.
    pub fn harm(&self) -> Result<Option<Harm>> {
        let act = || format!("look at {} below {}", self.file.display(), self.device.display());
        let found = match fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Harm::Removed)),
            found => found.act(act)?,
        };
        if (Backing { device: found.dev(), inode: found.ino() }) != self.backing {
            return Ok(Some(Harm::Removed));
        }
        let needs = Bytes(sys::block::size(File::open(&self.device).act(act)?).act(act)?);
        let has = Bytes(found.len());
        Ok((has < needs).then_some(Harm::CutOff { has, needs }))
    }

    /// Refuses to lose the file: one that no longer has its name goes with the device.
    ///
    /// # Errors
    /// `Corrupt` with how to save it.
    pub fn require_kept(&self) -> Result<()> {
        if self.harm()? != Some(Harm::Removed) {
            return Ok(());
        }
        let (file, device) = (self.file.display(), self.device.display());
        let what = format!(
            "{file} was removed or replaced while the pool was up: {device} alone has its content, and loses it when the pool \
             goes down; save it first with 'cp --sparse=always {device} COPY', or give it up with 'lamina pool destroy --yes'"
        );
        Err(Error::new(Kind::Corrupt, what))
    }

    /// Makes the device as long as the file has become.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn refresh_capacity(&self) -> Result<()> {
        let act = || format!("take over the new size of {} in {}", self.file.display(), self.device.display());
        LoopDevice::open(&self.device).act(act)?.set_capacity().act(act)
    }

    /// Lets the file go, and returns when the kernel has done so.
    ///
    /// # Errors
    /// `InUse` if something mounts, stacks on, or keeps open the device; it then stays as it was.
    pub fn detach(self) -> Result<()> {
        let act = || format!("detach {} from {}", self.file.display(), self.device.display());
        // O_EXCL fails for a device that a file system or device-mapper has claimed, before anything is changed.
        let claim = OpenOptions::new().read(true).write(true).custom_flags(libc::O_EXCL).open(&self.device).act(act)?;
        LoopDevice::open(&self.device).act(act)?.detach().act(act)?;
        drop(claim);
        // The kernel lets go at the last close. udev opens a new or changed device for some milliseconds, and nothing
        // tells when it has closed it: ask again, a little later each time, for two seconds in all.
        for step in 0..20u32 {
            if held_by(&self.device).act(act)? != Some(self.backing) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(u64::from(step * 10)));
        }
        let in_use = Error::new(Kind::InUse, format!("{}: something keeps the device open", act()));
        let undo = File::open(&self.device).and_then(|device| loop_dev::keep(&device)).act(|| "keep it attached");
        Err(in_use.and_undo(undo))
    }
}

/// A line for each file that others did something to.
///
/// # Errors
/// When a file or device cannot be asked.
pub fn harms(loops: &[LoopFile]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for attached in loops {
        found.extend(attached.harm()?.map(|harm| format!("{} {harm}", attached.file.display())));
    }
    Ok(found)
}

/// The names of the device-mapper devices that lie on `device`, directly or on each other, those on top first.
pub fn mapped_on(device: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let name = device.file_name().unwrap_or_default();
    // Gone meanwhile is as good as not there.
    let holders = fs::read_dir(Path::new("/sys/class/block").join(name).join("holders"));
    for holder in holders.into_iter().flatten().flatten() {
        found.extend(mapped_on(&holder.path()));
        found.extend(fs::read_to_string(holder.path().join("dm/name")).map(|name| name.trim().to_owned()));
    }
    found
}

/// What the device holds now.
fn held_by(device: &Path) -> io::Result<Option<Backing>> {
    match File::open(device) {
        Ok(device) => loop_dev::backing(device),
        // A device that is just being cleared cannot be opened (lo_open, drivers/block/loop.c).
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Direct I/O where the file system below can do it: newer kernels fall back by themselves, older ones refuse.
fn configure(device: &LoopDevice, backing_file: &File) -> io::Result<()> {
    match loop_dev::configure(device, backing_file, BLOCK_SIZE, true) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            loop_dev::configure(device, backing_file, BLOCK_SIZE, false)
        }
        result => result,
    }
}

fn open_regular(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            _ => crate::error::kind_of(&error),
        };
        Error::with_source(kind, format!("open {}", path.display()), error)
    })?;
    let kind = file.metadata().act(|| "look at the file")?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_block_device() { "a block device, which needs no loop device" } else { "no regular file" };
    Err(Error::new(Kind::Invalid, format!("it is {what}")))
}

fn backing_of(file: &File) -> io::Result<Backing> {
    let metadata = file.metadata()?;
    Ok(Backing { device: metadata.dev(), inode: metadata.ino() })
}

fn number_of(device: &Path) -> io::Result<(u32, u32)> {
    let number = rustix::fs::stat(device)?.st_rdev;
    Ok((rustix::fs::major(number), rustix::fs::minor(number)))
}
