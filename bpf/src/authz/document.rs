//! A policy as a document: the mesh file's format, which is also what the tables keep, what a
//! snapshot holds and what is shown.
//!
//! Unknown fields are refused by the decoder. What is well-formed and makes no sense is refused
//! with the policy's name, everything at once: [`Document::policy`] tells all of it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::policy::{Account, Action, Condition, Match, Policy, Scope, StringMatch, canonical};
use crate::snapshot::words::{Costs, Listed};

/// A policy that is well-formed. [`Document::policy`] says whether it makes sense.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    name: String,
    namespace: String,
    scope: Scope,
    action: Action,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    rules: Listed<Listed<Listed<WrittenMatch>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenMatch {
    namespaces: Listed<StringMatch>,
    not_namespaces: Listed<StringMatch>,
    principals: Listed<StringMatch>,
    not_principals: Listed<StringMatch>,
    service_accounts: Listed<Account>,
    not_service_accounts: Listed<Account>,
    source_ips: Listed<Range>,
    not_source_ips: Listed<Range>,
    destination_ips: Listed<Range>,
    not_destination_ips: Listed<Range>,
    destination_ports: Listed<u64>,
    not_destination_ports: Listed<u64>,
}

/// An address range as it is written.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Range(String);

/// What each takes in a file at least: quotes, braces and commas are not counted.
macro_rules! costs {
    ($($item:ty: |$of:pat_param| $cost:expr;)*) => {$(
        impl Costs for $item {
            fn cost(&self) -> u64 {
                let $of = self;
                $cost
            }
        }
    )*};
}

costs! {
    WrittenMatch: |_| 2;
    StringMatch: |test| match test {
        StringMatch::Exact(tested) | StringMatch::Prefix(tested) | StringMatch::Suffix(tested) => {
            tested.len() as u64 + 6
        }
        StringMatch::Presence => 8,
    };
    Account: |account| (account.namespace.len() + account.service_account.len()) as u64 + 20;
    Range: |range| range.0.len() as u64;
    u64: |_| 2;
}

impl Document {
    /// The policy; `problem` hears everything that is wrong with it, and then it is of no use.
    pub fn policy(self, problem: &mut dyn FnMut(String)) -> Policy {
        let name = format!("{}/{}", self.namespace, self.name);
        let mut say = |what: String| problem(format!("policy {name}: {what}"));
        let mut rule = |rule: Listed<WrittenMatch>| {
            rule.0.into_iter().map(|item| item.read(&mut say)).collect::<Vec<Match>>()
        };
        let group =
            |group: Listed<Listed<WrittenMatch>>| group.0.into_iter().map(&mut rule).collect();
        let groups = self.rules.0.into_iter().map(group).collect();
        let policy = Policy {
            name: name.as_str().into(),
            scope: self.scope,
            action: self.action,
            dry_run: self.dry_run,
            groups,
        };
        for wrong in policy.problems() {
            problem(wrong.to_string());
        }
        policy
    }

    /// The policy, or everything that is wrong with it.
    fn checked(self) -> Result<Policy, String> {
        let mut problems = Vec::new();
        let policy = self.policy(&mut |problem| problems.push(problem));
        if problems.is_empty() { Ok(policy) } else { Err(problems.join("; ")) }
    }
}

impl WrittenMatch {
    fn read(self, say: &mut dyn FnMut(String)) -> Match {
        Match {
            namespaces: Condition { any: self.namespaces.0, none: self.not_namespaces.0 },
            principals: Condition { any: self.principals.0, none: self.not_principals.0 },
            accounts: Condition { any: self.service_accounts.0, none: self.not_service_accounts.0 },
            source_ips: Condition {
                any: ranges(&self.source_ips, say),
                none: ranges(&self.not_source_ips, say),
            },
            destination_ips: Condition {
                any: ranges(&self.destination_ips, say),
                none: ranges(&self.not_destination_ips, say),
            },
            destination_ports: Condition {
                any: ports(&self.destination_ports, say),
                none: ports(&self.not_destination_ports, say),
            },
        }
    }
}

/// The ports that a port can be; 0 is left to [`Policy::problems`].
fn ports(numbers: &Listed<u64>, say: &mut dyn FnMut(String)) -> Vec<u16> {
    let port = |number: &u64| {
        let port = u16::try_from(*number).ok();
        if port.is_none() {
            say(format!("port {number}: at most 65535"));
        }
        port
    };
    numbers.0.iter().filter_map(port).collect()
}

