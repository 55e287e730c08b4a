//! The xDS server: ships to a fleet of Envoys over gRPC.
//!
//! It serves the extension config discovery service (ECDS), by itself and aggregated with others (ADS), the state of the world and incremental,
//! as <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol> says. `session` is the protocol without IO.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use edgefold::LogTime;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

mod fleet;
mod peers;
mod proto;
mod resources;
mod server;
mod session;
mod stream;

use fleet::Target;
pub(crate) use fleet::{Fleet, Report};
pub(crate) use peers::Peers;
pub use resources::Module;
use resources::{Common, Resources};
use stream::Shared;

use crate::net::{TlsError, TlsFiles, bind};
use crate::ship::ecds::{FilterHost, FilterKind};
use crate::ship::{ShipError, Shipment, Subscriber};

/// How long streams have to end when the process does.
const DRAIN: Duration = Duration::from_secs(5);

/// Where the xDS server listens, and what it needs.
#[derive(Clone, Debug)]
pub struct XdsConfig {
    /// The address; port 0 picks a free port.
    pub address: SocketAddr,
    /// Its certificate; `None` for no TLS.
    pub tls: Option<TlsFiles>,
    /// How Envoy gets the wasm module.
    pub module: Module,
    /// The URLs of the xDS servers of other replicas.
    pub peers: Vec<String>,
}

/// Why the xDS server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum XdsError {
    /// It cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is something wrong with its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running xDS server. Shipments that are delivered to it go to all streams.
#[derive(Debug)]
pub struct Xds {
    runtime: Runtime,
    address: SocketAddr,
    common: Arc<Common>,
    resources: watch::Sender<Option<Arc<Resources>>>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    fleet: Arc<Fleet>,
}

impl Xds {
    /// Starts a server. Streams wait for the first shipment.
    pub(crate) fn start(
        config: XdsConfig,
        module: &'static [u8],
        host: FilterHost,
        fleet: Arc<Fleet>,
    ) -> Result<Self, XdsError> {
        let failed = |source| XdsError::Listen { address: config.address, source };
        let (listener, address) = bind(config.address).map_err(failed)?;
        let threads = thread::available_parallelism().map_or(1, |count| count.get().min(4));
        let runtime =
            runtime::Builder::new_multi_thread().worker_threads(threads).thread_name("xds").enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let sha256: String = Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("/edgefold-filter-{sha256}.wasm");
        let uri = format!("http://edgefold{path}");
        let common = Arc::new(Common { host, module: config.module, sha256, uri });
        let (resources, for_streams) = watch::channel(None);
        let (stop, is_stopping) = watch::channel(false);
        let process = format!("{:016x}", fastrand::u64(..));
        let shared = Shared { resources: for_streams, stop: is_stopping, fleet: Arc::clone(&fleet), process };
        let stopped = {
            let _entered = runtime.enter();
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            server::start(listener, config.tls, Arc::new(shared), (path, module))?
        };
        Ok(Self { runtime, address, common, resources, stop, stopped, fleet })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all streams, so that proxies connect to another replica, and waits until they are closed, but not long.
    pub(crate) fn stop(mut self) {
        self.stop.send_replace(true);
        let all_closed = self.stopped.wait_for(|stopped| *stopped);
        let _closed_or_late = self.runtime.block_on(async { tokio::time::timeout(DRAIN, all_closed).await.is_ok() });
        self.runtime.shutdown_background();
    }
}

impl Subscriber for Xds {
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
        let resources = {
            let before = self.resources.borrow();
            Resources::new(shipment, &self.common, before.as_deref())
        };
        self.fleet.set_target(Target {
            versions: FilterKind::ALL.map(|kind| resources.get(kind).version.clone()),
            names: FilterKind::ALL.map(|kind| resources.get(kind).name.clone()),
            covers: shipment.generation.next_offset,
            commanded_at: None,
        });
        // What it would be if nobody had anything of it yet.
        let bytes = shipment.snapshot.len() as u64;
        self.resources.send_replace(Some(Arc::new(resources)));
        Ok(bytes)
    }

    fn repair(&mut self, _shipment: &Arc<Shipment>) -> Result<bool, ShipError> {
        // A stream sends the newest shipment until it is accepted.
        Ok(false)
    }

    fn note_covered(&mut self, next_offset: u64, oldest: Option<LogTime>) {
        self.fleet.note_covered(next_offset, oldest);
    }
}
