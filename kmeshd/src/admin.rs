//! The admin address: `/healthz/ready`, `/healthz/live` and `/metrics`.
//!
//! It changes nothing, and refuses everything else with 404: what only the machine's root may ask
//! is asked at the control socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::http::{Answer, Door, say};
use crate::metrics;
use crate::readiness::Readiness;
use crate::reconcile::Order;
use crate::status::Status;

/// How long the writer may take to answer; then what is known is told.
const WRITER: Duration = Duration::from_millis(500);
/// The text format of Prometheus.
const METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

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

impl Door for Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let get = matches!(*request.method(), Method::HEAD | Method::GET);
        match request.uri().path() {
            "/healthz/ready" if get => self.ready(),
            "/healthz/live" if get => self.live(),
            "/metrics" if get => self.metrics().await,
            _ => say(
                StatusCode::NOT_FOUND,
                "here: /healthz/ready /healthz/live /metrics; more at the control socket\n"
                    .to_owned(),
            ),
        }
    }
}

impl Admin {
    fn ready(&self) -> Answer {
        let pending = self.readiness.pending();
        if !pending.is_empty() {
            let text = format!("not ready\n{}\n", pending.join("\n"));
            return say(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let facts = self.status.facts();
        let refused = facts.refused.iter();
        let mut text = "ready\n".to_owned();
        text.extend(refused.map(|why| format!("the last good state is in force: {why}\n")));
        // The pods of these have their old policies, or let nobody in: that is no reason to start
        // the daemon anew, or to take the node away.
        text.extend(facts.policies_refused.iter().map(|why| format!("{why}\n")));
        drop(facts);
        say(StatusCode::OK, text)
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
    pub(crate) async fn observe(&self) {
        let (done, seen) = oneshot::channel();
        if self.orders.send(Order::Observe(done)).is_ok() {
            let _ = tokio::time::timeout(WRITER, seen).await;
        }
    }
}

/// Takes the admin address.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
