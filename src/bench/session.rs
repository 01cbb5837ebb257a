//! A workload on all rows, run by run: the rows take turns within each run, and each run begins with another row, so that
//! what drifts or comes in waves meets all of them.
//!
//! Invariant: what was measured until a row fails, or until a signal, is kept; each row's disk is gone when this returns.

use super::{
    report::{Absent, Series},
    rows::{Row, Stage},
    samples::Samples,
    scale::Scale,
    workload::{Across, Workload},
};
use crate::{
    error::{Error, Kind, Result},
    interrupt,
};

/// What is told while it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Name of the workload.
    pub workload: &'static str,
    /// Name of the row.
    pub row: &'static str,
    /// Number of the run, from 1; 0 while images are made and for the run that only warms up.
    pub run: usize,
}

/// A row on its way through the runs.
struct Lane {
    row: &'static dyn Row,
    stage: Option<Box<dyn Stage>>,
    samples: Samples,
    ended: Option<Error>,
}

/// What came of a workload.
#[derive(Debug, Default)]
pub(super) struct Came {
    pub(super) series: Vec<Series>,
    pub(super) absent: Vec<Absent>,
}

/// Where and how often.
pub(super) struct Session<'a> {
    pub(super) directory: &'a std::path::Path,
    pub(super) scale: &'a Scale,
    pub(super) runs: usize,
    pub(super) rows: Vec<&'static dyn Row>,
    pub(super) tell: &'a mut dyn FnMut(Step),
}

impl Session<'_> {
    /// Measures. A signal is seen by the caller, who asks again.
    pub(super) fn measure(&mut self, workload: &'static dyn Workload, across: &dyn Across) -> Came {
        // Goes after the lanes.
        let begun = if self.rows.is_empty() { Ok(None) } else { across.begin(self.directory, self.scale) };
        let across = match &begun {
            Ok(Some(begun)) => &**begun,
            _ => across,
        };
        let mut lanes: Vec<Lane> = Vec::new();
        for row in self.rows.clone() {
            let mut lane = Lane { row, stage: None, samples: Samples::default(), ended: None };
            lane.go(|lane| {
                row.usable()?;
                (self.tell)(Step { workload: workload.name(), row: row.name(), run: 0 });
                begun.as_ref().map_err(|error| Error::new(error.kind(), error.to_string()))?;
                workload.needs().iter().try_for_each(|program| program.find().map(drop))?;
                let stage = row.stage(self.directory, self.scale.disk)?;
                let stage = lane.stage.insert(stage);
                across.prepare(&**stage, self.scale)
            });
            lanes.push(lane);
        }
        for run in usize::from(!self.scale.warms_up)..=self.runs {
            for turn in 0..lanes.len() {
                let place = (run + turn) % lanes.len();
                self.run_one(workload, across, &mut lanes[place], run);
            }
        }
        let mut came = Came::default();
        for lane in lanes {
            lane.finish(workload, &mut came);
        }
        came
    }

    fn run_one(&mut self, workload: &dyn Workload, across: &dyn Across, lane: &mut Lane, run: usize) {
        if lane.ended.is_some() {
            return;
        }
        (self.tell)(Step { workload: workload.name(), row: lane.row.name(), run });
        let scale = self.scale;
        lane.go(|lane| {
            let Some(stage) = &lane.stage else { return Ok(()) };
            if run == 0 {
                // Warms up; what cannot be done is found out again.
                return across.run(&**stage, scale, run, &mut Samples::default());
            }
            across.run(&**stage, scale, run, &mut lane.samples)
        });
    }
}

impl Lane {
    /// Does `work` unless a signal came; if it fails, that was the row's last.
    fn go(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) {
        let done = interrupt::check().and_then(|()| work(self));
        // A terminal sends Ctrl-C to the programs that run, too, and they tell their own story of it.
        if let Err(error) = done.map_err(|error| interrupt::check().err().unwrap_or(error)) {
            self.ended = Some(error);
            self.stage = None;
        }
    }

    fn finish(self, workload: &dyn Workload, came: &mut Came) {
        let (workload, row) = (workload.name(), self.row.name());
        let has_samples = !self.samples.series.is_empty();
        for raw in self.samples.series {
            came.series.extend(Series::of(workload, row, (raw.what, &raw.at), raw.unit, raw.values));
        }
        let absent = |what: &str, at: &str, failed, reason| {
            let [workload, row, what, at] = [workload, row, what, at].map(str::to_owned);
            Absent { workload, row, what, at, failed, reason }
        };
        for missing in self.samples.absent {
            came.absent.push(absent(missing.what, &missing.at, false, missing.reason));
        }
        if let Some(error) = self.ended {
            let fine = matches!(error.kind(), Kind::Unsupported | Kind::MissingProgram);
            let reason = if error.kind() == Kind::Interrupted && has_samples {
                "interrupted; the samples until then are kept".to_owned()
            } else {
                error.to_string()
            };
            came.absent.push(absent("", "", !fine, reason));
        }
    }
}

#[cfg(test)]
mod tests;