fn ranges(texts: &Listed<Range>, say: &mut dyn FnMut(String)) -> Vec<IpNet> {
    let parse = |Range(text): &Range| {
        let host = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse::<IpNet>().ok().or_else(host);
        if net.is_none() {
            say(format!("bad address range \"{text}\""));
        }
        net.as_ref().map(canonical)
    };
    texts.0.iter().filter_map(parse).collect()
}

impl Policy {
    /// Its canonical text: compact JSON, ranges in one form, what is empty or false left out.
    /// The same policy has the same bytes.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "maps with text keys are always JSON")]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers, and maps with text keys are JSON")
    }

    /// Reads a text; what it says must make sense.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| format!("no policy: {error}"))?;
        document.checked()
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Document::deserialize(from)?.checked().map_err(D::Error::custom)
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (namespace, name) = self.name.split_once('/').unwrap_or(("", &self.name));
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("namespace", namespace)?;
        map.serialize_entry("scope", &self.scope)?;
        map.serialize_entry("action", &self.action)?;
        if self.dry_run {
            map.serialize_entry("dryRun", &true)?;
        }
        if !self.groups.is_empty() {
            map.serialize_entry("rules", &self.groups)?;
        }
        map.end()
    }
}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        fn lists<M: SerializeMap, T: Serialize>(
            map: &mut M,
            keys: [&'static str; 2],
            condition: &Condition<T>,
        ) -> Result<(), M::Error> {
            for (key, list) in keys.into_iter().zip([&condition.any, &condition.none]) {
                if !list.is_empty() {
                    map.serialize_entry(key, list)?;
                }
            }
            Ok(())
        }
        let mut map = to.serialize_map(None)?;
        lists(&mut map, ["namespaces", "notNamespaces"], &self.namespaces)?;
        lists(&mut map, ["principals", "notPrincipals"], &self.principals)?;
        lists(&mut map, ["serviceAccounts", "notServiceAccounts"], &self.accounts)?;
        lists(&mut map, ["sourceIps", "notSourceIps"], &texts(&self.source_ips))?;
        lists(&mut map, ["destinationIps", "notDestinationIps"], &texts(&self.destination_ips))?;
        lists(&mut map, ["destinationPorts", "notDestinationPorts"], &self.destination_ports)?;
        map.end()
    }
}

fn texts(ranges: &Condition<IpNet>) -> Condition<String> {
    let texts = |list: &[IpNet]| list.iter().map(|net| canonical(net).to_string()).collect();
    Condition { any: texts(&ranges.any), none: texts(&ranges.none) }
}

/// `{Exact: text}`, or the word `Presence`.
impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (kind, text) = match self {
            Self::Exact(text) => ("Exact", text),
            Self::Prefix(text) => ("Prefix", text),
            Self::Suffix(text) => ("Suffix", text),
            Self::Presence => return to.serialize_str("Presence"),
        };
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry(kind, text)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_short_and_canonical() {
        let text = r#"{"namespace":"shop","name":"p","action":"Deny","scope":"Global",
            "dryRun":false,"rules":[[[{"principals":[{"Exact":"a"},"Presence"],
            "sourceIps":["::ffff:10.0.0.1/104","fd00::1"],"notDestinationPorts":[80]}],[]]]}"#;
        let policy = Policy::from_text(text).expect("a policy");
        let canonical = r#"{"name":"p","namespace":"shop","scope":"Global","action":"Deny","rules":[[[{"principals":[{"Exact":"a"},"Presence"],"sourceIps":["10.0.0.0/8","fd00::1/128"],"notDestinationPorts":[80]}],[]]]}"#;
        assert_eq!(policy.to_text(), canonical);
        assert_eq!(Policy::from_text(canonical).as_ref(), Ok(&policy));
    }

    #[test]
    fn everything_wrong_is_said_with_the_name() {
        let text = r#"{"name":"p","namespace":"n","scope":"Global","action":"Allow","rules":[[[
            {"sourceIps":["10.0.0.0/33"],"destinationPorts":[0,70000]}]]]}"#;
        let said = Policy::from_text(text).expect_err("nonsense");
        for part in [
            "policy n/p: bad address range \"10.0.0.0/33\"",
            "policy n/p: port 70000: at most 65535",
            "policy n/p: group 1: port 0 is no port",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        let unknown = text.replace("rules", "rule");
        let said = Policy::from_text(&unknown).expect_err("nonsense");
        assert!(said.contains("unknown field `rule`"), "{said}");
    }
}
