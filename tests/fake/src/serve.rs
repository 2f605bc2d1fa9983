//! The server: each stream is first told what differs from what it says that it holds, then what
//! changed since, as the protocol says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::line;
use crate::objects::Type;
use crate::pki::Pki;
use crate::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use crate::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::tear::Tear;
use crate::world::{Resources, State, World, shown};

/// NACKs that are remembered.
const NACKS: usize = 100;
/// A response may have as many bytes as protobuf allows.
const LARGEST: usize = usize::MAX;

/// TLS, and the token that is asked for.
#[derive(Clone, Debug)]
pub struct Security {
    /// Certificates.
    pub pki: Pki,
    /// The bearer token.
    pub token: String,
}

/// A running fake; it serves until its runtime ends.
#[derive(Clone, Debug)]
pub struct Fake {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves.
    pub world: World,
}

/// Starts a fake at `at` in this runtime.
pub async fn start(
    at: SocketAddr,
    world: World,
    security: Option<Security>,
) -> Result<Fake, Box<dyn std::error::Error + Send + Sync>> {
    let listener = TcpListener::bind(at).await?;
    let address = listener.local_addr()?;
    let mut server = Server::builder();
    let mut token = None;
    if let Some(security) = security {
        let identity = Identity::from_pem(security.pki.certificate, security.pki.key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        token = Some(format!("Bearer {}", security.token));
    }
    let service = AggregatedDiscoveryServiceServer::new(Plane { world: world.clone(), token })
        .max_encoding_message_size(LARGEST)
        .max_decoding_message_size(LARGEST);
    let service = Tear { service, world: world.clone() };
    let lines = line::accept(listener, world.clone());
    let over = over(world.clone());
    let serving = server.add_service(service).serve_with_incoming_shutdown(lines, over);
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            eprintln!("kmesh-fake-istiod: {error}");
        }
    });
    Ok(Fake { address, world })
}

/// Until the world ends.
async fn over(world: World) {
    let mut changes = world.changes();
    while !world.state().over && changes.changed().await.is_ok() {}
}

struct Plane {
    world: World,
    token: Option<String>,
}

type Sent = Result<DeltaDiscoveryResponse, Status>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Sent> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let said = request.metadata().get("authorization").and_then(|token| token.to_str().ok());
        if self.token.is_some() && said != self.token.as_deref() {
            return Err(Status::unauthenticated("authentication failure"));
        }
        if let Some(code) = self.world.state().faults.status {
            return Err(Status::new(Code::from_i32(code), "as the test says"));
        }
        let (out, sent) = mpsc::channel(4);
        let talk = Talk {
            changes: self.world.changes(),
            epoch: self.world.state().epoch,
            world: self.world.clone(),
            out,
            sent: BTreeMap::new(),
            answered: BTreeSet::new(),
            responses: 0,
        };
        tokio::spawn(talk.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(sent))))
    }
}

/// What a client has of a type.
enum Has {
    /// Versions by name, as it said itself.
    Told(BTreeMap<String, String>),
    /// All of up to this version.
    All(u64),
}

/// One stream.
struct Talk {
    world: World,
    changes: watch::Receiver<u64>,
    epoch: u64,
    out: mpsc::Sender<Sent>,
    /// What the client has, of the types that it subscribed to.
    sent: BTreeMap<Type, Has>,
    /// Types that had their first answer: it is given even if it names nothing.
    answered: BTreeSet<Type>,
    responses: usize,
}

