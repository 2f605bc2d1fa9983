//! What dump shows, read once: the snapshot, the maps with limit and fill, hooks, counters.
//!
//! It holds no indices but where they are what is asked for (`dump programs`, `dump links`).

use std::collections::{BTreeMap, HashMap};

use kmesh_bpf::attach::HookState;
use kmesh_bpf::kernel::{Id, Kernel, KernelError, Objects, Pinned, Tables};
use kmesh_bpf::layout::{COUNTERS, Hook, Map};
use kmesh_bpf::pins::Root;
use kmesh_bpf::pods::{self, Ground, HookCondition, PodHook};
use kmesh_bpf::snapshot::PodEntry;
use kmesh_bpf::tables::{Have, PolicySet};
use kmesh_bpf::want::{Kind, Name};
use serde::Serialize;

/// A map as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    /// Its pin's name.
    pub name: &'static str,
    /// The kernel's id.
    pub id: u32,
    /// Elements in use, where that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// How many it holds.
    pub limit: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// What raises the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_option: Option<&'static str>,
}

/// The maps that are pinned; fill as the tables say it, slack included.
pub fn maps(k: &impl Objects, root: &Root, have: &Have) -> Result<Vec<MapView>, KernelError> {
    let used: HashMap<Map, u64> =
        have.usage().into_iter().map(|usage| (usage.map, usage.used)).collect();
    let mut views = Vec::new();
    for map in Map::ALL {
        if let Some(Pinned::Map(info)) = k.pinned(&root.map(map))? {
            views.push(MapView {
                name: map.name(),
                id: info.id,
                used: used.get(&map).copied(),
                limit: info.max_entries,
                key_size: info.key_size,
                value_size: info.value_size,
                limit_option: map.limit_option(),
            });
        }
    }
    Ok(views)
}

/// Counters by name, summed over the CPUs.
pub fn counters(k: &impl Tables) -> Result<BTreeMap<&'static str, u64>, KernelError> {
    COUNTERS
        .iter()
        .map(|counter| {
            let values = k.lookup_per_cpu(Map::Stats, counter.index)?;
            Ok((counter.name, values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value))))
        })
        .collect()
}

/// A policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetView {
    /// Its number, as pods' words say it.
    pub set: u16,
    /// What it was compiled from, by name.
    pub policies: Vec<Name>,
    /// The pods of this node that are judged by it: uids, or netns cookies where none is known.
    pub pods: Vec<String>,
    /// Identities that its tables have room for.
    pub identities: u32,
    /// Words that it takes in `kmesh_auth_word`, room to grow included.
    pub words: u32,
    /// Chunks that it takes in `kmesh_auth_bits`, likewise.
    pub chunks: u32,
}

/// The policy sets, by number, with the pods that each judges.
#[must_use]
pub fn sets(have: &Have, pods: &[PodEntry]) -> Vec<SetView> {
    let uid = |cookie: u64| {
        let uid = pods.iter().find(|pod| pod.cookie == cookie)?.uid.as_ref()?;
        Some(uid.to_string())
    };
    let mut judged: HashMap<u16, Vec<String>> = HashMap::new();
    for (cookie, word) in have.managers() {
        let name = uid(cookie).unwrap_or_else(|| cookie.to_string());
        judged.entry(word.policy_set()).or_default().push(name);
    }
    let view = |set: PolicySet| {
        let mut pods = judged.remove(&set.number).unwrap_or_default();
        pods.sort_unstable();
        SetView {
            set: set.number,
            policies: set.policies.iter().map(|policy| policy.name.clone()).collect(),
            pods,
            identities: set.record.identities.count,
            words: set.record.words_room,
            chunks: set.record.chunks_room,
        }
    };
    have.policy_sets().map(view).collect()
}

/// A hook's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramView {
    /// The hook.
    pub hook: &'static str,
    /// The pod whose hook it is: its uid, or its netns cookie where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// "running", or what keeps it from that.
    pub state: &'static str,
    /// The program that stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The kernel's name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kernel's hash of its instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The build that it is said to be of; zeros where nothing says it.
    pub build: String,
    /// Whether this kmeshctl carries the same.
    pub same_build: bool,
    /// Instructions that the verifier walked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_instructions: Option<u32>,
    /// Everything that runs at the hook, in order.
    pub order: Vec<u32>,
    /// The maps it uses.
    pub maps: Vec<u32>,
}

impl ProgramView {
    /// From what `inspect` says, with the kernel's words on the program that stands there.
    pub fn new(k: &impl Objects, state: &HookState) -> Result<Self, KernelError> {
        let standing = match state.standing {
            Some(id) => match k.by_id(Id::Prog(id))? {
                Some(Pinned::Prog(info)) => Some(info),
                _ => None,
            },
            None => None,
        };
        Ok(Self {
            hook: state.hook.name(),
            pod: None,
            state: words(state),
            id: state.standing,
            name: standing.as_ref().map(|info| info.name.clone()),
            tag: standing.as_ref().map(|info| format!("{:016x}", info.tag)),
            build: format!("{:016x}", state.record.build),
            same_build: state.record.build == state.build,
            verified_instructions: standing.as_ref().map(|info| info.verified_insns),
            order: state.order.clone(),
            maps: standing.map(|info| info.map_ids).unwrap_or_default(),
        })
    }
}

