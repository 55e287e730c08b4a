//! TLS for servers, with certificates that are read again when their files change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tracing::{info, warn};

/// How soon a new certificate is noticed.
const CHECK: Duration = Duration::from_secs(5);

/// The files of a server's TLS, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate, and those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients may connect; if `None`, all may.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not have what it should have.
    #[error("{}: it must have {what} in PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// The certificate and the key cannot be used together.
    #[error("{} and {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities, or a key, cannot be used.
    #[error("{}: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Certificates of authorities, a chain of certificates, and a key.
type Client = (Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<u8>);

/// What the files had when they were last read.
#[derive(Eq, PartialEq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Accepts TLS connections, with the certificate that is in the files now.
#[derive(Clone)]
pub(crate) struct Acceptor {
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Acceptor {
    /// Reads the files, and reads them again whenever they change, on this Tokio runtime. `protocols` are those of ALPN.
    pub(crate) fn start(files: TlsFiles, protocols: &'static [&'static str]) -> Result<Self, TlsError> {
        let mut content = files.read()?;
        let this = Self { config: Arc::new(RwLock::new(Arc::new(files.config(&content, protocols)?))) };
        let config = Arc::clone(&this.config);
        tokio::spawn(async move {
            let mut last_error = String::new();
            loop {
                tokio::time::sleep(CHECK).await;
                let outcome = files.read().and_then(|found| {
                    if found == content {
                        return Ok(false);
                    }
                    let new = files.config(&found, protocols)?;
                    *config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    content = found;
                    Ok(true)
                });
                let error = match outcome {
                    Ok(is_new) => {
                        if is_new {
                            info!("{}: using the new certificate", files.certificate.display());
                        }
                        String::new()
                    }
                    // The certificate and the key are two files: for a moment they may not belong together.
                    Err(error) => error.to_string(),
                };
                if !error.is_empty() && error != last_error {
                    warn!("{error}; the old certificate stays in use");
                }
                last_error = error;
            }
        });
        Ok(this)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Content, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source });
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// What this host shows as a client, and whom it trusts: the certificates of the authorities and its own, in DER, and its key in PEM.
    /// `None` if there are no authorities.
    pub(crate) fn client(&self) -> Result<Option<Client>, TlsError> {
        let content = self.read()?;
        let (Some(path), Some(ca)) = (&self.client_ca, &content.client_ca) else { return Ok(None) };
        let roots = certificates(path, ca)?;
        let chain = certificates(&self.certificate, &content.certificate)?;
        let pem = |source| TlsError::Pem { path: self.key.clone(), what: "a private key", source };
        let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(pem)?;
        // Whoever uses them only says that they are unusable by a panic.
        let mut store = RootCertStore::empty();
        for root in &roots {
            let failed = |error: rustls::Error| TlsError::Authorities { path: path.clone(), why: error.to_string() };
            store.add(root.clone()).map_err(failed)?;
        }
        let pair = |source| TlsError::Pair { certificate: self.certificate.clone(), key: self.key.clone(), source };
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_root_certificates(store)
            .with_client_auth_cert(chain.clone(), key)
            .map_err(pair)?;
        let der = |all: Vec<CertificateDer<'_>>| all.iter().map(|one| one.to_vec()).collect();
        Ok(Some((der(roots), der(chain), content.key)))
    }

    /// The error for a key that cannot be used.
    pub(crate) fn unusable_key(&self, why: &str) -> TlsError {
        TlsError::Authorities { path: self.key.clone(), why: why.to_owned() }
    }

    fn config(&self, content: &Content, protocols: &[&str]) -> Result<ServerConfig, TlsError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let chain = certificates(&self.certificate, &content.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(|source| TlsError::Pem {
            path: self.key.clone(),
            what: "a private key",
            source,
        })?;
        let pair = |source| TlsError::Pair { certificate: self.certificate.clone(), key: self.key.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(pair)?;
        let builder = match (&self.client_ca, &content.client_ca) {
            (Some(path), Some(content)) => {
                let failed = |why: String| TlsError::Authorities { path: path.clone(), why };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, content)? {
                    roots.add(certificate).map_err(|error| failed(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error: VerifierBuilderError| failed(error.to_string()))?,
                )
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

fn certificates(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), what: "a certificate", source };
    let found: Vec<_> = CertificateDer::pem_slice_iter(content).collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}
