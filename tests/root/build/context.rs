//! What is copied from a build context, and what is not.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::{base, build, built, context, tree};
use crate::{
    expect, expect_eq,
    lamina::{Host, write_tar},
    pool::Outcome,
};

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

pub fn archives_are_unpacked_by_add(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = "FROM base\nADD files.tar plain /into/\nCOPY files.tar /kept/\n";
    let directory = context(host, dockerfile, &[("plain", "p")])?;
    write_tar(&directory.join("files.tar"), &[("one", b"1"), ("deep/two", b"2")])?;
    built(host, &["-t", "added"])?;
    let root = tree(host, "added")?;
    for path in ["into/one", "into/deep/two", "into/plain", "kept/files.tar"] {
        expect!(root.join(path).is_file(), "{path} is missing");
    }
    context(host, "FROM base\nADD https://example.org/x /x\n", &[])?;
    let said = build(host, &[])?;
    expect!(said.code == Some(1) && said.err.contains("ADD makes no downloads"), "{said:?}");
    host.check()
}
