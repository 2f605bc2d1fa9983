//! Certificates for tests: a root, and a certificate for one name.

use rcgen::{BasicConstraints, CertificateParams, Error, IsCa, Issuer, KeyPair};

/// PEM texts.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The root's certificate.
    pub root: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

/// A new root and a certificate of it for `name`.
pub fn make(name: &str) -> Result<Pki, Error> {
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = root.self_signed(&root_key)?;
    let key = KeyPair::generate()?;
    let issuer = Issuer::from_params(&root, &root_key);
    let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?;
    Ok(Pki { root: signed.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}
