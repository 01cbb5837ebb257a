//! Steps: layers, cache, configuration, commands, stages.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
};

use super::{base, build, built, cached, context, tree};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

fn layers(host: &Host, image: &str) -> Outcome<Vec<String>> {
    let images = host.json(&["images"])?;
    let images = images.as_array().ok_or("an array")?;
    let found = images.iter().find(|row| row["repository"] == image).ok_or("the image is listed")?;
    let layers = found["layers"].as_array().ok_or("an array")?;
    Ok(layers.iter().map(|layer| layer["chain_id"].to_string()).collect())
}

/// The two Dockerfiles of Docker's page on storage drivers.
pub fn the_second_image_shares_every_layer(host: &Host) -> Outcome {
    base(host)?;
    context(host, "FROM base\nRUN touch /added-by-run\n", &[])?;
    built(host, &["-t", "acme/my-base-image:1.0"])?;
    let second = "FROM acme/my-base-image:1.0\nCOPY . /app\nRUN chmod +x /app/hello.sh\nCMD [\"/bin/sh\", \"-c\", \"/app/hello.sh\"]\n";
    context(host, second, &[("hello.sh", "#!/bin/sh\necho Hello world\n")])?;
    let id = built(host, &["-t", "acme/my-final-image:1.0"])?;
    let (first, second) = (layers(host, "acme/my-base-image")?, layers(host, "acme/my-final-image")?);
    expect_eq!((first.len(), second.len()), (2, 4));
    expect_eq!(first, second[..2]);
    let root = tree(host, "acme/my-final-image:1.0")?;
    expect!(root.join("added-by-run").exists(), "the base's file is there");
    expect_eq!(fs::metadata(root.join("app/hello.sh"))?.mode() & 0o7777, 0o755);
    let history = host.json(&["history", "acme/my-final-image:1.0"])?;
    let history = history.as_array().ok_or("an array")?;
    expect_eq!((&history[0]["id"], &history[0]["size_bytes"]), (&id.as_str().into(), &0.into()));
    let commands: Vec<&str> = history.iter().filter_map(|row| row["created_by"].as_str()).collect();
    expect_eq!(
        commands,
        [
            "CMD [\"/bin/sh\",\"-c\",\"/app/hello.sh\"]",
            "RUN /bin/sh -c chmod +x /app/hello.sh",
            "COPY . /app",
            "RUN /bin/sh -c touch /added-by-run",
            "",
        ]
    );
    host.check()
}

/// The images of single steps are there for the next build, and go with the image that they led to.
pub fn steps_go_with_their_image(host: &Host) -> Outcome {
    base(host)?;
    let count = |more: &[&str]| -> Outcome<usize> {
        let rows = host.json(&[&["images"], more].concat())?;
        Ok(rows.as_array().ok_or("an array")?.len())
    };
    context(host, "FROM base\nRUN touch /one\nENV A=1\nRUN touch /two\n", &[])?;
    built(host, &["-t", "long"])?;
    context(host, "FROM base\nRUN touch /one\nRUN touch /three\n", &[])?;
    built(host, &["-t", "short"])?;
    expect_eq!((count(&[])?, count(&["-a"])?), (3, 5));
    let own = &host.json(&["images"])?;
    let own = own.as_array().ok_or("an array")?.iter().filter(|row| row["own_bytes"].as_u64() > Some(0)).count();
    // All have the layer of the base.
    expect_eq!(own, 2);
    expect_eq!(host.ok(&["rmi", "long"])?.matches("Deleted: ").count(), 2);
    expect_eq!((count(&[])?, count(&["-a"])?), (2, 3));
    host.ok(&["create", "--name", "user", "short"])?;
    host.fails(&["rmi", "short"], "container user")?;
    host.ok(&["rm", "user"])?;
    expect_eq!(host.ok(&["rmi", "short"])?.matches("Deleted: ").count(), 2);
    expect_eq!((count(&[])?, count(&["-a"])?), (1, 1));
    expect_eq!(host.json(&["pool", "status"])?["layers"], 1);
    // Images between steps are known to the history; one that others went on from loses its name alone.
    context(host, "FROM base\nUSER 33\nWORKDIR /home/app\nRUN touch mine\n", &[])?;
    built(host, &["-t", "home"])?;
    let history = host.json(&["history", "home"])?;
    let known = history.as_array().into_iter().flatten().filter(|row| row["id"] != "<missing>").count();
    expect_eq!(known, history.as_array().map_or(0, Vec::len), "{history}");
    expect_eq!(fs::metadata(tree(host, "home")?.join("home/app"))?.uid(), 33);
    expect_eq!(host.ok(&["rmi", "base"])?, "Untagged: base:latest");
    expect_eq!(host.json(&["history", "home"])?, history);
    host.check()
}

