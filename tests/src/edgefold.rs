//! The real `edgefold` binary, with a log to use and a folder to write to.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::consumers::Proxy;
use crate::envoy::{EcdsFiles, Envoy, EnvoyOptions, FleetOptions, for_host};
use crate::eventually;
#[cfg(feature = "kafka")]
use crate::kafka::Kafka;
use crate::process::Process;

/// How long a subcommand other than `serve` may take. Appending waits for a minute until it gives up.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// The binary, with one log and a folder of its own. Clones share both. The folder is removed with the last of them, and of the
/// processes that were started here.
#[derive(Clone, Debug)]
pub struct Edgefold {
    binary: PathBuf,
    log: String,
    host: Host,
    directory: Arc<TempDir>,
}

/// What runs the filter that `serve` ships.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host {
    /// Envoy's wasm VM.
    Wasm,
    /// Envoy itself, as a dynamic module.
    Native,
}

/// One test by name for each case and host: `wasm::CASE` and `native::CASE`. A case is a function of the [`Host`].
#[macro_export]
macro_rules! over_both_hosts {
    ($($case:ident),+ $(,)?) => {
        mod wasm {
            $(#[test] fn $case() { super::$case($crate::Host::Wasm) })+
        }
        mod native {
            $(#[test] fn $case() { super::$case($crate::Host::Native) })+
        }
    };
}

impl Edgefold {
    /// A new log in a SQLite database.
    pub fn sqlite() -> Self {
        Self::uninitialized().init()
    }

    /// A new log in Kafka. `prefix` names its topics.
    #[cfg(feature = "kafka")]
    pub fn kafka(kafka: &Kafka, prefix: &str) -> Self {
        Self::over(&kafka.log(prefix)).init()
    }

    /// A log in a SQLite database that has not been created yet: there is no file.
    pub fn uninitialized() -> Self {
        let directory = temporary_directory();
        let log = format!("sqlite:{}", directory.path().join("edgefold.db").display());
        Self { binary: binary(), log, host: Host::Wasm, directory: Arc::new(directory) }
    }

    /// The log at `url`, whether it exists or not.
    pub fn over(url: &str) -> Self {
        Self { binary: binary(), log: url.to_owned(), host: Host::Wasm, directory: Arc::new(temporary_directory()) }
    }

    /// The binary of the next version of the grammar, with the same log and another folder. `make test` builds it.
    pub fn next_version(&self) -> Self {
        let binary = self.binary.with_file_name("edgefold-next");
        assert!(binary.is_file(), "{} is missing: the Makefile says how to build it", binary.display());
        Self { binary, log: self.log.clone(), host: self.host, directory: Arc::new(temporary_directory()) }
    }

    /// The same, whose filter runs in this host.
    #[must_use]
    pub fn with_host(self, host: Host) -> Self {
        Self { host, ..self }
    }

    /// What runs the filter.
    pub fn host(&self) -> Host {
        self.host
    }

    /// The path of the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The URL of the log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The path of a file with this name in the folder, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("a folder with a UTF-8 name").to_owned()
    }

    /// Runs a subcommand that must succeed, and returns its stdout.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let Outcome { status, stdout, stderr } = self.outcome(args);
        assert_eq!(status, 0, "edgefold {args:?} failed: {stderr}");
        stdout
    }

    /// Runs a subcommand, and returns what came of it.
    #[track_caller]
    pub fn outcome(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.output(args))
    }

    /// The binary with these arguments. Nothing of the user's own settings gets in.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("EDGEFOLD_LOG", &self.log).env("EDGEFOLD_CONFIG", "").env("TZ", "UTC").env_remove("SSH_CLIENT");
        command.env("EDGEFOLD_CACHE", self.cache());
        command.args(args);
        command
    }

    /// Runs a subcommand, and returns its raw output.
    #[track_caller]
    pub fn output(&self, args: &[&str]) -> Output {
        self.output_with(args, "", &[])
    }

    /// As [`outcome`](Self::outcome), with this on stdin and these environment variables.
    #[track_caller]
    pub fn outcome_with(&self, args: &[&str], stdin: &str, variables: &[(&str, &str)]) -> Outcome {
        Outcome::of(self.output_with(args, stdin, variables))
    }

    #[track_caller]
    fn output_with(&self, args: &[&str], stdin: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("edgefold runs");
        let (mut pipe, stdin) = (child.stdin.take().expect("a pipe"), stdin.as_bytes().to_vec());
        // Whoever does not read it closes it.
        thread::spawn(move || pipe.write_all(&stdin));
        let id = Pid::from_child(&child);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(COMMAND_TIMEOUT) else {
            let _killed = kill_process(id, Signal::KILL);
            panic!("edgefold {args:?} did not end within {COMMAND_TIMEOUT:?}");
        };
        output.expect("the output of edgefold")
    }

    /// Runs `init`. Returns a clone for chaining, as [`block`](Self::block) and [`allow`](Self::allow) do.
    #[track_caller]
    pub fn init(&self) -> Self {
        self.run(&["init"]);
        self.clone()
    }

    /// Runs `block` with these ranges and flags.
    #[track_caller]
    pub fn block(&self, args: &[&str]) -> Self {
        self.run(&[&["block"], args].concat());
        self.clone()
    }

    /// Runs `allow` with these ranges and flags.
    #[track_caller]
    pub fn allow(&self, args: &[&str]) -> Self {
        self.run(&[&["allow"], args].concat());
        self.clone()
    }

    /// What `inspect` says about the snapshot in `file`.
    #[track_caller]
    pub fn inspect(&self, file: impl AsRef<Path>) -> Value {
        let file = file.as_ref().to_str().expect("a UTF-8 path");
        serde_json::from_str(&self.run(&["inspect", file, "-o", "json"])).expect("JSON")
    }

    /// The folder with the checkpoints.
    pub fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// The file that `serve` ships the HTTP filter to.
    pub fn ecds_file(&self) -> PathBuf {
        self.directory.path().join("edgefold.pb")
    }

    /// The file that [`serve_both`](Self::serve_both) ships the network filter to.
    pub fn network_ecds_file(&self) -> PathBuf {
        self.directory.path().join("edgefold-network.pb")
    }

    /// The file that `serve` ships the base to.
    pub fn base_ecds_file(&self) -> PathBuf {
        self.directory.path().join("edgefold-base.pb")
    }

    /// Starts `serve` for the HTTP filter, with further arguments, and waits until it has shipped its first snapshot.
    #[track_caller]
    pub fn serve(&self, args: &[&str]) -> Serve {
        let mut serve = self.start_serve(args);
        serve.wait_for_first_snapshot();
        serve
    }

    /// Like [`serve`](Self::serve), for the HTTP filter and the network filter.
    #[track_caller]
    pub fn serve_both(&self, args: &[&str]) -> Serve {
        self.serve(&[&["--network-ecds-file", &self.path("edgefold-network.pb")], args].concat())
    }

    /// Like [`serve`](Self::serve), without waiting for anything.
    pub fn start_serve(&self, args: &[&str]) -> Serve {
        let base = self.base_ecds_file();
        self.start_any_serve(&[&["--base-ecds-file", base.to_str().expect("a UTF-8 path")], args].concat())
    }

    /// Like [`serve`](Self::serve), for whole snapshots only.
    #[track_caller]
    pub fn serve_whole(&self, args: &[&str]) -> Serve {
        let mut serve = self.start_any_serve(args);
        serve.wait_for_first_snapshot();
        serve
    }

    fn start_any_serve(&self, args: &[&str]) -> Serve {
        // Each has a folder of its own, so the address of an earlier one is never taken for its own.
        let files = tempfile::Builder::new().prefix("serve-").tempdir_in(self.directory.path()).expect("a folder");
        let admin_address_path = files.path().join("admin-address");
        let mut command = Command::new(&self.binary);
        let xds_address_path = files.path().join("xds-address");
        command.env("EDGEFOLD_LOG", &self.log).env("EDGEFOLD_CACHE", self.cache()).arg("serve").args(args);
        if self.host == Host::Native {
            command.args(["--filter", "native"]);
        }
        // On another address, so that it never gets the port that a replica which starts again had for its proxies.
        let admin = if args.contains(&"--xds") { "127.0.0.2:0" } else { "127.0.0.1:0" };
        command.args(["--admin", admin, "--admin-address-path"]).arg(&admin_address_path);
        if args.contains(&"--xds") {
            command.arg("--xds-address-path").arg(&xds_address_path);
        } else {
            command.arg("--ecds-file").arg(self.ecds_file());
        }
        let api_address_path = files.path().join("api-address");
        if args.contains(&"--api") {
            command.arg("--api-address-path").arg(&api_address_path);
        }
        let process = Process::start("edgefold serve", &mut command, &files.path().join("serve.log"));
        let _directory = Arc::clone(&self.directory);
        Serve { process, admin_address_path, xds_address_path, api_address_path, _files: files, _directory }
    }

    /// Starts `ui` with further arguments, on a free port unless they say where it listens, and waits until it does.
    #[track_caller]
    pub fn ui(&self, args: &[&str]) -> Ui {
        let files = tempfile::Builder::new().prefix("ui-").tempdir_in(self.directory.path()).expect("a folder");
        let address_path = files.path().join("address");
        let mut command = self.command(&["ui", "--address-path"]);
        let listen: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        command.arg(&address_path).args(listen).args(args);
        let mut process = Process::start("edgefold ui", &mut command, &files.path().join("ui.log"));
        let address = process.wait_for("its address", || std::fs::read_to_string(&address_path).ok()?.parse().ok());
        Ui { address, _process: process, _files: files, _directory: Arc::clone(&self.directory) }
    }

    /// Starts `serve` for a fleet over gRPC, on a free port and without files, and waits until it has shipped its first snapshot. `args` may
    /// say where it listens.
    #[track_caller]
    pub fn serve_xds(&self, args: &[&str]) -> Serve {
        let address: &[&str] = if args.contains(&"--xds") { &[] } else { &["--xds", "127.0.0.1:0"] };
        let mut serve = self.start_any_serve(&[address, args].concat());
        serve.wait_for_first_snapshot();
        serve
    }

    /// A host with a copy of the SQLite log, which does not get any later commands.
    #[track_caller]
    pub fn copy_of_log(&self) -> Self {
        let copy = Self::uninitialized();
        let path = |log: &str| log.strip_prefix("sqlite:").expect("a SQLite log").to_owned();
        let statement = format!("VACUUM INTO '{}'", path(&copy.log));
        rusqlite::Connection::open(path(&self.log)).and_then(|log| log.execute(&statement, ())).expect("a copy");
        copy
    }

    /// Another host with the same log, and a folder of its own.
    pub fn replica(&self) -> Self {
        Self { directory: Arc::new(temporary_directory()), ..self.clone() }
    }

    /// Starts Envoy as one of a fleet, and waits until it listens. See [`FleetOptions`].
    #[track_caller]
    pub fn envoy_over_xds(&self, options: FleetOptions<'_>) -> Envoy {
        Envoy::start_over_xds(&self.directory, self.host, options)
    }

    /// Starts Envoy with the files that `serve` ships to, and waits until it listens.
    #[track_caller]
    pub fn envoy(&self, options: EnvoyOptions) -> Envoy {
        let files =
            EcdsFiles { http: self.ecds_file(), network: self.network_ecds_file(), base: self.base_ecds_file() };
        Envoy::start(&self.directory, self.host, &files, options)
    }

    /// Starts Envoy with this configuration (YAML), which is for the wasm filter, and waits until it listens. The filter is that of the host.
    #[track_caller]
    pub fn envoy_with(&self, configuration: &str) -> Envoy {
        Envoy::start_in(&self.directory, &for_host(self.host, configuration))
    }

    /// Starts nginx, whose files are removed with the folder: see [`Proxy`]. `http` has directives for all of it, `location` for the
    /// requests.
    #[track_caller]
    pub fn nginx(&self, http: &str, location: &str) -> Proxy {
        Proxy::nginx(&self.directory, http, location)
    }

    /// Starts HAProxy with these rules: see [`Proxy`].
    #[track_caller]
    pub fn haproxy(&self, rules: &str) -> Proxy {
        Proxy::haproxy(&self.directory, rules)
    }
}

