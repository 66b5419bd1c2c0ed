//! Whom the client trusts: the system's roots (or those of `SSL_CERT_FILE`), and further files of certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use super::error::RegistryError;

/// Makes a connector for https origins.
///
/// Only HTTP/1.1 is offered: registries limit per connection, so parallel ranges want connections and not streams.
/// System certificates that cannot be read are left out; a file that was named must be readable.
pub(super) fn connector(files: &[PathBuf]) -> Result<TlsConnector, RegistryError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "some of the system's certificates cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    for path in files {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), RegistryError> {
    let failed = |message: String| RegistryError::Certificates {
        path: path.display().to_string(),
        message,
    };
    let mut count = 0;
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(failed("it holds no PEM certificate".to_owned()));
    }
    Ok(())
}
