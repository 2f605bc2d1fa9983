//! What can go wrong between here and a control plane, in words that help: what was attempted,
//! where, why it failed, and what the operator does about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::CertificateError;
use tonic::{Code, Status};

/// Why there is no stream, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The root certificate cannot be read.
    #[error("read the control plane's root certificate {} (--xds-root-cert)", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The root certificate is none.
    #[error(
        "the root certificate {} holds no certificate in PEM: mount ConfigMap istio-ca-root-cert",
        path.display()
    )]
    RootText {
        /// The file.
        path: PathBuf,
    },
    /// The token cannot be read.
    #[error("read the service account's token {} (--xds-token)", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token cannot be sent.
    #[error("the token {} is empty or no text: mount one of audience istio-ca", path.display())]
    TokenText {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("set up TLS for {address} with {}: {hint}", root.display())]
    Tls {
        /// The control plane.
        address: String,
        /// The root certificate.
        root: PathBuf,
        /// What helps.
        hint: &'static str,
        /// Why.
        source: tonic::transport::Error,
    },
    /// No connection came about.
    #[error("connect to {address}: {hint}")]
    Connect {
        /// The control plane.
        address: String,
        /// What helps.
        hint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// No connection came about in time.
    #[error(
        "connect to {address}: not within {} s; does something between drop packets, or does the \
         port expect TLS (https://) or none (http://)?", after.as_secs()
    )]
    Slow {
        /// The control plane.
        address: String,
        /// How long it was given.
        after: Duration,
    },
    /// The control plane refused, or broke off.
    #[error("{address} ended the stream: {}: {}{}", code.description(), shown(message), hint)]
    Refused {
        /// The control plane.
        address: String,
        /// As gRPC names it.
        code: Code,
        /// What the control plane said.
        message: String,
        /// What helps.
        hint: &'static str,
    },
    /// The control plane closed the stream.
    #[error("{address} closed the stream")]
    Closed {
        /// The control plane.
        address: String,
    },
    /// What was held back is to be confirmed by a second answer.
    #[error("asking {address} for everything again: its first answer was held back")]
    Again {
        /// The control plane.
        address: String,
    },
}

use crate::decode::shown;

impl Trouble {
    /// A failure to connect, with the hint that its cause deserves.
    pub(super) fn connect(
        address: &str,
        root: &std::path::Path,
        name: &str,
        source: tonic::transport::Error,
    ) -> Self {
        let hint = cause(&source, root, name);
        Self::Connect { address: address.to_owned(), hint, source }
    }

    /// A status that ended the stream, on which the control plane has spoken or not.
    pub(super) fn status(address: &str, status: &Status, spoke: bool) -> Self {
        let (code, message) = (status.code(), status.message().to_owned());
        let message = match status.source() {
            Some(source) if !message.contains(&source.to_string()) => {
                format!("{message}: {}", crate::chain(source))
            }
            _ => message,
        };
        let hint = match code {
            Code::Unauthenticated => {
                ". The token is not accepted: it must be fresh, of audience istio-ca, and of this \
                 cluster (--xds-token); http:// needs none"
            }
            Code::PermissionDenied => {
                ". The token's namespace and service account must be those of --pod-namespace and \
                 --service-account (leave both out: the token's are taken)"
            }
            Code::Unimplemented => {
                ". This is no control plane: istiod's ports are 15012 (https://) and 15010 (http://)"
            }
            Code::OutOfRange => ". Raise --xds-max-response",
            _ if message.contains("PILOT_ENABLE_AMBIENT") => {
                ". Istio's ambient mode is off, and only with it does istiod say what workloads there \
                 are: install Istio with the profile ambient"
            }
            Code::Internal | Code::Unknown | Code::Cancelled if !spoke => {
                if address.starts_with("http://") {
                    ". Is it a control plane? Does the port expect TLS (https://)?"
                } else {
                    ". Is it a control plane?"
                }
            }
            Code::ResourceExhausted => ". The control plane has a limit on requests",
            _ => "",
        };
        Self::Refused { address: address.to_owned(), code, message, hint }
    }
}

/// What a failed connection is due to, in words.
fn cause(error: &(dyn Error + 'static), root: &std::path::Path, name: &str) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return tls(error, root, name);
        }
        if error.to_string().contains("dns error") {
            return "its name is not known: is cluster DNS reachable from the host's network \
                    (dnsPolicy: ClusterFirstWithHostNet)?"
                .to_owned();
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(inner) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                return tls(inner, root, name);
            }
            if let Some(hint) = network(error.kind()) {
                return hint.to_owned();
            }
        }
        next = error.source();
    }
    "is it a control plane, and is TLS (https://) or none (http://) right for the port?".to_owned()
}

fn network(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: is the control plane running, and is the port right (15012 for \
             https://, 15010 for http://)?"
        }
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => {
            "no answer: is there a route, and does a network policy drop it?"
        }
        io::ErrorKind::NetworkUnreachable => "there is no route: is this node's network up?",
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            "it hung up: does the port expect TLS (https://) or none (http://)?"
        }
        _ => return None,
    })
}

fn tls(error: &rustls::Error, root: &std::path::Path, name: &str) -> String {
    match error {
        // Roots of two control planes often have one name: then the signature is what is wrong.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "its certificate is not signed by {}: is that the root of this control plane \
             (ConfigMap istio-ca-root-cert)?",
            root.display()
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("its certificate is not for {name}: say its name with --xds-server-name"),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired: renew it, or set this machine's clock".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: is this machine's clock right?".to_owned(),
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS: for plain text say http://".to_owned()
        }
        _ => "TLS failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istio_without_ambient_mode_is_told_apart() {
        let status = Status::unknown("ztunnel requires PILOT_ENABLE_AMBIENT=true");
        let said = Trouble::status("http://istiod:15010", &status, false).to_string();
        assert!(said.ends_with("with the profile ambient") && !said.contains("TLS"), "{said}");
        let said = Trouble::status("http://istiod:15010", &Status::unknown("x"), false).to_string();
        assert!(said.ends_with("expect TLS (https://)?"), "{said}");
    }
}