/// A hook's state in one or two words.
pub fn words(state: &HookState) -> &'static str {
    match state {
        HookState { standing: None, prog: None, .. } => "absent",
        HookState { standing: None, .. } => "not attached",
        HookState { attached: false, .. } => "attached elsewhere",
        HookState { effective: false, .. } => "not effective",
        _ => "running",
    }
}

/// A hook's link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// The hook.
    pub hook: &'static str,
    /// The pod whose hook it is: its uid, or its netns cookie where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The link's id.
    pub id: u32,
    /// The program it holds.
    pub program: u32,
    /// The cgroup's id; 0 once it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// The inode of the pod's network namespace; 0 once it is gone, or the link was detached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns_inode: Option<u64>,
    /// Whether that is the cgroup asked about; of a pod, whether it is attached at all.
    pub attached: bool,
}

/// The links that are pinned.
#[must_use]
pub fn links(states: &[HookState]) -> Vec<LinkView> {
    states
        .iter()
        .filter_map(|state| {
            let link = state.link.as_ref()?;
            Some(LinkView {
                hook: state.hook.name(),
                pod: None,
                id: link.id,
                program: link.prog_id,
                cgroup_id: Some(link.cgroup_id),
                netns_inode: None,
                attached: state.attached,
            })
        })
        .collect()
}

/// The pods' hooks, with the pod that each is of.
pub fn pod_hooks(
    k: &impl Kernel,
    root: &Root,
) -> Result<Vec<(pods::Record, PodHook)>, pods::PodsError> {
    let kernel = |source| {
        let op = "look at the pods' hooks".to_owned();
        pods::PodsError::Kernel { op, source }
    };
    let ground = Ground::of(k, root).map_err(kernel)?;
    let mut hooks = Vec::new();
    for record in pods::list(k, root)? {
        let hook = PodHook::of(k, root, &ground, record.cookie).map_err(kernel)?;
        hooks.push((record, hook));
    }
    Ok(hooks)
}

fn pod_name(record: &pods::Record) -> Option<String> {
    record.uid.clone().or_else(|| Some(record.cookie.to_string()))
}

/// A pod's program.
pub fn pod_program(k: &impl Kernel, record: &pods::Record, hook: &PodHook) -> ProgramView {
    let program = hook.program.as_ref();
    let own = program.map(|info| info.id);
    // A path that leads elsewhere by now tells nothing of this pod.
    let there = record.netns.as_ref().map(|netns| k.attached(Hook::SkLookup, netns));
    let order = there.and_then(Result::ok).filter(|ids| ids.iter().any(|id| Some(*id) == own));
    let build = hook.build.unwrap_or_default();
    ProgramView {
        hook: Hook::SkLookup.name(),
        pod: pod_name(record),
        state: match hook.condition {
            HookCondition::Current | HookCondition::Stale => "running",
            HookCondition::Absent => "absent",
            HookCondition::Detached => "not attached",
            HookCondition::Strange(_) => "another's",
            HookCondition::Foreign(_) => "foreign pin",
        },
        id: own,
        name: program.map(|info| info.name.clone()),
        tag: program.map(|info| format!("{:016x}", info.tag)),
        build: format!("{build:016x}"),
        same_build: build == k.build(Hook::SkLookup),
        verified_instructions: program.map(|info| info.verified_insns),
        order: order.unwrap_or_default(),
        maps: program.map(|info| info.map_ids.clone()).unwrap_or_default(),
    }
}

/// A pod's link, if it is pinned.
pub fn pod_link(record: &pods::Record, hook: &PodHook) -> Option<LinkView> {
    let link = hook.link.as_ref()?;
    Some(LinkView {
        hook: Hook::SkLookup.name(),
        pod: pod_name(record),
        id: link.id,
        program: link.prog_id,
        cgroup_id: None,
        netns_inode: Some(link.cgroup_id),
        attached: link.cgroup_id != 0,
    })
}

/// Services that clients dial, and waypoints.
#[must_use]
pub fn is_waypoint(kind: Kind) -> bool {
    kind == Kind::Waypoint
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../docs/snapshot.md");

    /// The words in code that the page tells of a view's list.
    fn told(list: &str) -> BTreeSet<String> {
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{list}` | for each")));
        row.expect(list).split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    fn written(view: &impl Serialize) -> BTreeSet<String> {
        let value = serde_json::to_value(view).expect("JSON");
        value.as_object().expect("an object").keys().cloned().collect()
    }

    #[test]
    fn the_page_tells_every_field_of_the_views_and_no_other() {
        let map = MapView {
            name: "kmesh_names",
            id: 1,
            used: Some(1),
            limit: 1,
            key_size: 4,
            value_size: 64,
            limit_option: Some("--max-names"),
        };
        assert_eq!(told("maps"), written(&map));
        let program = ProgramView {
            hook: "sk_lookup",
            pod: Some(String::new()),
            state: "running",
            id: Some(1),
            name: Some(String::new()),
            tag: Some(String::new()),
            build: String::new(),
            same_build: true,
            verified_instructions: Some(1),
            order: Vec::new(),
            maps: Vec::new(),
        };
        assert_eq!(told("programs"), written(&program));
        let link = LinkView {
            hook: "sk_lookup",
            pod: Some(String::new()),
            id: 1,
            program: 1,
            cgroup_id: Some(1),
            netns_inode: Some(1),
            attached: true,
        };
        assert_eq!(told("links"), written(&link));
    }
}
