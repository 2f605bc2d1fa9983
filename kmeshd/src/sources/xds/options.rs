//! What the source must be told. Where it comes from is `config`'s business.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::Name;

/// How the control plane is reached, and who asks.
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://HOST:PORT` or `http://HOST:PORT`, tried in this order.
    pub addresses: Vec<String>,
    /// For `https`.
    pub security: Security,
    /// Bounds.
    pub limits: Limits,
    /// Every answer is believed, empty ones too.
    pub accept_empty: bool,
    /// How long an answer that is too small to be believed is held back before it is asked for
    /// again.
    pub grace: Duration,
    /// Node name.
    pub node: Name,
    /// Cluster.
    pub cluster: Name,
    /// Network.
    pub network: Name,
    /// Pod name; else the token's, else one made of the node's.
    pub pod: Option<String>,
    /// Its namespace; else the token's, else `kmesh-system`.
    pub namespace: Option<String>,
    /// Its service account; else the token's, else `kmesh`.
    pub account: Option<String>,
    /// Its address.
    pub ip: String,
}

/// How the two sides know each other.
#[derive(Clone, Debug)]
pub struct Security {
    /// The control plane's root certificates, PEM.
    pub root: PathBuf,
    /// The service account's token.
    pub token: PathBuf,
    /// The name in the control plane's certificate.
    pub name: String,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a response.
    pub response: usize,
    /// Bytes of what a new stream is told of what is held: control planes refuse requests above
    /// 4 MiB.
    pub versions: usize,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// The first and the longest wait between two attempts.
    pub backoff: (Duration, Duration),
    /// How often the other side is asked for a sign of life, and how long it may take. Istio's
    /// servers hang up on who asks more often than every 15 s (half of their own interval).
    pub keepalive: (Duration, Duration),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            response: 256 << 20,
            versions: 3 << 20,
            connect: Duration::from_secs(10),
            backoff: (Duration::from_millis(250), Duration::from_secs(15)),
            keepalive: (Duration::from_secs(30), Duration::from_secs(20)),
        }
    }
}
