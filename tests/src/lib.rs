//! Harnesses: the real `edgefold`, a real Envoy, a real Kafka, each in a process that ends with its handle.
//!
//! What they need beside the workspace lies in `.tools/`, where the Makefile puts it. A harness panics with what is wrong:
//! it serves tests and the demo only.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a harness that fails is to fail its test")]

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod edgefold;
mod envoy;
mod http;
mod kafka;
mod process;
mod relay;

pub use crate::edgefold::{Edgefold, Serve};
pub use crate::envoy::{Envoy, EnvoyOptions};
pub use crate::http::{Answer, Client, Upstream, raw};
pub use crate::kafka::{Kafka, StoppedKafka, TopicRecord};
pub use crate::relay::Relay;

/// The top folder of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// A file or folder that the Makefile installs.
pub fn tool(name: &str) -> PathBuf {
    let path = workspace().join(".tools").join(name);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

/// Waits until `condition` gives a value, and gives it on; panics when it takes longer than any machine should need.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Different ports that are free now. Another process may take one before it is used: whoever listens on it says so then.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
