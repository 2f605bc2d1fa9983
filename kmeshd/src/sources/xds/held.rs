//! What the control plane has said and still holds: names and versions, nothing of the content.
//! By them a new stream is told what is known already, and a full answer shows what is gone.

use hashbrown::HashMap;

use crate::model::Name;

/// The version of a resource. Istio's are numbers in hexadecimal: they need no text of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    Number(u64),
    Text(Box<str>),
}

impl Version {
    fn new(text: &str) -> Self {
        let number = u64::from_str_radix(text, 16).ok();
        match number.filter(|number| format!("{number:x}") == text) {
            Some(number) => Self::Number(number),
            None => Self::Text(text.into()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Number(number) => format!("{number:x}"),
            Self::Text(text) => text.to_string(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Number(_) => 16,
            Self::Text(text) => text.len(),
        }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A workload, by uid.
    Workload,
    /// A service, by `namespace/hostname`.
    Service,
    /// A policy, by `namespace/name`.
    Policy,
}

/// The resources of one type.
#[derive(Debug, Default)]
pub(super) struct Held {
    of: HashMap<Name, (Version, Kind)>,
    /// How many there are of each kind.
    counts: [usize; 3],
}

impl Held {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize]
    }

    /// The one copy of a name that is held.
    pub(super) fn name(&self, name: &str) -> Option<&Name> {
        self.of.get_key_value(name).map(|(name, _)| name)
    }

    /// What is held by this name.
    pub(super) fn kind(&self, name: &str) -> Option<Kind> {
        self.of.get(name).map(|(_, kind)| *kind)
    }

    /// It is held in this version now.
    pub(super) fn insert(&mut self, name: &Name, version: &str, kind: Kind) {
        let before = self.of.insert(name.clone(), (Version::new(version), kind));
        if let Some((_, before)) = before {
            self.counts[before as usize] -= 1;
        }
        self.counts[kind as usize] += 1;
    }

    /// It is gone; says what it was.
    pub(super) fn remove(&mut self, name: &str) -> Option<Kind> {
        let (_, kind) = self.of.remove(name)?;
        self.counts[kind as usize] -= 1;
        Some(kind)
    }

    /// Every name.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.of.keys()
    }

    /// Names and versions, if their encoding stays below so many bytes.
    pub(super) fn versions(&self, max: usize) -> Option<std::collections::HashMap<String, String>> {
        // Tags and lengths of an entry of the map.
        const ENTRY: usize = 12;
        let sizes = self.of.iter().map(|(name, (version, _))| name.len() + version.len() + ENTRY);
        (sizes.sum::<usize>() <= max).then(|| {
            let pairs = self.of.iter();
            pairs.map(|(name, (version, _))| (name.to_string(), version.text())).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_back_as_they_were_unless_they_are_too_many() {
        let mut held = Held::default();
        let versions = ["", "0", "00ff", "ad8e62881be434", "20fb5970d33f0c9d", "FF", "v1"];
        for (at, version) in versions.iter().enumerate() {
            held.insert(&format!("n/{at}").into(), version, Kind::Service);
        }
        let said = held.versions(1000).expect("few");
        for (at, version) in versions.iter().enumerate() {
            assert_eq!(said[&format!("n/{at}")], *version);
        }
        assert_eq!(held.versions(100), None);
        held.insert(&"n/0".into(), "1", Kind::Workload);
        assert_eq!((held.count(Kind::Service), held.count(Kind::Workload)), (6, 1));
        assert_eq!((held.remove("n/0"), held.remove("n/0")), (Some(Kind::Workload), None));
        assert_eq!((held.len(), held.count(Kind::Workload)), (6, 0));
    }
}
