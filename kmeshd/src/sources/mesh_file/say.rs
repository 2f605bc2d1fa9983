//! What is wrong with one object, said with its name.

use std::net::IpAddr;

use kmesh_bpf::layout::NAME_MAX;

use super::Problems;
use super::format::{self, Gateway, NetworkMode};
use crate::model::{Destination, PortPair};

/// The longest name of one object that Kubernetes and DNS know.
const LABEL_MAX: usize = 253;

/// Finds what is wrong with a workload by itself.
pub(super) fn check_workload(from: &format::Workload, uid: &str, say: &mut Say) {
    if uid.len() > NAME_MAX {
        say.problem(&format!("uid of {} bytes: at most {NAME_MAX}", uid.len()));
    }
    if uid.contains(char::is_control) {
        say.problem("uid holds a control character");
    }
    if matches!(Destination::parse(uid), Some(Destination::Address(..))) {
        say.problem("a uid must not read as network/address");
    }
    let labels = [
        ("name", &from.name),
        ("namespace", &from.namespace),
        ("serviceAccount", &from.service_account),
        ("trustDomain", &from.trust_domain),
        ("network", &from.network),
        ("node", &from.node),
        ("clusterId", &from.cluster_id),
        ("region", &from.locality.region),
        ("zone", &from.locality.zone),
        ("subzone", &from.locality.subzone),
    ];
    for (what, text) in labels {
        say.label(what, text);
    }
    match &from.netns {
        None if from.bypass => say.problem("bypass says nothing without netns"),
        Some(netns) if netns.is_empty() => say.problem("netns is empty"),
        Some(_) if matches!(from.network_mode, NetworkMode::HostNetwork) => {
            say.problem("a workload on the host's network has no netns of its own");
        }
        _ => {}
    }
}

/// Speaks of one object.
pub(super) struct Say<'a> {
    pub(super) object: &'static str,
    pub(super) name: &'a str,
    pub(super) problems: &'a mut Problems,
}

impl Say<'_> {
    pub(super) fn problem(&mut self, what: &str) {
        let shown: String = self.name.chars().take(LABEL_MAX).collect();
        let cut = if shown.len() < self.name.len() { "…" } else { "" };
        self.problems.add(format!("{} {shown}{cut}: {what}", self.object));
    }

    pub(super) fn label(&mut self, what: &str, text: &str) {
        let length = text.chars().count();
        if length > LABEL_MAX {
            self.problem(&format!("{what} of {length} characters: at most {LABEL_MAX}"));
        }
        if text.contains(char::is_control) {
            self.problem(&format!("{what} holds a control character"));
        }
    }

    pub(super) fn address(&mut self, text: &str) -> Option<IpAddr> {
        match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                self.problem(&format!("{text} is no address of one host"));
                None
            }
            Ok(ip) => Some(ip),
            Err(_) => {
                self.problem(&format!("bad address \"{text}\""));
                None
            }
        }
    }

    pub(super) fn vip(&mut self, text: &str) -> Option<(String, IpAddr)> {
        let Some((network, ip)) = text.split_once('/') else {
            self.problem(&format!(
                "bad VIP \"{text}\": write \"network/address\", for the local network \"/{text}\""
            ));
            return None;
        };
        self.label("network", network);
        self.address(ip).map(|ip| (network.to_owned(), ip))
    }

    pub(super) fn ports(&mut self, pairs: &[PortPair]) -> Box<[PortPair]> {
        let mut sorted: Box<[PortPair]> = pairs.into();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            self.problem(&format!("port {} twice", twice[0].0));
        }
        sorted
    }

    pub(super) fn waypoint(&mut self, gateway: &Gateway) -> Option<Destination> {
        let text = &*gateway.destination;
        self.label("waypoint", text);
        let destination = Destination::parse(text);
        if destination.is_none() {
            self.problem(&format!(
                "bad waypoint \"{text}\": write \"namespace/hostname\" or \"network/address\""
            ));
        }
        destination
    }
}
