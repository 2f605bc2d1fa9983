//! Workloads of one deployment differ in little: uid, name, addresses, health. What they share was
//! decoded and checked with the first of them; with the others it is known by its bytes.
//!
//! It refuses nothing: what is not surely good is left to those that can say what is wrong.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;

use super::fields::{Field, field};
use super::say::{Say, is_label, is_name};
use crate::model::{Destination, Ips, Name, Place, Traits, Workload};

/// Good values by the bytes that they come from.
#[derive(Debug)]
struct Memo<T> {
    of: HashMap<Box<[u8]>, Arc<T>>,
    /// How many there were after the last tidying.
    kept: usize,
    /// The bytes that were last looked up: fields with number and length, as they came.
    key: Vec<u8>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), kept: 0, key: Vec::new() }
    }
}

impl<T: Eq + Hash> Memo<T> {
    /// One more of the fields that the value comes from.
    fn add(&mut self, number: usize, bytes: &[u8]) {
        self.key.extend_from_slice(&number.to_ne_bytes());
        self.key.extend_from_slice(&bytes.len().to_ne_bytes());
        self.key.extend_from_slice(bytes);
    }

    /// What these fields came to.
    fn find(&self) -> Option<&Arc<T>> {
        self.of.get(&*self.key)
    }

    /// They came to this.
    fn keep(&mut self, value: &Arc<T>) {
        self.of.insert(self.key.as_slice().into(), Arc::clone(value));
    }

    /// Lets go of what no workload has any more, if there is twice as much as after the last time.
    fn tidy(&mut self) {
        if self.of.len() > 2 * self.kept.max(1000) {
            // The interner has one, too.
            self.of.retain(|_, value| Arc::strong_count(value) > 2);
            self.kept = self.of.len();
        }
    }
}

/// What a workload shares with no other.
#[derive(Default)]
struct Own<'a> {
    uid: &'a [u8],
    name: &'a [u8],
    hostname: &'a [u8],
    address: Option<&'a [u8]>,
    more_addresses: Vec<&'a [u8]>,
    unhealthy: bool,
    host_network: bool,
}

/// What is known of workloads. See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    traits: Memo<Traits>,
    places: Memo<Place>,
    /// What was last looked up was read to its end.
    read: bool,
}

impl Known {
    /// The workload that the bytes of an address are, if they are a good one whose shared parts
    /// are known.
    pub(super) fn workload(&mut self, mut bytes: &[u8]) -> Option<(Name, Workload)> {
        self.read = false;
        let Some((1, Field::Bytes(workload))) = field(&mut bytes) else {
            return None;
        };
        let own = self.read(workload).filter(|_| bytes.is_empty())?;
        self.read = true;
        let (traits, place) = (self.traits.find()?, self.places.find()?);
        let uid = own.uid()?;
        let workload = Workload {
            ips: own.ips()?,
            place: Arc::clone(place),
            traits: Arc::clone(traits),
            healthy: !own.unhealthy,
            host_network: own.host_network,
        };
        Some((uid.into(), workload))
    }

    /// Takes `istio.workload.Workload` apart. What is there twice and should not be is left to
    /// others.
    fn read<'a>(&mut self, mut from: &'a [u8]) -> Option<Own<'a>> {
        self.traits.key.clear();
        self.places.key.clear();
        let mut own = Own::default();
        while !from.is_empty() {
            match field(&mut from)? {
                (1, Field::Bytes(name)) if own.name.is_empty() => own.name = name,
                (20, Field::Bytes(uid)) if own.uid.is_empty() => own.uid = uid,
                (21, Field::Bytes(name)) if own.hostname.is_empty() => own.hostname = name,
                (3, Field::Bytes(ip)) if own.address.is_none() => own.address = Some(ip),
                (3, Field::Bytes(ip)) => own.more_addresses.push(ip),
                (17, Field::Number(status @ (0 | 1))) => own.unhealthy = status == 1,
                (25, Field::Number(mode @ (0 | 1))) => own.host_network = mode == 1,
                // Namespace, trust domain, account, waypoint, policies, services.
                (number @ (2 | 6 | 7 | 8 | 16 | 22), Field::Bytes(bytes)) => {
                    self.traits.add(number, bytes);
                }
                // Network, node, cluster, locality.
                (number @ (4 | 9 | 18 | 24), Field::Bytes(bytes)) => {
                    self.places.add(number, bytes);
                }
                (1..=4 | 6..=9 | 16..=18 | 20..=22 | 24 | 25, _) => return None,
                // Nothing that the data plane needs.
                _ => {}
            }
        }
        Some(own)
    }

    /// What was last asked for and not known is a good workload, and this one.
    pub(super) fn learn(&mut self, workload: &Workload) {
        if self.read {
            self.traits.keep(&workload.traits);
            self.places.keep(&workload.place);
        }
    }

    /// Lets go of what no workload has any more.
    pub(super) fn tidy(&mut self) {
        self.traits.tidy();
        self.places.tidy();
    }
}

impl Own<'_> {
    /// The uid, if it and the other names are good.
    fn uid(&self) -> Option<&str> {
        let text = |bytes| str::from_utf8(bytes).ok();
        let uid = text(self.uid)?;
        let good = is_name(uid)
            && !uid.is_empty()
            && !Destination::is_address(uid)
            && is_label(text(self.name)?)
            && is_label(text(self.hostname)?);
        good.then_some(uid)
    }

    /// The addresses, if they are good and need no resolving.
    fn ips(&self) -> Option<Ips> {
        let (mut say, first) = (Say::default(), self.address?);
        let ips = if self.more_addresses.is_empty() {
            Ips::One(say.address("address", first)?)
        } else {
            let all = std::iter::once(first).chain(self.more_addresses.iter().copied());
            say.addresses(all).into()
        };
        say.finish(ips).ok()
    }
}
