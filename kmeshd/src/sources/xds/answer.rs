//! What a response means: which objects changed, which are refused, and whether the answer is
//! complete. It does no I/O.
//!
//! ```text
//!  response → decode, one resource at a time → Update (the good ones)
//!                                            → NACK   (the others, by name)
//! ```
//! The first answer of a type on a stream says what is: after a full one, what it does not name is
//! gone. It is not believed when it takes away everything, or more than half of what the control
//! plane used to serve: what would go is held back until the control plane has recovered, or until
//! a second complete answer says the same after a grace.

mod envelope;
mod topic;
mod wrong;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kmesh_bpf::authz::Policy;
use tracing::debug;

use envelope::Envelope;
use topic::{MANY, Opening, Topic, doubtful};
use wrong::Wrong;

use super::held::{Held, Kind};
use super::proto::DeltaDiscoveryResponse;
use crate::decode::{Address, Decoder, shown};
use crate::model::{Name, Service, Update, Workload};
use crate::reconcile::Served;

/// So many refused resources are remembered by name; more are counted.
const REMEMBERED: usize = 1000;
/// Why each is refused, and since when.
type Refused = BTreeMap<String, (String, Instant)>;

/// So many objects of a response are handed on at once: what follows is decoded meanwhile.
const PORTION: usize = 4096;
/// How a resource is called that says no name; it is told of the last response only.
const UNNAMED: &str = "resource ";
/// The largest content of one resource; Kubernetes keeps no object of more than 1.5 MiB.
const LARGEST: usize = 2 << 20;

/// The types that are subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Workloads and services.
    Address,
    /// Authorization policies.
    Policy,
}

impl Type {
    /// Every one, in the order of subscription.
    pub(super) const ALL: [Self; 2] = [Self::Address, Self::Policy];

    /// As it is named on the wire.
    pub(super) fn url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Policy => "type.googleapis.com/istio.security.Authorization",
        }
    }
}

/// What the control plane said so far. Outlives its streams.
#[derive(Debug)]
pub(crate) struct Memory {
    decoder: Decoder,
    topics: [Topic; 2],
    /// Every answer is believed.
    accept_empty: bool,
    /// The answers of this stream are, since they are the second ones.
    confirmed: bool,
    /// Why resources are refused, and since when, by name.
    pub(super) refused: Refused,
    /// How many were refused since the start.
    pub(super) refusals: u64,
}

/// What a response came to.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The changes.
    pub(crate) update: Update,
    /// The reason of a NACK; none for an ACK.
    pub(crate) nack: Option<String>,
    /// The version of all that the control plane knows, as it calls it.
    pub(crate) version: String,
}

/// One resource, decoded.
enum Object {
    Workload(Workload),
    Service(Service),
    Policy(Policy),
}

impl Memory {
    /// Nothing yet; the tables hold so much that a control plane may have served.
    pub(crate) fn new(accept_empty: bool, in_tables: Served) -> Self {
        let mut memory = Self {
            decoder: Decoder::default(),
            topics: [Topic::default(), Topic::default()],
            accept_empty,
            confirmed: false,
            refused: BTreeMap::new(),
            refusals: 0,
        };
        memory.expect(in_tables);
        memory
    }

    /// The tables hold so much that a control plane may have served.
    pub(super) fn expect(&mut self, Served { addresses, policies }: Served) {
        self.topics[Type::Address as usize].served = addresses;
        // The last of a few policies may well have gone while nobody listened.
        self.topics[Type::Policy as usize].served = if policies < MANY { 0 } else { policies };
    }

    /// A new stream begins. Its answers are believed if they are `confirmed`. Says what to tell it
    /// of what is held, for each type; nothing where everything is to be said anew.
    pub(crate) fn begin(
        &mut self,
        confirmed: bool,
        max: usize,
    ) -> [std::collections::HashMap<String, String>; 2] {
        self.confirmed = confirmed;
        Type::ALL.map(|of| {
            let topic = &mut self.topics[of as usize];
            if topic.complete {
                topic.served = topic.held.len();
            }
            let known = if confirmed { None } else { topic.held.versions(max) };
            let known = known.unwrap_or_default();
            topic.opening = Opening::Awaited { afresh: known.is_empty() };
            known
        })
    }