pub fn what_was_done_is_not_done_again(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = "FROM base\nENV A=1\nRUN cat /proc/sys/kernel/random/uuid > /random\nCOPY a /a\nCOPY b /b\n";
    let directory = context(host, dockerfile, &[("a", "a"), ("b", "b")])?;
    let first = build(host, &["-t", "x"])?;
    expect_eq!((first.code, cached(&first)), (Some(0), 0));
    // A file that was only touched is the same file.
    let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000);
    fs::File::options().write(true).open(directory.join("a"))?.set_modified(later)?;
    let again = build(host, &["-t", "x"])?;
    expect_eq!((cached(&again), &again.out), (4, &first.out));
    // After the first step that is done anew, all are.
    fs::write(directory.join("a"), "other")?;
    let changed = build(host, &["-t", "x"])?;
    expect_eq!((changed.code, cached(&changed)), (Some(0), 2));
    fs::write(directory.join("a"), "a")?;
    expect_eq!(cached(&build(host, &["-t", "x"])?), 4);
    let anew = build(host, &["-t", "x", "--no-cache"])?;
    expect_eq!((anew.code, cached(&anew)), (Some(0), 0));
    expect!(anew.out != first.out, "another random number makes another image");
    host.check()
}

pub fn every_instruction_reaches_the_configuration(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = r#"ARG TAG=latest
FROM base:${TAG}
ARG VERSION=1
ENV A="x y" B=${VERSION:-none} PATH=/bin
LABEL one=1 two="t w"
EXPOSE 80 53/udp
VOLUME ["/data", "/more"]
USER www:www
WORKDIR /srv
WORKDIR deep
SHELL ["/bin/sh", "-e", "-c"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --retries=2 CMD true
ONBUILD RUN touch /triggered
ENTRYPOINT ["/bin/sh"]
CMD echo hi
"#;
    context(host, dockerfile, &[])?;
    built(host, &["-t", "all", "--build-arg", "VERSION=7"])?;
    let config = &host.json(&["inspect", "all"])?;
    let config = if config.is_array() { &config[0] } else { config };
    let text = config.to_string();
    for part in [
        r#""A=x y""#,
        r#""B=7""#,
        r#""one":"1""#,
        r#""two":"t w""#,
        r#""80/tcp":{}"#,
        r#""53/udp":{}"#,
        r#""/data":{}"#,
        r#""User":"www:www""#,
        r#""WorkingDir":"/srv/deep""#,
        r#""StopSignal":"SIGQUIT""#,
        r#""Entrypoint":["/bin/sh"]"#,
        r#""Cmd":["/bin/sh","-e","-c","echo hi"]"#,
    ] {
        expect!(text.contains(part), "{part} is not in {text}");
    }
    expect!(tree(host, "all")?.join("srv/deep").is_dir(), "WORKDIR makes its directory");
    context(host, "FROM all\nUSER root\n", &[])?;
    let said = build(host, &["-t", "child"])?;
    expect!(said.code == Some(1), "the trigger runs as www, who may not write to /: {said:?}");
    context(host, "FROM base\nONBUILD RUN touch /triggered\n", &[])?;
    built(host, &["-t", "parent"])?;
    expect!(!tree(host, "parent")?.join("triggered").exists(), "a trigger waits for the child");
    context(host, "FROM parent\n", &[])?;
    built(host, &["-t", "child"])?;
    expect!(tree(host, "child")?.join("triggered").exists(), "and runs there");
    host.check()
}

pub fn commands_run_in_the_image(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = r#"FROM base
ARG WHO=nobody
ENV PATH=/bin
RUN echo "$WHO $HOME" > /who
USER www
WORKDIR /tmp
USER 0
RUN id -u > uid; pwd > cwd
RUN ["/bin/touch", "/exec form"]
RUN <<EOF
set -e
echo one > /multi
echo two >> /multi
EOF
RUN <<EOF
#!/bin/cat
not a shell
EOF
RUN --mount=type=cache,target=/cache echo x >> /cache/n; wc -l < /cache/n > /count
RUN --mount=type=tmpfs,target=/scratch touch /scratch/gone
RUN --mount=type=cache,target=/b,sharing=locked --mount=type=cache,id=/b,target=/a,sharing=private touch /a/n && ls /b > /b-n
RUN --mount=type=bind,source=given,target=/given cat /given > /taken
RUN --mount=type=bind,source=.,target=/context ls /context > /listed
RUN --mount=type=bind,target=/given,rw --mount=from=base,target=/a,rw touch /given/new /a/new && ls /given >> /listed
COPY links /etc/
RUN ls /sys/class/net > /dev/null
RUN --network=none ls /sys/class/net > /net
"#;
    let files = [("given", "from the context"), ("secret", "key"), (".dockerignore", "secret\n.dockerignore\n")];
    let directory = context(host, dockerfile, &files)?;
    fs::create_dir(directory.join("links"))?;
    symlink("../run/resolve/stub.conf", directory.join("links/resolv.conf"))?;
    built(host, &["-t", "run", "--build-arg", "WHO=me", "--progress=plain"])?;
    let root = tree(host, "run")?;
    for (file, content) in [
        ("who", "me /root\n"),
        ("tmp/uid", "0\n"),
        ("tmp/cwd", "/tmp\n"),
        ("exec form", ""),
        ("multi", "one\ntwo\n"),
        ("count", "1\n"),
        ("b-n", "n\n"),
        ("taken", "from the context"),
        ("listed", "Dockerfile\ngiven\nlinks\nDockerfile\ngiven\nlinks\nnew\n"),
        ("net", "lo\n"),
    ] {
        expect_eq!(fs::read_to_string(root.join(file))?, content);
    }
    // What the runtime made to mount on is in no layer.
    for name in ["proc", "sys", "dev", "run", "etc/hosts", "cache", "a", "b", "scratch", "given", "context"] {
        expect!(!root.join(name).exists(), "{name} is in the image");
    }
    expect!(!directory.join("new").exists(), "what a command writes into the context goes with it");
    expect_eq!(fs::read_link(root.join("etc/resolv.conf"))?.to_string_lossy(), "../run/resolve/stub.conf");
    // Beside the images between steps, of which more builds may come.
    let cached = || Ok::<_, crate::pool::Fault>(host.space_of("Build Cache")?["total"].as_u64().ok_or("a number")?);
    let before = cached()?;
    host.ok(&["builder", "prune", "-f"])?;
    expect_eq!(before - cached()?, 2);
    host.check()
}

pub fn stages_take_from_one_another(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = "FROM base AS first\nRUN echo one > /one\nFROM base AS unused\nRUN exit 3\nFROM first AS second\n\
                      RUN echo two > /two\nFROM scratch\nCOPY --from=first /one /\nCOPY --from=2 /two /sub/\n\
                      COPY --from=base /etc/passwd /\n";
    context(host, dockerfile, &[])?;
    // What the target does not need is not built.
    built(host, &["-t", "staged"])?;
    let root = tree(host, "staged")?;
    expect_eq!(fs::read_to_string(root.join("one"))?, "one\n");
    expect_eq!(fs::read_to_string(root.join("sub/two"))?, "two\n");
    expect!(root.join("passwd").exists() && !root.join("bin").exists(), "only what was copied is there");
    built(host, &["-t", "part", "--target", "first"])?;
    expect!(!tree(host, "part")?.join("two").exists(), "the target is the first stage");
    let said = build(host, &["--target", "unused"])?;
    expect!(said.code == Some(1) && said.err.contains("returned a non-zero code: 3"), "{said:?}");
    // A stage has the arguments of the one that it begins with; a trigger takes from the stages of its own build.
    context(host, "FROM base\nONBUILD COPY --from=builder /made /taken\n", &[])?;
    built(host, &["-t", "trigger"])?;
    let dockerfile = "FROM base AS builder\nARG WHAT=default\nFROM builder AS next\nFROM base AS other\nRUN exit 4\n\
                      FROM next AS builder\nRUN echo $WHAT > /made\nFROM trigger\n";
    context(host, dockerfile, &[])?;
    built(host, &["-t", "triggered", "--build-arg", "WHAT=given"])?;
    expect_eq!(fs::read_to_string(tree(host, "triggered")?.join("taken"))?, "given\n");
    host.check()
}

/// Whatever is younger than SOURCE_DATE_EPOCH has that time, wherever it comes from; what is older keeps its own.
pub fn the_same_input_gives_the_same_image(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = "FROM base\nRUN mkdir /made && echo x > /made/file\nCOPY a old /new/dir/\nCOPY tree /tree\nADD a.tar /\n\
                      COPY <<text /text\nx\ntext\nWORKDIR /work\n";
    let directory = context(host, dockerfile, &[("a", "a"), ("old", "o"), ("tree/deep/b", "b")])?;
    let at = |seconds| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let touch = |name: &str, seconds| fs::File::open(directory.join(name))?.set_modified(at(seconds));
    touch("old", 1_000_000_000)?;
    let build = |younger| -> Outcome<String> {
        for name in ["a", "tree/deep/b", "tree/deep", "tree"] {
            touch(name, younger)?;
        }
        let mut archive = tar::Builder::new(fs::File::create(directory.join("a.tar"))?);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(younger);
        archive.append_data(&mut header, "added", &b""[..])?;
        archive.finish()?;
        let mut command = host.command(&["build", "--no-cache", "-t", "same", &directory.to_string_lossy()]);
        let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output()?;
        expect!(output.status.success(), "{output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let first = build(1_800_000_000)?;
    // Not only the configuration: the times are in the layers that its diff IDs name.
    expect_eq!(build(1_900_000_001)?, first);
    let root = tree(host, "same")?;
    for (path, time) in [
        ("made/file", 1_700_000_000),
        ("new/dir/a", 1_700_000_000),
        ("new/dir/old", 1_000_000_000),
        ("tree/deep/b", 1_700_000_000),
        ("tree/deep", 1_700_000_000),
        ("added", 1_700_000_000),
        ("text", 1_700_000_000),
        ("work", 1_700_000_000),
    ] {
        expect_eq!((path, fs::metadata(root.join(path))?.mtime()), (path, time));
    }
    host.check()
}

/// Layers that were built have no archive: saving packs them again, to the same digests.
pub fn a_built_image_is_saved_and_loaded(host: &Host) -> Outcome {
    base(host)?;
    let dockerfile = "FROM base\nRUN mkdir /made && echo x > /made/file && chmod 4755 /made/file\nCOPY a /copied/\n";
    context(host, dockerfile, &[("a", "a")])?;
    let id = built(host, &["-t", "made:1"])?;
    for format in ["docker", "oci"] {
        let archive = host.file(format).to_string_lossy().into_owned();
        host.ok(&["save", "--format", format, "-o", &archive, "made:1"])?;
        host.ok(&["rmi", "made:1"])?;
        expect!(host.ok(&["load", "-i", &archive])?.contains("made:1"), "the reference came along");
        expect_eq!(host.ok(&["images", "--no-trunc", "-q", "-a"])?.contains(&id), true);
    }
    let root = tree(host, "made:1")?;
    expect_eq!(fs::metadata(root.join("made/file"))?.mode() & 0o7777, 0o4755);
    expect_eq!(fs::read_to_string(root.join("copied/a"))?, "a");
    host.check()
}
