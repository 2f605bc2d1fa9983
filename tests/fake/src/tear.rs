//! Streams that end in the middle of a message: RST_STREAM after so many bytes, on a connection
//! that goes on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::world::World;

/// A service whose answers are torn as the world says.
#[derive(Clone, Debug)]
pub(crate) struct Tear<S> {
    pub(crate) service: S,
    pub(crate) world: World,
}

impl<S: NamedService> NamedService for Tear<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Tear<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, world) = (self.service.call(request), self.world.clone());
        Box::pin(async move {
            let torn = |body| Body::new(Torn { body, world, sent: 0, over: false });
            Ok(answer.await?.map(torn))
        })
    }
}

/// What a stream says.
struct Torn {
    body: Body,
    world: World,
    sent: usize,
    over: bool,
}

impl http_body::Body for Torn {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(Some(Err(Status::internal("as the test says"))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let most = self.world.state().faults.tear_after;
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(mut data) => {
                if most > 0 && self.sent + data.len() > most {
                    data.truncate(most.saturating_sub(self.sent));
                    self.over = true;
                }
                self.sent += data.len();
                Frame::data(data)
            }
            Err(frame) => frame,
        })))
    }
}
