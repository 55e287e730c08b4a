//! The same lookups in V8: Node runs `bench/host.mjs`, which reads one command per line.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use tempfile::TempDir;

use crate::family::Family;
use crate::timing::{Order, Runner, WASHES};
use crate::wasm::{Buffers, SIMD, Simd};

/// A Node process that waits for commands.
pub(crate) struct Node {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Where the buffers of a case are.
    directory: TempDir,
}

impl Node {
    /// Starts Node with both modules, with and without SIMD.
    pub(crate) fn start(modules: &[PathBuf; 2]) -> Rc<RefCell<Self>> {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new("node");
        command.args(["--expose-gc", "bench/host.mjs"]).args(modules).arg(directory.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node runs");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Rc::new(RefCell::new(Self { child, stdin, stdout, directory }))
    }

    /// Loads a new case into both modules, and frees the previous one.
    pub(crate) fn load<A: Family>(&mut self, buffers: &Buffers) {
        for (buffer, bytes) in buffers.0.iter().enumerate() {
            fs::write(self.directory.path().join(buffer.to_string()), bytes).unwrap();
        }
        for simd in SIMD {
            self.ask(&format!("load {} {}", number(simd), A::VERSION));
        }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.stdin, "{question}").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "node gave up on: {question}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Closing its input would end it too, but `stdin` is only closed after this.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn number(simd: Simd) -> u8 {
    match simd {
        Simd::With => 0,
        Simd::Without => 1,
    }
}

/// A contender in a Node process that it shares with others. It must be opened first.
pub(crate) struct InNode {
    node: Rc<RefCell<Node>>,
    simd: Simd,
    contender: u32,
    addresses: usize,
}

impl InNode {
    pub(crate) fn new(node: &Rc<RefCell<Node>>, simd: Simd, contender: u32, addresses: usize) -> Self {
        Self { node: Rc::clone(node), simd, contender, addresses }
    }

    fn ask(&self, verb: &str, rest: &str) -> String {
        self.node.borrow_mut().ask(&format!("{verb} {} {} {rest}", number(self.simd), self.contender))
    }
}

fn name(order: Order) -> &'static str {
    match order {
        Order::Independent => "independent",
        Order::Dependent => "dependent",
    }
}

impl Runner for InNode {
    fn hot(&mut self, order: Order) -> (f64, usize) {
        let answer = self.ask("hot", &format!("{} {}", name(order), self.addresses));
        let (seconds, hits) = answer.split_once(' ').unwrap();
        (seconds.parse::<f64>().unwrap() * 1e9 / self.addresses as f64, hits.parse().unwrap())
    }

    fn washed(&mut self, order: Order, turn: usize) -> f64 {
        let rest = format!("{} {} {} {turn} {WASHES}", name(order), self.addresses, order.burst());
        self.ask("washed", &rest).parse::<f64>().unwrap() * 1e9
    }

    fn answers(&mut self) -> Vec<bool> {
        self.ask("answers", &self.addresses.to_string()).bytes().map(|byte| byte == b'1').collect()
    }

    fn open(&mut self) -> Option<f64> {
        self.ask("open", "").parse().ok()
    }
}
