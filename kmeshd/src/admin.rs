//! The admin address: `/healthz/ready`, `/healthz/live`, `/metrics`, and `POST /hold` for readers
//! that want the tables to stand still for a moment.
//!
//! It changes nothing in the kernel, and refuses everything else with 404.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tracing::debug;

use crate::metrics;
use crate::readiness::Readiness;
use crate::reconcile::Order;
use crate::status::Status;

/// So many requests are served at a time; the rest waits.
const CONNECTIONS: usize = 32;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the writer may take to answer; then what is known is told.
const WRITER: Duration = Duration::from_millis(500);
/// How long writes are held unless the request says.
const HOLD: Duration = Duration::from_secs(2);
/// The text format of Prometheus.
const METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What the admin address tells of.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Whether the daemon is ready, and why not.
    pub readiness: Readiness,
    /// What it knows of itself.
    pub status: Arc<Status>,
    /// The writer.
    pub orders: Sender<Order>,
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let _place = place;
            let answer = service_fn(|request| answer(admin.clone(), request));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                debug!(%error, "admin connection");
            }
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(admin: Admin, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let head = request.method() == Method::HEAD;
    let get = head || request.method() == Method::GET;
    Ok(match request.uri().path() {
        "/healthz/ready" if get => admin.ready(),
        "/healthz/live" if get => admin.live(),
        "/metrics" if get => admin.metrics().await,
        "/hold" if request.method() == Method::POST => admin.hold(request.uri().query()).await,
        _ => say(
            StatusCode::NOT_FOUND,
            "here: /healthz/ready /healthz/live /metrics, and POST /hold?ms=N\n".to_owned(),
        ),
    })
}

fn say(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer
}

impl Admin {
    fn ready(&self) -> Answer {
        let pending = self.readiness.pending();
        if !pending.is_empty() {
            let text = format!("not ready\n{}\n", pending.join("\n"));
            return say(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let refused = self.status.facts().refused.clone();
        let more = refused.map(|why| format!("the last good state is in force: {why}\n"));
        say(StatusCode::OK, format!("ready\n{}", more.unwrap_or_default()))
    }

    fn live(&self) -> Answer {
        if self.status.is_alive() {
            say(StatusCode::OK, "live\n".to_owned())
        } else {
            say(StatusCode::SERVICE_UNAVAILABLE, "the writer has not moved for 30 s\n".to_owned())
        }
    }

    async fn metrics(&self) -> Answer {
        self.observe().await;
        let facts = self.status.facts().clone();
        match metrics::text(facts, self.readiness.pending().is_empty()) {
            Ok(text) => {
                let mut answer = say(StatusCode::OK, text);
                answer.headers_mut().insert(CONTENT_TYPE, METRICS);
                answer
            }
            Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Lets the writer bring the facts up to date; if it is busy, what is known must do.
    async fn observe(&self) {
        let (done, seen) = oneshot::channel();
        if self.orders.send(Order::Observe(done)).is_ok() {
            let _ = tokio::time::timeout(WRITER, seen).await;
        }
    }

    async fn hold(&self, query: Option<&str>) -> Answer {
        let asked = query.and_then(|query| query.strip_prefix("ms="));
        let time = match asked.map(str::parse) {
            None => HOLD,
            Some(Ok(ms)) => Duration::from_millis(ms),
            Some(Err(_)) => {
                return say(StatusCode::BAD_REQUEST, "ms=N, a number of milliseconds\n".to_owned());
            }
        };
        let (done, held) = oneshot::channel();
        let asked = self.orders.send(Order::Hold(time, done)).is_ok();
        if asked && matches!(tokio::time::timeout(HOLD, held).await, Ok(Ok(()))) {
            say(StatusCode::OK, "held\n".to_owned())
        } else {
            say(StatusCode::SERVICE_UNAVAILABLE, "the writer is busy\n".to_owned())
        }
    }
}

/// Takes the admin address.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
