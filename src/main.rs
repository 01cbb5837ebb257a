//! `lamina`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lamina::cli::main()
}
