//! The `unpriv` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    unpriv::cli::main()
}
