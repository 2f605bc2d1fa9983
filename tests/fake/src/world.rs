//! What the fake serves, how it fails, and what it has heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::objects::Type;
use crate::proto::discovery::{DeltaDiscoveryResponse, Payload, Resource};

/// How it fails.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Types that are never answered.
    pub withhold: BTreeSet<Type>,
    /// How long before each response, in milliseconds.
    pub delay_ms: u64,
    /// The first answer of each stream names nothing, and removes all that the client holds.
    pub empty_first: bool,
    /// Each nonce is that of the response before.
    pub repeat_nonce: bool,
    /// A response of a type that nobody subscribed to comes first.
    pub unknown_type: bool,
    /// Each stream is ended after so many responses (0: never).
    pub close_after: usize,
    /// Each stream is ended by this gRPC code.
    pub status: Option<i32>,
    /// How connections are met.
    pub greeting: Greeting,
    /// So many bytes a second are sent on a connection (0: as fast as it takes them).
    pub bytes_per_second: usize,
    /// Each connection is reset after so many bytes (0: never).
    pub reset_after: usize,
    /// Each stream is reset (RST_STREAM) after so many bytes of its messages (0: never).
    pub tear_after: usize,
}

/// How a connection is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Greeting {
    /// It is served.
    #[default]
    Serve,
    /// Nothing is ever said on it.
    Hang,
    /// It is closed at once.
    Close,
    /// It is answered in HTTP/1.1.
    Http1,
}

/// What was heard.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// Streams that began.
    pub streams: u64,
    /// Streams that are open.
    pub open: u64,
    /// Responses sent.
    pub responses: u64,
    /// Resources sent in them.
    pub resources: u64,
    /// Bytes of the resources of the largest response.
    pub largest_response: u64,
    /// Responses that were accepted.
    pub acks: u64,
    /// What the NACKs said, the last hundred.
    pub nacks: Vec<String>,
    /// How many versions the last stream was told that the client holds.
    pub known: usize,
    /// The last stream's node id.
    pub node: String,
    /// What it said of itself.
    pub metadata: BTreeMap<String, String>,
}

/// A resource.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its version.
    pub version: u64,
    /// Its content.
    content: Vec<u8>,
    /// As it is sent: encoded once, however many ask for it.
    pub wire: Bytes,
}

/// Resources by name.
pub type Resources = BTreeMap<String, Served>;

/// The state. See the module.
#[derive(Debug, Default)]
pub struct State {
    /// What is served.
    pub of: BTreeMap<Type, Resources>,
    /// How it fails.
    pub faults: Faults,
    /// What was heard.
    pub heard: Heard,
    /// Streams of an earlier number are ended.
    pub epoch: u64,
    /// Responses that are sent as they stand, each once, to a stream that subscribed to its type.
    pub script: VecDeque<DeltaDiscoveryResponse>,
    /// It has shut down: it said GOAWAY, ends every stream as unavailable, and accepts none.
    pub over: bool,
    /// What came or went with each version, so that a change costs what it changes. Where a name
    /// changed again, the earlier versions say nothing.
    pub log: BTreeMap<u64, (Type, String)>,
    /// The last version.
    pub versions: u64,
}

/// Shared [`State`].
#[derive(Clone, Debug)]
pub struct World {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Default for World {
    fn default() -> Self {
        let (changed, _) = watch::channel(0);
        Self { state: Arc::default(), changed }
    }
}

impl World {
    /// The state, to read it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then tells the streams.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_modify(|n| *n += 1);
    }

    /// Hears of changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl State {
    /// Serves this by this name from now on.
    pub fn set(&mut self, of: Type, (name, content): (String, Vec<u8>)) {
        // As a control plane does: what did not change keeps its version.
        let resources = self.of.entry(of).or_default();
        let before = resources.get(&name);
        if before.is_some_and(|before| before.content == content) {
            return;
        }
        if let Some(before) = before {
            self.log.remove(&before.version);
        }
        self.versions += 1;
        let version = self.versions;
        let wire = encode(of, &name, version, &content);
        self.log.insert(version, (of, name.clone()));
        resources.insert(name, Served { version, content, wire });
    }

    /// Serves nothing by this name.
    pub fn remove(&mut self, name: &str) {
        for (of, resources) in &mut self.of {
            if let Some(before) = resources.remove(name) {
                self.versions += 1;
                self.log.remove(&before.version);
                self.log.insert(self.versions, (*of, name.to_owned()));
            }
        }
    }

    /// Serves nothing.
    pub fn clear(&mut self) {
        let names: Vec<String> = self.of.values().flat_map(|of| of.keys().cloned()).collect();
        for name in names {
            self.remove(&name);
        }
    }
}

/// A version as it is sent.
#[must_use]
pub fn shown(version: u64) -> String {
    format!("{version:x}")
}

fn encode(of: Type, name: &str, version: u64, content: &[u8]) -> Bytes {
    let content = Bytes::copy_from_slice(content);
    let resource = Some(Payload { type_url: of.url().to_owned(), value: content });
    Resource { version: shown(version), resource, name: name.to_owned() }.encode_to_vec().into()
}
