//! Workloads of one deployment differ in little: uid, name, addresses, health. What they share was
//! decoded and checked with the first of them; with the others it is known by its bytes.
//!
//! It refuses nothing: what is not surely good is left to those that can say what is wrong.

use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message as _;

use super::proto::workload as proto;
use super::say::{Say, is_label, is_name};
use crate::model::{Destination, Ips, Name, Place, Traits, Workload};

/// `istio.workload.Address`, its content as bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Outer {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    workloads: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    services: Vec<Bytes>,
}

/// `istio.workload.Workload`, each field as its bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Fields {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    namespace: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    addresses: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "4")]
    network: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    trust_domain: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    service_account: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    waypoint: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "9")]
    node: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "16")]
    policies: Vec<Bytes>,
    #[prost(int32, tag = "17")]
    status: i32,
    #[prost(bytes = "bytes", tag = "18")]
    cluster_id: Bytes,
    #[prost(bytes = "bytes", tag = "20")]
    uid: Bytes,
    #[prost(bytes = "bytes", tag = "21")]
    hostname: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "22")]
    services: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "24")]
    locality: Vec<Bytes>,
    #[prost(int32, tag = "25")]
    network_mode: i32,
}

/// Good values by the bytes that they come from.
#[derive(Debug)]
struct Memo<T> {
    of: HashMap<Box<[u8]>, Arc<T>>,
    /// How many there were after the last tidying.
    kept: usize,
    /// The bytes that were last looked up.
    key: Vec<u8>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), kept: 0, key: Vec::new() }
    }
}

impl<T: Eq + Hash> Memo<T> {
    /// What these fields came to.
    fn find<'a>(&mut self, fields: impl Iterator<Item = &'a [Bytes]>) -> Option<&Arc<T>> {
        self.key.clear();
        for field in fields {
            self.key.extend_from_slice(&field.len().to_ne_bytes());
            for bytes in field {
                self.key.extend_from_slice(&bytes.len().to_ne_bytes());
                self.key.extend_from_slice(bytes);
            }
        }
        self.of.get(&*self.key)
    }

    /// What was last looked up came to this.
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

/// What is known of workloads. See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    outer: Outer,
    fields: Fields,
    traits: Memo<Traits>,
    places: Memo<Place>,
}

impl Known {
    /// The workload that these bytes are, if they are a good one whose shared parts are known.
    pub(super) fn workload(&mut self, bytes: &Bytes) -> Option<(Name, Workload)> {
        let found = self.read(bytes).and_then(|()| self.find());
        // The bytes of a response are let go of with the last of these.
        self.outer.clear();
        self.fields.clear();
        found
    }

    fn read(&mut self, bytes: &Bytes) -> Option<()> {
        self.traits.key.clear();
        self.outer.merge(bytes.clone()).ok()?;
        let ([workload], []) = (&*self.outer.workloads, &*self.outer.services) else {
            return None;
        };
        self.fields.merge(workload.clone()).ok()
    }

    fn find(&mut self) -> Option<(Name, Workload)> {
        let Self { fields, traits, places, .. } = self;
        let one = std::slice::from_ref;
        let of_traits = [
            one(&fields.namespace),
            one(&fields.trust_domain),
            one(&fields.service_account),
            &fields.waypoint,
            &fields.policies,
            &fields.services,
        ];
        let of_place =
            [one(&fields.network), one(&fields.node), one(&fields.cluster_id), &fields.locality];
        // Both are looked up: what is not there is kept under what was looked up.
        let traits = traits.find(of_traits.into_iter());
        let place = places.find(of_place.into_iter());
        let (traits, place) = (traits?, place?);
        let uid = own(fields)?;
        let workload = Workload {
            ips: addresses(&fields.addresses)?,
            place: Arc::clone(place),
            traits: Arc::clone(traits),
            healthy: fields.status == proto::WorkloadStatus::Healthy as i32,
            host_network: fields.network_mode != proto::NetworkMode::Standard as i32,
        };
        Some((uid.into(), workload))
    }

    /// What was last asked for and not known is a good workload, and this one.
    pub(super) fn learn(&mut self, workload: &Workload) {
        if !self.traits.key.is_empty() {
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

/// The uid, if all that a workload shares with no other is good.
fn own(fields: &Fields) -> Option<&str> {
    let text = |bytes| str::from_utf8(bytes).ok();
    let uid = text(&fields.uid)?;
    let good = is_name(uid)
        && !uid.is_empty()
        && !Destination::is_address(uid)
        && is_label(text(&fields.name)?)
        && is_label(text(&fields.hostname)?);
    good.then_some(uid)
}

/// The addresses, if they are good and need no resolving.
fn addresses(from: &[Bytes]) -> Option<Ips> {
    let mut say = Say::default();
    let ips = match from {
        [] => return None,
        [one] => Ips::One(say.address("address", one)?),
        _ => say.addresses(from).into(),
    };
    say.finish(ips).ok()
}
