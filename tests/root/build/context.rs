//! What is copied from a build context, and what is not.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::{base, build, built, context, tree};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

pub fn copies_go_where_they_should(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = r#"FROM base
WORKDIR /w
COPY a renamed
COPY a sub/
COPY *.txt /texts/
COPY --exclude=y.* --exclude=deep *.txt tree /some/
COPY tree /tree
COPY --chown=www --chmod=640 a /owned
COPY --chown=5:6 tree /numbers
COPY ["with space", "/with space"]
COPY <<one.conf <<"two.conf" /conf/
name is $NAME
one.conf
name is $NAME
two.conf
RUN mkdir -p /usr/real && /bin/busybox ln -s usr/real /link
COPY a /link/
COPY a /link/new/deep/
"#;
    let files = [
        ("a", "a"),
        ("x.txt", "x"),
        ("y.txt", "y"),
        ("z.md", "z"),
        ("tree/b", "b"),
        ("tree/deep/c", "c"),
        ("with space", "s"),
    ];
    let directory = context(host, dockerfile, &files)?;
    symlink("b", directory.join("tree/to-b"))?;
    fs::set_permissions(directory.join("tree/b"), fs::Permissions::from_mode(0o4711))?;
    built(host, &["-t", "copied"])?;
    let root = tree(host, "copied")?;
    for (path, content) in [
        ("w/renamed", "a"),
        ("w/sub/a", "a"),
        ("texts/x.txt", "x"),
        ("texts/y.txt", "y"),
        ("tree/b", "b"),
        ("tree/deep/c", "c"),
        ("with space", "s"),
        ("conf/one.conf", "name is \n"),
        ("conf/two.conf", "name is $NAME\n"),
        ("usr/real/a", "a"),
        ("usr/real/new/deep/a", "a"),
    ] {
        expect_eq!((path, fs::read_to_string(root.join(path))?.as_str()), (path, content));
    }
    expect!(!root.join("texts/z.md").exists(), "a pattern takes what fits");
    for (path, there) in [("some/x.txt", true), ("some/y.txt", false), ("some/b", true), ("some/deep", false)] {
        expect_eq!((path, root.join(path).exists()), (path, there));
    }
    expect_eq!(fs::read_link(root.join("tree/to-b"))?.to_string_lossy(), "b");
    expect_eq!(fs::read_link(root.join("link"))?.to_string_lossy(), "usr/real");
    let owned =
        |path: &str| fs::metadata(root.join(path)).map(|found| (found.uid(), found.gid(), found.mode() & 0o7777));
    expect_eq!(owned("owned")?, (33, 33, 0o640));
    expect_eq!(owned("tree/b")?, (0, 0, 0o4711));
    expect_eq!((owned("numbers/deep/c")?.0, owned("numbers/deep/c")?.1), (5, 6));
    expect_eq!((owned("numbers/deep")?.0, owned("numbers/deep")?.1), (5, 6));
    host.check()
}

pub fn nothing_outside_is_copied(host: &Host) -> Outcome {
    base(host)?;
    let outside = host.file("outside");
    fs::create_dir_all(&outside)?;
    fs::write(outside.join("secret"), "secret")?;
    let directory = context(host, "", &[("inside", "inside")])?;
    symlink(outside.join("secret"), directory.join("to-file"))?;
    symlink("../outside", directory.join("to-dir"))?;
    for source in ["../outside/secret", "to-file", "to-dir/secret", "/../../outside/secret", "inside/../../outside"] {
        context(host, &format!("FROM base\nCOPY {source} /taken\n"), &[])?;
        let said = build(host, &[])?;
        expect!(said.code == Some(1) && said.err.contains("Dockerfile:2:1"), "{source}: {said:?}");
    }
    // Nor does a mount show it: the link leads to a place in the context that is not there.
    context(host, "FROM base\nRUN --mount=type=bind,source=to-dir,target=/x cat /x/secret\n", &[])?;
    let said = build(host, &[])?;
    expect!(said.code == Some(1), "{said:?}");
    // A link as a member of a directory is copied as the link that it is.
    context(host, "FROM base\nCOPY . /all\n", &[])?;
    built(host, &["-t", "all"])?;
    let root = tree(host, "all")?;
    expect_eq!(fs::read_link(root.join("all/to-file"))?, outside.join("secret"));
    host.check()
}

