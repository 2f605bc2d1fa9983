//! The text of a string match, as ztunnel's local configuration writes it.

use std::fmt;

use serde::de::{EnumAccess, Error, MapAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::StringMatch;

/// `{Exact: x}`, the YAML tag `!Exact x`, or the word `Presence`.
impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyMatch)
    }
}

const KINDS: [&str; 4] = ["Exact", "Prefix", "Suffix", "Presence"];

struct AnyMatch;

impl AnyMatch {
    fn of<E: Error>(kind: &str, text: String) -> Result<StringMatch, E> {
        match kind {
            "Exact" => Ok(StringMatch::Exact(text)),
            "Prefix" => Ok(StringMatch::Prefix(text)),
            "Suffix" => Ok(StringMatch::Suffix(text)),
            _ => Err(E::unknown_variant(kind, &KINDS)),
        }
    }
}

impl<'de> Visitor<'de> for AnyMatch {
    type Value = StringMatch;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("{Exact: text}, {Prefix: text}, {Suffix: text} or Presence")
    }

    fn visit_str<E: Error>(self, kind: &str) -> Result<StringMatch, E> {
        if kind == "Presence" {
            Ok(StringMatch::Presence)
        } else {
            Err(E::unknown_variant(kind, &KINDS))
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMatch, A::Error> {
        let (kind, text) = map
            .next_entry::<String, String>()?
            .ok_or_else(|| A::Error::custom("an empty match"))?;
        if map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom("a match says one of Exact, Prefix, Suffix"));
        }
        Self::of(&kind, text)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<StringMatch, A::Error> {
        let (kind, rest) = tagged.variant::<String>()?;
        if kind == "Presence" {
            return rest.unit_variant().map(|()| StringMatch::Presence);
        }
        Self::of(&kind, rest.newtype_variant()?)
    }
}
