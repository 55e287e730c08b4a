//! The programs that load what `edgefold export` writes: real proxies, and the tools of the kernel in a network of their own.

use std::ffi::OsStr;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread;

use tempfile::TempDir;

use crate::http::{Answer, Client};
use crate::process::Process;
use crate::tool;

/// The header with the address of the client, as another proxy in front would send it.
pub const CLIENT_HEADER: &str = "x-test-client";

/// A running nginx or HAProxy. It listens on a Unix domain socket, since neither says which free port it got.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    client: Client,
    _files: TempDir,
    _directory: Arc<TempDir>,
}

impl Proxy {
    /// Starts nginx with directives for the level `http`, and others for the location, which answers 200. The client's address is
    /// that in [`CLIENT_HEADER`].
    #[track_caller]
    pub(crate) fn nginx(directory: &Arc<TempDir>, http: &str, location: &str) -> Self {
        let files = files_in(directory);
        let (socket, folder) = (files.path().join("nginx.sock"), files.path().display());
        // As root, nginx would else look for a user that may not exist here. Everybody else is warned about it.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let configuration = format!(
            "daemon off; master_process off; {user} pid {folder}/nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{\n\
             access_log off; keepalive_requests 1000000;\n\
             client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};\n\
             uwsgi_temp_path {folder}; scgi_temp_path {folder};\n\
             {http}\n\
             server {{\n\
             listen unix:{};\n\
             set_real_ip_from unix:; real_ip_header {CLIENT_HEADER};\n\
             location / {{ {location} empty_gif; }}\n\
             }}\n\
             }}\n",
            socket.display()
        );
        let path = files.path().join("nginx.conf");
        std::fs::write(&path, configuration).expect("nginx's configuration");
        let mut command = Command::new(tool("bin/nginx"));
        command.args(["-e", "stderr", "-p"]).arg(files.path()).arg("-c").arg(&path);
        Self::start("nginx", &mut command, socket, files, directory)
    }

    /// Starts HAProxy with rules for its frontend.
    #[track_caller]
    pub(crate) fn haproxy(directory: &Arc<TempDir>, rules: &str) -> Self {
        let files = files_in(directory);
        let socket = files.path().join("haproxy.sock");
        let configuration = format!(
            "global\n    maxconn 100\n\
             defaults\n    mode http\n    timeout connect 20s\n    timeout client 20s\n    timeout server 20s\n\
             frontend test\n    bind unix@{}\n{rules}\n",
            socket.display()
        );
        let path = files.path().join("haproxy.cfg");
        std::fs::write(&path, configuration).expect("HAProxy's configuration");
        let mut command = Command::new(tool("bin/haproxy"));
        command.args(["-db", "-f"]).arg(&path);
        Self::start("HAProxy", &mut command, socket, files, directory)
    }

    #[track_caller]
    fn start(name: &str, command: &mut Command, socket: PathBuf, files: TempDir, directory: &Arc<TempDir>) -> Self {
        let mut process = Process::start(name, command, &files.path().join("log"));
        process.wait_for("its socket", || UnixStream::connect(&socket).ok());
        Self { process, client: Client::over_socket(&socket), _files: files, _directory: Arc::clone(directory) }
    }

    /// Its answer to a client with this address.
    pub fn answer_to(&self, address: IpAddr) -> Answer {
        self.client.get_with(&[(CLIENT_HEADER, &address.to_string())])
    }

    /// What it has logged so far.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn files_in(directory: &TempDir) -> TempDir {
    tempfile::Builder::new().prefix("proxy-").tempdir_in(directory.path()).expect("a folder")
}

/// Runs a shell script in a new network namespace, which ends with it, and in which it is root: nothing of the host is touched. The
/// programs of the Makefile are on its PATH. Returns its stdout. Panics if it fails.
#[track_caller]
pub fn in_own_network(script: &str, args: &[impl AsRef<OsStr>], stdin: String) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("unshare");
    command.args(*UNSHARE).args(["sh", "-euc", script, "sh"]).args(args);
    // Only to find what the script uses besides: the programs under test must be those of the Makefile.
    for program in ["nft", "ipset"] {
        tool(&format!("bin/{program}"));
    }
    command.env("PATH", format!("{}:{path}", tool("bin").display()));
    let Output { status, stdout, stderr } = output(&mut command, stdin);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "the script failed with {status}:\n{stderr}");
    stdout.into_owned()
}

/// How to get a network of one's own here: as root, or else as root of a user namespace.
static UNSHARE: LazyLock<&[&str]> = LazyLock::new(|| {
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let tried = ways.map(|way| output(Command::new("unshare").args(way).arg("true"), String::new()));
    match tried.iter().position(|output| output.status.success()) {
        Some(way) => ways[way],
        None => panic!(
            "neither unshare --net nor unshare --user --net works here, so nftables and ipset cannot be tested without changing the \
             host: run the tests as root, or allow user namespaces\n{}",
            tried.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).concat()
        ),
    }
});

fn output(command: &mut Command, stdin: String) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut pipe = child.stdin.take().expect("a pipe");
    // A program that ends early does not read all of it.
    let writer = thread::spawn(move || drop(pipe.write_all(stdin.as_bytes())));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("a thread that does not panic");
    output
}