/// What came of a subcommand.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit status.
    pub status: i32,
    /// The data.
    pub stdout: String,
    /// The messages for people.
    pub stderr: String,
}

impl Outcome {
    #[track_caller]
    fn of(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(stdout), text(stderr));
        Self { status: status.code().unwrap_or_else(|| panic!("{status}: {stderr}")), stdout, stderr }
    }

    /// Asserts that the subcommand failed with `status`, printed no data, and said `words`.
    #[track_caller]
    pub fn assert_failed(&self, status: i32, words: &str) {
        let Self { status: found, stdout, stderr } = self;
        assert_eq!((*found, stdout.as_str()), (status, ""), "{stderr}");
        assert!(stderr.contains(words), "{stderr:?} does not contain {words:?}");
    }
}

fn temporary_directory() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The binary that cargo built in the same profile as the running program.
fn binary() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    // A test is in `deps/`, one folder below.
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join("edgefold")).find(|path| path.is_file());
    found.expect("the edgefold binary is missing: run `cargo build` in the same profile first")
}

/// A running `edgefold ui`.
#[derive(Debug)]
pub struct Ui {
    /// Where it listens.
    pub address: SocketAddr,
    // Removed after the process has ended.
    _process: Process,
    _files: TempDir,
    _directory: Arc<TempDir>,
}

