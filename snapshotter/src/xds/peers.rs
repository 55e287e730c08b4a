//! Other replicas, and their bases. A proxy that changes its replica gets a base again only if it is another one. So all replicas ship the
//! same: the one that writes the view makes it, and the others take it over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgefold_snapshot::{Fingerprint, Generation, MAX_SNAPSHOT_BYTES, Role, Snapshot};
use tokio_rustls::rustls::crypto::ring;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::net::{TlsError, TlsFiles};

/// How long a peer may take to answer, and to take the connection: a start waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(2);
/// How long a replica waits for the base of another one, before it makes its own.
const WAIT: Duration = Duration::from_secs(30);
/// How often it asks.
const PAUSE: Duration = Duration::from_millis(500);
/// Where a replica has its base.
pub(super) const PATH: &str = "/base";

/// The other replicas.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// The name of the filter.
    name: String,
    urls: Vec<String>,
    tls: Option<TlsFiles>,
    /// What was wrong with each of them when it was last asked.
    troubles: Arc<Mutex<HashMap<String, String>>>,
}

impl Peers {
    /// Those at these URLs, as in `https://edgefold-2:18000`. This replica shows them the certificate of its own server, and theirs must be of
    /// the authority of its clients.
    ///
    /// # Errors
    /// Those of the files. They are read again whenever a peer is asked.
    pub(crate) fn new(name: &str, urls: Vec<String>, tls: Option<TlsFiles>) -> Result<Self, TlsError> {
        let this = Self { name: name.to_owned(), urls, tls, troubles: Arc::default() };
        this.agent().map(|_| this)
    }

    fn agent(&self) -> Result<Agent, TlsError> {
        let mut config =
            Agent::config_builder().timeout_global(Some(PATIENCE)).timeout_connect(Some(CONNECT)).max_redirects(0);
        if let Some(files) = &self.tls
            && let Some((roots, chain, key)) = files.client()?
        {
            let certificates = |all: &[Vec<u8>]| -> Vec<Certificate<'static>> {
                all.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
            };
            let key = PrivateKey::from_pem(&key).map_err(|error| files.unusable_key(&error.to_string()))?;
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&certificates(&roots)))
                .client_cert(Some(ClientCert::new_with_certs(&certificates(&chain), key)))
                .unversioned_rustls_crypto_provider(ring::default_provider().into())
                .build();
            config = config.tls_config(tls);
        }
        Ok(config.build().into())
    }

    /// The base of a peer, the newest of several; `None` if no peer has one beside the one that is `known`.
    pub(crate) fn newest_base(&self, known: Option<Fingerprint>) -> Option<Snapshot<Bytes>> {
        let agent = self.agent().map_err(|error| warn!("cannot ask other replicas for their bases: {error}")).ok()?;
        let bases = self.urls.iter().filter_map(|url| {
            let outcome = base(&agent, url, &self.name, known);
            let trouble = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            // Once, and again after it has worked.
            if troubles.insert(url.clone(), trouble.clone()).unwrap_or_default() != trouble && !trouble.is_empty() {
                warn!("cannot ask the replica at {url} for its base: {trouble}");
            }
            outcome.ok().flatten()
        });
        bases.max_by_key(|base| order(base.header().generation))
    }

    /// Waits for a base that is newer than `current`, but not long.
    pub(crate) fn wait_for_base(&self, current: &Snapshot<Bytes>) -> Option<Snapshot<Bytes>> {
        let start = Instant::now();
        while start.elapsed() < WAIT {
            let is_newer =
                |base: &Snapshot<Bytes>| order(base.header().generation) > order(current.header().generation);
            if let Some(base) = self.newest_base(Some(current.fingerprint())).filter(is_newer) {
                info!("taking over the base {} of another replica", base.fingerprint());
                return Some(base);
            }
            thread::sleep(PAUSE);
        }
        None
    }
}

/// The base of the replica at `url`; `None` if its lists are small, or it has the one that is `known`.
fn base(
    agent: &Agent,
    url: &str,
    name: &str,
    known: Option<Fingerprint>,
) -> Result<Option<Snapshot<Bytes>>, Box<dyn std::error::Error>> {
    let request = agent.get(format!("{url}{PATH}"));
    let request = match known {
        Some(known) => request.header("if-none-match", etag(known)),
        None => request,
    };
    let mut response = match request.call() {
        Err(ureq::Error::StatusCode(404)) => return Ok(None),
        response => response?,
    };
    if response.status() == 304 {
        return Ok(None);
    }
    let bytes = response.body_mut().with_config().limit(MAX_SNAPSHOT_BYTES as u64).read_to_vec()?;
    // A peer may send anything: all of it is validated.
    let base = Snapshot::open(Bytes::from(bytes))?;
    if base.header().role != Role::Base || base.header().name != name {
        return Err(format!("it has a snapshot of {:?} that is not a base of {name:?}", base.header().name).into());
    }
    Ok(Some(base))
}

/// The entity tag of a base.
pub(super) fn etag(base: Fingerprint) -> String {
    format!("\"{base}\"")
}

/// Later generations have more.
fn order(generation: Generation) -> (u32, u64, Option<u64>) {
    (generation.epoch, generation.next_offset, generation.expiry)
}
