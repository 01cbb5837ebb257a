use std::time::Duration;

use super::{Command, Dockerfile, Healthcheck, HereDoc, Instruction, Position, Program, Run, RunMount, Source, Step};
use crate::units::Bytes;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// The first step after a `FROM` that is put before the text.
fn step(text: &str) -> Step {
    parse(&format!("FROM a\n{text}")).stages[0].steps[0].clone()
}

fn instruction(text: &str) -> Instruction {
    step(text).instruction
}

fn error(text: &str) -> String {
    Dockerfile::parse("Dockerfile", text).unwrap_err().to_string()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn shell(line: &str) -> Command {
    Command::Shell(line.to_owned())
}

fn exec(words: &[&str]) -> Command {
    Command::Exec(strings(words))
}

fn run(text: &str) -> Run {
    match instruction(text) {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn document(name: &str, content: &str, expand: bool) -> HereDoc {
    HereDoc { name: name.to_owned(), content: content.to_owned(), expand }
}

#[test]
fn stages_have_bases_names_and_steps() {
    let file = parse(
        "# syntax=docker/dockerfile:1\nARG V=1\nARG W\n\nFROM --platform=$P golang:$V AS Build\nRUN make \\\n  # why\n  all\n\n\
         from scratch\nCopy --from=build /a /\n",
    );
    assert_eq!(file.escape, '\\');
    assert_eq!(file.global_args.len(), 2);
    let [build, last] = file.stages.as_slice() else { panic!("{:?}", file.stages) };
    assert_eq!(build.name.as_deref(), Some("build"));
    assert_eq!(build.base, "golang:$V");
    assert_eq!(build.platform.as_deref(), Some("$P"));
    assert_eq!(build.position, Position { line: 5, column: 1 });
    assert_eq!(build.text, "FROM --platform=$P golang:$V AS Build");
    assert_eq!(build.steps[0].text, "RUN make   all");
    assert_eq!(build.steps[0].position, Position { line: 6, column: 1 });
    assert_eq!((last.name.as_deref(), last.base.as_str()), (None, "scratch"));

    let lookup = |name: &str| (name == "V").then(|| "1.24".to_owned());
    assert_eq!(file.base(build, &lookup).unwrap(), "golang:1.24");
    assert_eq!(file.platform(build, &lookup).unwrap(), None);
}

#[test]
fn commands_have_two_forms() {
    for (text, expected) in [
        ("CMD echo $HOME  x", shell("echo $HOME  x")),
        ("CMD [\"a\", \"b c\"]", exec(&["a", "b c"])),
        ("CMD [ \"a\\u00e9\\t\" ] ", exec(&["aé\t"])),
        ("CMD []", exec(&[])),
        ("CMD ['a']", shell("['a']")),
        ("CMD [ -e x ] && y", shell("[ -e x ] && y")),
        ("CMD [[ -e x ]]", shell("[[ -e x ]]")),
        ("cmd [\"a\", \\\n # c\n \"b\"]", exec(&["a", "b"])),
    ] {
        assert_eq!(instruction(text), Instruction::Cmd(expected), "{text}");
    }
    assert_eq!(instruction("ENTRYPOINT []"), Instruction::Entrypoint(exec(&[])));
    assert_eq!(instruction("SHELL [\"/bin/bash\", \"-c\"]"), Instruction::Shell(strings(&["/bin/bash", "-c"])));
    assert_eq!(run("RUN a && \\\n\n  b").command, shell("a &&   b"));
}

#[test]
fn names_and_values() {
    for (text, expected) in [
        ("ENV A=1 B='x y' C=\"p\\\"q\" D=a\\ b", vec![("A", "1"), ("B", "'x y'"), ("C", "\"p\\\"q\""), ("D", "a\\ b")]),
        ("ENV A some value", vec![("A", "some value")]),
        ("ENV A b=c", vec![("A", "b=c")]),
        ("ENV A=", vec![("A", "")]),
        ("ENV A=b=c \\\n    B=2", vec![("A", "b=c"), ("B", "2")]),
    ] {
        assert_eq!(instruction(text), Instruction::Env(pairs(&expected)), "{text}");
    }
    assert_eq!(
        instruction("LABEL \"com.example.v\"=\"a b\" x=y"),
        Instruction::Label(pairs(&[("\"com.example.v\"", "\"a b\""), ("x", "y")]))
    );
    let arguments = [("A", None), ("B", Some("")), ("C", Some("'x y'"))];
    let arguments = arguments.map(|(name, value): (&str, Option<&str>)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(instruction("ARG A B= C='x y'"), Instruction::Arg(arguments.to_vec()));
}

#[test]
fn plain_arguments() {
    for (text, expected) in [
        ("EXPOSE 80/tcp  $P 90-91", Instruction::Expose(strings(&["80/tcp", "$P", "90-91"]))),
        ("VOLUME /a /b", Instruction::Volume(strings(&["/a", "/b"]))),
        ("VOLUME [\"/a b\"]", Instruction::Volume(strings(&["/a b"]))),
        ("WORKDIR /a b", Instruction::Workdir("/a b".to_owned())),
        ("USER me:us", Instruction::User("me:us".to_owned())),
        ("STOPSIGNAL SIGTERM", Instruction::Stopsignal("SIGTERM".to_owned())),
        ("MAINTAINER Jane <j@x>", Instruction::Maintainer("Jane <j@x>".to_owned())),
        ("# escape\nWORKDIR c:\\\\x", Instruction::Workdir("c:\\\\x".to_owned())),
    ] {
        assert_eq!(instruction(text), expected, "{text}");
    }
}

#[test]
fn files_are_copied_from_many_places() {
    let Instruction::Copy(copy) = instruction(
        "COPY --from=base --chown='a':b --chmod=755 --link --parents=false --exclude=*.o --exclude=x a \"b\" dir/",
    ) else {
        panic!()
    };
    assert_eq!(copy.sources, [Source::Path("a".to_owned()), Source::Path("\"b\"".to_owned())]);
    assert_eq!(copy.dest, "dir/");
    assert_eq!(copy.from.as_deref(), Some("base"));
    assert_eq!(copy.chown.as_deref(), Some("a:b"));
    assert_eq!(copy.chmod.as_deref(), Some("755"));
    assert_eq!((copy.link, copy.parents), (true, false));
    assert_eq!(copy.exclude, ["*.o", "x"]);

    let Instruction::Add(add) =
        instruction("ADD --checksum=sha256:ab --keep-git-dir=true --unpack=false [\"a b\", \"/\"]")
    else {
        panic!()
    };
    assert_eq!(add.sources, [Source::Path("a b".to_owned())]);
    assert_eq!(add.checksum.as_deref(), Some("sha256:ab"));
    assert_eq!((add.keep_git_dir, add.unpack, add.link), (true, Some(false), false));

    let Instruction::Copy(copy) = instruction("COPY <<A.txt b <<-'C D' /x/\na $A\nA.txt\n\t\tc\n\tC D\n") else {
        panic!()
    };
    let expected = [
        Source::HereDoc(document("A.txt", "a $A\n", true)),
        Source::Path("b".to_owned()),
        Source::HereDoc(document("C D", "c\n", false)),
    ];
    assert_eq!(copy.sources, expected);
    assert_eq!(copy.dest, "/x/");
}

#[test]
fn here_documents_run_as_the_reference_says() {
    for (text, program) in [
        ("RUN <<EOF\na\n\tb\nEOF", Program::Shell("a\n\tb\n".to_owned())),
        ("RUN <<-'EOF'\n\ta\n\tEOF", Program::Shell("a\n".to_owned())),
        ("RUN --network=none << EOF\na\nEOF", Program::Shell("a\n".to_owned())),
        (
            "RUN <<x.py\n#!/usr/bin/env python\n1\nx.py",
            Program::Script { name: "x.py".to_owned(), content: "#!/usr/bin/env python\n1\n".to_owned() },
        ),
        ("RUN python3 <<EOF\nprint(1)\nEOF", Program::Shell("python3 <<EOF\nprint(1)\nEOF".to_owned())),
        ("RUN cat <<'A' <<B\n$x\nA\ny\nB\n", Program::Shell("cat <<'A' <<B\n$x\nA\ny\nB".to_owned())),
        ("RUN <<EOF cat\nx\nEOF", Program::Shell("<<EOF cat\nx\nEOF".to_owned())),
        ("RUN [\"a\", \"<<EOF\"]", Program::Exec(strings(&["a", "<<EOF"]))),
        ("RUN plain", Program::Shell("plain".to_owned())),
    ] {
        assert_eq!(run(text).program(), program, "{text:?}");
        assert_eq!(step(text).text, text.lines().next().unwrap());
    }
}

#[test]
fn healthchecks() {
    assert_eq!(instruction("HEALTHCHECK none"), Instruction::Healthcheck(Healthcheck::None));
    let expected = Healthcheck::Check {
        command: exec(&["curl", "x"]),
        interval: Some(Duration::from_secs(330)),
        timeout: Some(Duration::from_millis(1)),
        start_period: None,
        start_interval: Some(Duration::from_secs(2)),
        retries: Some(3),
    };
    let text = "HEALTHCHECK --interval=5m30s --timeout=1ms --start-period=0s --start-interval=2s --retries=3 \\\n  \
                CMD [\"curl\", \"x\"]";
    assert_eq!(instruction(text), Instruction::Healthcheck(expected));
    let Instruction::Healthcheck(Healthcheck::Check { command, interval, retries, .. }) =
        instruction("HEALTHCHECK --retries=0 cmd curl $X || exit 1")
    else {
        panic!()
    };
    assert_eq!((command, interval, retries), (shell("curl $X || exit 1"), None, None));
}

#[test]
fn triggers_are_kept_and_read_again() {
    for (text, trigger) in [
        ("ONBUILD  RUN a \\\n  b", "RUN a   b"),
        ("ONBUILD COPY <<A <<-B /\nx\nA\n\ty\n\tB\n", "COPY <<A <<-B /\nx\nA\ny\nB"),
        ("ONBUILD RUN cat <<'E'\n$x\nE\n", "RUN cat <<'E'\n$x\nE"),
    ] {
        assert_eq!(instruction(text), Instruction::Onbuild(trigger.to_owned()), "{text:?}");
        let again = Dockerfile::trigger("trigger", trigger).unwrap();
        assert_eq!(again.instruction, instruction(&text.replacen("ONBUILD", "", 1)), "{text:?}");
        assert_eq!(again.text, trigger.lines().next().unwrap());
    }
    for text in ["", "FROM a", "ONBUILD RUN x", "MAINTAINER x", "RUN x\nRUN y", "WHAT x", "RUN cat <<E\n", "ADD x"] {
        let error = Dockerfile::trigger("trigger", text).unwrap_err().to_string();
        assert!(error.starts_with("trigger:"), "{text:?}: {error}");
    }
}

#[test]
fn expansion_reaches_what_the_reference_lists() {
    let lookup = |name: &str| {
        let values = [("A", "a b"), ("N", "5"), ("EMPTY", ""), ("PORTS", "80 443")];
        values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    for (text, expanded) in [
        ("ENV X=$A Y=\"$X-${N:-1}\" 'Z'='$A' W=\\$A", "ENV X='a b' Y=-5 Z=\\$A W=\\$A"),
        ("ENV X the '$A'", "ENV X=the\\ \\$A"),
        ("LABEL k$N=\"$A\"", "LABEL k5='a b'"),
        ("ARG X=${N}0 $N", "ARG X=50 5"),
        ("EXPOSE $PORTS 9$N $EMPTY", "EXPOSE 80 443 95"),
        ("USER u$N:'g'", "USER u5:g"),
        ("WORKDIR /$A/\"x\"", "WORKDIR /a b/x"),
        ("STOPSIGNAL $N", "STOPSIGNAL 5"),
        ("VOLUME [\"/$A\"]", "VOLUME [\"/a b\"]"),
        ("RUN echo $A '$N'", "RUN echo $A '$N'"),
        ("RUN <<E\n$A\nE", "RUN <<E\n$A\nE"),
        ("CMD [\"$A\"]", "CMD [\"$A\"]"),
        ("ENTRYPOINT $A", "ENTRYPOINT $A"),
        ("HEALTHCHECK CMD $A", "HEALTHCHECK CMD $A"),
        ("ONBUILD ENV X=$A", "ONBUILD ENV X=$A"),
        ("SHELL [\"$A\"]", "SHELL [\"$A\"]"),
    ] {
        let once = instruction(text).expand(&lookup, '\\').unwrap();
        // What is expected is written so that expanding it with nothing set only takes its quotes off.
        let plain = match instruction(expanded) {
            quoted @ (Instruction::Env(_) | Instruction::Label(_)) => quoted.expand(&|_| None, '\\').unwrap(),
            plain => plain,
        };
        assert_eq!(once, plain, "{text}");
    }
    let Instruction::Copy(copy) =
        instruction("COPY --chown=$N --chmod=7$N --exclude=$N $N* \"d\"$N <<E <<'F' $N/\n'$N' \\$N\nE\n$N\nF")
            .expand(&lookup, '\\')
            .unwrap()
    else {
        panic!()
    };
    assert_eq!((copy.chown.as_deref(), copy.chmod.as_deref()), (Some("5"), Some("75")));
    assert_eq!((copy.exclude, copy.dest.as_str()), (strings(&["5"]), "5/"));
    let expected = [
        Source::Path("5*".to_owned()),
        Source::Path("d5".to_owned()),
        Source::HereDoc(document("E", "'5' $N\n", true)),
        Source::HereDoc(document("F", "$N\n", false)),
    ];
    assert_eq!(copy.sources, expected);
    let Instruction::Run(run) =
        instruction("RUN --mount=type=tmpfs,target=/$N,size=${N}m x").expand(&lookup, '\\').unwrap()
    else {
        panic!()
    };
    assert_eq!(run.mounts, [RunMount::Tmpfs { target: "/5".to_owned(), size: Some(Bytes::mib(5)) }]);
}

#[test]
fn mistakes_are_pointed_at() {
    for (text, told) in [
        ("", "1:1: no stage: a Dockerfile needs a FROM"),
        ("ARG X\n", "1:1: no stage: a Dockerfile needs a FROM"),
        ("# c\n\nFORM a", "3:1: unknown instruction 'FORM'; did you mean 'FROM'?"),
        ("FROM a\n  apt-get install", "2:3: unknown instruction 'apt-get'"),
        ("RUN x\nFROM a", "1:1: before the first FROM there is only ARG"),
        ("FROM", "1:1: FROM needs an image, or an image, AS and a name"),
        ("FROM a AS", "1:1: FROM needs an image"),
        ("FROM a b c", "1:1: FROM needs an image"),
        ("FROM a AS 1b", "1:11: bad stage name '1b'"),
        ("FROM --platfrom=x a", "1:6: FROM has no flag '--platfrom'; did you mean '--platform'?"),
    ] {
        let error = error(text);
        assert!(error.starts_with(&format!("Dockerfile:{told}")), "{text:?}: {error}");
    }
    for (text, told) in [
        ("COPY \\\n  --chwn=a b c", "3:3: COPY has no flag '--chwn'; did you mean '--chown'?"),
        ("COPY --chown b c", "2:6: the flag '--chown' needs a value"),
        ("COPY --from=a --from=b c d", "2:15: COPY has the flag '--from' twice"),
        ("COPY --link=maybe a b", "2:6: the flag '--link' is true or false, not 'maybe'"),
        ("COPY --from=$X a b", "2:6: '--from' has no variables"),
        ("COPY a", "2:1: COPY needs a source and a destination"),
        ("COPY", "2:1: COPY needs a source and a destination"),
        ("ADD []", "2:1: ADD needs a source and a destination"),
        ("ADD [1]", "2:5: a JSON array here is of strings only"),
        ("COPY a <<E\nE", "2:1: a here-document cannot be a destination"),
        ("COPY << E /\nE", "2:1: here-document 'E': no space may follow '<<'"),
        ("RUN <<E\nx", "2:5: here-document 'E' does not end"),
        ("RUN", "2:1: RUN needs a command"),
        ("RUN []", "2:1: RUN needs a command"),
        ("CMD [1]", "2:5: a JSON array here is of strings only"),
        ("CMD", "2:1: CMD needs a command"),
        ("ENTRYPOINT --x y", "2:12: ENTRYPOINT has no flag '--x'"),
        ("RUN --mount=type=secret,id=x y", "2:5: mounts of type 'secret' are not supported"),
        (
            "RUN --network=hots x",
            "2:5: '--network' is one of 'default', 'none', 'host', not 'hots'; did you mean 'host'?",
        ),
        ("ENV", "2:1: ENV needs an argument"),
        ("ENV A", "2:1: ENV needs a value"),
        ("ENV A=1 =2", "2:9: a name of ENV is blank"),
        ("ENV A=1 B", "2:9: 'B' has no '=': ENV is NAME=VALUE"),
        ("LABEL =x", "2:7: a name of LABEL is blank"),
        ("ARG", "2:1: ARG needs an argument"),
        ("ARG =1", "2:5: a name of ARG is blank"),
        ("EXPOSE", "2:1: EXPOSE needs an argument"),
        ("VOLUME [\"\"]", "2:1: VOLUME needs paths that are not empty"),
        ("VOLUME []", "2:1: VOLUME needs paths that are not empty"),
        ("SHELL bash -c", "2:1: SHELL needs a JSON array"),
        ("SHELL []", "2:1: SHELL needs a JSON array"),
        ("WORKDIR", "2:1: WORKDIR needs an argument"),
        ("HEALTHCHECK", "2:1: HEALTHCHECK needs CMD and a command, or NONE"),
        ("HEALTHCHECK CMD", "2:1: HEALTHCHECK needs a command"),
        ("HEALTHCHECK CMD []", "2:1: HEALTHCHECK needs a command"),
        ("HEALTHCHECK NONE x", "2:1: HEALTHCHECK NONE has no arguments"),
        ("HEALTHCHECK --interval=5 CMD x", "2:13: '--interval=5' is no duration of 1ms or more"),
        ("HEALTHCHECK --timeout=10us CMD x", "2:13: '--timeout=10us' is no duration of 1ms or more"),
        ("HEALTHCHECK --retries=-1 CMD x", "2:13: '--retries=-1' is no number from 0 to 2147483647"),
        ("ONBUILD", "2:1: ONBUILD needs an argument"),
        ("ONBUILD ONBUILD RUN x", "2:9: ONBUILD cannot be a trigger of ONBUILD"),
        ("ONBUILD from x", "2:9: FROM cannot be a trigger of ONBUILD"),
        ("ONBUILD MAINTAINER x", "2:9: MAINTAINER cannot be a trigger of ONBUILD"),
        ("ONBUILD COPY x", "2:9: COPY needs a source and a destination"),
    ] {
        let error = error(&format!("FROM a\n{text}"));
        assert!(error.starts_with(&format!("Dockerfile:{told}")), "{text:?}: {error}");
    }
}

#[test]
fn mistakes_in_expansion_are_pointed_at() {
    let file = parse("FROM ${X}\n  ENV A=1 \\\n B=${A");
    let stage = &file.stages[0];
    let error = file.expand(&stage.steps[0], &|_| None).unwrap_err().to_string();
    assert_eq!(error, "Dockerfile:2:3: cannot expand '${A': the '}' that ends '${...' is missing");
    let error = file.base(stage, &|_| None).unwrap_err().to_string();
    assert_eq!(error, "Dockerfile:1:1: the base '${X}' comes to an empty name");
}

#[test]
fn the_escape_directive_holds_everywhere() {
    let file = parse("# escape=`\nFROM a\nENV A=`$X B=c:\\d `\n  C=\"`\"\"\nWORKDIR c:\\\\\n");
    let steps = &file.stages[0].steps;
    assert_eq!(
        file.expand(&steps[0], &|_| None).unwrap(),
        Instruction::Env(pairs(&[("A", "$X"), ("B", "c:\\d"), ("C", "\"")]))
    );
    assert_eq!(file.expand(&steps[1], &|_| None).unwrap(), Instruction::Workdir("c:\\\\".to_owned()));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = Dockerfile::parse("Dockerfile", &text);
    }

    #[test]
    fn anything_like_a_dockerfile_is_read_or_refused(
        text in "(FROM a|RUN|COPY|ADD|ENV|LABEL|ARG|ONBUILD|HEALTHCHECK|CMD|SHELL|<<E|<<-'E'|E|\\[|\\]|[\"'\\\\`$={},# \\t]|--|--from=|--mount=|é|\r?\n){0,40}"
    ) {
        if let Ok(file) = Dockerfile::parse("Dockerfile", &format!("FROM a\n{text}")) {
            for step in file.stages.iter().flat_map(|stage| &stage.steps) {
                let _ = file.expand(step, &|name| (name.len() == 1).then(|| text.clone()));
                if let Instruction::Onbuild(trigger) = &step.instruction {
                    let _ = Dockerfile::trigger("trigger", trigger);
                }
            }
        }
    }
}
