//! Whom to trust: the authorities in a file, or the system's.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::StoreError;
use super::super::settings::Tls;

pub(super) fn authorities(tls: &Tls) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    // Installed already if another part of the program speaks TLS; theirs serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(file) = &tls.ca_file else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let unreadable = |cause: String| StoreError::Failed(format!("store.ca_file {}: {cause}", file.display()).into());
    let read = |file: &Path| CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    match read(file) {
        Ok(found) if found.is_empty() => Err(unreadable("holds no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
