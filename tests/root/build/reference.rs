//! The Dockerfile reference, instruction by instruction: each case is a Dockerfile and what its commands say.

use std::fs;

use super::{base, build, context, tree};
use crate::{expect, expect_eq, lamina::Host, pool::Outcome};

/// A Dockerfile, and the lines that its commands write, all of them in this order.
type Case = (&'static str, &'static [&'static str]);

const CASES: [Case; 9] = [
    (
        "ARG IMG=base\nARG OUTER=outer\nFROM ${IMG:-none} AS one\nARG OUTER\nARG P\nARG D=${P##*/}\n\
         ENV A=${P%.gz} B=${P%%.*} C=${P#/usr/} E=${P/usr/opt} F=${P//l/L} G=${U:-dflt} H=${P:+set} I=${U:+set} J=\\$P\n\
         RUN echo \"A=$A B=$B C=$C D=$D\"; echo \"E=$E F=$F G=$G H=$H I=$I J=$J N=$OUTER U=${U:-shell}\"\n\
         FROM base\nRUN echo \"P=[$P] OUTER=[$OUTER]\"\nCOPY --from=ONE /etc/passwd /p1\nCOPY --from=0 /etc/passwd /p2\n",
        &[
            "A=/usr/local/lib.tar B=/usr/local/lib C=local/lib.tar.gz D=lib.tar.gz",
            "E=/opt/local/lib.tar.gz F=/usr/LocaL/Lib.tar.gz G=dflt H=set I= J=$P N=outer U=shell",
            "P=[] OUTER=[]",
        ],
    ),
    (
        "FROM --platform=$BUILDPLATFORM base\nARG TARGETOS TARGETPLATFORM\nARG P=1\nENV P=env\nARG P=2\n\
         RUN echo $TARGETOS [$BUILDOS] $P; case $TARGETPLATFORM in linux/*) echo ours;; esac\n",
        &["linux [] env", "ours"],
    ),
    (
        "# escape=`\n# a remark\n# escape=x\nfrom base\nrun echo one `\n# a remark\n\n  && echo two\nCOPY a `\n  b `\n  /esc/\nRUN ls /esc\n",
        &["one", "two", "a", "b"],
    ),
    (
        "FROM base\r\nARG W=world\r\nRUN echo crlf\r\nRUN <<EOF\r\necho \"hello $W\"\r\nEOF\r\n",
        &["crlf", "hello world"],
    ),
    (
        "FROM base\nARG W=world\nRUN <<-'EOF' cat && echo after\n\ttabbed $W\n\tEOF\nCOPY <<EOF <<'raw' /h/\nx $W\nEOF\nraw $W\n\
         raw\nRUN cat /h/EOF /h/raw\nRUN <<EOF1 cat; cat <<EOF2\nfirst\nEOF1\nsecond\nEOF2\n",
        &["tabbed $W", "after", "x world", "raw $W", "first", "second"],
    ),
    (
        "FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN false; echo not reached; exit 0\n",
        &["returned a non-zero code: 1"],
    ),
    (
        "FROM base\nRUN [\"/bin/busybox\", \"echo\", \"exec $HOME\"]\nRUN echo 'joe:x:70:80::/home/joe:/bin/sh' >> /etc/passwd\n\
         USER joe\nWORKDIR /made\nRUN id -u; id -g; echo $HOME; stat -c %u:%g .\nUSER 1234:5\nRUN id -u; id -g\n\
         COPY --chown=joe a /joe\nCOPY --chown=70 a /number\nCOPY --chown=:9 a /group\nCOPY --chown=joe:www a /both\n\
         RUN stat -c %u:%g /joe /number /group /both\n",
        &["exec $HOME", "70", "80", "/home/joe", "70:80", "1234", "5", "70:80", "70:70", "0:9", "70:33"],
    ),
    (
        "FROM base\nCOPY a nothing* /x/\nCOPY none* /y/\nCOPY none* /z\nCOPY [\"q u\", \"arr[[]0].txt\", \"/q/\"]\nCOPY em?ty /e/\n\
         COPY link /l\nWORKDIR /w\nCOPY a .\nCOPY b ../up\nRUN ls /x /y /q /e; test -e /z || echo no z; cat /l /w/a /up; echo\n",
        &["/e:", "/q:", "arr[0].txt", "q u", "/x:", "a", "/y:", "no z", "aab"],
    ),
    (
        "FROM base AS onbuild\nONBUILD ARG Q=5\nONBUILD COPY a /onb/\nONBUILD RUN echo \"trigger $Q\"\nONBUILD ENV FROMON=1\n\
         FROM onbuild AS child\nRUN echo \"child $FROMON $Q\"\nFROM child\nRUN ls /onb\n",
        &["trigger 5", "child 1 5", "a"],
    ),
];

pub fn the_reference_is_followed(host: &Host) -> Outcome {
    base(host)?;
    let files = [("a", "a"), ("b", "b"), ("q u", ""), ("arr[0].txt", "")];
    let directory = context(host, "", &files)?;
    fs::create_dir(directory.join("empty"))?;
    std::os::unix::fs::symlink("a", directory.join("link"))?;
    for (dockerfile, lines) in CASES {
        context(host, dockerfile, &[])?;
        let said = build(host, &["--build-arg", "P=/usr/local/lib.tar.gz"])?;
        let fails = lines.iter().any(|line| line.contains("non-zero"));
        expect_eq!(said.code, Some(i32::from(fails)), "{dockerfile}: {said:?}");
        let mut told = said.err.split_inclusive('\n').filter(|line| !line.starts_with("Step ")).map(str::trim_end);
        for line in lines {
            let found = told.any(|told| told == *line || fails && told.ends_with(line));
            expect!(found, "{line:?} is not where it should be in what {dockerfile} says: {said:?}");
        }
    }
    ignored_and_recorded(host)
}

fn ignored_and_recorded(host: &Host) -> Outcome {
    let ignore = "**/*.o\n!keep.o\n!**/special/*.o\n# remark\n/top\nsub/*/x\n  \ndir/\n.dockerignore\nDockerfile*\n[ab]\nq*\narr*\nlink\n";
    let names =
        ["x.o", "keep.o", "top", "d/y.o", "d/keep.o", "d/special/z.o", "d/top/f", "sub/one/x", "sub/one/y", "dir/f"];
    let mut files: Vec<_> = names.iter().map(|name| (*name, "")).collect();
    files.push((".dockerignore", ignore));
    let dockerfile = "FROM base\nMAINTAINER Me <me@example.org>\nCOPY . /c\nWORKDIR /a\nWORKDIR b\nARG V=1 W\n\
                      HEALTHCHECK --interval=1m --timeout=3s --start-period=5s --start-interval=1s --retries=3 CMD [\"true\", \"x\"]\n\
                      ENV ONE two  three\nLABEL a=b\\ c \"d e\"='f'\n";
    context(host, dockerfile, &files)?;
    let said = build(host, &["-t", "recorded"])?;
    expect_eq!(said.code, Some(0), "{said:?}");
    let root = tree(host, "recorded")?.join("c");
    let found: Vec<&str> = names.into_iter().filter(|name| root.join(name).exists()).collect();
    expect_eq!(found, ["keep.o", "d/special/z.o", "d/top/f", "sub/one/y"]);
    let image = &host.json(&["inspect", "recorded"])?[0];
    expect_eq!(image["Author"], "Me <me@example.org>");
    let health = serde_json::json!({
        "Test": ["CMD", "true", "x"], "Interval": 60_000_000_000u64, "Timeout": 3_000_000_000u64,
        "StartPeriod": 5_000_000_000u64, "StartInterval": 1_000_000_000u64, "Retries": 3,
    });
    let runs = &image["Config"];
    expect_eq!(
        (&runs["Healthcheck"], &runs["Env"][0], &runs["Labels"]),
        (&health, &"ONE=two  three".into(), &serde_json::json!({"a": "b c", "d e": "f"}))
    );
    let history = host.json(&["history", "recorded"])?;
    let steps: Vec<&str> =
        history.as_array().into_iter().flatten().filter_map(|row| row["created_by"].as_str()).collect();
    for step in ["MAINTAINER Me <me@example.org>", "WORKDIR /a", "WORKDIR /a/b", "ARG V=1 W", "COPY . /c"] {
        expect!(steps.contains(&step), "{step} is not in {steps:?}");
    }
    host.check()
}
