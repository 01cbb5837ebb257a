//! `lamina top`: the processes of a container, as `ps` shows them.

use anyhow::{Context as _, Result, bail};

use super::{Global, output, pool};
use crate::{
    container::Containers,
    error::{Error, Kind},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or ID
    container: String,
    /// Options for ps [default: -f]; with others than these, its output must have a column PID
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

impl Args {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let store = pool::existing(global)?;
        let containers = Containers::new(&store);
        let processes: Vec<String> =
            containers.processes(&containers.find(&self.container)?)?.iter().map(ToString::to_string).collect();
        if self.options.is_empty() {
            let shown = ps(&["-f", "-p", &processes.join(",")])?;
            if !shown.status.success() {
                return Err(Error::new(Kind::NotFound, "the container's processes have ended").into());
            }
            return output::bytes(shown.stdout.trim_ascii_end());
        }
        // Which options can be had together with a list of processes is not for us to know. As Docker does, all are asked
        // for where it is refused.
        let list = ["-q".to_owned(), processes.join(",")];
        let mut shown = ps(&[self.options.as_slice(), &list].concat())?;
        if !shown.status.success() {
            shown = ps(&self.options)?;
        }
        if !shown.status.success() {
            bail!("ps {}: {}", self.options.join(" "), String::from_utf8_lossy(shown.stderr.trim_ascii()));
        }
        let text = String::from_utf8_lossy(&shown.stdout);
        output::bytes(only(&text, &processes)?.join("\n").as_bytes())
    }
}

/// procps reads what the kernel tells of a process better than a second reader here would.
fn ps(args: &[impl AsRef<std::ffi::OsStr>]) -> Result<std::process::Output> {
    std::process::Command::new("ps").args(args).output().context("run ps, which Debian's package procps has")
}

/// The header of a table, and the rows of these processes.
fn only<'t>(table: &'t str, processes: &[String]) -> Result<Vec<&'t str>> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|name| name == "PID") else {
        bail!("couldn't find the column PID in ps output, by which a container's processes are told from others");
    };
    let ours =
        |line: &&str| line.split_whitespace().nth(column).is_some_and(|pid| processes.iter().any(|ours| ours == pid));
    Ok(std::iter::once(header).chain(lines.filter(ours)).collect())
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn rows_are_chosen_by_their_process() {
        let table = "USER  PID COMMAND\nroot   12 sleep 7\nroot    7 sh\n";
        assert_eq!(only(table, &["7".into()]).unwrap(), ["USER  PID COMMAND", "root    7 sh"]);
        assert!(only("USER COMMAND\nroot sh\n", &["7".into()]).is_err());
    }
}
