//! What the control plane has said and still holds: names and versions, nothing of the content.
//! By them a new stream is told what is known already, and a full answer shows what is gone.

use std::hash::BuildHasher as _;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::model::Name;

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

/// The version of a resource. Istio's are numbers in hexadecimal: they need no text of their own.
#[derive(Clone, Copy, Debug)]
enum Version {
    Number(u64),
    /// It is among [`Held::texts`].
    Text,
}

/// One of a hundred thousand.
#[derive(Debug)]
struct One {
    name: Name,
    version: Version,
    /// The last answer that named it.
    answer: u32,
    kind: Kind,
}

/// The resources of one type.
#[derive(Debug, Default)]
pub(super) struct Held {
    of: HashTable<One>,
    hasher: DefaultHashBuilder,
    /// Versions that are no numbers.
    texts: HashMap<Name, Box<str>>,
    /// How many there are of each kind.
    counts: [usize; 3],
    /// The number of this answer; none has 0.
    answer: u32,
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

    /// Another answer begins: it has named nothing yet.
    pub(super) fn begin(&mut self) {
        self.answer = self.answer.wrapping_add(1);
        if self.answer == 0 {
            self.of.iter_mut().for_each(|one| one.answer = 0);
            self.answer = 1;
        }
    }

    /// The one copy of a name that is held.
    pub(super) fn name(&self, name: &str) -> Option<&Name> {
        self.find(name).map(|one| &one.name)
    }

    /// Whether this answer named it, and it is held.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.find(name).is_some_and(|one| one.answer == self.answer)
    }

    /// This answer names it. If it is held: what it is, and whether it is named for the first
    /// time.
    pub(super) fn mark(&mut self, name: &str) -> Option<(Kind, bool)> {
        let hash = self.hasher.hash_one(name);
        let one = self.of.find_mut(hash, |one| *one.name == *name)?;
        let before = std::mem::replace(&mut one.answer, self.answer);
        Some((one.kind, before != self.answer))
    }

    /// It is held in this version now, and this answer names it. Says its one copy.
    pub(super) fn insert(&mut self, name: Name, version: &str, kind: Kind) -> Name {
        let (hash, number) = (self.hasher.hash_one(&*name), number(version));
        if number.is_none() {
            self.texts.insert(name.clone(), version.into());
        } else if !self.texts.is_empty() {
            self.texts.remove(&name);
        }
        let version = number.map_or(Version::Text, Version::Number);
        self.counts[kind as usize] += 1;
        let answer = self.answer;
        let hasher = |one: &One| self.hasher.hash_one(&*one.name);
        match self.of.entry(hash, |one| one.name == name, hasher) {
            Entry::Occupied(mut taken) => {
                let one = taken.get_mut();
                self.counts[one.kind as usize] -= 1;
                (one.version, one.answer, one.kind) = (version, answer, kind);
                one.name.clone()
            }
            Entry::Vacant(free) => {
                free.insert(One { name: name.clone(), version, answer, kind });
                name
            }
        }
    }

    /// It is gone; says what it was.
    pub(super) fn remove(&mut self, name: &str) -> Option<Kind> {
        let hash = self.hasher.hash_one(name);
        let taken = self.of.find_entry(hash, |one| *one.name == *name).ok()?;
        let (one, _) = taken.remove();
        self.counts[one.kind as usize] -= 1;
        self.texts.remove(name);
        Some(one.kind)
    }

    /// What this answer did not name.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = &Name> {
        let unnamed = self.of.iter().filter(|one| one.answer != self.answer);
        unnamed.map(|one| &one.name)
    }

    /// Names and versions, if their encoding stays below so many bytes.
    pub(super) fn versions(&self, max: usize) -> Option<std::collections::HashMap<String, String>> {
        // Tags and lengths of an entry of the map, and a number.
        const ENTRY: usize = 12 + 16;
        let texts = self.texts.values().map(|text| text.len()).sum::<usize>();
        let size = texts + self.of.iter().map(|one| one.name.len() + ENTRY).sum::<usize>();
        (size <= max)
            .then(|| self.of.iter().map(|one| (one.name.to_string(), self.version(one))).collect())
    }

    fn version(&self, one: &One) -> String {
        match one.version {
            Version::Number(number) => format!("{number:x}"),
            Version::Text => self.texts.get(&one.name).map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn find(&self, name: &str) -> Option<&One> {
        self.of.find(self.hasher.hash_one(name), |one| *one.name == *name)
    }
}

/// The number that is written just so in hexadecimal.
fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (canonical && lower).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_back_as_they_were_unless_they_are_too_many() {
        let mut held = Held::default();
        let versions = ["", "0", "00ff", "ad8e62881be434", "20fb5970d33f0c9d", "FF", "+f", "v1"];
        for (at, version) in versions.iter().enumerate() {
            held.insert(format!("n/{at}").into(), version, Kind::Service);
        }
        let said = held.versions(1000).expect("few");
        for (at, version) in versions.iter().enumerate() {
            assert_eq!(said[&format!("n/{at}")], *version);
        }
        assert_eq!(held.versions(100), None);
        held.insert("n/0".into(), "1", Kind::Workload);
        assert_eq!(held.versions(1000).expect("few")["n/0"], "1");
        assert_eq!((held.count(Kind::Service), held.count(Kind::Workload)), (7, 1));
        assert_eq!((held.remove("n/0"), held.remove("n/0")), (Some(Kind::Workload), None));
        assert_eq!((held.len(), held.count(Kind::Workload)), (7, 0));
    }

    #[test]
    fn what_an_answer_names_is_known_until_the_next_one_begins() {
        let mut held = Held { answer: u32::MAX - 1, ..Held::default() };
        for name in ["a", "b"] {
            held.insert(name.into(), "1", Kind::Workload);
        }
        for _ in 0..3 {
            held.begin();
            assert!(!held.is_named("a"));
            assert_eq!(held.mark("a"), Some((Kind::Workload, true)));
            assert_eq!(held.mark("a"), Some((Kind::Workload, false)));
            assert_eq!(held.mark("c"), None);
            assert_eq!(held.unnamed().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
        }
    }
}
