//! The files that a benchmark is written to.
//!
//! Invariant: that they can be made is known before anything is measured, and what lies under their names stays until all of
//! the new content is there.

use std::{
    fs::{self, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::{bench::Report, error::Act as _, fs::WholeFile};

/// See the module's comment.
#[derive(Debug)]
pub(in crate::cli) struct Files {
    json: Option<Output>,
    csv: Option<Output>,
    report: Option<Output>,
}

#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: WholeFile,
}

impl Files {
    /// Refused are two of one place: the later would take the earlier's.
    pub(in crate::cli) fn create(json: Option<&Path>, csv: Option<&Path>, report: Option<&Path>) -> Result<Self> {
        Self::refuse_one_place([json, csv, report])?;
        let create = |path: Option<&Path>| -> Result<_> {
            Ok(path
                .map(|path| WholeFile::create(path).map(|file| Output { path: path.to_owned(), file }))
                .transpose()?)
        };
        Ok(Self { json: create(json)?, csv: create(csv)?, report: create(report)? })
    }

    /// Those that are made of the file `json`, which stays.
    pub(in crate::cli) fn create_beside(json: &Path, csv: Option<&Path>, report: Option<&Path>) -> Result<Self> {
        Self::refuse_one_place([Some(json), csv, report])?;
        Self::create(None, csv, report)
    }

    fn refuse_one_place(paths: [Option<&Path>; 3]) -> Result<()> {
        let mut places = Vec::new();
        for path in paths.into_iter().flatten() {
            let place = place(path);
            if path.as_os_str() == "-" || places.contains(&place) {
                bail!("write {}: each file needs a name of its own; only --json takes '-'", path.display());
            }
            places.push(place);
        }
        Ok(())
    }

    /// The JSON, which all else can be made of, comes first.
    pub(in crate::cli) fn write(self, report: &Report) -> Result<()> {
        write(self.json, |out| serde_json::to_writer_pretty(out, report).map_err(io::Error::from))?;
        write(self.csv, |out| report.write_csv(out))?;
        write(self.report, |out| report.write_html(out))
    }
}

/// Where a file of this name is or would be, links followed.
fn place(path: &Path) -> PathBuf {
    let directory = || {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(fs::canonicalize(directory).ok()?.join(path.file_name()?))
    };
    fs::canonicalize(path).ok().or_else(directory).unwrap_or_else(|| path.to_owned())
}

fn write(output: Option<Output>, content: impl FnOnce(&mut BufWriter<&mut WholeFile>) -> io::Result<()>) -> Result<()> {
    let Some(Output { path, mut file }) = output else { return Ok(()) };
    let act = || format!("write {}", path.display());
    let mut out = BufWriter::new(&mut file);
    content(&mut out).and_then(|()| out.flush()).act(act)?;
    drop(out);
    file.publish()?;
    // There is no secret in it, and root is seldom who reads it.
    Ok(fs::set_permissions(&path, Permissions::from_mode(0o644)).act(act)?)
}
