//! Where one message of a stream ends and the next begins.
//!
//! The reader of a stream keeps one buffer, as large as the largest message so far, for as long as
//! it lives: after a first answer of many megabytes that would be for ever. So it is told of no
//! byte beyond the end of a message; after a large one, a new reader goes on from there.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::Channel;
use tonic::{Response, Status};
use tonic_prost::ProstDecoder;

use super::proto::DeltaDiscoveryResponse;

/// A buffer of so many bytes may stay.
const LARGE: u32 = 1 << 20;
/// gRPC: whether it is compressed, and its length.
const HEADER: usize = 5;

/// What is left of a stream's bytes.
#[derive(Debug)]
struct Rest {
    body: Body,
    /// Received, and not yet handed on.
    data: Bytes,
    /// The header of this message, as far as it has come.
    header: Vec<u8>,
    /// Bytes of the message after the header that are to come.
    left: usize,
    /// A large message has begun.
    large: bool,
}

impl Rest {
    /// The next bytes: of one message, and of its header or its content.
    fn piece(&mut self) -> Bytes {
        let size = if self.left == 0 { HEADER - self.header.len() } else { self.left };
        let piece = self.data.split_to(size.min(self.data.len()));
        if self.left > 0 {
            self.left -= piece.len();
            return piece;
        }
        self.header.extend_from_slice(&piece);
        if let [_, length @ ..] = &*self.header
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            let length = u32::from_be_bytes(length);
            self.header.clear();
            self.large |= length > LARGE;
            self.left = length as usize;
        }
        piece
    }
}

/// The bytes of a stream, cut. Its clones are one.
#[derive(Clone, Debug)]
pub(super) struct Cut(Arc<Mutex<Rest>>);

impl Cut {
    fn new(body: Body) -> Self {
        let (data, header) = (Bytes::new(), Vec::with_capacity(HEADER));
        Self(Arc::new(Mutex::new(Rest { body, data, header, left: 0, large: false })))
    }

    /// Whether a message was large since this was last asked.
    fn take_large(&self) -> bool {
        let mut rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut rest.large)
    }
}

impl hyper::body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while rest.data.is_empty() {
            match ready!(Pin::new(&mut rest.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => rest.data = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(rest.piece()))))
    }
}

/// A connection whose streams are cut.
#[derive(Clone, Debug)]
pub(super) struct Cutter(pub(super) Channel);

impl Service<http::Request<Body>> for Cutter {
    type Response = http::Response<Cut>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move {
            let (mut parts, body) = response.await?.into_parts();
            let cut = Cut::new(body);
            parts.extensions.insert(cut.clone());
            Ok(http::Response::from_parts(parts, cut))
        })
    }
}

/// The messages of a stream.
pub(super) struct Messages {
    reader: Streaming<DeltaDiscoveryResponse>,
    cut: Option<Cut>,
    /// The most bytes of one.
    limit: usize,
}

impl Messages {
    /// Those of what [`Cutter`] answered.
    pub(super) fn of(response: Response<Streaming<DeltaDiscoveryResponse>>, limit: usize) -> Self {
        let cut = response.extensions().get::<Cut>().cloned();
        Self { reader: response.into_inner(), cut, limit }
    }

    /// The next one; none at the end. Nothing is lost if this is given up waiting for.
    pub(super) async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        let message = self.reader.message().await;
        if let (Ok(Some(_)), Some(cut)) = (&message, &self.cut)
            && cut.take_large()
        {
            let (decoder, status) = (ProstDecoder::default(), http::StatusCode::OK);
            let limit = Some(self.limit);
            self.reader = Streaming::new_response(decoder, cut.clone(), status, None, limit);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use prost::Message as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    /// Messages of these sizes, as they go over the wire.
    fn wire(sizes: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for size in sizes {
            let nonce = "n".repeat(*size);
            let message = DeltaDiscoveryResponse { nonce, ..Default::default() }.encode_to_vec();
            let length = u32::try_from(message.len()).expect("short");
            bytes.push(0);
            bytes.extend(length.to_be_bytes());
            bytes.extend(message);
        }
        bytes
    }

    #[tokio::test]
    async fn messages_come_whole_however_the_bytes_are_cut_and_whatever_their_size() {
        let sizes = [0, 3, LARGE as usize + 9, 0, 7, 2 * LARGE as usize, 1];
        let bytes = wire(&sizes);
        for step in [7, 1000, 16_384, bytes.len()] {
            let pieces: Vec<_> = bytes.chunks(step).map(Bytes::copy_from_slice).collect();
            let frames = tokio_stream::iter(pieces).map(|data| Ok::<_, Status>(Frame::data(data)));
            let cut = Cut::new(Body::new(StreamBody::new(frames)));
            let limit = 8 << 20;
            let status = http::StatusCode::OK;
            let reader = Streaming::new_response(
                ProstDecoder::default(),
                cut.clone(),
                status,
                None,
                Some(limit),
            );
            let mut messages = Messages { reader, cut: Some(cut), limit };
            for size in sizes {
                let message = messages.next().await.expect("good").expect("one more");
                assert_eq!(message.nonce.len(), size, "in steps of {step}");
            }
        }
    }
}
