//! Options that Dockerfiles got with BuildKit.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use super::{base, build, built, cached, context, tree};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

const DOCKERFILE: &str = r#"FROM base AS data
RUN mkdir -p /srv/data/sub && echo d > /srv/data/sub/d && chmod 1770 /srv/data && busybox chown 33:7 /srv/data /srv/data/sub
FROM base
COPY --parents ./x/a.txt y/a.txt /parents
COPY --parents ./x/./deep/*.txt /pivot/
COPY --parents x/**/*.txt /all/
COPY --parents --exclude=x/deep/c.txt --chown=5:6 --chmod=u=rwX,go=rX x /whole/
COPY --parents --from=data /srv/./data/sub /srv/data /taken/
COPY --chmod=u=rwX,go=rX modes /letters/
COPY --chmod=+x <<run /here/
text
run
ADD --chmod=go= modes/private /letters/private
RUN ln -s /made/later /hangs
COPY y/a.txt /hangs
RUN --mount=type=cache,from=data,source=/srv/data,target=/c cat /c/sub/d > /first && echo more >> /c/sub/d
RUN --mount=type=cache,from=data,source=srv/data,target=/c,id=/c --mount=type=cache,target=/e ls /e > /empty
RUN --mount=type=cache,from=data,source=/srv/data,target=/c busybox stat -c '%a %u %g' /c > /owner; cat /c/sub/d > /second
RUN --mount=type=cache,from=data,target=/c,mode=700,uid=9 busybox stat -c '%a %u %g' /c > /other; ls /c/srv > /whole-data
"#;

pub fn newer_options_do_what_they_say(host: &Host) -> Outcome {
    base(host)?;
    let files = [
        ("x/a.txt", "xa"),
        ("x/deep/b.txt", "xb"),
        ("x/deep/c.txt", "xc"),
        ("x/deep/no", ""),
        ("y/a.txt", "ya"),
        ("modes/run", ""),
        ("modes/private", ""),
        ("modes/sub/file", ""),
    ];
    let directory = context(host, DOCKERFILE, &files)?;
    let mode = |path: &str, mode| fs::set_permissions(directory.join(path), fs::Permissions::from_mode(mode));
    mode("modes/run", 0o700)?;
    mode("modes/private", 0o600)?;
    mode("modes/sub", 0o700)?;
    mode("x/deep", 0o711)?;
    built(host, &["-t", "options"])?;
    let root = tree(host, "options")?;
    for (path, content) in [
        ("parents/x/a.txt", "xa"),
        ("parents/y/a.txt", "ya"),
        ("pivot/deep/b.txt", "xb"),
        ("all/x/a.txt", "xa"),
        ("all/x/deep/c.txt", "xc"),
        ("whole/x/deep/b.txt", "xb"),
        ("taken/data/sub/d", "d\n"),
        ("taken/srv/data/sub/d", "d\n"),
        ("made/later", "ya"),
        ("first", "d\n"),
        ("second", "d\nmore\n"),
        ("empty", ""),
        ("owner", "1770 33 7\n"),
        ("other", "700 9 0\n"),
        ("whole-data", "data\n"),
    ] {
        expect_eq!((path, fs::read_to_string(root.join(path))?.as_str()), (path, content));
    }
    expect_eq!(fs::read_link(root.join("hangs"))?.to_string_lossy(), "/made/later");
    for path in ["pivot/x", "all/x/deep/no", "whole/x/deep/c.txt", "parents/a.txt"] {
        expect!(!root.join(path).exists(), "{path} is there");
    }
    let owned = |path: &str| fs::metadata(root.join(path)).map(|at| (at.mode() & 0o7777, at.uid(), at.gid()));
    for (path, found) in [
        ("all/x/deep", (0o711, 0, 0)),
        ("taken/data", (0o1770, 33, 7)),
        ("whole/x/deep", (0o755, 5, 6)),
        ("letters/run", (0o755, 0, 0)),
        ("letters/private", (0o600, 0, 0)),
        ("letters/sub", (0o755, 0, 0)),
        ("letters/sub/file", (0o644, 0, 0)),
        ("here/run", (0o755, 0, 0)),
    ] {
        expect_eq!((path, owned(path)?), (path, found));
    }
    cache_and_mistakes(host)
}

/// What the options ask for is in the key, down to the directories that are kept; what cannot be is refused.
fn cache_and_mistakes(host: &Host) -> Outcome {
    let directory = host.file("context");
    let dockerfile = "FROM base\nCOPY --parents x/deep/b.txt /k/\n";
    for (mode, hits) in [(0o711, 0), (0o711, 1), (0o755, 0)] {
        fs::write(directory.join("Dockerfile"), dockerfile)?;
        fs::set_permissions(directory.join("x/deep"), fs::Permissions::from_mode(mode))?;
        let said = build(host, &[])?;
        expect_eq!((said.code, cached(&said)), (Some(0), hits), "{said:?}");
    }
    rustix::fs::setxattr(directory.join("x/deep"), "user.lamina", b"v", rustix::fs::XattrFlags::empty())?;
    for hits in [0, 1] {
        expect_eq!(cached(&build(host, &["-t", "kept"])?), hits);
    }
    let copied = tree(host, "kept")?.join("k/x/deep");
    expect_eq!(rustix::fs::getxattr(copied, "user.lamina", &mut [0; 8])?, 1);
    for (line, words) in [
        ("COPY --parents x/none /", "'x/none' is not in the build context"),
        ("COPY --parents ../x/./a.txt /", "leads out of the build context"),
        ("COPY --chmod=u=rwz x /", "--chmod=u=rwz: it is neither an octal mode"),
        ("RUN --mount=type=secret,id=k true", "mounts of type 'secret' are not supported"),
        ("RUN --mount=type=ssh true", "mounts of type 'ssh' are not supported"),
        ("RUN --mount=type=cache,from=base,source=/no,target=/c true", "'/no' is not in 'base'"),
        ("RUN --mount=type=cache,from=base,source=/etc/passwd,target=/c true", "a cache is a directory"),
        ("RUN --security=insecure true", "RUN --security=insecure"),
    ] {
        fs::write(directory.join("Dockerfile"), format!("FROM base\n{line}\n"))?;
        let said = build(host, &[])?;
        let told = said.err.contains("Dockerfile:2:") && said.err.contains(words);
        expect!(said.code == Some(1) && told, "{line} should say {words:?}: {said:?}");
    }
    // No cache was left half made.
    let left = fs::read_dir(host.root().join("build-caches"))?;
    for entry in left {
        let name = entry?.file_name();
        expect!(!name.to_string_lossy().starts_with("going-"), "{name:?} is left");
    }
    host.check()
}
