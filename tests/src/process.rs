//! A child process that ends with its handle.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// A running child process, whose output goes to a file.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command, output: &Path) -> Self {
        let file = File::create(output).expect("a file for the output");
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, name: name.to_owned(), output: output.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits for `condition`, and panics with the output if the process ends before.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let name = self.name.clone();
        eventually(&format!("{name}: {what}"), || {
            if let Some(status) = self.child.try_wait().expect("the state of a child") {
                panic!("{name} ended with {status} before {what}:\n{}", self.output());
            }
            condition()
        })
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        eventually(&format!("{} to stop", self.name), || self.child.try_wait().expect("the state of a child"))
    }

    /// Ends it at once, by SIGKILL; panics if it had ended by itself.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.child.wait().expect("the state of a child");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{} ended by itself:\n{}", self.name, self.output());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.unwrap_or_else(|error| panic!("cannot send {signal:?} to {}: {error}", self.name));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _killed = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln_output(&self.name, &self.output());
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the last words of a child of a failed test are for whoever reads the test's output"
)]
fn eprintln_output(name: &str, output: &str) {
    let lines: Vec<&str> = output.lines().collect();
    let last = lines.len().saturating_sub(60);
    eprintln!("--- the last words of {name}:\n{}", lines[last..].join("\n"));
}
