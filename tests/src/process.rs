//! A child process that ends when its handle is dropped.

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

    /// Its stdout and stderr so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits for `condition`. Panics with the output if the process ends first.
    #[track_caller]
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
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        eventually(&format!("{} to stop", self.name), || self.child.try_wait().expect("the state of a child"))
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn wait_to_end(&mut self) -> ExitStatus {
        eventually(&format!("{} to end", self.name), || self.child.try_wait().expect("the state of a child"))
    }

    /// Ends it at once, with SIGKILL. Panics if it had ended by itself.
    #[track_caller]
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
        // This fails if the process has ended already.
        let _killed = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            print_last_lines(&self.name, &self.output());
        }
    }
}

#[allow(clippy::print_stderr, reason = "a failed test shows what its processes said")]
fn print_last_lines(name: &str, output: &str) {
    let lines: Vec<&str> = output.lines().collect();
    let first = lines.len().saturating_sub(60);
    eprintln!("--- the last lines of {name}:\n{}", lines[first..].join("\n"));
}
