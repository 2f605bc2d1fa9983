//! How a connect() ends: each outcome with the counter that the programs count it under.

use serde::Serialize;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its destination is rewritten.
    Steered,
    /// It goes where it was dialled, unchanged.
    Passes,
    /// connect() fails.
    Refused,
    /// By the endpoint that is chosen: see the outcomes.
    Varies,
}

/// Why it becomes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// No program of Kmesh runs at the hook.
    NoHook,
    /// The socket's network namespace is not managed.
    Unmanaged,
    /// Only TCP is steered.
    NotTcp,
    /// The pod is bypassed.
    Bypass,
    /// No service and no waypoint at this address.
    Miss,
    /// The service's mode is PASSTHROUGH.
    Passthrough,
    /// No endpoint, and the service was never fully synced.
    Unsynced,
    /// Sent to an endpoint.
    Steered,
    /// Sent to a waypoint.
    Waypoint,
    /// The pod is a waypoint itself: sent to an endpoint.
    WaypointSelf,
    /// The service is known to have no endpoint.
    RefusedEmpty,
    /// The endpoint's address is of a family that the socket cannot reach.
    RefusedFamily,
    /// The waypoint has no endpoint.
    RefusedWaypoint,
    /// What the tables say does not fit together, however often it is looked up.
    RefusedStale,
    /// The pod at the other end keeps it out, by its policies.
    AuthDenied,
    /// It does so until its policies are in the tables.
    AuthWait,
    /// Its policy set does not know the source's identity.
    AuthUnclassified,
    /// Its policy set is not there.
    AuthStale,
}

impl Outcome {
    /// What becomes of the connection.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Steered | Self::Waypoint | Self::WaypointSelf => Verdict::Steered,
            Self::NoHook
            | Self::Unmanaged
            | Self::NotTcp
            | Self::Bypass
            | Self::Miss
            | Self::Passthrough
            | Self::Unsynced => Verdict::Passes,
            Self::RefusedEmpty
            | Self::RefusedFamily
            | Self::RefusedWaypoint
            | Self::RefusedStale
            | Self::AuthDenied
            | Self::AuthWait
            | Self::AuthUnclassified
            | Self::AuthStale => Verdict::Refused,
        }
    }

    /// The counter of `kmesh_stats` that moves; `None`: it is not counted.
    #[must_use]
    pub fn counter(self) -> Option<&'static str> {
        Some(match self {
            Self::NoHook | Self::Unmanaged | Self::NotTcp => return None,
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::Passthrough => "passthrough",
            Self::Unsynced => "unsynced",
            Self::Steered => "steered",
            Self::Waypoint => "waypoint",
            Self::WaypointSelf => "waypoint_self",
            Self::RefusedEmpty => "refused_empty",
            Self::RefusedFamily => "refused_family",
            Self::RefusedWaypoint => "refused_waypoint",
            Self::RefusedStale => "refused_stale",
            Self::AuthDenied => "auth_denied",
            Self::AuthWait => "auth_wait",
            Self::AuthUnclassified => "auth_unclassified",
            Self::AuthStale => "auth_stale",
        })
    }

    /// Whether a pod that has the address that was dialled is asked: TCP, by whatever way.
    pub(super) fn goes_on(self) -> bool {
        self.verdict() != Verdict::Refused && self != Self::NotTcp
    }

    /// Why, in words.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::NoHook => "no program of Kmesh runs at the hook: as if Kmesh were not there",
            Self::Unmanaged => "its network namespace is not managed: as if Kmesh were not there",
            Self::NotTcp => "only TCP is steered: as if Kmesh were not there",
            Self::Bypass => "the pod is bypassed",
            Self::Miss => "no service has this address and port, and no waypoint this address",
            Self::Passthrough => "the service's mode is PASSTHROUGH: it goes where it was dialled",
            Self::Unsynced => "the service was never fully synced, and no endpoint is known yet",
            Self::Steered => "sent to an endpoint of the service",
            Self::Waypoint => "sent to the waypoint; its first bytes say where it was dialled",
            Self::WaypointSelf => "the pod is a waypoint itself: sent to an endpoint",
            Self::RefusedEmpty => "the service is synced and has no endpoint: ECONNREFUSED",
            Self::RefusedFamily => {
                "the socket cannot reach an address of the target's family: ECONNREFUSED"
            }
            Self::RefusedWaypoint => "the waypoint has no endpoint: ECONNREFUSED, never around it",
            Self::RefusedStale => {
                "what the tables say does not fit together: ECONNREFUSED; see kmeshctl verify"
            }
            Self::AuthDenied => "the pod's policies keep it out: ECONNREFUSED",
            Self::AuthWait => "the pod waits for its policies: ECONNREFUSED",
            Self::AuthUnclassified => {
                "the pod's policy set does not know the source's identity: ECONNREFUSED"
            }
            Self::AuthStale => {
                "the pod's policy set is not there: ECONNREFUSED; see kmeshctl verify"
            }
        }
    }
}