    /// Every type has been answered, and believed, at least once.
    pub(crate) fn is_complete(&self) -> bool {
        self.topics.iter().all(|topic| topic.complete)
    }

    /// The types that this stream has not answered.
    pub(super) fn unanswered(&self) -> Vec<&'static str> {
        let awaited =
            |of: &Type| matches!(self.topics[*of as usize].opening, Opening::Awaited { .. });
        let open = Type::ALL.into_iter().filter(awaited);
        open.map(|of| if of == Type::Address { "Address" } else { "Authorization" }).collect()
    }

    /// What is held back, in words; none if nothing is.
    pub(super) fn held_back(&self) -> Option<String> {
        let doubted = |of: &Type| self.topics[*of as usize].opening == Opening::Doubted;
        let of = Type::ALL.into_iter().find(doubted)?;
        let topic = &self.topics[of as usize];
        let what = if of == Type::Address { "objects" } else { "policies" };
        let now = topic.held.len() - topic.doubts.len();
        let before = topic.served;
        Some(format!(
            "the control plane names {now} {what} where there were {before}: what it no longer \
             names stays until it has said so twice (to believe it at once: --accept-empty)"
        ))
    }

    /// Names and versions of what is held, by type.
    #[cfg(test)]
    pub(crate) fn versions(
        &self,
    ) -> std::collections::HashMap<&'static str, std::collections::HashMap<String, String>> {
        let of = |of: &Type| (of.url(), self.topics[*of as usize].held.versions(usize::MAX));
        Type::ALL.iter().map(of).map(|(url, held)| (url, held.unwrap_or_default())).collect()
    }

    /// How many objects of a kind are held.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.topics.iter().map(|topic| topic.held.count(kind)).sum()
    }

    /// Takes a response as a whole.
    #[cfg(test)]
    pub(crate) fn take(&mut self, response: DeltaDiscoveryResponse) -> Taken {
        let mut all = Update::default();
        let mut taken = self.take_in_portions(response, &mut |portion| all.extend(portion));
        all.extend(std::mem::take(&mut taken.update));
        Taken { update: all, ..taken }
    }

    /// Takes a response. If it is large, what it adds and changes is handed on while the rest is
    /// still decoded: before the last portion, which is returned, it says nothing that holds.
    pub(crate) fn take_in_portions(
        &mut self,
        response: DeltaDiscoveryResponse,
        hand_on: &mut dyn FnMut(Update),
    ) -> Taken {
        let Some(of) = Type::ALL.into_iter().find(|of| of.url() == response.type_url) else {
            let what = shown(&response.type_url);
            return Taken { nack: Some(format!("{what}: not subscribed to")), ..Taken::default() };
        };
        self.topics[of as usize].held.begin();
        let version = shown(&response.system_version_info);
        let mut taken = Taken { version, ..Taken::default() };
        let mut wrong = Wrong::default();
        self.refused.retain(|name, _| !name.starts_with(UNNAMED));
        for (at, bytes) in response.resources.into_iter().enumerate() {
            match self.resource(of, &bytes) {
                Ok((name, object)) => push(&mut taken.update, name, object),
                Err((name, why)) => {
                    let name = name.unwrap_or_else(|| format!("{UNNAMED}{}", at + 1));
                    self.refuse(&name, &why);
                    wrong.add(&name, &why);
                }
            }
            if taken.update.len() == PORTION {
                hand_on(std::mem::take(&mut taken.update));
            }
        }
        let gone = self.gone(of, &response.removed_resources);
        self.believe(of, gone, &mut taken.update);
        self.decoder.tidy();
        taken.nack = wrong.text();
        taken
    }

    /// Decodes one resource and notes its version; on failure says its name, if it has one.
    fn resource(
        &mut self,
        of: Type,
        bytes: &[u8],
    ) -> Result<(Name, Object), (Option<String>, String)> {
        let envelope = Envelope::open(bytes).map_err(|why| (None, why))?;
        let (name, version) = envelope.texts().map_err(|why| (None, why))?;
        let refuse = |why: String| (Some(shown(name)), why);
        let held = &mut self.topics[of as usize].held;
        // Refused or not: it is there.
        let before = held.mark(name);
        if let Some((_, false)) = before {
            return Err(refuse("it is there twice; the first one counts".to_owned()));
        }
        let content = envelope.resource.as_ref();
        let content = content.ok_or_else(|| refuse("it has no content".to_owned()))?;
        if content.type_url != of.url().as_bytes() {
            let url = String::from_utf8_lossy(content.type_url);
            return Err(refuse(format!("it is a {}", shown(&url))));
        }
        if content.value.len() > LARGEST {
            return Err(refuse(format!("it has {} bytes: at most {LARGEST}", content.value.len())));
        }
        let decoded = match of {
            Type::Address => self.decoder.address(content.value).map(|address| match address {
                Address::Workload(uid, workload) => (uid, Object::Workload(workload)),
                Address::Service(name, service) => (name, Object::Service(service)),
            }),
            Type::Policy => {
                let policy = self.decoder.policy(content.value);
                policy.map(|policy| (policy.name.clone(), Object::Policy(policy)))
            }
        };
        let (key, object) = decoded.map_err(|error| refuse(crate::chain(&error)))?;
        if *key != *name {
            return Err(refuse(format!("its content is of {}", shown(&key))));
        }
        let kind = match &object {
            Object::Workload(_) => Kind::Workload,
            Object::Service(_) => Kind::Service,
            Object::Policy(_) => Kind::Policy,
        };
        if before.is_some_and(|(before, _)| before != kind) {
            return Err(refuse("the name is already of an object of another kind".to_owned()));
        }
        let key = held.insert(key, version, kind);
        forget(&mut self.refused, &key);
        Ok((key, object))
    }

    /// What the response says is gone; what it also says is there is not.
    fn gone(&self, of: Type, removed: &[String]) -> Vec<Name> {
        let topic = &self.topics[of as usize];
        if topic.opening == (Opening::Awaited { afresh: true }) {
            return topic.held.unnamed().cloned().collect();
        }
        let held = removed.iter().filter_map(|name| {
            let known = topic.held.name(name);
            if known.is_none() {
                debug!(name = shown(name), "removed, and was never there");
            }
            known.filter(|known| !topic.held.is_named(known)).cloned()
        });
        held.collect()
    }

    /// Decides whether what is gone is gone.
    fn believe(&mut self, of: Type, gone: Vec<Name>, update: &mut Update) {
        let believed = self.accept_empty || self.confirmed;
        let topic = &mut self.topics[of as usize];
        if matches!(topic.opening, Opening::Awaited { .. }) {
            topic.doubts.clear();
            topic.opening = Opening::Believed;
            if !believed && doubtful(topic.served, topic.held.len() - gone.len()) {
                topic.opening = Opening::Doubted;
                topic.doubts.extend(gone);
                return;
            }
        } else {
            topic.doubts.retain(|name| !topic.held.is_named(name));
        }
        for name in gone {
            topic.doubts.remove(&name);
            remove(&mut topic.held, &mut self.refused, update, name);
        }
        let left = topic.held.len() - topic.doubts.len();
        if topic.opening == Opening::Doubted && doubtful(topic.served, left) {
            return;
        }
        topic.opening = Opening::Believed;
        for name in std::mem::take(&mut topic.doubts) {
            remove(&mut topic.held, &mut self.refused, update, name);
        }
        topic.complete = true;
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.refusals += 1;
        if self.refused.len() < REMEMBERED || self.refused.contains_key(name) {
            let since = self.refused.get(name).map_or_else(Instant::now, |(_, since)| *since);
            self.refused.insert(name.to_owned(), (shown(why), since));
        }
    }
}

/// It is not refused any more.
fn forget(refused: &mut Refused, name: &str) {
    if !refused.is_empty() {
        refused.remove(&shown(name));
    }
}

fn remove(held: &mut Held, refused: &mut Refused, update: &mut Update, name: Name) {
    forget(refused, &name);
    match held.remove(&name) {
        Some(Kind::Workload) => update.workloads.push((name, None)),
        Some(Kind::Service) => update.services.push((name, None)),
        Some(Kind::Policy) => update.policies.push((name, None)),
        None => {}
    }
}

fn push(update: &mut Update, name: Name, object: Object) {
    match object {
        Object::Workload(workload) => update.workloads.push((name, Some(workload))),
        Object::Service(service) => update.services.push((name, Some(service))),
        Object::Policy(policy) => update.policies.push((name, Some(Arc::new(policy)))),
    }
}

#[cfg(test)]
mod tests;
