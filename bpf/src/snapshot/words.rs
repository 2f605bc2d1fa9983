//! How names and addresses are read from a file: each name is kept once, and a file cannot say
//! more than it has bytes.
//!
//! YAML has aliases: a short file may repeat a long list a million times. Nobody writes snapshots
//! so; every name and address is paid for from what the file is long, and who cannot pay is
//! refused. It refuses names that no table holds before they are kept.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use hashbrown::HashSet;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::layout::NAME_MAX;
use crate::want::Name;

/// The least that an object with a name takes in a file, beside the name.
const NAME_COST: u64 = 8;
/// The least that an address takes in a file.
const ADDRESS_COST: u64 = 3;
/// The least that a list takes in a file.
const LIST_COST: u64 = 2;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static KNOWN: RefCell<HashSet<Name>> = RefCell::default();
}

/// While it lives, the file that this thread reads may say as much as `bytes` hold, and names
/// that are alike are one.
pub(super) struct Reading(());

impl Reading {
    /// Of a file of so many bytes; one without aliases need not be measured.
    pub(super) fn begin(bytes: Option<u64>) -> Self {
        LEFT.set(bytes.unwrap_or(u64::MAX));
        Self(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        LEFT.set(u64::MAX);
        KNOWN.with_borrow_mut(|known| *known = HashSet::new());
    }
}

fn pay<E: Error>(cost: u64) -> Result<(), E> {
    let left = LEFT.get();
    if left == u64::MAX {
        return Ok(());
    }
    let left = left.checked_sub(cost).ok_or_else(|| {
        E::custom("more is said than the file has bytes: write it without YAML aliases")
    })?;
    LEFT.set(left);
    Ok(())
}

/// A name that the tables can hold, at least by its length.
pub(crate) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Name;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
            if text.len() > NAME_MAX {
                let (bytes, begins) = (text.len(), text.get(..32).unwrap_or_default());
                return Err(E::custom(format_args!(
                    "the name {begins:?}… has {bytes} bytes; the tables hold at most {NAME_MAX}"
                )));
            }
            pay(text.len() as u64 + NAME_COST)?;
            Ok(KNOWN.with_borrow_mut(|known| {
                known.get_or_insert_with(text, |text| Name::from(text)).clone()
            }))
        }
    }
    from.deserialize_str(Text)
}

/// A name that may be left out.
pub(crate) fn optional_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Name>, D::Error> {
    #[derive(Deserialize)]
    struct Named(#[serde(deserialize_with = "name")] Name);
    Ok(Option::<Named>::deserialize(from)?.map(|named| named.0))
}

/// Names, each of which the tables can hold.
pub(crate) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
    #[derive(Deserialize)]
    struct Named(#[serde(deserialize_with = "name")] Name);
    let names = Vec::<Named>::deserialize(from)?;
    Ok(names.into_iter().map(|named| named.0).collect())
}

/// A list of addresses.
pub(crate) fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    Listed::deserialize(from).map(|list| list.0)
}

/// What something takes in a file at least, in bytes.
pub(crate) trait Costs {
    /// The least.
    fn cost(&self) -> u64;
}

impl Costs for IpAddr {
    fn cost(&self) -> u64 {
        ADDRESS_COST
    }
}

/// A list whose items are paid for.
#[derive(Debug)]
pub(crate) struct Listed<T>(pub(crate) Vec<T>);

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Costs for Listed<T> {
    fn cost(&self) -> u64 {
        LIST_COST
    }
}

impl<'de, T: Deserialize<'de> + Costs> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(List(PhantomData))
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Costs> Visitor<'de> for List<T> {
    type Value = Listed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<T>()? {
            pay(item.cost())?;
            items.push(item);
        }
        items.shrink_to_fit();
        Ok(Listed(items))
    }
}
