//! An authorization policy: checked, and in the words in which policies are judged.

use std::net::IpAddr;

use ipnet::IpNet;
use kmesh_bpf::authz::{Account, Action, Condition, Match, Policy, Scope, StringMatch};

use super::DecodeError;
use super::proto::security as proto;
use super::proto::security::string_match::MatchType;
use super::say::Say;

pub(super) fn policy(from: proto::Authorization) -> Result<Policy, DecodeError> {
    let mut say = Say::default();
    say.label("name", &from.name);
    say.label("namespace", &from.namespace);
    let scope = match proto::Scope::try_from(from.scope) {
        Ok(proto::Scope::Global) => Scope::Global,
        Ok(proto::Scope::Namespace) => Scope::Namespace,
        Ok(proto::Scope::WorkloadSelector) => Scope::WorkloadSelector,
        Err(_) => {
            say.problem(format!("scope {} is not known", from.scope));
            Scope::Global
        }
    };
    let action = match proto::Action::try_from(from.action) {
        Ok(proto::Action::Allow) => Action::Allow,
        Ok(proto::Action::Deny) => Action::Deny,
        Err(_) => {
            say.problem(format!("action {} is not known", from.action));
            Action::Deny
        }
    };
    let mut rule = |rule: proto::Rules| -> Vec<Match> {
        rule.matches.into_iter().map(|item| one_match(item, &mut say)).collect()
    };
    let groups = from.groups.into_iter();
    let groups = groups.map(|group| group.rules.into_iter().map(&mut rule).collect()).collect();
    // What is wrong already is short; only good texts go further.
    say.finish(())?;
    let name = format!("{}/{}", from.namespace, from.name).into();
    let policy = Policy { name, scope, action, dry_run: from.dry_run, groups };
    let mut say = Say::default();
    for problem in policy.problems() {
        say.problem(problem.what);
    }
    say.finish(policy)
}

fn one_match(from: proto::Match, say: &mut Say) -> Match {
    Match {
        namespaces: Condition {
            any: texts(from.namespaces, say),
            none: texts(from.not_namespaces, say),
        },
        principals: Condition {
            any: texts(from.principals, say),
            none: texts(from.not_principals, say),
        },
        accounts: Condition {
            any: from.service_accounts.into_iter().map(account).collect(),
            none: from.not_service_accounts.into_iter().map(account).collect(),
        },
        source_ips: Condition {
            any: networks(&from.source_ips, say),
            none: networks(&from.not_source_ips, say),
        },
        destination_ips: Condition {
            any: networks(&from.destination_ips, say),
            none: networks(&from.not_destination_ips, say),
        },
        destination_ports: Condition {
            any: ports(&from.destination_ports, say),
            none: ports(&from.not_destination_ports, say),
        },
    }
}

fn account(from: proto::ServiceAccountMatch) -> Account {
    Account { namespace: from.namespace, service_account: from.service_account }
}

fn texts(from: Vec<proto::StringMatch>, say: &mut Say) -> Vec<StringMatch> {
    let mut all = Vec::with_capacity(from.len());
    for test in from {
        all.push(match test.match_type {
            Some(MatchType::Exact(text)) => StringMatch::Exact(text),
            Some(MatchType::Prefix(text)) => StringMatch::Prefix(text),
            Some(MatchType::Suffix(text)) => StringMatch::Suffix(text),
            Some(MatchType::Presence(_)) => StringMatch::Presence,
            None => {
                say.problem("a test of a text of a kind that is not known".to_owned());
                continue;
            }
        });
    }
    all
}

fn networks(from: &[proto::Address], say: &mut Say) -> Vec<IpNet> {
    let mut all = Vec::with_capacity(from.len());
    for proto::Address { address, length } in from {
        let ip = match (<[u8; 4]>::try_from(&**address), <[u8; 16]>::try_from(&**address)) {
            (Ok(v4), _) => IpAddr::from(v4),
            (_, Ok(v6)) => IpAddr::from(v6),
            _ => {
                say.problem(format!("address range of {} bytes: 4 or 16", address.len()));
                continue;
            }
        };
        let net = u8::try_from(*length).ok().and_then(|length| IpNet::new(ip, length).ok());
        match net {
            Some(net) => all.push(net),
            None => say.problem(format!("bad address range {ip}/{length}")),
        }
    }
    all
}

fn ports(from: &[u32], say: &mut Say) -> Vec<u16> {
    let mut all = Vec::with_capacity(from.len());
    for number in from {
        match u16::try_from(*number) {
            Ok(port) => all.push(port),
            Err(_) => say.problem(format!("port {number}: at most 65535")),
        }
    }
    all
}
