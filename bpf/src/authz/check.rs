//! What makes no sense in a policy: each problem names the policy and says what helps.
//!
//! Ports above 65535 and ranges that are none cannot be held by the types: whoever reads a
//! policy's text says that, by the same words.

use std::fmt;

use super::policy::{Condition, Match, Policy, StringMatch};
use crate::layout::NAME_MAX;

/// So many problems of one policy are listed.
const LISTED: usize = 100;

/// Something wrong with a policy. It is refused as a whole; what was in force stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The policy: `namespace/name`.
    pub policy: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {}: {}", self.policy, self.what)
    }
}

impl Policy {
    /// Everything that makes no sense in it, up to a hundred things.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut all = Vec::new();
        let mut say = |what: String| {
            if all.len() < LISTED {
                all.push(Problem { policy: self.name.to_string(), what });
            }
        };
        match self.name.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                if name.contains('/') {
                    say("namespace and name hold no \"/\"".to_owned());
                }
            }
            _ => say("name and namespace must not be empty".to_owned()),
        }
        if let Some(problem) = too_long("name", &self.name) {
            say(problem);
        }
        for (at, group) in self.groups.iter().enumerate() {
            for one in group.iter().flatten() {
                problems_of(one, &mut |what| say(format!("group {}: {what}", at + 1)));
            }
        }
        all
    }
}

fn problems_of(one: &Match, say: &mut dyn FnMut(String)) {
    texts("namespace", &one.namespaces, say);
    texts("principal", &one.principals, say);
    for account in one.accounts.any.iter().chain(&one.accounts.none) {
        let parts =
            [("namespace", &account.namespace), ("service account", &account.service_account)];
        for (part, text) in parts {
            if text.is_empty() {
                say(format!("a service account with an empty {part}"));
            }
            if let Some(problem) = too_long(part, text) {
                say(problem);
            }
        }
    }
    let ports = one.destination_ports.any.iter().chain(&one.destination_ports.none);
    if ports.into_iter().any(|port| *port == 0) {
        say("port 0 is no port".to_owned());
    }
}

fn texts(what: &str, condition: &Condition<StringMatch>, say: &mut dyn FnMut(String)) {
    for test in condition.any.iter().chain(&condition.none) {
        let (StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text)) =
            test
        else {
            continue;
        };
        if text.is_empty() {
            say(format!("an empty {what}; to ask that there is one, say Presence"));
        }
        if let Some(problem) = too_long(what, text) {
            say(problem);
        }
    }
}

fn too_long(what: &str, text: &str) -> Option<String> {
    let length = text.len();
    (length > NAME_MAX).then(|| format!("{what} of {length} bytes: at most {NAME_MAX}"))
}
