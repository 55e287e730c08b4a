//! The `edgefold` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgefold_snapshotter::cli::main()
}
