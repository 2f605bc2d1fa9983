//! A workload: checked, and stored with what it shares.

use super::proto::workload as proto;
use super::say::{Say, shown};
use super::{Address, DecodeError, Decoder};
use crate::model::{Destination, Ips, Membership, Place, Traits, Workload};

impl Decoder {
    pub(super) fn workload(&mut self, from: proto::Workload) -> Result<Address, DecodeError> {
        let mut say = Say::default();
        check(&from, &mut say);
        let identity = identity(&from);
        say.name("identity", &identity);
        let ips = say.addresses(from.addresses.iter().map(|bytes| &**bytes));
        let services = self.memberships(&from, &mut say);
        let waypoint = say.waypoint(from.waypoint);
        // Nothing of a bad one is kept.
        say.finish(())?;
        let locality = from.locality.unwrap_or_default();
        let place = Place {
            network: self.texts.text(&from.network),
            cluster: self.texts.text(&from.cluster_id),
            node: self.texts.text(&from.node),
            region: self.texts.text(&locality.region),
            zone: self.texts.text(&locality.zone),
            subzone: self.texts.text(&locality.subzone),
        };
        let policies = self.texts.set(from.authorization_policies.iter().map(|name| &**name));
        let traits = Traits { policies, identity: identity.into(), waypoint, services };
        let traits = self.share(traits);
        let unresolved = ips.is_empty() && !from.hostname.is_empty();
        let workload = Workload {
            ips: if unresolved { Ips::Hostname(from.hostname.into()) } else { ips.into() },
            place: self.places.share(place),
            traits,
            // What later control planes may say: not healthy, and not to be found by its address.
            healthy: from.status == proto::WorkloadStatus::Healthy as i32,
            host_network: from.network_mode != proto::NetworkMode::Standard as i32,
        };
        Ok(Address::Workload(from.uid.into(), workload))
    }

    /// One copy of it, and of its identity's text.
    fn share(&mut self, mut traits: Traits) -> std::sync::Arc<Traits> {
        traits.identity = self.texts.text(&traits.identity);
        self.traits.share(traits)
    }

    fn memberships(&mut self, from: &proto::Workload, say: &mut Say) -> Box<[Membership]> {
        let mut services = Vec::with_capacity(from.services.len());
        for (service, list) in &from.services {
            match service.split_once('/') {
                Some((namespace, hostname)) => {
                    say.service_name("service that it serves", namespace, hostname);
                }
                None => say.problem(format!(
                    "service \"{}\" that it serves: not namespace/hostname",
                    shown(service)
                )),
            }
            let ports = say.ports(&list.ports);
            services.push(Membership { service: self.texts.text(service), ports });
        }
        services.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        services.into()
    }
}

fn check(from: &proto::Workload, say: &mut Say) {
    if from.uid.is_empty() {
        say.problem("uid is empty".to_owned());
    }
    say.name("uid", &from.uid);
    if Destination::is_address(&from.uid) {
        say.problem("a uid must not read as network/address".to_owned());
    }
    let labels = [
        ("name", &from.name),
        ("namespace", &from.namespace),
        ("service account", &from.service_account),
        ("trust domain", &from.trust_domain),
        ("network", &from.network),
        ("node", &from.node),
        ("cluster", &from.cluster_id),
        ("hostname", &from.hostname),
    ];
    for (what, text) in labels {
        say.label(what, text);
    }
    if let Some(locality) = &from.locality {
        say.label("region", &locality.region);
        say.label("zone", &locality.zone);
        say.label("subzone", &locality.subzone);
    }
    for policy in &from.authorization_policies {
        say.name("name of a policy", policy);
    }
}

/// `trust-domain/ns/NAMESPACE/sa/ACCOUNT`, with the defaults that control planes leave out.
fn identity(from: &proto::Workload) -> String {
    fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
        if text.is_empty() { default } else { text }
    }
    format!(
        "{}/ns/{}/sa/{}",
        or(&from.trust_domain, "cluster.local"),
        from.namespace,
        or(&from.service_account, "default")
    )
}
