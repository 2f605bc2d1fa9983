//! Sets of so many rules, as people write them and as badly as can be.

use ipnet::{IpNet, Ipv4Net};
use kmesh_bpf::authz::{Action, Condition, Identity, Match, Policy, Scope, StringMatch};

/// The service account of rule `at`.
pub fn identity(at: usize) -> Identity {
    Identity {
        trust_domain: "cluster.local".to_owned(),
        namespace: format!("team-{}", at % 40),
        service_account: format!("account-{at}"),
    }
}

/// The port of rule `at` of [`distinct`].
pub fn port(at: usize) -> u16 {
    u16::try_from(1000 + at).expect("a port")
}

/// The source range of rule `at` of [`distinct`].
pub fn net(at: usize) -> Ipv4Net {
    let at = u32::try_from(at).expect("a small number");
    Ipv4Net::new((0x0a00_0000 + (at << 8)).into(), 24).expect("a prefix")
}

fn from(at: usize) -> Match {
    let any = vec![StringMatch::Exact(identity(at).to_string())];
    Match { principals: Condition { any, none: Vec::new() }, ..Match::default() }
}

fn to(port: u16) -> Match {
    let any = vec![port];
    Match { destination_ports: Condition { any, none: Vec::new() }, ..Match::default() }
}

fn allow(groups: Vec<Vec<Vec<Match>>>) -> Vec<Policy> {
    let (name, scope, action) = ("shop/allow".into(), Scope::Namespace, Action::Allow);
    vec![Policy { name, scope, action, dry_run: false, groups }]
}

/// As people write them: `from` an account, `to` one of some ports.
pub fn usual(rules: usize) -> Vec<Policy> {
    let port = |at: usize| u16::try_from(8000 + at % 50).expect("a port");
    allow((0..rules).map(|at| vec![vec![from(at)], vec![to(port(at))]]).collect())
}

/// No two rules have anything in common: account, port and range are its own.
pub fn distinct(rules: usize) -> Vec<Policy> {
    let rule = |at| {
        let any = vec![IpNet::V4(net(at))];
        let source_ips = Condition { any, none: Vec::new() };
        let both = Match { source_ips, ..to(port(at)) };
        vec![vec![from(at)], vec![both]]
    };
    allow((0..rules).map(rule).collect())
}