pub fn what_is_ignored_is_not_there(host: &Host) -> Outcome {
    base(host)?;
    let ignore = "# remark\n*.log\n!keep.log\nprivate\n**/cache\n";
    let files = [
        (".dockerignore", ignore),
        ("a.log", ""),
        ("keep.log", ""),
        ("private/key", ""),
        ("src/cache/x", ""),
        ("src/main", ""),
    ];
    let directory = context(host, "FROM base\nCOPY . /all\n", &files)?;
    built(host, &["-t", "all"])?;
    let all = tree(host, "all")?.join("all");
    for (path, there) in
        [("a.log", false), ("keep.log", true), ("private", false), ("src/cache", false), ("src/main", true)]
    {
        expect_eq!((path, all.join(path).exists()), (path, there));
    }
    // What is ignored does not count for the cache either.
    fs::write(directory.join("a.log"), "longer")?;
    expect_eq!(super::cached(&build(host, &["-t", "all"])?), 1);
    context(host, "FROM base\nCOPY private/key /\n", &[])?;
    let said = build(host, &[])?;
    expect!(said.err.contains("excluded by .dockerignore"), "{said:?}");
    // Of a directory that is left out comes what is excepted from that.
    let files = [(".dockerignore", "*\n!src/deep\n"), ("src/deep/kept", ""), ("src/lost", ""), ("other", "")];
    context(host, "FROM base\nCOPY src /src\n", &files)?;
    built(host, &["-t", "some"])?;
    let some = tree(host, "some")?.join("src");
    expect!(some.join("deep/kept").exists() && !some.join("lost").exists(), "only what is excepted");
    host.check()
}

/// One member of an archive for `ADD`: its kind, its name as it is stored, and what it holds or leads to.
fn member(archive: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, what: &str) -> Outcome {
    let mut header = tar::Header::new_gnu();
    // As stored, also where a tar program would not write it.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory { 0o750 } else { 0o640 });
    header.set_uid(1234);
    header.set_gid(2345);
    header.set_mtime(1_600_000_000);
    let is_link = matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink);
    header.set_size(if is_link { 0 } else { what.len() as u64 });
    if is_link {
        header.set_link_name_literal(what)?;
    }
    header.set_cksum();
    Ok(archive.append(&header, if is_link { &[] } else { what.as_bytes() })?)
}

fn archive(members: &[(tar::EntryType, &str, &str)]) -> Outcome<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, name, what) in members {
        member(&mut archive, *kind, name, what)?;
    }
    Ok(archive.into_inner()?)
}

fn compressed(name: &str, data: &[u8]) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    match name {
        "gz" => drop(flate2::read::GzEncoder::new(data, flate2::Compression::fast()).read_to_end(&mut out)?),
        "bz2" => drop(bzip2::read::BzEncoder::new(data, bzip2::Compression::fast()).read_to_end(&mut out)?),
        "xz" => drop(liblzma::read::XzEncoder::new(data, 6).read_to_end(&mut out)?),
        "zst" => out = zstd::encode_all(data, 3)?,
        _ => out = data.to_vec(),
    }
    Ok(out)
}

