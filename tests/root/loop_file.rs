//! Loop devices: attach, find, grow, detach.

use std::{fs::File, path::Path};

use lamina::{
    block::LoopFile,
    driver::Access,
    error::Kind,
    fs::{BlockFs, MountSpec, Mounted},
};
use libtest_mimic::{Completion, Failed, Trial};

use crate::as_root;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("loop::a_file_is_attached_found_grown_and_let_go", round_trip),
        as_root("loop::a_missing_file_or_a_directory_is_refused", refusals),
        as_root("loop::what_others_attached_in_part_is_not_taken", attached_in_part),
        as_root("loop::a_device_that_is_claimed_stays_attached", claimed),
        as_root("loop::xfs_gives_up_at_once", xfs_gives_up_at_once),
    ]
}

struct Detach<'a>(&'a Path);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        if let Ok(Some(left)) = LoopFile::find(self.0) {
            let _ = left.detach();
        }
    }
}

/// A mounted XFS does not try a failed write of metadata again for ever.
fn xfs_gives_up_at_once() -> Result<Completion, Failed> {
    let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir()?;
    let path = directory.path().join("lamina-test-loop");
    File::create(&path)?.set_len(400 << 20)?;
    let _detach = Detach(&path);
    let attached = LoopFile::attach(&path)?;
    let device = attached.device().to_owned();
    let made = std::process::Command::new("mkfs.xfs").arg("-q").arg(&device).status()?;
    assert!(made.success());
    let name = device.file_name().ok_or("no name")?.to_owned();
    let spec = MountSpec::Device { device, fs: BlockFs::Xfs, options: Vec::new(), access: Access::ReadWrite };
    let mounted = Mounted::detached(&spec)?;
    let errors = Path::new("/sys/fs/xfs").join(name).join("error/metadata");
    for errno in ["ENOSPC", "EIO", "default"] {
        assert_eq!(std::fs::read_to_string(errors.join(errno).join("max_retries"))?.trim(), "0");
    }
    drop(mounted);
    Ok(Completion::Completed)
}

fn round_trip() -> Result<Completion, Failed> {
    let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir()?;
    let path = directory.path().join("lamina-test-loop");
    File::create(&path)?.set_len(8 << 20)?;
    let _detach = Detach(&path);
    assert!(LoopFile::find(&path)?.is_none());
    let attached = LoopFile::attach(&path)?;
    let found = LoopFile::find(&path)?.ok_or("not found")?;
    assert_eq!((found.device(), found.number()), (attached.device(), attached.number()));
    let queue = Path::new("/sys/block").join(attached.device().file_name().ok_or("no name")?).join("queue");
    assert_eq!(std::fs::read_to_string(queue.join("logical_block_size"))?.trim(), "4096");
    assert!(attached.is_direct()?);
    File::options().write(true).open(&path)?.set_len(16 << 20)?;
    attached.refresh_capacity()?;
    let size = std::fs::read_to_string(queue.with_file_name("size"))?;
    assert_eq!(size.trim(), (16 << 20 >> 9).to_string());
    found.detach()?;
    assert!(LoopFile::find(&path)?.is_none());
    Ok(Completion::Completed)
}

fn refusals() -> Result<Completion, Failed> {
    let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir()?;
    let missing = LoopFile::attach(&directory.path().join("missing")).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound, "{missing}");
    assert!(LoopFile::attach(directory.path()).is_err());
    let device = LoopFile::attach(Path::new("/dev/null")).unwrap_err();
    assert_eq!(device.kind(), Kind::Invalid, "{device}");
    Ok(Completion::Completed)
}

/// A device that somebody made with losetup to look into a pool's file is no device for the pool.
fn attached_in_part() -> Result<Completion, Failed> {
    let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir()?;
    let path = directory.path().join("lamina-test-part");
    File::create(&path)?.set_len(8 << 20)?;
    for option in ["--offset=1048576", "--sizelimit=1048576", "--read-only"] {
        let losetup = |arguments: &[&std::ffi::OsStr]| std::process::Command::new("losetup").args(arguments).output();
        let made = losetup(&["--find".as_ref(), "--show".as_ref(), option.as_ref(), path.as_os_str()])?;
        assert!(made.status.success(), "{made:?}");
        let device = String::from_utf8(made.stdout)?.trim().to_owned();
        let found = LoopFile::find(&path);
        assert!(losetup(&["--detach".as_ref(), device.as_ref()])?.status.success());
        let error = found.expect_err(option);
        assert!(error.kind() == Kind::InUse && error.to_string().contains(&device), "{option}: {error}");
    }
    assert!(LoopFile::find(&path)?.is_none());
    Ok(Completion::Completed)
}

fn claimed() -> Result<Completion, Failed> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let directory = tempfile::Builder::new().prefix("lamina-test-").tempdir()?;
    let path = directory.path().join("lamina-test-claimed");
    File::create(&path)?.set_len(8 << 20)?;
    let _detach = Detach(&path);
    let attached = LoopFile::attach(&path)?;
    let exclusive = File::options().read(true).custom_flags(libc::O_EXCL).open(attached.device())?;
    assert_eq!(LoopFile::find(&path)?.ok_or("not found")?.detach().unwrap_err().kind(), Kind::InUse);
    drop(exclusive);
    // Open without a claim: the kernel would let go at the last close, behind our back.
    let open = File::open(attached.device())?;
    assert_eq!(LoopFile::find(&path)?.ok_or("not found")?.detach().unwrap_err().kind(), Kind::InUse);
    drop(open);
    assert!(LoopFile::find(&path)?.is_some(), "an error must leave it as it was");
    attached.detach()?;
    Ok(Completion::Completed)
}
