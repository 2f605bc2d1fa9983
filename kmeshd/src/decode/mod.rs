//! From the bytes of one resource of a control plane to one object of the model.
//!
//! ```text
//!  bytes → proto (well-formed?) → check (makes sense? each problem is named) → model
//! ```
//! A resource is good or refused as a whole, and refuses no other; nothing is mended. What many
//! objects share is stored once.

mod fields;
mod known;
mod policy;
pub(crate) mod proto;
mod say;
mod service;
#[cfg(test)]
pub(crate) mod tests;
mod workload;

use kmesh_bpf::authz::Policy;
use prost::Message as _;

pub(crate) use fields::{Field, field};
pub(crate) use say::shown;

use known::Known;

use crate::model::{Interner, Name, Place, Service, Traits, Workload};

/// Why a resource is refused. What was in force of it stays.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is no protobuf of its type.
    #[error("the {what} is malformed")]
    Malformed {
        /// "address" or "policy".
        what: &'static str,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// An address that is neither a workload nor a service.
    #[error("it is neither a workload nor a service")]
    Nothing,
    /// It makes no sense.
    #[error("{}", problems.join("; "))]
    Refused {
        /// What is wrong: at least one.
        problems: Vec<String>,
    },
}

/// What an `istio.workload.Address` is, and the name that it must go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A workload and its uid.
    Workload(Name, Workload),
    /// A service and its `namespace/hostname`.
    Service(Name, Service),
}

/// Decodes resources. Keeps one copy of what they share.
#[derive(Debug, Default)]
pub struct Decoder {
    texts: Interner<str>,
    places: Interner<Place>,
    traits: Interner<Traits>,
    known: Known,
}

impl Decoder {
    /// A workload or a service.
    pub fn address(&mut self, bytes: &[u8]) -> Result<Address, DecodeError> {
        if let Some((uid, workload)) = self.known.workload(bytes) {
            return Ok(Address::Workload(uid, workload));
        }
        let address = self.unknown(bytes)?;
        if let Address::Workload(_, workload) = &address {
            self.known.learn(workload);
        }
        Ok(address)
    }

    fn unknown(&mut self, bytes: &[u8]) -> Result<Address, DecodeError> {
        let malformed = |source| DecodeError::Malformed { what: "address", source };
        let address = proto::workload::Address::decode(bytes).map_err(malformed)?;
        match address.r#type.ok_or(DecodeError::Nothing)? {
            proto::workload::address::Type::Workload(from) => self.workload(from),
            proto::workload::address::Type::Service(from) => self.service(from),
        }
    }

    /// An authorization policy.
    pub fn policy(&mut self, bytes: &[u8]) -> Result<Policy, DecodeError> {
        let malformed = |source| DecodeError::Malformed { what: "policy", source };
        let from = proto::security::Authorization::decode(bytes).map_err(malformed)?;
        policy::policy(from)
    }

    /// Lets go of what no object uses any more. Its cost is that of everything that is shared, so
    /// it is done only when that has doubled.
    pub fn tidy(&mut self) {
        self.known.tidy();
        self.traits.tidy();
        self.places.tidy();
        self.texts.tidy();
    }
}