impl Talk {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        {
            let heard = &mut self.world.state().heard;
            heard.streams += 1;
            heard.open += 1;
        }
        loop {
            let goes_on = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.hear(request).await,
                    Ok(None) | Err(_) => false,
                },
                changed = self.changes.changed() => changed.is_ok() && self.speak().await,
            };
            if self.world.state().over {
                // The client has gone away: it knows.
                let _ = self.out.send(Err(Status::unavailable("shutting down"))).await;
                break;
            }
            if !goes_on || self.world.state().epoch != self.epoch {
                break;
            }
        }
        self.world.state().heard.open -= 1;
    }

    async fn hear(&mut self, request: DeltaDiscoveryRequest) -> bool {
        let Some(of) = Type::of(&request.type_url) else {
            self.note(&request);
            return true;
        };
        if self.sent.contains_key(&of) {
            self.note(&request);
            return true;
        }
        let told: BTreeMap<_, _> = request.initial_resource_versions.into_iter().collect();
        let known = told.len();
        self.sent.insert(of, Has::Told(told));
        {
            let heard = &mut self.world.state().heard;
            if let Some(node) = request.node {
                heard.known = 0;
                heard.node = node.id;
                let fields = node.metadata.unwrap_or_default().fields.into_iter();
                let text = |value: prost_types::Value| match value.kind {
                    Some(prost_types::value::Kind::StringValue(text)) => text,
                    _ => String::new(),
                };
                heard.metadata = fields.map(|(name, value)| (name, text(value))).collect();
            }
            heard.known += known;
        }
        self.answer(of).await && self.recite().await
    }

    fn note(&self, request: &DeltaDiscoveryRequest) {
        let heard = &mut self.world.state().heard;
        match &request.error_detail {
            Some(error) => {
                heard.nacks.push(error.message.clone());
                let more = heard.nacks.len().saturating_sub(NACKS);
                heard.nacks.drain(..more);
            }
            None => heard.acks += 1,
        }
    }

    /// Sends what changed of every type.
    async fn speak(&mut self) -> bool {
        for of in self.sent.keys().copied().collect::<Vec<_>>() {
            if !self.answer(of).await {
                return false;
            }
        }
        self.recite().await
    }

    /// Sends what the script has for this stream.
    async fn recite(&mut self) -> bool {
        loop {
            let response = {
                let state = &mut *self.world.state();
                let Some(next) = state.script.front() else { return true };
                if !Type::of(&next.type_url).is_some_and(|of| self.sent.contains_key(&of)) {
                    return true;
                }
                state.heard.responses += 1;
                state.script.pop_front()
            };
            if let Some(response) = response
                && self.out.send(Ok(response)).await.is_err()
            {
                return false;
            }
        }
    }

    async fn answer(&mut self, of: Type) -> bool {
        let faults = self.world.state().faults.clone();
        if faults.withhold.contains(&of) {
            return true;
        }
        let first = self.answered.insert(of);
        let (resources, removed) = self.difference(of, first && faults.empty_first);
        if !first && resources.is_empty() && removed.is_empty() {
            return true;
        }
        if faults.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(faults.delay_ms)).await;
        }
        self.responses += 1;
        let number = if faults.repeat_nonce { 1 } else { self.responses };
        let response = |type_url: &str| DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: format!("nonce-{number}"),
            ..DeltaDiscoveryResponse::default()
        };
        {
            let heard = &mut self.world.state().heard;
            heard.responses += 1;
            heard.resources += resources.len() as u64;
            let bytes = resources.iter().map(Bytes::len).sum::<usize>() as u64;
            heard.largest_response = heard.largest_response.max(bytes);
        }
        let unknown = response("type.googleapis.com/of.nobody");
        if faults.unknown_type && self.out.send(Ok(unknown)).await.is_err() {
            return false;
        }
        let response =
            DeltaDiscoveryResponse { resources, removed_resources: removed, ..response(of.url()) };
        let sent = self.out.send(Ok(response)).await.is_ok();
        sent && (faults.close_after == 0 || self.responses < faults.close_after)
    }

    /// What the client lacks, and what it has too much.
    fn difference(&mut self, of: Type, nothing: bool) -> (Vec<Bytes>, Vec<String>) {
        let state = self.world.state();
        let none = BTreeMap::new();
        let served = state.of.get(&of).unwrap_or(&none);
        let has = self.sent.insert(of, Has::All(state.versions));
        match has {
            Some(Has::Told(told)) if nothing => {
                self.sent.insert(of, Has::Told(BTreeMap::new()));
                (Vec::new(), told.into_keys().collect())
            }
            Some(Has::Told(told)) => against(served, told),
            Some(Has::All(version)) => since(&state, of, version),
            None => against(served, BTreeMap::new()),
        }
    }
}

/// What a client lacks that holds these versions, and what it has too much.
fn against(served: &Resources, told: BTreeMap<String, String>) -> (Vec<Bytes>, Vec<String>) {
    let lacks = served.iter().filter(|(name, one)| {
        told.is_empty() || told.get(*name).is_none_or(|version| *version != shown(one.version))
    });
    let resources = lacks.map(|(_, one)| one.wire.clone()).collect();
    (resources, told.into_keys().filter(|name| !served.contains_key(name)).collect())
}

/// What changed since a version, and what went.
fn since(state: &State, of: Type, version: u64) -> (Vec<Bytes>, Vec<String>) {
    let (mut resources, mut removed) = (Vec::new(), BTreeSet::new());
    let served = state.of.get(&of);
    for (at, (_, name)) in state.log.range(version + 1..).filter(|(_, (one, _))| *one == of) {
        match served.and_then(|served| served.get(name)) {
            Some(one) if one.version == *at => resources.push(one.wire.clone()),
            // It came back.
            Some(_) => {}
            None => {
                removed.insert(name.clone());
            }
        }
    }
    (resources, removed.into_iter().collect())
}
