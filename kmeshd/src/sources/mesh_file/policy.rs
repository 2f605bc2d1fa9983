//! Authorization policies of a mesh file: checked and kept, not enforced.

use std::net::IpAddr;

use ipnet::IpNet;
use kmesh_bpf::authz::{Condition, Match, Policy};

use super::format;

/// Turns a policy of the file into one of the model; `problem` hears what is wrong with it.
pub(super) fn policy(from: format::Policy, problem: &mut dyn FnMut(String)) -> Policy {
    let name = format!("{}/{}", from.namespace, from.name);
    let mut say = |what: String| problem(format!("policy {name}: {what}"));
    let mut rule = |rule: Vec<format::Match>| {
        rule.into_iter().map(|item| one_match(item, &mut say)).collect::<Vec<Match>>()
    };
    let groups =
        from.rules.into_iter().map(|group| group.into_iter().map(&mut rule).collect()).collect();
    let policy = Policy {
        name: name.as_str().into(),
        scope: from.scope,
        action: from.action,
        dry_run: from.dry_run,
        groups,
    };
    for wrong in policy.problems() {
        problem(wrong.to_string());
    }
    policy
}

fn one_match(from: format::Match, say: &mut dyn FnMut(String)) -> Match {
    let (sources, not_sources) =
        (networks(&from.source_ips, say), networks(&from.not_source_ips, say));
    let destinations = networks(&from.destination_ips, say);
    let not_destinations = networks(&from.not_destination_ips, say);
    Match {
        namespaces: Condition { any: from.namespaces, none: from.not_namespaces },
        principals: Condition { any: from.principals, none: from.not_principals },
        accounts: Condition { any: from.service_accounts, none: from.not_service_accounts },
        source_ips: Condition { any: sources, none: not_sources },
        destination_ips: Condition { any: destinations, none: not_destinations },
        destination_ports: Condition {
            any: ports(&from.destination_ports, say),
            none: ports(&from.not_destination_ports, say),
        },
    }
}

/// The ports that a port can be; 0 is left to [`Policy::problems`].
fn ports(numbers: &[u64], say: &mut dyn FnMut(String)) -> Vec<u16> {
    let port = |number: &u64| {
        let port = u16::try_from(*number).ok();
        if port.is_none() {
            say(format!("port {number}: at most 65535"));
        }
        port
    };
    numbers.iter().filter_map(port).collect()
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