/// What a pod says to a connection that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// No program of Kmesh stands at the pod's hook.
    NoHook,
    /// The pod is bypassed.
    Bypass,
    /// No policy applies to it.
    NoPolicy,
    /// The pod dials itself.
    Local,
    /// The host's own namespace dials: probes.
    Host,
    /// Its policies let it in.
    Allowed,
    /// They do not.
    Denied,
    /// The pod waits for its policies.
    Wait,
    /// Its set does not know the source's identity.
    Unclassified,
    /// Its set is not there.
    Stale,
    /// It depends on the source's address, which is not known.
    SourceUnknown,
}

impl Admission {
    /// What the connection comes to where it is kept out.
    #[must_use]
    pub fn refusal(self) -> Option<Outcome> {
        match self {
            Self::Denied => Some(Outcome::AuthDenied),
            Self::Wait => Some(Outcome::AuthWait),
            Self::Unclassified => Some(Outcome::AuthUnclassified),
            Self::Stale => Some(Outcome::AuthStale),
            Self::NoHook
            | Self::Bypass
            | Self::NoPolicy
            | Self::Local
            | Self::Host
            | Self::Allowed
            | Self::SourceUnknown => None,
        }
    }

    /// The counter that moves.
    #[must_use]
    pub fn counter(self) -> Option<&'static str> {
        match self {
            Self::NoHook | Self::SourceUnknown => None,
            Self::Bypass | Self::NoPolicy => Some("auth_none"),
            Self::Local => Some("auth_local"),
            Self::Host => Some("auth_host"),
            Self::Allowed => Some("auth_allowed"),
            refused => refused.refusal().and_then(Outcome::counter),
        }
    }

    /// "lets it in", "keeps it out".
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::SourceUnknown => "cannot be asked",
            kept if kept.refusal().is_some() => "keeps it out",
            _ => "lets it in",
        }
    }

    /// Why, in words, where no policy is the reason.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::NoHook => "no program of Kmesh stands at the pod's hook; see kmeshctl verify",
            Self::Bypass => "the pod is bypassed",
            Self::NoPolicy => "no policy applies to the pod",
            Self::Local => "the pod dials itself",
            Self::Host => "the host's own connections are not judged (probes)",
            Self::Allowed => "its policies let it in",
            Self::Denied => "its policies keep it out",
            Self::Wait => "the pod waits: its policies are not in the tables yet",
            Self::Unclassified => "the source's identity is not in the tables of the pod's set",
            Self::Stale => "the pod's policy set is not there; see kmeshctl verify",
            Self::SourceUnknown => "its answer depends on the source's address: say it with --bind",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::COUNTERS;

    #[test]
    fn every_counter_is_one_of_the_programs() {
        let all = [
            Outcome::Bypass,
            Outcome::Miss,
            Outcome::Passthrough,
            Outcome::Unsynced,
            Outcome::Steered,
            Outcome::Waypoint,
            Outcome::WaypointSelf,
            Outcome::RefusedEmpty,
            Outcome::RefusedFamily,
            Outcome::RefusedWaypoint,
            Outcome::RefusedStale,
            Outcome::AuthDenied,
            Outcome::AuthWait,
            Outcome::AuthUnclassified,
            Outcome::AuthStale,
        ];
        for outcome in all {
            let name = outcome.counter().expect("counted");
            assert!(COUNTERS.iter().any(|counter| counter.name == name), "{name}");
        }
    }
}
