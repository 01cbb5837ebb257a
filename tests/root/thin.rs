//! The thin driver on a real pool, each case on a pool of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test's panic and output are its report"
)]

mod full;
mod life;
mod space;
mod volumes;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use lamina::{
    Kind, Result,
    driver::{
        Access, Driver, DriverKind,
        pool::{self, PoolSpec},
    },
    fs::{BlockFs, Mounted},
    id::VolumeId,
    units::Bytes,
};
use libtest_mimic::{Completion, Failed, Trial};

type Case = fn(&Pool) -> Result<()>;

/// All cases, each on its own pool, on both file systems where that matters.
pub(crate) fn trials() -> Vec<Trial> {
    let both: [(&str, Case); 6] = [
        ("generations_are_isolated", volumes::generations_are_isolated),
        ("capture_while_written_is_complete", volumes::capture_while_written_is_complete),
        ("volumes_grow_online", volumes::volumes_grow_online),
        ("changes_are_exact", volumes::changes_are_exact),
        ("a_small_file_takes_little_space", space::a_small_file_takes_little_space),
        ("a_full_pool_fails_writes_and_recovers_by_growing", full::a_full_pool_recovers),
    ];
    let ext4: [(&str, Case); 6] = [
        ("deleting_returns_space_to_the_host", space::deleting_returns_space_to_the_host),
        ("a_full_pool_recovers_by_deleting", full::a_full_pool_recovers_by_deleting),
        ("full_metadata_is_told_and_survived", full::full_metadata_is_told),
        ("a_pool_comes_back_after_a_reboot", life::a_pool_comes_back),
        ("bad_backings_are_refused", life::bad_backings_are_refused),
        ("half_done_work_is_finished", life::half_done_work_is_finished),
    ];
    let case = |fs: BlockFs| move |(name, case): (&str, Case)| trial(format!("thin::{fs}::{name}"), fs, case);
    let mut all: Vec<Trial> = both.into_iter().map(case(BlockFs::Ext4)).collect();
    all.extend(both.into_iter().map(case(BlockFs::Xfs)));
    all.extend(ext4.into_iter().map(case(BlockFs::Ext4)));
    all
}

fn trial(name: String, fs: BlockFs, case: Case) -> Trial {
    Trial::ignorable_test(name, move || {
        match pool::supported(DriverKind::Thin) {
            Err(error) if error.kind() == Kind::Unsupported => {
                return Ok(Completion::ignored_with(
                    "this kernel has no device-mapper thin target (CONFIG_DM_THIN_PROVISIONING)",
                ));
            }
            supported => supported.map_err(failed)?,
        }
        let pool = Pool::make(fs)?;
        case(&pool).map_err(failed)?;
        let findings = pool.driver().map_err(failed)?.check().map_err(failed)?;
        if findings.is_empty() { Ok(Completion::Completed) } else { Err(Failed::from(findings.join("; "))) }
    })
}

fn failed(error: lamina::Error) -> Failed {
    Failed::from(error.to_string())
}

/// A pool in a directory of its own; both go with it, also on panic.
struct Pool {
    spec: PoolSpec,
    _directory: tempfile::TempDir,
}

impl Pool {
    fn make(fs: BlockFs) -> std::result::Result<Self, Failed> {
        Self::sized(fs, Bytes::mib(512))
    }

    fn sized(fs: BlockFs, size: Bytes) -> std::result::Result<Self, Failed> {
        let parent = std::env::var_os("LAMINA_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = tempfile::Builder::new().prefix("lamina-test-thin-").tempdir_in(parent)?;
        let uuid = format!("{:032x}", rand::random::<u128>());
        let spec = PoolSpec {
            kind: DriverKind::Thin,
            uuid,
            directory: directory.path().to_owned(),
            size,
            chunk: Bytes::kib(64),
            fs,
            data: None,
            metadata: None,
        };
        let pool = Self { spec, _directory: directory };
        pool::create(&pool.spec).map_err(failed)?;
        Ok(pool)
    }

    fn driver(&self) -> Result<Box<dyn Driver>> {
        pool::open(&self.spec)
    }

    fn data_taken(&self) -> u64 {
        fs::metadata(self.spec.directory.join("data")).unwrap().blocks() * 512
    }

    fn used(&self) -> Result<u64> {
        Ok(self.driver()?.status()?.data.used.0)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = pool::destroy(&self.spec) {
            eprintln!("destroy the test's pool: {error}");
        }
    }
}

fn id(number: u64) -> VolumeId {
    VolumeId::new(number).unwrap()
}

/// Mounts the volume, lets `work` at its root, unmounts, releases.
fn inside<T>(driver: &dyn Driver, volume: u64, access: Access, work: impl FnOnce(&Path) -> T) -> Result<T> {
    let mounted = Mounted::detached(&driver.mounts(id(volume), &[], access)?)?;
    let done = work(&mounted.path());
    drop(mounted);
    driver.release(id(volume))?;
    Ok(done)
}

fn write(driver: &dyn Driver, volume: u64, name: &str, text: &str) -> Result<()> {
    inside(driver, volume, Access::ReadWrite, |root| fs::write(root.join(name), text).unwrap())
}

fn names(driver: &dyn Driver, volume: u64) -> Result<Vec<String>> {
    inside(driver, volume, Access::ReadOnly, |root| {
        let mut names: Vec<String> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    })
}

fn expect_messages(parts: &[&str]) {
    for part in parts {
        println!("VM-EXPECT-KMSG: {part}");
    }
}
