//! What a shell may offer where the command line names something that lives in the kernel: maps,
//! hooks, services, workloads, pods, addresses. Asked by the scripts under completions/.
//!
//! It refuses to disturb: it reads only, says nothing where it may not look or nothing is
//! installed, and offers no more than a person can read.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap_complete::CompletionCandidate;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::{Hook, Map};
use kmesh_bpf::pins::{self, Root};
use kmesh_bpf::tables::Have;
use kmesh_bpf::{boot, pods};

/// No more candidates than this: a shell shows them all, and a node may have 100,000 services.
const MOST: usize = 500;

/// Maps, or hooks after `programs` and `links`.
pub fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let said: Vec<OsString> = words().collect();
    let has = |what: &str| said.iter().any(|word| word == what);
    let hooks = Hook::EVERY.iter().map(|hook| hook.name().to_owned());
    let maps = Map::ALL.iter().map(|map| map.name().to_owned());
    if has("programs") || has("links") { fitting(current, hooks) } else { fitting(current, maps) }
}

/// Services, by `namespace/hostname`.
pub fn services(current: &OsStr) -> Vec<CompletionCandidate> {
    offer(current, |_, have| Some(have.services().map(|(key, _)| key.name.to_string()).collect()))
}

/// Workloads, by uid.
pub fn workloads(current: &OsStr) -> Vec<CompletionCandidate> {
    offer(current, |_, have| Some(have.workloads().map(|(uid, _)| uid.to_string()).collect()))
}

/// Authorization policies, by `namespace/name`.
pub fn policies(current: &OsStr) -> Vec<CompletionCandidate> {
    offer(current, |_, have| Some(have.policies().map(|policy| policy.name.to_string()).collect()))
}

/// The managed pods of this node, by uid.
pub fn pods(current: &OsStr) -> Vec<CompletionCandidate> {
    offer_unread(current, |kernel, root| {
        let records = pods::list(kernel, root).ok()?;
        Some(records.into_iter().filter_map(|record| record.uid).collect())
    })
}

/// What may be dialled: every service's VIP and port.
pub fn targets(current: &OsStr) -> Vec<CompletionCandidate> {
    offer(current, |_, have| {
        let dialled = have.services().flat_map(|(key, service)| {
            service.vips.into_iter().map(move |vip| SocketAddr::new(vip, key.port).to_string())
        });
        Some(dialled.collect())
    })
}

fn offer(
    current: &OsStr,
    list: impl FnOnce(&Linux, &Have) -> Option<Vec<String>>,
) -> Vec<CompletionCandidate> {
    offer_unread(current, |kernel, _| list(kernel, &Have::read(kernel).ok()?))
}

/// The candidates of a list that opens pins; none where that fails.
fn offer_unread(
    current: &OsStr,
    list: impl FnOnce(&Linux, &Root) -> Option<Vec<String>>,
) -> Vec<CompletionCandidate> {
    let look = || {
        boot::require_kernel().ok()?;
        let mut kernel = Linux::new();
        let root = Root::new(root());
        pins::open_existing(&mut kernel, &root).ok()?;
        list(&kernel, &root)
    };
    fitting(current, look().unwrap_or_default())
}

/// Those that begin as what is typed, in order, each once.
fn fitting(current: &OsStr, all: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let Some(typed) = current.to_str() else { return Vec::new() };
    let mut fit: Vec<_> = all.into_iter().filter(|name| name.starts_with(typed)).collect();
    fit.sort_unstable();
    fit.dedup();
    fit.truncate(MOST);
    fit.into_iter().map(CompletionCandidate::new).collect()
}

/// The words that are being completed: what follows `--`.
fn words() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1)
}

/// Where the pins are: as the words say, or the environment, or as ever.
fn root() -> PathBuf {
    let mut before = OsString::new();
    for word in words() {
        if before == "--bpf-root" {
            return word.into();
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--bpf-root=")) {
            return path.into();
        }
        before = word;
    }
    std::env::var_os("KMESH_BPF_ROOT").map_or_else(|| pins::DEFAULT_ROOT.into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(candidates: &[CompletionCandidate]) -> Vec<&str> {
        candidates.iter().filter_map(|candidate| candidate.get_value().to_str()).collect()
    }

    #[test]
    fn what_is_offered_begins_as_what_is_typed() {
        let all = ["b/two", "a/one", "b/two", "b/one"].map(str::to_owned);
        assert_eq!(texts(&fitting(OsStr::new("b/"), all)), ["b/one", "b/two"]);
    }

    #[test]
    fn no_more_is_offered_than_a_person_reads() {
        let all = (0..10_000).map(|n| format!("s/{n}"));
        assert_eq!(fitting(OsStr::new(""), all).len(), MOST);
    }

    #[test]
    fn maps_are_offered_by_name() {
        assert!(texts(&names(OsStr::new("kmesh_ser"))).contains(&"kmesh_service"));
    }
}
