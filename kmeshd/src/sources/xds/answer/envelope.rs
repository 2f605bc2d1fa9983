//! What a resource comes in: its name, its version, and the bytes of its content. It is looked at in
//! place, since there may be a hundred thousand.

use prost::Message as _;

use super::super::proto::Resource;
use crate::decode::{Field, field};

/// `envoy.service.discovery.v3.Resource`, its texts not yet known to be such.
#[derive(Debug, Default)]
pub(super) struct Envelope<'a> {
    version: &'a [u8],
    name: &'a [u8],
    pub(super) resource: Option<Content<'a>>,
}

/// `google.protobuf.Any`
#[derive(Debug, Default)]
pub(super) struct Content<'a> {
    pub(super) type_url: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens a resource; on failure says why it is none.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        Self::read(bytes).ok_or_else(|| match Resource::decode(bytes) {
            Err(error) => format!("it is no resource: {error}"),
            Ok(_) => "it is no resource as control planes write them".to_owned(),
        })
    }

    fn read(mut from: &'a [u8]) -> Option<Self> {
        let mut envelope = Self::default();
        while !from.is_empty() {
            match field(&mut from)? {
                (1, Field::Bytes(version)) => envelope.version = version,
                (2, Field::Bytes(content)) if envelope.resource.is_none() => {
                    envelope.resource = Some(Content::read(content)?);
                }
                (3, Field::Bytes(name)) => envelope.name = name,
                (1..=3, _) => return None,
                _ => {}
            }
        }
        Some(envelope)
    }

    /// Name and version.
    pub(super) fn texts(&self) -> Result<(&'a str, &'a str), String> {
        Ok((text("name", self.name)?, text("version", self.version)?))
    }
}

impl<'a> Content<'a> {
    fn read(mut from: &'a [u8]) -> Option<Self> {
        let mut content = Self::default();
        while !from.is_empty() {
            match field(&mut from)? {
                (1, Field::Bytes(url)) => content.type_url = url,
                (2, Field::Bytes(value)) => content.value = value,
                (1 | 2, _) => return None,
                _ => {}
            }
        }
        Some(content)
    }
}

/// The text of a field.
fn text<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, String> {
    str::from_utf8(bytes)
        .map_err(|error| format!("it is no resource: its {what} is no text: {error}"))
}