pub fn archives_are_unpacked_by_add(host: &Host) -> Outcome {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    base(host)?;
    let members = [
        (Directory, "./", ""),
        (Directory, "./lib", ""),
        (Directory, "absolute", ""),
        (Directory, "etc", ""),
        (Regular, "/absolute/one", "1"),
        (Regular, "deep/../two", "22"),
        (Link, "three", "/two"),
        (Symlink, "up", "../../../etc"),
        (Regular, "up/through", "inside"),
        (Regular, "lib/so", "elf"),
    ];
    let plain = archive(&members)?;
    let mut dockerfile = "FROM base\nRUN mkdir -p /to/usr/lib /to/usr/mode && busybox ln -s usr/lib /to/lib && \
                          touch /to/absolute && chmod 700 /to\n"
        .to_owned();
    let directory = context(host, "", &[("plain", "p")])?;
    for kind in ["tar", "gz", "bz2", "xz", "zst"] {
        fs::write(directory.join(format!("a.{kind}")), compressed(kind, &plain)?)?;
        let text = compressed(kind, &b"no tar".repeat(200))?;
        fs::write(directory.join(format!("text.{kind}")), text)?;
        dockerfile += &format!("ADD a.{kind} /{kind}\nADD text.{kind} /texts/\n");
    }
    dockerfile += "ADD plain a.xz /to\nADD --chown=www:5 --chmod=600 a.bz2 plain /owned/\nCOPY a.xz /kept/\n\
                   ADD --unpack=false a.xz /kept/not\n";
    context(host, &dockerfile, &[])?;
    built(host, &["-t", "added"])?;
    let root = tree(host, "added")?;
    for kind in ["tar", "gz", "bz2", "xz", "zst", "to", "owned"] {
        let read = |path: &str| fs::read_to_string(root.join(kind).join(path));
        let found = (read("absolute/one")?, read("two")?, read("three")?, read("lib/so")?);
        expect_eq!((kind, found), (kind, ("1".into(), "22".into(), "22".into(), "elf".into())));
        expect_eq!(read("etc/through")?, "inside");
        expect!(!root.join("etc/through").exists(), "a link leads nowhere but below the destination");
        if kind != "to" && kind != "owned" {
            let text = fs::read(root.join(format!("texts/text.{kind}")))?;
            expect!(text == fs::read(directory.join(format!("text.{kind}")))?, "text.{kind} was not copied as it is");
        }
    }
    // A directory of the archive goes through a link to one; the destination itself stays what it was.
    expect_eq!(fs::read_link(root.join("to/lib"))?.to_string_lossy(), "usr/lib");
    let owned = |path: &str| {
        fs::symlink_metadata(root.join(path)).map(|found| (found.uid(), found.gid(), found.mode() & 0o7777))
    };
    expect_eq!((owned("to/usr/lib")?, owned("to")?), ((1234, 2345, 0o750), (0, 0, 0o700)));
    expect_eq!(fs::metadata(root.join("tar/two"))?.mtime(), 1_600_000_000);
    // Owners are the archive's or those that were asked for; --chmod is for files alone.
    expect_eq!((owned("tar/two")?, owned("owned/two")?), ((1234, 2345, 0o640), (33, 5, 0o640)));
    expect_eq!((owned("owned")?, owned("owned/plain")?), ((33, 5, 0o755), (33, 5, 0o600)));
    expect_eq!((owned("owned/up")?.0, owned("owned/absolute/one")?.0), (33, 33));
    expect!(root.join("kept/a.xz").is_file() && root.join("kept/not").is_file(), "COPY unpacks nothing");
    mistakes_of_archives_are_told(host)
}

fn mistakes_of_archives_are_told(host: &Host) -> Outcome {
    use tar::EntryType::Regular;
    let whole = archive(&[(Regular, "a", &"a".repeat(5000))])?;
    for (content, words) in [
        (archive(&[(Regular, ".wh.bin", "")])?, "a name that begins with '.wh.' removes another"),
        (archive(&[(Regular, "x/.wh..wh..opq", "")])?, "a name that begins with '.wh.' removes another"),
        (archive(&[(Regular, "../bin/out", "")])?, "it leads out of the directory"),
        (whole[..2000].to_vec(), "the archive is cut off at byte 2000"),
        (compressed("xz", &whole)?.split_last_chunk::<20>().ok_or("long")?.0.to_vec(), "the xz stream is cut off"),
    ] {
        context(host, "FROM base\nADD a.tar /\n", &[])?;
        fs::write(host.file("context").join("a.tar"), content)?;
        let said = build(host, &[])?;
        let told = said.err.contains("Dockerfile:2:1: unpack a.tar: ") && said.err.contains(words);
        expect!(said.code == Some(1) && told, "it should say {words:?}: {said:?}");
    }
    context(host, "FROM base\nADD https://example.org/x /x\n", &[])?;
    let said = build(host, &[])?;
    expect!(said.code == Some(1) && said.err.contains("ADD makes no downloads"), "{said:?}");
    host.check()
}
