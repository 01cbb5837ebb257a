use std::{
    cell::RefCell,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Came, Session};
use crate::{
    bench::{Across, How, Row, Samples, Scale, Stage, Unit, Workload, scale::QUICK},
    error::{Error, Kind, Result},
    units::Bytes,
};

/// A row that says on which run it fails.
#[derive(Debug)]
struct Fake(&'static str, Option<usize>);

impl Row for Fake {
    fn name(&self) -> &'static str {
        self.0
    }
    fn about(&self) -> &'static str {
        ""
    }
    fn usable(&self) -> Result<()> {
        if self.0 == "missing" { Err(Error::new(Kind::Unsupported, "no such kernel")) } else { Ok(()) }
    }
    fn stage(&self, _: &Path, _: Bytes) -> Result<Box<dyn Stage>> {
        STAGES.with_borrow_mut(|stages| stages.push(self.0));
        Ok(Box::new(FakeStage(self.0, self.1)))
    }
}

thread_local! {
    /// The rows that have a disk now.
    static STAGES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    /// The order in which rows ran.
    static ORDER: RefCell<Vec<(usize, &'static str)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct FakeStage(&'static str, Option<usize>);

impl Drop for FakeStage {
    fn drop(&mut self) {
        STAGES.with_borrow_mut(|stages| stages.retain(|name| *name != self.0));
    }
}

impl Stage for FakeStage {
    fn import(&self, _: &str, _: &mut (dyn Read + Send)) -> Result<()> {
        Ok(())
    }
    fn write_out(&self) -> Result<()> {
        Ok(())
    }
    fn build(&self, _: &str, _: &str, _: &Path) -> Result<()> {
        Ok(())
    }
    fn create(&self, _: &str, run: &str) -> Result<()> {
        let run = run.parse().unwrap();
        ORDER.with_borrow_mut(|order| order.push((run, self.0)));
        if self.1 == Some(run) { Err(Error::new(Kind::Full, "the disk is full")) } else { Ok(()) }
    }
    fn mount(&self, _: &str) -> Result<PathBuf> {
        Ok(PathBuf::new())
    }
    fn unmount(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn changes(&self, _: &str) -> Result<usize> {
        Ok(0)
    }
    fn commit(&self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
    fn remove_image(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn used(&self) -> Result<Bytes> {
        Ok(Bytes(0))
    }
    fn volume(&self) -> Result<PathBuf> {
        Ok(PathBuf::new())
    }
    fn runner(&self, _: &str, _: &[&str]) -> Result<Command> {
        Ok(Command::new("true"))
    }
}

#[derive(Debug)]
struct Counting;

impl Workload for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn about(&self) -> &'static str {
        ""
    }
    fn tests(&self) -> &'static str {
        ""
    }
    fn how(&self) -> How<'_> {
        How::Across(self)
    }
}

impl Across for Counting {
    fn room(&self, _: &Scale) -> Bytes {
        Bytes(0)
    }
    fn cost(&self, _: &Scale) -> f64 {
        1.0
    }
    fn prepare(&self, _: &dyn Stage, _: &Scale) -> Result<()> {
        Ok(())
    }
    fn run(&self, stage: &dyn Stage, _: &Scale, run: usize, samples: &mut Samples) -> Result<()> {
        stage.create("", &run.to_string())?;
        samples.cannot("fly", "", "it has no wings");
        samples.add("number", "", Unit::Bytes, f64::from(u32::try_from(run).unwrap()));
        Ok(())
    }
}

static ONE: Fake = Fake("one", None);
static FAILING: Fake = Fake("failing", Some(2));
static MISSING: Fake = Fake("missing", None);

fn measure(rows: Vec<&'static dyn Row>) -> Came {
    ORDER.with_borrow_mut(Vec::clear);
    let mut steps = 0;
    let mut session = Session { directory: Path::new(""), scale: &QUICK, runs: 3, rows, tell: &mut |_| steps += 1 };
    session.measure(&Counting, &Counting)
}

#[test]
fn a_row_that_fails_keeps_what_it_gave_and_stops_no_other() {
    let came = measure(vec![&ONE, &FAILING, &MISSING]);
    let values: Vec<_> = came.series.iter().map(|series| (&*series.row, series.values.clone())).collect();
    assert_eq!(values, [("one", vec![1.0, 2.0, 3.0]), ("failing", vec![1.0])]);
    let absent: Vec<_> = came.absent.iter().map(|one| (&*one.row, &*one.what, one.failed, &*one.reason)).collect();
    assert_eq!(
        absent,
        [
            ("one", "fly", false, "it has no wings"),
            ("failing", "fly", false, "it has no wings"),
            ("failing", "", true, "the disk is full"),
            ("missing", "", false, "no such kernel"),
        ]
    );
    STAGES.with_borrow(|stages| assert!(stages.is_empty(), "disks left: {stages:?}"));
}

#[test]
fn rows_take_turns_and_each_run_begins_with_another() {
    measure(vec![&ONE, &FAILING]);
    ORDER.with_borrow(|order| {
        let expected = [(0, "one"), (0, "failing"), (1, "failing"), (1, "one"), (2, "one"), (2, "failing"), (3, "one")];
        assert_eq!(*order, expected);
    });
}
