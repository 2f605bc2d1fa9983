//! Strays: maps of Kmesh that no pin and no link leads to, kept only by processes that hold them
//! open. Nothing can remove those but their holder's end: they are named.
//!
//! It refuses to name what belongs to another living Kmesh on this machine (another root): a
//! process that holds a map whose programs are attached somewhere is none of ours.

use std::collections::{BTreeMap, BTreeSet};

use crate::holders::{self, Process};
use crate::kernel::{Id, KernelError, Objects, Pinned};
use crate::ours;

use super::{PurgeError, Residue};

/// What is kept by processes alone, other than `known`.
pub fn strays(k: &dyn Objects, known: &BTreeSet<Id>) -> Result<Vec<Residue>, PurgeError> {
    let census = Census::take(k).map_err(PurgeError::Kernel)?;
    let all = census.maps.keys().map(|id| Id::Map(*id)).collect();
    Ok(census.strays(known, &holders::holders(&all)))
}

/// Every map of our names and shapes, and those that attached programs use.
#[derive(Default)]
struct Census {
    maps: BTreeMap<u32, String>,
    in_force: BTreeSet<u32>,
}

impl Census {
    fn take(k: &dyn Objects) -> Result<Self, KernelError> {
        let mut census = Self::default();
        let mut attached = BTreeSet::new();
        let mut progs = Vec::new();
        for id in k.all_ids()? {
            match k.by_id(id)? {
                Some(Pinned::Map(info))
                    if ours::map_named(&info).is_some_and(|map| ours::has_shape(map, &info)) =>
                {
                    census.maps.insert(info.id, info.name);
                }
                Some(Pinned::Prog(info)) => progs.push(info),
                Some(Pinned::Link(info)) => {
                    attached.insert(info.prog_id);
                }
                Some(Pinned::Map(_)) | None => {}
            }
        }
        let attached = progs.iter().filter(|prog| attached.contains(&prog.id));
        census.in_force.extend(attached.flat_map(|prog| prog.map_ids.iter().copied()));
        Ok(census)
    }

    fn strays(&self, known: &BTreeSet<Id>, held: &BTreeMap<Id, BTreeSet<Process>>) -> Vec<Residue> {
        let in_force = |id: &Id| matches!(id, Id::Map(map) if self.in_force.contains(map));
        let living: BTreeSet<&Process> =
            held.iter().filter(|(id, _)| in_force(id)).flat_map(|(_, holders)| holders).collect();
        let mut strays = Vec::new();
        for (map, name) in &self.maps {
            let id = Id::Map(*map);
            let Some(holders) = held.get(&id) else {
                continue;
            };
            let foreign = holders.iter().any(|holder| living.contains(holder));
            if known.contains(&id) || in_force(&id) || foreign {
                continue;
            }
            strays.push(Residue {
                what: format!("map {name} (id {map})"),
                held_by: holders.iter().cloned().collect(),
            });
        }
        strays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process { pid, command: "holder".to_owned() }
    }

    fn census() -> Census {
        let maps = [(1, "kmesh_names"), (2, "kmesh_service"), (3, "kmesh_names")];
        Census {
            maps: maps.into_iter().map(|(id, name)| (id, name.to_owned())).collect(),
            in_force: BTreeSet::from([2]),
        }
    }

    #[test]
    fn a_map_that_only_a_process_keeps_is_named_with_it() {
        let held = BTreeMap::from([(Id::Map(3), BTreeSet::from([process(7)]))]);
        let strays = census().strays(&BTreeSet::new(), &held);
        let expected =
            Residue { what: "map kmesh_names (id 3)".to_owned(), held_by: vec![process(7)] };
        assert_eq!(strays, [expected]);
        assert_eq!(census().strays(&BTreeSet::from([Id::Map(3)]), &held), []);
    }

    #[test]
    fn maps_of_another_living_kmesh_are_none_of_ours() {
        let daemon = BTreeSet::from([process(9)]);
        let held = BTreeMap::from([(Id::Map(1), daemon.clone()), (Id::Map(2), daemon)]);
        assert_eq!(census().strays(&BTreeSet::new(), &held), []);
    }
}
