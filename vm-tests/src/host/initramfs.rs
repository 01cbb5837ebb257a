//! The initramfs: busybox, the modules to reach the host's root file system, and `/init`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use super::kernel::Kernel;
use super::modules::{Modules, WANTED};
use super::program::find;
use super::workspace::Workspace;

/// First program of the guest.
const INIT: &str = include_str!("init.sh");

/// The image's path, built anew only if an input changed.
pub(super) fn obtain(workspace: &Workspace, kernel: &Kernel, agent: &Path) -> Result<PathBuf> {
    let image = workspace.path("initramfs.cpio");
    let stamp = workspace.path("initramfs.inputs");
    let busybox = find("busybox")?;
    let inputs = format!("{} {} {} {WANTED:?}\n{INIT}", kernel.image.display(), agent.display(), version(&busybox)?);
    if image.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == inputs) {
        return Ok(image);
    }
    // The stamp goes first: half an image never counts as whole.
    drop(fs::remove_file(&stamp));
    build(&image, kernel, agent, &busybox).context("build the initramfs")?;
    fs::write(&stamp, inputs).with_context(|| format!("write {}", stamp.display()))?;
    Ok(image)
}

/// Size and time of a file, in place of a version.
fn version(file: &Path) -> Result<String> {
    let metadata = fs::metadata(file).with_context(|| format!("stat {}", file.display()))?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {} {}", file.display(), metadata.len(), modified.as_nanos()))
}

/// Writes the archive.
fn build(image: &Path, kernel: &Kernel, agent: &Path, busybox: &Path) -> Result<()> {
    let file = File::create(image).with_context(|| format!("create {}", image.display()))?;
    let mut archive = Archive { out: BufWriter::new(file), directories: BTreeSet::new() };
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.file("bin/busybox", 0o755, &read(busybox)?)?;
    archive.file("agent", 0o644, agent.as_os_str().as_encoded_bytes())?;
    let dir = kernel.module_dir();
    let dep = fs::read_to_string(dir.join("modules.dep")).context("read modules.dep")?;
    let builtin = fs::read_to_string(dir.join("modules.builtin")).context("read modules.builtin")?;
    let order = Modules::parse(&dep, &builtin).load_order(WANTED)?;
    for module in &order {
        archive.file(&format!("modules/{module}"), 0o644, &read(&dir.join(module))?)?;
    }
    archive.file("modules.order", 0o644, format!("{}\n", order.join("\n")).as_bytes())?;
    archive.finish()
}

/// Reads a file whole.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// A cpio archive that makes parent directories as they are needed: the kernel does not.
#[derive(Debug)]
struct Archive {
    out: BufWriter<File>,
    directories: BTreeSet<PathBuf>,
}

impl Archive {
    /// Adds a regular file.
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let parents: Vec<PathBuf> = Path::new(name).ancestors().skip(1).map(Path::to_owned).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if self.directories.insert(parent.clone()) {
                self.entry(&parent.to_string_lossy(), 0o755, ModeFileType::Directory, &[])?;
            }
        }
        self.entry(name, mode, ModeFileType::Regular, content)
    }

    /// Adds anything.
    fn entry(&mut self, name: &str, mode: u32, kind: ModeFileType, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).with_context(|| format!("add {name}: larger than 4 GiB"))?;
        let mut writer = Builder::new(name).mode(mode).set_mode_file_type(kind).write(&mut self.out, size);
        writer.write_all(content).with_context(|| format!("add {name}"))?;
        writer.finish().with_context(|| format!("add {name}"))?;
        Ok(())
    }

    /// Ends the archive.
    fn finish(self) -> Result<()> {
        trailer(self.out).context("end the archive")?.flush().context("end the archive")
    }
}
