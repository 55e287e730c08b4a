//! The `edgefold` binary with a grammar that is one version newer, for tests of an upgrade.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgefold_snapshotter::cli::main()
}
