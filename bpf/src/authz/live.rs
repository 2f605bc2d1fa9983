//! Authorization as it stands in the maps, read element by element: who a source is, what a set
//! was compiled from, and its tables.
//!
//! For those who look at one connection and hold no mirror of the tables. It judges nothing and
//! refuses nothing: what cannot be read is left out, and the caller says what that means.

use std::net::IpAddr;

use bytemuck::Zeroable as _;

use super::image::{Header, Image, Run};
use super::policy::{Identity, Policy};
use crate::kernel::{KernelError, Tables};
use crate::layout::{
    AuthRun, AuthSetRecord, BackendRecord, FrontendKey, FrontendWord, Map, PolicyRecord,
};
use crate::tables::{name_at, text_at};

/// A workload that an address leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its index in `kmesh_backend`.
    pub index: u32,
    /// Its uid.
    pub uid: String,
    /// The number of its identity in policy sets; 0 is none.
    pub who: u32,
    /// Its identity, where it has one.
    pub identity: Option<Identity>,
}

impl Known {
    /// The workload of an address; `None` where nobody known has it.
    pub fn at(k: &dyn Tables, address: IpAddr) -> Result<Option<Self>, KernelError> {
        let key = FrontendKey::workload(address);
        let mut word = FrontendWord::zeroed();
        let there =
            k.lookup(Map::Frontend, bytemuck::bytes_of(&key), bytemuck::bytes_of_mut(&mut word))?;
        if !there || word.tag() != key.tag() {
            return Ok(None);
        }
        let index = word.index();
        let Some(record) = element::<BackendRecord>(k, Map::Backend, index)? else {
            return Ok(None);
        };
        let uid = name_at(k, record.name, record.name_len)?;
        let identity = match record.identity_len {
            0 => None,
            length => Identity::parse(&name_at(k, record.identity, length)?),
        };
        Ok(Some(Self { index, uid, who: record.who, identity }))
    }
}

/// An element of an array; `None` beyond its end.
fn element<T: bytemuck::Pod>(
    k: &dyn Tables,
    map: Map,
    index: u32,
) -> Result<Option<T>, KernelError> {
    if index >= k.max_entries(map)? {
        return Ok(None);
    }
    let mut value = T::zeroed();
    let there = k.lookup(map, &index.to_ne_bytes(), bytemuck::bytes_of_mut(&mut value))?;
    Ok(there.then_some(value))
}

/// A policy set as it lies in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSet {
    /// Its number.
    pub number: u16,
    /// Its record, which is valid.
    pub record: AuthSetRecord,
}

/// Policies of a set, and those of them that cannot be read: the index of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivePolicies {
    /// Those that can.
    pub policies: Vec<Policy>,
    /// Those that cannot: what is there, in words.
    pub unreadable: Vec<String>,
}

impl LiveSet {
    /// Set `number`; `None` where there is none.
    pub fn at(k: &dyn Tables, number: u16) -> Result<Option<Self>, KernelError> {
        let record = element::<AuthSetRecord>(k, Map::AuthSet, number.into())?;
        let valid = record.filter(|record| record.flags & AuthSetRecord::VALID != 0);
        Ok(valid.map(|record| Self { number, record }))
    }

    /// The policies that it was compiled from.
    pub fn policies(&self, k: &dyn Tables) -> Result<LivePolicies, KernelError> {
        let mut found = LivePolicies::default();
        let list = text_at(k, self.record.policies, self.record.policies_len)?;
        let indices = list.as_deref().and_then(|text| serde_json::from_str::<Vec<u32>>(text).ok());
        let Some(indices) = indices else {
            found.unreadable.push(format!("the list of policies of set {}", self.number));
            return Ok(found);
        };
        for index in indices {
            match policy_at(k, index)? {
                Ok(policy) => found.policies.push(policy),
                Err(why) => found.unreadable.push(why),
            }
        }
        Ok(found)
    }

    /// Its tables.
    pub fn image(&self, k: &dyn Tables) -> Result<Image, KernelError> {
        let record = &self.record;
        let run = |run: AuthRun| Run { at: run.at, count: run.count };
        let header = Header {
            allows: record.flags & AuthSetRecord::ALLOWS != 0,
            dry_run_allows: record.flags & AuthSetRecord::DRY_ALLOWS != 0,
            ends: record.ends,
            source4: run(record.source4),
            source6: run(record.source6),
            destination4: run(record.destination4),
            destination6: run(record.destination6),
            port: run(record.port),
            identities: run(record.identities),
            nobody: record.nobody,
            rule_ends: record.rule_ends,
            group_ends: record.group_ends,
        };
        Ok(Image {
            header,
            words: elements(k, Map::AuthWord, record.words, record.words_room)?,
            bits: elements(k, Map::AuthBits, record.chunks, record.chunks_room)?,
        })
    }
}

/// The policy at an index of `kmesh_policy`, or why there is none to be read.
fn policy_at(k: &dyn Tables, index: u32) -> Result<Result<Policy, String>, KernelError> {
    let record = element::<PolicyRecord>(k, Map::Policy, index)?.unwrap_or_default();
    if record.flags & PolicyRecord::VALID == 0 {
        return Ok(Err(format!("policy record {index}, which is not in use")));
    }
    let name = name_at(k, record.name, record.name_len)?;
    let text = text_at(k, record.text, record.text_len)?;
    let policy = match text {
        Some(text) => Policy::from_text(&text),
        None => Err("its text lies beyond the map".to_owned()),
    };
    Ok(policy.map_err(|why| format!("policy {name} (record {index}): {why}")))
}

/// A run of an array's elements; shorter where the map ends.
fn elements<T: bytemuck::Pod>(
    k: &dyn Tables,
    map: Map,
    from: u32,
    count: u32,
) -> Result<Vec<T>, KernelError> {
    let mut all = Vec::new();
    let mut skip = from as usize * size_of::<T>();
    k.scan(map, from.saturating_add(count), &mut |_, values| {
        let passed = skip.min(values.len());
        skip -= passed;
        let values = values[passed..].chunks_exact(size_of::<T>());
        all.extend(values.map(bytemuck::pod_read_unaligned::<T>));
    })?;
    Ok(all)
}
