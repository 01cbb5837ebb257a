//! A compile: sources of the image, objects and a program in the container.

use std::{fmt::Write as _, path::Path};

use super::{Across, How, Workload};
use crate::{
    bench::{
        command::{other, succeed},
        rows::{Stage, inside, with_container},
        samples::Samples,
        scale::Scale,
        tree,
    },
    error::Result,
    interrupt,
    program::{CC, Program},
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct Compile;

/// See the module's comment.
pub(in crate::bench) const COMPILE: Compile = Compile;

impl Workload for Compile {
    fn name(&self) -> &'static str {
        "compile"
    }

    fn about(&self) -> &'static str {
        "compile sources of the image with the C compiler, one by one, and link them, with sync"
    }

    fn tests(&self) -> &'static str {
        "RUN make /app"
    }

    fn needs(&self) -> &'static [Program] {
        &[CC]
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for Compile {
    fn room(&self, scale: &Scale) -> Bytes {
        Bytes::mib(scale.sources as u64)
    }

    fn cost(&self, scale: &Scale) -> f64 {
        super::number(scale.sources as u64) * 0.1 + 0.2
    }

    fn prepare(&self, stage: &dyn Stage, scale: &Scale) -> Result<()> {
        let sources = scale.sources;
        let mut tar = tree::stream(move |tar| {
            (0..sources).try_for_each(|number| {
                let text = source(number, sources);
                tree::add_file(tar, Path::new(&format!("{number}.c")), text.len() as u64, text.as_bytes())
            })
        })?;
        stage.import("sources", &mut tar)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        let at = format!("{} sources", scale.sources);
        with_container(stage, ("builder", "sources"), || {
            inside(stage, "builder", |root| samples.time("compile and link", &at, || compile(root, scale.sources)))
        })
    }
}

/// A hundred small functions, and a `main` in the first.
fn source(number: usize, sources: usize) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <string.h>\n");
    for function in 0..100 {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "int f{number}_{function}(const char *s) {{ char b[64]; snprintf(b, sizeof b, \"%s-{function}\", s); return \
             (int)strlen(b) * {number}; }}"
        );
    }
    if number == 0 {
        for other in 1..sources {
            let _ = writeln!(text, "int f{other}_0(const char *);");
        }
        text += "int main(void) { int sum = f0_0(\"a\");";
        for other in 1..sources {
            let _ = write!(text, " sum += f{other}_0(\"b\");");
        }
        text += " return sum < 0; }\n";
    }
    text
}

fn compile(root: &Path, sources: usize) -> Result<()> {
    let mut objects = Vec::new();
    for number in 0..sources {
        interrupt::check()?;
        let (source, object) = (root.join(format!("{number}.c")), root.join(format!("{number}.o")));
        let mut command = other(CC, &["-O1", "-c", "-o"])?;
        command.arg(&object).arg(&source);
        succeed(command)?;
        objects.push(object);
    }
    let mut command = other(CC, &["-o"])?;
    command.arg(root.join("program")).args(objects);
    succeed(command)?;
    super::write_out(root)
}
