//! The real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use rustix::process::Signal;

use crate::process::Process;

/// The binary, with one log.
#[derive(Clone, Debug)]
pub struct Edgefold {
    binary: PathBuf,
    log: String,
    directory: PathBuf,
}

impl Edgefold {
    /// `directory` takes what `serve` writes.
    pub fn new(log: &str, directory: &Path) -> Self {
        let this = std::env::current_exe().expect("the path of this program");
        let binary = this.ancestors().skip(1).take(2).map(|folder| folder.join("edgefold")).find(|path| path.is_file());
        let binary = binary.expect("the edgefold binary is missing: run `cargo build` in the same profile first");
        Self { binary, log: log.to_owned(), directory: directory.to_owned() }
    }

    /// A log in a database file in `directory`.
    pub fn sqlite(directory: &Path) -> Self {
        Self::new(&format!("sqlite:{}", directory.join("edgefold.db").display()), directory)
    }

    /// The path of the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The URL of the log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Runs a command to its end.
    pub fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command.env("EDGEFOLD_LOG", &self.log).args(args);
        command.output().expect("edgefold runs")
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "edgefold {args:?} failed with {}: {stderr}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8 on stdout")
    }

    /// Where `serve` ships to.
    pub fn ecds_file(&self) -> PathBuf {
        self.directory.join("edgefold.pb")
    }

    /// Where `serve` ships the network filter to, if it is told so.
    pub fn network_ecds_file(&self) -> PathBuf {
        Self::network_ecds_file_beside(&self.ecds_file())
    }

    pub(crate) fn network_ecds_file_beside(ecds_file: &Path) -> PathBuf {
        ecds_file.with_file_name("edgefold-network.pb")
    }

    /// Starts `serve` with further arguments, and waits for its first snapshot.
    pub fn serve(&self, args: &[&str]) -> Serve {
        let mut serve = self.start_serve(args);
        let output = self.directory.join("serve.log");
        serve.process.wait_for("its first snapshot", || {
            std::fs::read_to_string(&output).is_ok_and(|text| text.contains("shipped generation")).then_some(())
        });
        serve
    }

    /// Starts `serve` with further arguments, and waits for nothing.
    pub fn start_serve(&self, args: &[&str]) -> Serve {
        let mut command = Command::new(&self.binary);
        command.env("EDGEFOLD_LOG", &self.log).arg("serve").arg("--ecds-file").arg(self.ecds_file()).args(args);
        Serve { process: Process::start("edgefold serve", &mut command, &self.directory.join("serve.log")) }
    }
}

/// A running `edgefold serve`.
#[derive(Debug)]
pub struct Serve {
    process: Process,
}

impl Serve {
    /// What it has said so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// The value of a metric; `None` before it serves metrics, which takes `--admin`.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let output = self.output();
        let (_, url) = output.split_once("metrics at ")?;
        let text = reqwest::blocking::get(url.lines().next()?).ok()?.text().ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some(value.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().expect("a whole number"))
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.process.stop()
    }

    /// Ends it at once, as `kill -9` does, and gives its last words.
    pub fn kill(mut self) -> String {
        self.process.kill();
        self.output()
    }

    /// Lets it hang, as `kill -STOP` does.
    pub fn hang(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on, as `kill -CONT` does.
    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }
}
