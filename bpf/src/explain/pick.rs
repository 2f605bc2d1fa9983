//! Which endpoint: every slot that may be chosen, how likely that is, and what it means.
//!
//! A program takes one slot by chance; one that is stale starts a new attempt, until all attempts
//! are used up.

use std::net::{IpAddr, SocketAddr};

use super::look::{Read, element, uid};
use super::outcome::Outcome;
use super::said::{EndpointSaid, OutcomeSaid, Socket};
use crate::kernel::Tables;
use crate::layout::{BackendRecord, EndpointWord, Map, ServiceWord};
use crate::want::Family;

/// Who picks: what the connection counts as once an endpoint is picked, and how often it was
/// looked up anew before.
#[derive(Clone, Copy)]
pub(super) struct Picker {
    pub(super) socket: Socket,
    pub(super) dialled: IpAddr,
    pub(super) outcome: Outcome,
    pub(super) retried: u32,
    pub(super) tries: u32,
}

/// `pick_endpoint`, of every slot in use: what picking it means, and all ways that it may end.
pub(super) fn slots(
    k: &dyn Tables,
    word: ServiceWord,
    picker: Picker,
) -> Read<(Vec<EndpointSaid>, Vec<OutcomeSaid>)> {
    let mut slots = Vec::with_capacity(word.count() as usize);
    for index in word.base()..word.base() + word.count() {
        slots.push(slot(k, index, picker)?);
    }
    let outcomes = weigh(&mut slots, picker);
    Ok((slots, outcomes))
}

/// Gives each slot its probability, and sums up.
fn weigh(slots: &mut [EndpointSaid], picker: Picker) -> Vec<OutcomeSaid> {
    let stale = |slot: &EndpointSaid| slot.outcome == Outcome::RefusedStale;
    #[expect(clippy::cast_precision_loss, reason = "at most 2^20 slots")]
    let (all, lost) = (slots.len() as f64, slots.iter().filter(|slot| stale(slot)).count() as f64);
    let lost = lost / all;
    let attempts = (picker.tries - picker.retried).cast_signed();
    let weight: f64 = (0..attempts).map(|at| lost.powi(at)).sum();
    let mut outcomes: Vec<OutcomeSaid> = Vec::new();
    for slot in slots {
        if stale(slot) {
            slot.chance = 1.0 / all;
            continue;
        }
        slot.chance = weight / all;
        match outcomes.iter_mut().find(|said| said.outcome == slot.outcome) {
            Some(said) => said.chance += slot.chance,
            None => outcomes.push(OutcomeSaid::new(slot.outcome, slot.chance, picker.retried)),
        }
    }
    if lost > 0.0 {
        let chance = lost.powi(attempts);
        outcomes.push(OutcomeSaid::new(Outcome::RefusedStale, chance, picker.tries - 1));
    }
    outcomes
}

/// `find_backend` and `family_fits`, of one slot.
fn slot(k: &dyn Tables, index: u32, picker: Picker) -> Read<EndpointSaid> {
    let (chance, target, outcome) = (0.0, None, Outcome::RefusedStale);
    let mut said = EndpointSaid { workload: None, target, chance, outcome };
    let word = element::<EndpointWord>(k, Map::Endpoint, index)?.filter(|word| word.valid());
    let Some(word) = word else {
        return Ok(said);
    };
    let Some(backend) = element::<BackendRecord>(k, Map::Backend, word.backend())? else {
        return Ok(said);
    };
    said.workload = Some(uid(k, &backend)?);
    // as the programs: the IPv6 address without a look at its flag
    let v6 = word.v6().then(|| IpAddr::from(backend.v6));
    let Some(address) = v6.or(backend.word.v4().map(IpAddr::V4)) else {
        return Ok(said);
    };
    said.target = Some(SocketAddr::new(address, word.port()));
    let fits = family_fits(picker.socket, picker.dialled, word.v6());
    said.outcome = if fits { picker.outcome } else { Outcome::RefusedFamily };
    Ok(said)
}

/// `family_fits`: whether the socket can reach an address of the target's family.
fn family_fits(socket: Socket, dialled: IpAddr, target_v6: bool) -> bool {
    if socket.family == Family::V4 {
        return !target_v6;
    }
    if dialled.to_canonical().is_ipv4() != target_v6 {
        return true;
    }
    if !target_v6 && socket.v6_only {
        return false;
    }
    match socket.bound {
        Some(bound) if !bound.is_unspecified() => bound.to_canonical().is_ipv4() != target_v6,
        _ => true,
    }
}
