//! Checks of single fields, and the words for what is wrong with them. Texts of others are shown
//! short: a name may have ten million bytes.

use std::net::IpAddr;

use kmesh_bpf::layout::NAME_MAX;
use kmesh_bpf::want::is_plain;

use super::DecodeError;
use super::proto::workload::gateway_address::Destination as Gateway;
use super::proto::workload::{GatewayAddress, NetworkAddress, Port};
use crate::model::{Destination, PortPair};

/// The longest name of one object that Kubernetes and DNS know.
const LABEL_MAX: usize = 253;
/// So many problems of one resource are listed.
const LISTED: usize = 10;

/// What is wrong with one resource.
#[derive(Debug, Default)]
pub(super) struct Say(Vec<String>);

impl Say {
    pub(super) fn problem(&mut self, what: String) {
        if self.0.len() < LISTED {
            self.0.push(what);
        }
    }

    /// Good, if nothing was wrong.
    pub(super) fn finish<T>(self, good: T) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(good) } else { Err(DecodeError::Refused { problems: self.0 }) }
    }

    /// A name of Kubernetes or DNS; empty says nothing.
    pub(super) fn label(&mut self, what: &str, text: &str) {
        self.text(what, text, LABEL_MAX);
    }

    /// A name that the tables hold.
    pub(super) fn name(&mut self, what: &str, text: &str) {
        self.text(what, text, NAME_MAX);
    }

    fn text(&mut self, what: &str, text: &str, max: usize) {
        if text.len() > max {
            self.problem(format!("{what} of {} bytes: at most {max}", text.len()));
        } else if !is_plain(text) {
            self.problem(format!("{what} holds a control character"));
        }
    }

    /// The addresses of a host, each once.
    pub(super) fn addresses<'a>(&mut self, from: impl Iterator<Item = &'a [u8]>) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = Vec::new();
        for bytes in from {
            if let Some(ip) = self.address("address", bytes)
                && !ips.contains(&ip)
            {
                ips.push(ip);
            }
        }
        ips
    }

    /// An address of 4 or 16 bytes.
    pub(super) fn ip(&mut self, what: &str, bytes: &[u8]) -> Option<IpAddr> {
        match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(v4), _) => Some(IpAddr::from(v4)),
            (_, Ok(v6)) => Some(IpAddr::from(v6).to_canonical()),
            _ => {
                self.problem(format!("{what} of {} bytes: 4 or 16", bytes.len()));
                None
            }
        }
    }

    /// An address of one host, of 4 or 16 bytes.
    pub(super) fn address(&mut self, what: &str, bytes: &[u8]) -> Option<IpAddr> {
        let ip = self.ip(what, bytes)?;
        if is_one_host(ip) {
            return Some(ip);
        }
        self.problem(format!("{what} {ip} is no address of one host"));
        None
    }

    /// Pairs of ports by service port, sorted; of two with the same service port (one may be for
    /// UDP: nothing tells) the last one that names a target counts, as it does for ztunnel. Target
    /// 0 says nothing.
    pub(super) fn ports(&mut self, ports: &[Port]) -> Box<[PortPair]> {
        let mut pairs: Vec<PortPair> = Vec::with_capacity(ports.len());
        for Port { service_port, target_port } in ports.iter().rev() {
            match (u16::try_from(*service_port), u16::try_from(*target_port)) {
                (Ok(0), _) => self.problem("port 0 is no service port".to_owned()),
                (Ok(service), Ok(target)) => pairs.push((service, target)),
                (Err(_), _) => self.problem(format!("port {service_port}: at most 65535")),
                (_, Err(_)) => self.problem(format!("target port {target_port}: at most 65535")),
            }
        }
        pairs.sort_by_key(|(service, target)| (*service, *target == 0));
        pairs.dedup_by_key(|(service, _)| *service);
        pairs.into()
    }

    /// What a waypoint is named by, if it is named.
    pub(super) fn waypoint(&mut self, gateway: Option<GatewayAddress>) -> Option<Destination> {
        match gateway?.destination? {
            Gateway::Hostname(name) => {
                let name = self.service_name("waypoint", &name.namespace, &name.hostname)?;
                Some(Destination::Hostname(name.into()))
            }
            Gateway::Address(NetworkAddress { network, address, .. }) => {
                self.label("network of the waypoint", &network);
                let ip = self.address("address of the waypoint", &address)?;
                Some(Destination::Address(network.into(), ip))
            }
        }
    }

    /// `namespace/hostname`
    pub(super) fn service_name(
        &mut self,
        what: &str,
        namespace: &str,
        hostname: &str,
    ) -> Option<String> {
        let before = self.0.len();
        for (part, text) in [("namespace", namespace), ("hostname", hostname)] {
            if text.is_empty() {
                self.problem(format!("{part} of the {what} is empty"));
            } else if text.contains('/') {
                self.problem(format!("{part} of the {what} holds a \"/\""));
            }
            if !is_label(text) {
                self.label(&format!("{part} of the {what}"), text);
            }
        }
        let name = format!("{namespace}/{hostname}");
        if Destination::is_address(&name) {
            self.problem(format!("the {what}'s name reads as network/address"));
        }
        (self.0.len() == before).then_some(name)
    }
}

/// Whether connections to this address go to one host.
pub(super) fn is_one_host(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

/// Whether it is good as a name of Kubernetes or DNS.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && is_plain(text)
}

/// Whether it is good as a name that the tables hold.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && is_plain(text)
}

/// A text of others, short enough to be shown.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 120;
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let cut: String = text.chars().take(SHOWN).map(plain).collect();
    if cut.len() < text.len() { format!("{cut}… ({} bytes)", text.len()) } else { cut }
}
