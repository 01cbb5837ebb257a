//! Data volumes: named, anonymous, in use, filled once.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use lamina::{container::Containers, store::Store, volume::Volumes};

use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

/// What a start of `container` with `volume` at `target` does: it tells where the volume lies.
pub fn fill(root: &Path, container: &str, volume: &str, target: &str) -> Outcome<PathBuf> {
    let store = Store::open(root)?.ok_or("there is no pool")?;
    let containers = Containers::new(&store);
    let view = containers.view(&containers.find(container)?)?;
    let volumes = Volumes::of(&store);
    Ok(volumes.enter(&volumes.find(volume)?, view.root(), target.as_ref())?)
}

fn names(host: &Host, filter: &[&str]) -> Outcome<Vec<String>> {
    let args: Vec<&str> =
        ["volume", "ls", "-q"].into_iter().chain(filter.iter().flat_map(|one| ["--filter", *one])).collect();
    Ok(host.ok(&args)?.lines().map(str::to_owned).collect())
}

pub(super) fn volumes_outlive_containers(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("etc/base", b"base")])?;
    expect_eq!(host.ok(&["volume", "create", "--label", "tier=db", "data"])?, "data");
    expect_eq!(host.ok(&["volume", "create", "data"])?, "data", "one that is there stays");
    let anonymous = host.ok(&["volume", "create"])?;
    expect!(anonymous.len() == 64 && anonymous.bytes().all(|byte| byte.is_ascii_hexdigit()), "{anonymous}");
    host.fails(&["volume", "create", "../up"], "invalid volume name")?;
    host.finds_nothing(&["volume", "inspect", "none"], "no such volume: none")?;
    let shown = &host_json(host, &["volume", "inspect", "data"])?[0];
    expect_eq!((&shown["Labels"]["tier"], &shown["Driver"]), (&"db".into(), &"local".into()));
    let place = PathBuf::from(shown["Mountpoint"].as_str().ok_or("no mountpoint")?);
    expect_eq!(place, fs::canonicalize(host.root())?.join("volumes/data/_data"));
    fs::write(place.join("kept"), "kept")?;
    expect_eq!(names(host, &["label=tier=db"])?, ["data"]);
    expect_eq!(names(host, &["dangling=true", "name=dat"])?, ["data"]);
    host.fails(&["volume", "ls", "--filter", "color=red"], "invalid filter")?;

    host.ok(&["create", "--name", "one", "-v", "data:/data", "-v", "/scratch", "base:1"])?;
    host.ok(&["create", "--name", "two", "-v", "data:/data", "base:1"])?;
    host.fails(&["volume", "rm", "data"], "in use by one, two")?;
    expect_eq!(names(host, &["dangling=true"])?, [anonymous.as_str()]);
    expect_eq!(host.ok(&["ps", "-a", "-q", "--filter", "volume=/scratch"])?.lines().count(), 1);
    let df = host.json(&["system", "df"])?;
    let row = df.as_array().into_iter().flatten().find(|row| row["type"] == "Local Volumes").ok_or("no row")?;
    expect_eq!((&row["total"], &row["active"], &row["size_bytes"]), (&3.into(), &2.into(), &4.into()));

    host.ok(&["rm", "-v", "one"])?;
    expect_eq!(
        names(host, &["dangling=true"])?,
        [anonymous.as_str()],
        "rm -v removes what was anonymous and nobody else's"
    );
    host.ok(&["rm", "-v", "two"])?;
    expect_eq!(fs::read(place.join("kept"))?, b"kept", "a volume with a name stays");
    let pruned = host.ok(&["volume", "prune", "-f"])?;
    expect!(pruned.contains(&anonymous) && pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    expect_eq!(names(host, &[])?, ["data"]);
    let pruned = host.ok(&["volume", "prune", "-a", "-f"])?;
    expect!(pruned.contains("data") && pruned.contains("Total reclaimed space: 4B"), "{pruned}");
    expect!(!host.root().join("volumes/data").exists(), "its directory went, too");
    // What nobody knows is nobody's to take or to remove.
    fs::create_dir_all(host.root().join("volumes/lost/_data"))?;
    host.fails(&["volume", "create", "lost"], "lies there already")?;
    let said = host.run(&["check"])?;
    expect!(said.out.contains("belongs to no volume"), "{said:?}");
    fs::remove_dir_all(host.root().join("volumes/lost"))?;
    Ok(())
}

fn host_json(host: &Host, args: &[&str]) -> Outcome<serde_json::Value> {
    Ok(serde_json::from_str(&host.ok(args)?)?)
}

pub(super) fn an_image_fills_a_volume_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("srv/data/deep/file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let target = host.mount("box")?;
    let inside = target.join("srv/data");
    symlink("/srv/data", target.join("absolute"))?;
    symlink("../../../../../../../../etc", target.join("out"))?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o2750))?;
    chown(inside.join("deep"), Some(1234), Some(2345))?;
    fs::set_permissions(inside.join("deep/file"), fs::Permissions::from_mode(0o4711))?;
    rustix::fs::setxattr(inside.join("deep/file"), c"user.note", b"noted", rustix::fs::XattrFlags::empty())?;
    host.ok(&["umount", "box"])?;
    for name in ["first", "second", "third"] {
        host.ok(&["volume", "create", name])?;
    }

    let place = fill(&host.root(), "box", "first", "/absolute")?;
    expect_eq!(fs::read(place.join("deep/file"))?, b"content");
    expect_eq!(fs::metadata(&place)?.mode() & 0o7777, 0o2750, "its own mode, too");
    let deep = fs::metadata(place.join("deep"))?;
    expect_eq!((deep.uid(), deep.gid()), (1234, 2345));
    expect_eq!(fs::metadata(place.join("deep/file"))?.mode() & 0o7777, 0o4711);
    let mut note = [0; 5];
    rustix::fs::getxattr(place.join("deep/file"), c"user.note", &mut note)?;
    expect_eq!(&note, b"noted");
    // From now on it is the containers': nothing comes back, also with the same content gone.
    fs::remove_dir_all(place.join("deep"))?;
    expect_eq!(fill(&host.root(), "box", "first", "/srv/data")?, place);
    expect_eq!(fs::read_dir(&place)?.count(), 0);

    // What a user put there stays alone, and no link leads out of the container.
    let second = host.root().join("volumes/second/_data");
    fs::write(second.join("mine"), "mine")?;
    fill(&host.root(), "box", "second", "/srv/data")?;
    expect_eq!(fs::read_dir(&second)?.count(), 1);
    let third = fill(&host.root(), "box", "third", "/out")?;
    expect_eq!(fs::read_dir(third)?.count(), 0, "the host's /etc is not the container's");
    expect_eq!(host.ok(&["diff", "box"])?.lines().filter(|line| line.contains("volumes")).count(), 0);
    Ok(())
}
