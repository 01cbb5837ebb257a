//! The life of a container, and what many of one image cost.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    time::Instant,
};

use super::{Across, How, Workload, rebuild};
use crate::{
    bench::{
        Unit,
        rows::{Stage, inside},
        samples::Samples,
        scale::Scale,
    },
    error::{Act as _, Error, Kind, Result},
    interrupt,
    program::BUSYBOX,
    units::Bytes,
};

#[derive(Debug)]
pub(in crate::bench) struct ManyContainers;

/// See the module's comment.
pub(in crate::bench) const CONTAINERS: ManyContainers = ManyContainers;

impl Workload for ManyContainers {
    fn name(&self) -> &'static str {
        "containers"
    }

    fn about(&self) -> &'static str {
        "make containers of one image, mount, unmount and remove them: time and space of each, by their number; and a run \
         from its command to the first output of its process"
    }

    fn tests(&self) -> &'static str {
        "Copying makes containers efficient: … Any files the container does not change do not get copied to this writable \
         layer. This means that the writable layer is as small as possible."
    }

    fn needs(&self) -> &'static [crate::program::Program] {
        &[BUSYBOX]
    }

    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for ManyContainers {
    fn asks_peers(&self) -> bool {
        true
    }

    fn room(&self, scale: &Scale) -> Bytes {
        Bytes(scale.containers.iter().max().copied().unwrap_or_default() as u64 * (4 << 20))
    }

    fn cost(&self, scale: &Scale) -> f64 {
        0.3 + super::number(scale.containers.iter().sum::<usize>() as u64) * 0.04
    }

    fn prepare(&self, stage: &dyn Stage, _: &Scale) -> Result<()> {
        stage.has_layers()?;
        stage.import("shell", &mut &*rebuild::shell()?)
    }

    fn run(&self, stage: &dyn Stage, scale: &Scale, _: usize, samples: &mut Samples) -> Result<()> {
        for number in scale.containers {
            many(stage, *number, samples)?;
        }
        match stage.runner("shell", &["/bin/busybox", "echo", "first"]) {
            Ok(command) => samples.add("run to first output", "", Unit::Seconds, first_output(command)?),
            Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::MissingProgram) => {
                samples.cannot("run to first output", "", error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn many(stage: &dyn Stage, number: usize, samples: &mut Samples) -> Result<()> {
    let at = if number == 1 { "1 container".to_owned() } else { format!("{number} containers") };
    let count = super::number(number as u64);
    let names: Vec<String> = (0..number).map(|number| format!("one-of-many-{number}")).collect();
    stage.settle()?;
    let before = stage.used();
    let each = |samples: &mut Samples, what, work: &dyn Fn(&str) -> Result<()>| -> Result<()> {
        let time = super::seconds(|| names.iter().try_for_each(|name| interrupt::check().and_then(|()| work(name))))?;
        samples.add(what, &at, Unit::Seconds, time / count);
        Ok(())
    };
    each(samples, "create", &|name| stage.create(name, "shell"))?;
    match stage.has_mounts() {
        Ok(()) => {
            each(samples, "mount", &|name| stage.mount(name).map(drop))?;
            each(samples, "unmount", &|name| stage.unmount(name))?;
        }
        Err(error) => {
            names.iter().try_for_each(|name| inside(stage, name, |_| Ok(())))?;
            for what in ["mount", "unmount"] {
                samples.cannot(what, &at, error.to_string());
            }
        }
    }
    stage.write_out()?;
    let after = stage.used();
    each(samples, "remove", &|name| stage.remove(name))?;
    match (before, after) {
        (Ok(before), Ok(after)) => {
            let grown = super::number(after.0) - super::number(before.0);
            samples.add("space, mounted once", &at, Unit::Bytes, grown / count);
        }
        (Err(error), _) | (_, Err(error)) => samples.cannot("space, mounted once", &at, error.to_string()),
    }
    Ok(())
}

/// Seconds from starting a command until it says something.
fn first_output(mut command: Command) -> Result<f64> {
    let act = || format!("run {}", command.get_program().display());
    let text = act();
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().act(|| text.clone())?;
    let mut first = [0];
    let said = child.stdout.as_mut().map_or(Ok(0), |out| out.read(&mut first));
    let time = start.elapsed().as_secs_f64();
    let output = child.wait_with_output().act(|| text.clone())?;
    if said.act(|| text.clone())? == 1 && output.status.success() {
        return Ok(time);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(Kind::Io, format!("{text}: {}: {}", output.status, words.trim())))
}
