//! Authorization policies of a mesh file: checked and kept, not enforced.

use std::net::IpAddr;

use ipnet::IpNet;

use super::format;
use crate::model::{Condition, Match, Policy};

/// Turns a policy of the file into one of the model; `problem` hears what is wrong with it.
pub(super) fn policy(from: format::Policy, problem: &mut dyn FnMut(String)) -> Policy {
    let name = format!("{}/{}", from.namespace, from.name);
    if from.namespace.is_empty() || from.name.is_empty() {
        problem(format!("policy {name}: name and namespace must not be empty"));
    }
    let mut say = |what: String| problem(format!("policy {name}: {what}"));
    let groups = from
        .rules
        .into_iter()
        .map(|group| {
            group
                .into_iter()
                .map(|rule| rule.into_iter().map(|item| one_match(item, &mut say)).collect())
                .collect()
        })
        .collect();
    Policy {
        name: name.as_str().into(),
        scope: from.scope,
        action: from.action,
        dry_run: from.dry_run,
        groups,
    }
}

fn one_match(from: format::Match, say: &mut dyn FnMut(String)) -> Match {
    let (sources, not_sources) =
        (networks(&from.source_ips, say), networks(&from.not_source_ips, say));
    let destinations = networks(&from.destination_ips, say);
    let not_destinations = networks(&from.not_destination_ips, say);
    if from.destination_ports.iter().chain(&from.not_destination_ports).any(|port| *port == 0) {
        say("port 0 is no port".to_owned());
    }
    Match {
        namespaces: Condition { any: from.namespaces, none: from.not_namespaces },
        principals: Condition { any: from.principals, none: from.not_principals },
        accounts: Condition { any: from.service_accounts, none: from.not_service_accounts },
        source_ips: Condition { any: sources, none: not_sources },
        destination_ips: Condition { any: destinations, none: not_destinations },
        destination_ports: Condition {
            any: from.destination_ports,
            none: from.not_destination_ports,
        },
    }
}

fn networks(texts: &[String], say: &mut dyn FnMut(String)) -> Vec<IpNet> {
    let parse = |text: &String| {
        let host = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse::<IpNet>().ok().or_else(host);
        if net.is_none() {
            say(format!("bad address range \"{text}\""));
        }
        net
    };
    texts.iter().filter_map(parse).collect()
}