/// A running `edgefold serve`, with its metrics.
#[derive(Debug)]
pub struct Serve {
    process: Process,
    admin_address_path: PathBuf,
    xds_address_path: PathBuf,
    api_address_path: PathBuf,
    // Removed after the process has ended.
    _files: TempDir,
    _directory: Arc<TempDir>,
}

impl Serve {
    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged so far. Only for tests of the log lines themselves: state is in the metrics.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Where its xDS server listens.
    #[track_caller]
    pub fn xds_address(&self) -> SocketAddr {
        address_in(&self.xds_address_path)
    }

    /// Where it takes commands over HTTP.
    #[track_caller]
    pub fn api_address(&self) -> SocketAddr {
        address_in(&self.api_address_path)
    }

    /// Where its admin server listens, as `--admin-url` takes it.
    #[track_caller]
    pub fn admin_url(&self) -> String {
        format!("http://{}", std::fs::read_to_string(&self.admin_address_path).expect("an admin address"))
    }

    /// What its admin server answers for this path.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Value {
        // `/wait` takes up to 30 s.
        let request = CLIENT.get(format!("{}{path}", self.admin_url())).timeout(Duration::from_secs(40));
        let response = request.send().expect("an answer");
        serde_json::from_str(&response.text().expect("text")).expect("JSON")
    }

    /// The value of a metric; `None` if it does not answer, because it has not started to listen, hangs or has ended.
    pub fn metric(&self, name: &str) -> Option<u64> {
        metric(&self.admin_address_path, name)
    }

    #[track_caller]
    fn wait_for_first_snapshot(&mut self) {
        let path = self.admin_address_path.clone();
        let shipped = || metric(&path, "edgefold_snapshots_shipped_total").filter(|&count| count >= 1);
        self.process.wait_for("its first snapshot", shipped);
    }

    /// Waits until a metric is at least `least`.
    #[track_caller]
    pub fn wait_for(&self, name: &str, least: u64) {
        eventually(&format!("{name} of at least {least}"), || self.metric(name).filter(|&value| value >= least));
    }

    /// Waits until it has shipped a snapshot of all commands below `next_offset`.
    #[track_caller]
    pub fn wait_until_shipped(&self, next_offset: u64) {
        self.wait_for("edgefold_shipped_next_offset", next_offset);
    }

    /// Waits until it is the writer of the view of ranges.
    #[track_caller]
    pub fn wait_until_writer(&self) {
        self.wait_for("edgefold_writer", 1);
    }

    /// Waits until it knows that the view of ranges has all commands below `next_offset`.
    #[track_caller]
    pub fn wait_for_view(&self, next_offset: u64) {
        self.wait_for("edgefold_view_next_offset", next_offset);
    }

    /// Waits for a log line with these words. Only for tests of the log line itself: state is in the metrics.
    #[track_caller]
    pub fn wait_for_log_line(&self, words: &str) {
        eventually(&format!("a log line with {words:?}"), || self.output().contains(words).then_some(()));
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.process.stop()
    }

    /// Waits until it ends by itself, and returns its exit status and what it has logged.
    #[track_caller]
    pub fn wait_to_end(mut self) -> (ExitStatus, String) {
        (self.process.wait_to_end(), self.output())
    }

    /// The status with which its admin server answers a request for `path`; `None` if it does not answer.
    pub fn probe(&self, path: &str) -> Option<u16> {
        let address = std::fs::read_to_string(&self.admin_address_path).ok()?;
        Some(CLIENT.get(format!("http://{address}/{path}")).send().ok()?.status().as_u16())
    }

    /// Ends it at once, as `kill -9` does, and returns what it has logged.
    #[track_caller]
    pub fn kill(mut self) -> String {
        self.process.kill();
        self.output()
    }

    /// Makes it hang, as `kill -STOP` does.
    pub fn hang(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it continue, as `kill -CONT` does.
    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }
}

static CLIENT: LazyLock<reqwest::blocking::Client> = LazyLock::new(|| {
    // A snapshotter that hangs accepts connections, but never answers. After one has ended, another may get its port.
    let builder = reqwest::blocking::Client::builder().timeout(Duration::from_secs(3)).pool_max_idle_per_host(0);
    builder.build().expect("an HTTP client")
});

#[track_caller]
fn address_in(path: &Path) -> SocketAddr {
    eventually("the address of a server", || std::fs::read_to_string(path).ok()?.parse().ok())
}

fn metric(admin_address_path: &Path, name: &str) -> Option<u64> {
    let address = std::fs::read_to_string(admin_address_path).ok()?;
    let text = CLIENT.get(format!("http://{address}/metrics")).send().ok()?.text().ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some(value.unwrap_or_else(|| panic!("there is no metric {name} in\n{text}")).parse().expect("a whole number"))
}
