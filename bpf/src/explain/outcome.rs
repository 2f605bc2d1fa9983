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
            | Self::RefusedStale => Verdict::Refused,
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
        })
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
        ];
        for outcome in all {
            let name = outcome.counter().expect("counted");
            assert!(COUNTERS.iter().any(|counter| counter.name == name), "{name}");
        }
    }
}
