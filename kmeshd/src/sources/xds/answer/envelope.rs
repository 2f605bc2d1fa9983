//! What a resource comes in: its name, its version, and the bytes of its content.

use bytes::Bytes;
use prost::Message as _;

/// `envoy.service.discovery.v3.Resource`, its texts not yet known to be such.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Envelope {
    #[prost(bytes = "bytes", tag = "1")]
    version: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Content>,
    #[prost(bytes = "bytes", tag = "3")]
    name: Bytes,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Content {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) type_url: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

impl Envelope {
    /// Opens a resource; on failure says why it is none.
    pub(super) fn open(bytes: Bytes) -> Result<Self, String> {
        Self::decode(bytes).map_err(|error| format!("it is no resource: {error}"))
    }

    /// Name and version.
    pub(super) fn texts(&self) -> Result<(&str, &str), String> {
        Ok((text("name", &self.name)?, text("version", &self.version)?))
    }
}

/// The text of a field.
fn text<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, String> {
    str::from_utf8(bytes)
        .map_err(|error| format!("it is no resource: its {what} is no text: {error}"))
}
