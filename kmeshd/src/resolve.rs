//! Resolves the hostnames of workloads by DNS, each again when its answer's time is over.
//!
//! It tells the writer what it finds and keeps nothing else: while no server answers, the last
//! answer stays in force there. That a name does not exist, or has no address, is believed when it
//! is said twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::{ResolveError, TokioResolver};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::model::Name;
use crate::reconcile::Order;

/// The names that are wanted now.
pub type Wanted = Arc<BTreeSet<Name>>;

/// So many names are asked for at once.
const AT_ONCE: usize = 16;
/// An answer is believed at least and at most so long, whatever its TTL.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));
/// The first and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Why no name can be resolved.
#[derive(Debug, thiserror::Error)]
#[error("read the system's DNS configuration (/etc/resolv.conf), or name servers by --dns-server")]
pub struct NoServers(#[source] ResolveError);

/// What is known of a name.
#[derive(Clone, Copy, Debug)]
struct State {
    /// When it is to be asked for; `None` while it is.
    due: Option<Instant>,
    failures: u32,
    negatives: u32,
}

/// What asking for a name came to.
#[derive(Debug)]
enum Asked {
    Has(Vec<IpAddr>, Instant),
    None,
    Failed(ResolveError),
}

/// The resolver that asks these servers; none: those of the system.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NoServers> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(NoServers)?
    } else {
        let mut config = ResolverConfig::new();
        for server in servers {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                config.add_name_server(NameServerConfig::new(*server, protocol));
            }
        }
        TokioResolver::builder_with_config(config, TokioConnectionProvider::default())
    };
    let options = builder.options_mut();
    // When to ask again is decided here.
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    Ok(builder.build())
}

/// The resolver, once some name is wanted. Until it can be made that is tried again and again.
async fn first(servers: &[SocketAddr], wanted: &mut watch::Receiver<Wanted>) -> TokioResolver {
    // Closed: the process is ending.
    let _ = wanted.wait_for(|names| !names.is_empty()).await;
    let mut told = false;
    loop {
        match resolver(servers) {
            Ok(resolver) => return resolver,
            Err(why) if !told => warn!("{}; trying again every minute", crate::chain(&why)),
            Err(_) => {}
        }
        told = true;
        sleep(BACKOFF.1).await;
    }
}

/// Resolves until nobody wants anything any more. No servers: those of the system.
pub async fn run(
    servers: Vec<SocketAddr>,
    mut wanted: watch::Receiver<Wanted>,
    orders: Sender<Order>,
) {
    let resolver = first(&servers, &mut wanted).await;
    let mut names: BTreeMap<Name, State> = BTreeMap::new();
    let mut asking = JoinSet::new();
    loop {
        follow(&mut names, &wanted.borrow_and_update());
        for name in due(&mut names, AT_ONCE - asking.len().min(AT_ONCE)) {
            let resolver = resolver.clone();
            asking.spawn(async move {
                let asked = ask(&resolver, &name).await;
                (name, asked)
            });
        }
        let next = names.values().filter_map(|state| state.due).min();
        let next = next.filter(|_| asking.len() < AT_ONCE);
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            Some(Ok((name, asked))) = asking.join_next(), if !asking.is_empty() => {
                if let Some(found) = take(&mut names, &name, asked)
                    && orders.send(Order::Resolved(name, found)).is_err()
                {
                    return;
                }
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// Forgets the names that are no longer wanted, and takes in the new ones.
fn follow(names: &mut BTreeMap<Name, State>, wanted: &BTreeSet<Name>) {
    names.retain(|name, _| wanted.contains(name));
    for name in wanted {
        let new = State { due: Some(Instant::now()), failures: 0, negatives: 0 };
        names.entry(name.clone()).or_insert(new);
    }
}

/// At most `room` names whose time has come; they are being asked for from now on.
fn due(names: &mut BTreeMap<Name, State>, room: usize) -> Vec<Name> {
    let now = Instant::now();
    let late = names.iter_mut().filter(|(_, state)| state.due.is_some_and(|due| due <= now));
    late.take(room)
        .map(|(name, state)| {
            state.due = None;
            name.clone()
        })
        .collect()
}

async fn ask(resolver: &TokioResolver, name: &str) -> Asked {
    // Names of services are absolute: no search list.
    let absolute = format!("{}.", name.trim_end_matches('.'));
    match resolver.lookup_ip(absolute).await {
        Ok(answer) => Asked::Has(answer.iter().collect(), answer.valid_until().into()),
        Err(error) if error.is_no_records_found() => Asked::None,
        Err(error) => Asked::Failed(error),
    }
}

/// Notes what was answered, and when to ask again. Addresses: what the name has now.
fn take(names: &mut BTreeMap<Name, State>, name: &Name, asked: Asked) -> Option<Vec<IpAddr>> {
    // Nobody wants it any more.
    let state = names.get_mut(name)?;
    let now = Instant::now();
    let found = match asked {
        Asked::Has(ips, until) => {
            if state.failures > 0 {
                info!(name = &**name, "resolved again");
            }
            let keep = until.saturating_duration_since(now).clamp(TTL.0, TTL.1);
            *state = State { due: Some(now + keep), failures: 0, negatives: 0 };
            return Some(ips);
        }
        Asked::None => {
            state.negatives += 1;
            state.failures = 0;
            if state.negatives == 2 {
                warn!(name = &**name, "the name has no address: its workloads are no endpoints");
            }
            (state.negatives >= 2).then(Vec::new)
        }
        Asked::Failed(error) => {
            state.failures += 1;
            if state.failures == 1 {
                warn!(name = &**name, "not resolved: {error}; its last answer stays, trying again");
            }
            None
        }
    };
    let tries = state.failures.max(state.negatives).saturating_sub(1).min(16);
    let wait = BACKOFF.0.saturating_mul(1 << tries).min(BACKOFF.1);
    state.due = Some(now + wait.mul_f64(0.75 + fastrand::f64() / 2.0));
    found
}

#[cfg(test)]
mod tests;
