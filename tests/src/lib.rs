//! The test harness: the real `edgefold`, a real Envoy, a real Kafka and a real browser, each in a process that ends when its handle
//! is dropped.
//!
//! A test starts with a log, and says what happens to it:
//!
//! ```no_run
//! use edgefold_tests::{Edgefold, EnvoyOptions};
//!
//! let edgefold = Edgefold::sqlite().block(&["10.0.0.0/24"]);
//! let serve = edgefold.serve(&[]);
//! let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
//! assert_eq!(envoy.client("127.0.0.1").status_for("10.0.0.7"), 403);
//! edgefold.allow(&["10.0.0.7"]);
//! serve.wait_until_shipped(2);
//! ```
//!
//! State is read from metrics, never from the wording of a log. Envoy, Kafka and Chromium must be in `.tools/`, where the Makefile
//! installs them. The harness panics when something goes wrong: only tests and the demo use it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failure here must fail the test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

mod browser;
mod consumers;
mod edgefold;
mod envoy;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod process;
#[cfg(feature = "kafka")]
mod relay;

pub use crate::browser::Browser;
pub use crate::consumers::{CLIENT_HEADER, Proxy, in_own_network};
pub use crate::edgefold::{Edgefold, Host, Outcome, Serve, Ui};
pub use crate::envoy::{Envoy, EnvoyOptions, Example, FleetOptions, Xds, for_host, http_manager};
pub use crate::http::{Answer, Client, Upstream, raw};
#[cfg(feature = "kafka")]
pub use crate::kafka::{Kafka, StoppedKafka, TopicRecord, java};
#[cfg(feature = "kafka")]
pub use crate::relay::Relay;

/// How long [`eventually`] waits: longer than any machine should need.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The top folder of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// A file or folder that the Makefile installs.
pub fn tool(name: &str) -> PathBuf {
    let path = workspace().join(".tools").join(name);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

/// The SHA-256 of a token, as an operator makes it.
pub fn sha256(token: &str) -> String {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    child.stdin.take().expect("a pipe").write_all(token.as_bytes()).expect("a write to a pipe");
    String::from_utf8(child.wait_with_output().expect("output").stdout).expect("UTF-8")[..64].to_owned()
}

/// Waits until `condition` returns a value, and returns it. Panics after a minute.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out after {TIMEOUT:?}, waiting for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A seed for random tests: a new one each time, or the one in the environment variable `EDGEFOLD_SEED`. It is printed, so that
/// a failure can be repeated.
#[allow(clippy::print_stdout, reason = "cargo shows the output of a test that fails")]
pub fn seed() -> u64 {
    let seed = match std::env::var("EDGEFOLD_SEED") {
        Ok(seed) => seed.parse().expect("EDGEFOLD_SEED must be a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").subsec_nanos().into(),
    };
    println!("EDGEFOLD_SEED={seed}");
    seed
}
