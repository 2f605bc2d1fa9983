//! One stream, from its first request to its end: subscribe, answer each response, hand on what
//! changed.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::answer::{Memory, Taken, Type};
use super::connect::{self, Connected};
use super::cut::Messages;
use super::options::Options;
use super::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};
use super::trouble::Trouble;
use crate::model::Update;
use crate::reconcile::Served;

/// gRPC's INVALID_ARGUMENT: what a NACK says.
const INVALID: i32 = 3;
/// Answers that may wait to be sent.
const WAITING: usize = 64;

/// What happens on a stream.
pub(super) enum Event<'a> {
    /// It is connected.
    Connected,
    /// A part of a response was taken: more follows.
    Portion(Update),
    /// The rest of it was.
    Response(&'a mut Memory, Taken),
}

/// Where it will be said what the tables hold; none when it was.
pub(super) type InTables = Option<oneshot::Receiver<Served>>;

/// Runs one stream until it fails. What it says is handed to `tell`.
pub(super) async fn session(
    options: &Options,
    address: &str,
    confirmed: bool,
    (memory, in_tables): (&mut Memory, &mut InTables),
    tell: &mut (dyn FnMut(Event) + Send),
) -> Trouble {
    let connected = match connect::connect(options, address).await {
        Ok(connected) => connected,
        Err(trouble) => return trouble,
    };
    tell(Event::Connected);
    let known = memory.begin(confirmed, options.limits.versions);
    let Connected { mut client, metadata, node } = connected;
    let (answers, outbound) = channel(WAITING);
    for (request, node) in subscriptions(known).into_iter().zip([Some(node), None]) {
        // There is room, and the other end is here.
        let _ = answers.send(DeltaDiscoveryRequest { node, ..request }).await;
    }
    let mut request = Request::new(ReceiverStream::new(outbound));
    *request.metadata_mut() = metadata;
    let mut inbound = match client.delta_aggregated_resources(request).await {
        Ok(response) => Messages::of(response, options.limits.response),
        Err(status) => return Trouble::status(address, &status, false),
    };
    let mut spoke = false;
    let mut doubted: Option<Instant> = None;
    loop {
        let again = doubted.map_or_else(|| Instant::now() + FOREVER, |at| at + options.grace);
        let message = tokio::select! {
            message = inbound.next() => message,
            () = tokio::time::sleep_until(again) => {
                return Trouble::Again { address: address.to_owned() };
            }
        };
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return Trouble::Closed { address: address.to_owned() },
            Err(status) => return Trouble::status(address, &status, spoke),
        };
        spoke = true;
        if let Some(told) = in_tables.take() {
            // Where it is never told, the writer has ended: so does the process.
            memory.expect(told.await.unwrap_or_default());
        }
        if let Err(trouble) = take(memory, response, &answers, address, tell).await {
            return trouble;
        }
        doubted = memory.held_back().map(|_| doubted.unwrap_or_else(Instant::now));
    }
}

/// Longer than any stream lives.
const FOREVER: Duration = Duration::from_hours(24 * 365);

fn subscriptions(known: [HashMap<String, String>; 2]) -> [DeltaDiscoveryRequest; 2] {
    let [addresses, policies] = known;
    let subscribe = |of: Type, known| DeltaDiscoveryRequest {
        type_url: of.url().to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        initial_resource_versions: known,
        ..DeltaDiscoveryRequest::default()
    };
    [subscribe(Type::Address, addresses), subscribe(Type::Policy, policies)]
}

/// Takes one response and answers it.
async fn take(
    memory: &mut Memory,
    response: DeltaDiscoveryResponse,
    answers: &Sender<DeltaDiscoveryRequest>,
    address: &str,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), Trouble> {
    let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
    let taken = memory.take_in_portions(response, &mut |portion| tell(Event::Portion(portion)));
    let error_detail = taken.nack.clone().map(|message| Status { code: INVALID, message });
    tell(Event::Response(memory, taken));
    let answer = DeltaDiscoveryRequest {
        type_url,
        response_nonce: nonce,
        error_detail,
        ..DeltaDiscoveryRequest::default()
    };
    let sent = answers.send(answer).await;
    sent.map_err(|_| Trouble::Closed { address: address.to_owned() })
}
