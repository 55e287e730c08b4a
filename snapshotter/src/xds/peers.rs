//! Other replicas, and their bases. A proxy that changes its replica gets a base again only if it is another one. So all replicas ship the
//! same: the one that writes the view makes it, and the others take it over.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgefold_snapshot::{Generation, MAX_SNAPSHOT_BYTES, Snapshot};
use tokio_rustls::rustls::crypto::ring;
use tracing::{debug, info};
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
#[derive(Clone)]
pub(crate) struct Peers {
    urls: Vec<String>,
    agent: Agent,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Peers {
    /// Those at these URLs, as in `https://edgefold-2:18000`. This replica shows them the certificate of its own server, and theirs must be of
    /// the authority of its clients.
    pub(crate) fn new(urls: Vec<String>, tls: Option<&TlsFiles>) -> Result<Self, TlsError> {
        let mut config =
            Agent::config_builder().timeout_global(Some(PATIENCE)).timeout_connect(Some(CONNECT)).max_redirects(0);
        if let Some(TlsFiles { certificate, key, client_ca: Some(ca) }) = tls {
            let read = |path: &std::path::PathBuf| {
                fs::read(path).map_err(|source| TlsError::File { path: path.clone(), source })
            };
            let certificates = |path: &std::path::PathBuf| {
                let items = ureq::tls::parse_pem(&read(path)?).flatten().collect::<Vec<_>>();
                let found = items.into_iter().filter_map(|item| match item {
                    ureq::tls::PemItem::Certificate(certificate) => Some(certificate.to_owned()),
                    _ => None,
                });
                Ok::<Vec<Certificate<'static>>, TlsError>(found.collect())
            };
            let why = |error: ureq::Error| TlsError::Authorities { path: key.clone(), why: error.to_string() };
            let key = PrivateKey::from_pem(&read(key)?).map_err(why)?;
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&certificates(ca)?))
                .client_cert(Some(ClientCert::new_with_certs(&certificates(certificate)?, key)))
                .unversioned_rustls_crypto_provider(ring::default_provider().into())
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self { urls, agent: config.build().into() })
    }

    /// The base of a peer, the newest of several; `None` if no peer has one.
    pub(crate) fn newest_base(&self) -> Option<Snapshot<Bytes>> {
        let bases = self.urls.iter().filter_map(|url| match self.base(url) {
            Ok(base) => base,
            Err(error) => {
                debug!("{url}: {error}");
                None
            }
        });
        bases.max_by_key(|base| order(base.header().generation))
    }

    /// Waits for a base that is newer than that of `generation`, but not long.
    pub(crate) fn wait_for_base(&self, generation: Generation) -> Option<Snapshot<Bytes>> {
        let start = Instant::now();
        while start.elapsed() < WAIT {
            let is_newer = |base: &Snapshot<Bytes>| order(base.header().generation) > order(generation);
            if let Some(base) = self.newest_base().filter(is_newer) {
                info!("taking over the base {} of another replica", base.fingerprint());
                return Some(base);
            }
            thread::sleep(PAUSE);
        }
        None
    }

    fn base(&self, url: &str) -> Result<Option<Snapshot<Bytes>>, Box<dyn std::error::Error>> {
        let mut response = match self.agent.get(format!("{}{PATH}", url.trim_end_matches('/'))).call() {
            Err(ureq::Error::StatusCode(404)) => return Ok(None),
            response => response?,
        };
        let bytes = response.body_mut().with_config().limit(MAX_SNAPSHOT_BYTES as u64).read_to_vec()?;
        // A peer may send anything: all of it is validated.
        Ok(Some(Snapshot::open(bytes.into())?))
    }
}

/// Later generations have more.
fn order(generation: Generation) -> (u32, u64, Option<u64>) {
    (generation.epoch, generation.next_offset, generation.expiry)
}
