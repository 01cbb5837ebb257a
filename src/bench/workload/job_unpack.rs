//! Packages unpacked by dpkg, as `apt-get install` does.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{Across, How, Workload};
use crate::{
    bench::{
        command::{other, succeed},
        ground::Directory,
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::{Act as _, Error, Kind, Result},
    interrupt,
    program::{DPKG, DPKG_DEB, DPKG_QUERY, Program},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Unpack;

/// See the module's comment.
pub(in crate::bench) const UNPACK: Unpack = Unpack;

impl Workload for Unpack {
    fn name(&self) -> &'static str {
        "unpack"
    }

    fn about(&self) -> &'static str {
        "dpkg unpacks packages, which are made of the files of packages of this machine, into the container, with its own syncs"
    }

    fn tests(&self) -> &'static str {
        "Containers that write a lot of data will consume more space than containers that do not."
    }

    fn needs(&self) -> &'static [Program] {
        &[DPKG, DPKG_DEB]
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for Unpack {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes::mib(scale.packages as u64 * 10)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::number(scale.packages as u64) * 0.2
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let directory = Directory::new(&stage.volume()?, "packages")?;
        let packages = directory.path().join("packages");
        fs::create_dir(&packages).act(|| format!("make {}", packages.display()))?;
        for name in installed(scale.packages)? {
            interrupt::check()?;
            pack(&name, directory.path(), &packages)?;
        }
        let mut tar = tree::stream(move |tar| {
            for path in ["var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/updates"] {
                tree::add_directory(tar, Path::new(path))?;
            }
            tree::add_file(tar, Path::new("var/lib/dpkg/status"), 0, std::io::empty())?;
            tar.append_dir_all("packages", &packages)
        })?;
        stage.import("packages", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        let at = format!("{} packages", scale.packages);
        with_container(stage, ("installer", "packages"), || {
            inside(stage, "installer", |root| {
                let archives = archives(&root.join("packages"))?;
                samples.time("unpack", &at, || {
                    let mut command = other(DPKG, &["--force-depends", "--force-overwrite", "--unpack"])?;
                    command.arg("--root").arg(root).arg("--log=/dev/null").args(&archives);
                    succeed(command)?;
                    super::write_out(root)
                })
            })
        })
    }
}

fn archives(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut archives = list().act(|| format!("list {}", directory.display()))?;
    archives.sort();
    Ok(archives)
}

/// The names of so many installed packages of ordinary size.
fn installed(number: usize) -> Result<Vec<String>> {
    let (_, said) = DPKG_QUERY.run(&["-W", "-f", "${Installed-Size} ${Package}\\n"])?;
    let of_size = |line: &str| {
        let (size, name) = line.split_once(' ')?;
        (200..3000).contains(&size.parse::<u32>().ok()?).then(|| name.to_owned())
    };
    let mut names: Vec<String> = said.lines().filter_map(of_size).collect();
    names.dedup();
    if names.len() < number {
        let what = format!("{number} packages of 200 to 3000 KiB are needed, and {} are installed here", names.len());
        return Err(Error::new(Kind::Unsupported, what));
    }
    names.truncate(number);
    Ok(names)
}

/// Makes an archive of the files that a package has on this machine.
fn pack(name: &str, work: &Path, packages: &Path) -> Result<()> {
    let root = work.join("root");
    let act = || format!("pack package {name}");
    let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o755).create(path).act(act);
    make(&root.join("DEBIAN"))?;
    let (_, said) = DPKG_QUERY.run(&["-L", name])?;
    for file in said.lines().map(Path::new).filter(|file| file.is_absolute()) {
        // Links and what this machine left out (its documentation) do not matter.
        if !file.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        let target = root.join(file.strip_prefix("/").unwrap_or(file));
        make(target.parent().unwrap_or(&root))?;
        fs::copy(file, &target).act(act)?;
    }
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: bench <bench@localhost>\nDescription: files of {name}\n"
    );
    fs::write(root.join("DEBIAN/control"), control).act(act)?;
    let mut command = other(DPKG_DEB, &["--build", "-Zgzip", "-z1"])?;
    command.arg(&root).arg(packages.join(format!("{name}.deb")));
    succeed(command)?;
    fs::remove_dir_all(&root).act(act)
}
