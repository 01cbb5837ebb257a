//! The guest's kernel: Debian's package, fetched and unpacked once.
//!
//! The generic package, not the cloud one: only it has 9p, through which the guest sees the host's root.

mod vmlinux;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::program::{find, output};
use super::workspace::Workspace;
use crate::report;

/// Environment variable that names another kernel package, such as one from backports.
const OVERRIDE: &str = "VM_TESTS_KERNEL";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The bootable image.
    pub(super) image: PathBuf,
    /// `.../lib/modules`.
    pub(super) modules: PathBuf,
    /// What `uname -r` says in the guest.
    pub(super) release: String,
}

impl Kernel {
    /// The directory of this release's modules.
    pub(super) fn module_dir(&self) -> PathBuf {
        self.modules.join(&self.release)
    }

    /// The kernel to boot, fetched if it is not there yet.
    pub(super) fn obtain(workspace: &Workspace) -> Result<Self> {
        let home = workspace.path("kernel");
        fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let package = package(&home)?;
        let unpacked = home.join(&package);
        if !unpacked.is_dir() {
            fetch(&home, &package, &unpacked).with_context(|| format!("fetch kernel package {package}"))?;
        }
        Self::at(&unpacked)
    }

    /// Finds the parts in an unpacked package.
    fn at(unpacked: &Path) -> Result<Self> {
        let candidates = [unpacked.join("lib/modules"), unpacked.join("usr/lib/modules")];
        let modules = candidates.into_iter().find(|dir| dir.is_dir());
        let modules = modules.with_context(|| format!("find lib/modules in {}", unpacked.display()))?;
        let mut entries = fs::read_dir(&modules).with_context(|| format!("list {}", modules.display()))?;
        let entry = entries.next().with_context(|| format!("find a release in {}", modules.display()))??;
        let release = entry.file_name().to_string_lossy().into_owned();
        let image = unpacked.join(format!("boot/vmlinuz-{release}"));
        Ok(Self { image, modules, release })
    }
}

/// The package's name, asked for once: later runs need no package lists and keep their kernel.
fn package(home: &Path) -> Result<String> {
    if let Ok(package) = std::env::var(OVERRIDE) {
        return Ok(package);
    }
    let chosen = home.join("package");
    if let Ok(package) = fs::read_to_string(&chosen) {
        return Ok(package.trim().to_owned());
    }
    let answer = output(Command::new(find("apt-cache")?).args(["depends", "linux-image-amd64"]))?;
    let package = dependency(&answer).context(
        "find the package that linux-image-amd64 depends on: the package lists do not know it; run 'apt-get update'",
    )?;
    fs::write(&chosen, &package).with_context(|| format!("write {}", chosen.display()))?;
    Ok(package)
}

/// The first dependency in the answer of `apt-cache depends`.
fn dependency(answer: &str) -> Option<String> {
    let found = answer.lines().find_map(|line| line.trim().strip_prefix("Depends: "))?;
    Some(found.trim().to_owned())
}

/// Downloads the package unless its file lies there already, unpacks it beside, and shows it when it is whole.
fn fetch(home: &Path, package: &str, unpacked: &Path) -> Result<()> {
    let archive = match archive(home, package)? {
        Some(archive) => archive,
        None => {
            report::note(&format!("fetching {package} for the guest (once)"));
            output(Command::new(find("apt-get")?).args(["-q", "download", package]).current_dir(home))?;
            archive(home, package)?.with_context(|| format!("find the downloaded file in {}", home.display()))?
        }
    };
    let partial = home.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    report::note("unpacking the kernel and indexing its modules (once)");
    output(Command::new(find("dpkg-deb")?).arg("-x").arg(&archive).arg(&partial))?;
    let kernel = Kernel::at(&partial)?;
    // An emulated guest takes seven seconds to decompress itself; a plain ELF image is entered at once (PVH).
    match vmlinux::extract(&kernel.image) {
        Ok(plain) => fs::write(partial.join("vmlinux"), plain).context("write vmlinux")?,
        Err(error) => report::note(&format!("warning: {error:#}; booting the compressed image, which takes longer")),
    }
    // The package leaves the index to its installation script. busybox's depmod spares the kmod package; it wants
    // lib/modules below its base, also where the package has usr/lib/modules.
    let base = kernel.modules.ancestors().nth(2).context("find the base of lib/modules")?;
    output(Command::new(find("busybox")?).arg("depmod").arg("-b").arg(base).arg(&kernel.release))?;
    fs::rename(&partial, unpacked).with_context(|| format!("rename {}", partial.display()))?;
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))
}

/// The package's file in `home`.
fn archive(home: &Path, package: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(home).with_context(|| format!("list {}", home.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!("{package}_")) && name.ends_with(".deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::dependency;

    #[test]
    fn the_first_dependency_is_the_kernel() {
        let answer = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Suggests: x\n";
        assert_eq!(dependency(answer).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(dependency("linux-image-amd64\n"), None);
    }
}
