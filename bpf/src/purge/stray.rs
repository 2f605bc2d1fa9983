//! Strays: single maps of Kmesh that no pin and no program leads to, kept only by processes that
//! hold them open. Nothing can remove those but their holder's end: they are named.
//!
//! Such a map does not say whose it is; its holder does, where it holds a `kmesh_meta` too. It
//! refuses to call a map ours that may be of another Kmesh on this machine.

use std::collections::{BTreeMap, BTreeSet};

use crate::holders::{self, Process};
use crate::kernel::{Id, Objects};
use crate::ours;

use super::census::Census;
use super::{Plan, PurgeError, Residue};

/// Maps that only processes keep.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// Of this installation.
    pub ours: Vec<Residue>,
    /// Of one that cannot be told.
    pub unknown: Vec<Residue>,
}

/// What is kept by processes alone, other than what `plan` knows of.
pub fn strays(k: &dyn Objects, plan: &Plan) -> Result<Strays, PurgeError> {
    let census = Census::take(k).map_err(PurgeError::Kernel)?;
    let all = census.maps.keys().map(|id| Id::Map(*id)).chain(census.metas()).collect();
    Ok(sort(&census, plan, &holders::holders(&all)))
}

fn sort(census: &Census, plan: &Plan, held: &BTreeMap<Id, BTreeSet<Process>>) -> Strays {
    let with_meta = |own: bool| -> BTreeSet<&Process> {
        let metas = census.metas().filter(|id| plan.objects.contains(id) == own);
        metas.filter_map(|id| held.get(&id)).flatten().collect()
    };
    let (own, others) = (with_meta(true), with_meta(false));
    let mut strays = Strays::default();
    for (map, info) in &census.maps {
        let Some(holders) = held.get(&Id::Map(*map)) else {
            continue;
        };
        let named = ours::map_named(info).is_some_and(|named| ours::has_shape(named, info));
        let explained = plan.objects.contains(&Id::Map(*map))
            || census.is_meta(*map)
            || census.is_kept(*map)
            || holders.iter().any(|holder| others.contains(holder));
        if !named || explained {
            continue;
        }
        let residue = Residue {
            what: format!("map {} (id {map})", info.name),
            held_by: holders.iter().cloned().collect(),
        };
        if holders.iter().any(|holder| own.contains(holder)) {
            strays.ours.push(residue);
        } else {
            strays.unknown.push(residue);
        }
    }
    strays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Limits, Map};
    use crate::memory::MemoryKernel;
    use crate::pins::{self, Root};

    fn process(pid: u32) -> Process {
        Process { pid, command: "holder".to_owned() }
    }

    /// Maps of a root that nothing but this process keeps, and their ids.
    fn census() -> (Census, u32, u32) {
        let mut k = MemoryKernel::default();
        let root = Root::new("/bpf/kmesh");
        k.make_dir(root.path()).unwrap();
        pins::adopt_maps(&mut k, &root, &Limits::default()).unwrap();
        let id = |map| match k.pinned(&root.map(map)).unwrap() {
            Some(crate::kernel::Pinned::Map(info)) => info.id,
            other => panic!("{other:?}"),
        };
        (Census::take(&k).unwrap(), id(Map::Names), id(Map::Meta))
    }

    #[test]
    fn a_map_is_its_holders_where_the_holder_says_whose_he_is() {
        let (census, names, meta) = census();
        let holder = BTreeSet::from([process(7)]);
        let stray =
            Residue { what: format!("map kmesh_names (id {names})"), held_by: vec![process(7)] };
        let alone = BTreeMap::from([(Id::Map(names), holder.clone())]);
        let nothing = Plan::default();
        let unknown = Strays { unknown: vec![stray.clone()], ..Strays::default() };
        assert_eq!(sort(&census, &nothing, &alone), unknown);
        let both = BTreeMap::from([(Id::Map(names), holder.clone()), (Id::Map(meta), holder)]);
        assert_eq!(sort(&census, &nothing, &both), Strays::default(), "another Kmesh's");
        let ours = Plan { objects: BTreeSet::from([Id::Map(meta)]), ..Plan::default() };
        assert_eq!(sort(&census, &ours, &both).ours, [stray]);
        let known = BTreeSet::from([Id::Map(meta), Id::Map(names)]);
        let known = Plan { objects: known, ..Plan::default() };
        assert_eq!(sort(&census, &known, &both), Strays::default());
    }
}
