//! Certificates for tests over TLS.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A CA, and certificates in PEM files of a folder.
pub(crate) struct Certificates {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// The certificate of the CA, in a file.
    pub(crate) fn ca_file(&self, folder: &Path, name: &str) -> String {
        let file = folder.join(name);
        std::fs::write(&file, self.ca.pem()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// A certificate of `name` for 127.0.0.1, and its key, in two files.
    pub(crate) fn issue(&self, folder: &Path, name: &str) -> [String; 2] {
        self.issue_for("127.0.0.1", folder, name)
    }

    pub(crate) fn issue_for(&self, host: &str, folder: &Path, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        [("crt", certificate.pem()), ("key", key.serialize_pem())].map(|(suffix, pem)| {
            let file = folder.join(format!("{name}.{suffix}"));
            std::fs::write(&file, pem).unwrap();
            file.to_str().unwrap().to_owned()
        })
    }
}
