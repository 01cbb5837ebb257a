//! Disks that a case has to itself, below its pool's files.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use lamina::{
    block::LoopFile,
    driver::Access,
    fs::{BlockFs, MountSpec, Mounted, unmount},
};
use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::{
    expect,
    pool::{Fault, Outcome},
};

/// A sparse file on a loop device, and a directory for a mount; all of it goes with the value.
pub struct LoopDisk {
    directory: TempDir,
}

impl LoopDisk {
    pub fn new(size: u64) -> Outcome<Self> {
        let disk = Self { directory: tempfile::Builder::new().prefix("lamina-test-disk-").tempdir()? };
        File::create(disk.file())?.set_len(size)?;
        fs::create_dir(disk.path())?;
        Ok(disk)
    }

    /// The device, attached.
    pub fn attach(&self) -> Outcome<PathBuf> {
        Ok(LoopFile::attach(&self.file())?.device().to_owned())
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let file = self.file();
        let detached = LoopFile::find(&file).and_then(|found| found.map_or(Ok(()), |disk| disk.detach()));
        if let Err(error) = detached {
            eprintln!("let go of {}: {error}", file.display());
        }
    }
}

/// Makes an ext4 on `device`.
pub fn make_ext4(device: &Path) -> Outcome {
    let made = Command::new("mkfs.ext4").args(["-q", "-m", "0", "-b", "4096"]).arg(device).status()?;
    expect!(made.success(), "mkfs.ext4 {}: {made}", device.display());
    Ok(())
}

/// Mounts the ext4 on `device`.
pub fn mount_ext4(device: &Path, target: &Path) -> Outcome {
    let device = device.to_owned();
    let spec = MountSpec::Device { device, fs: BlockFs::Ext4, options: Vec::new(), access: Access::ReadWrite };
    Ok(Mounted::detached(&spec)?.attach(target)?)
}

/// A small ext4 on a loop device, mounted; gone with the value.
pub struct SmallDisk {
    disk: LoopDisk,
}

impl SmallDisk {
    pub fn new(size: u64) -> Result<Self, Failed> {
        let mounted = || {
            let small = Self { disk: LoopDisk::new(size)? };
            let device = small.disk.attach()?;
            make_ext4(&device)?;
            mount_ext4(&device, &small.path())?;
            Ok(small)
        };
        mounted().map_err(|fault: Fault| fault.0.into())
    }

    pub fn path(&self) -> PathBuf {
        self.disk.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Before it is mounted there is nothing to unmount.
        let _ = unmount(&self.path());
    }
}
