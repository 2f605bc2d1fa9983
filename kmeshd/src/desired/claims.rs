//! Who claims an address: one object nearly always; where several do, the choice among them must
//! not depend on who came first.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::Name;

#[derive(Debug)]
enum Claim {
    One(Name),
    /// At least two. In a box, so that the common case is small.
    #[expect(clippy::box_collection, reason = "100,000 of the other variant")]
    Many(Box<BTreeSet<Name>>),
}

/// The claimants of addresses.
#[derive(Debug, Default)]
pub(crate) struct Claims(HashMap<IpAddr, Claim>);

impl Claims {
    /// `name` claims it, too.
    pub(super) fn add(&mut self, ip: IpAddr, name: &Name) {
        match self.0.entry(ip) {
            Entry::Vacant(free) => drop(free.insert(Claim::One(name.clone()))),
            Entry::Occupied(mut taken) => match taken.get_mut() {
                Claim::One(one) if one == name => {}
                Claim::One(one) => {
                    let both = BTreeSet::from([one.clone(), name.clone()]);
                    taken.insert(Claim::Many(Box::new(both)));
                }
                Claim::Many(many) => drop(many.insert(name.clone())),
            },
        }
    }

    /// `name` claims it no more.
    pub(super) fn remove(&mut self, ip: IpAddr, name: &Name) {
        let Entry::Occupied(mut taken) = self.0.entry(ip) else {
            return;
        };
        match taken.get_mut() {
            Claim::One(one) if one == name => drop(taken.remove()),
            Claim::One(_) => {}
            Claim::Many(many) => {
                many.remove(name);
                if many.len() == 1
                    && let Some(last) = many.pop_first()
                {
                    taken.insert(Claim::One(last));
                }
            }
        }
    }

    /// All that claim it, sorted by name.
    pub(crate) fn all(&self, ip: IpAddr) -> impl Iterator<Item = &Name> {
        let (one, many) = match self.0.get(&ip) {
            Some(Claim::One(one)) => (Some(one), None),
            Some(Claim::Many(many)) => (None, Some(many.iter())),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The first by name.
    pub(crate) fn first(&self, ip: IpAddr) -> Option<&Name> {
        self.all(ip).next()
    }

    /// Several claim it.
    pub(crate) fn is_contested(&self, ip: IpAddr) -> bool {
        matches!(self.0.get(&ip), Some(Claim::Many(_)))
    }

    /// Addresses that several claim.
    pub(super) fn contested(&self) -> impl Iterator<Item = IpAddr> {
        let several = self.0.iter().filter(|(_, claim)| matches!(claim, Claim::Many(_)));
        several.map(|(ip, _)| *ip)
    }

    /// Makes room.
    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimants_come_and_go_in_any_order() {
        let (ip, mut claims) = (IpAddr::from([10, 0, 0, 1]), Claims::default());
        let [a, b, c] = ["a", "b", "c"].map(Name::from);
        claims.remove(ip, &a);
        for name in [&c, &a, &b, &a] {
            claims.add(ip, name);
        }
        assert_eq!(claims.all(ip).map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(claims.is_contested(ip));
        assert_eq!(claims.contested().count(), 1);
        claims.remove(ip, &a);
        claims.remove(ip, &c);
        claims.remove(ip, &c);
        assert_eq!((claims.first(ip), claims.is_contested(ip)), (Some(&b), false));
        claims.remove(ip, &b);
        assert!(claims.first(ip).is_none() && claims.0.is_empty());
    }
}
