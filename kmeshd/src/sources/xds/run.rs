//! The source's thread: one stream after the other, for ever. What it learns goes to the writer;
//! how it fares, to the daemon's status.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::answer::Memory;
use super::connect::is_tls;
use super::held::Kind;
use super::options::Options;
use super::session::{Event, InTables, session};
use super::trouble::Trouble;
use crate::readiness::Token;
use crate::reconcile::{Order, Served};
use crate::status::{Status, XdsFacts};

/// Where what is learned goes.
pub struct Ends {
    /// What the tables hold that a control plane may have served: known when they are read and the
    /// mesh file has spoken, and needed for the first answer only.
    pub in_tables: oneshot::Receiver<Served>,
    /// The writer.
    pub orders: Sender<Order>,
    /// The daemon's facts.
    pub status: Arc<Status>,
    /// Holds readiness back until the first complete answer.
    pub token: Token,
}

/// The thread's work; never ends.
pub async fn run(options: Options, ends: Ends) {
    let memory = Memory::new(options.accept_empty, Served::default());
    let Ends { in_tables, orders, status, token } = ends;
    let mut source = Source { options, orders, status, token: Some(token), last: String::new() };
    source.run(memory, Some(in_tables)).await;
}

struct Source {
    options: Options,
    orders: Sender<Order>,
    status: Arc<Status>,
    /// Until the first complete answer.
    token: Option<Token>,
    /// What was last said of a failure: a repetition is not worth a line.
    last: String,
}

impl Source {
    async fn run(&mut self, mut memory: Memory, mut in_tables: InTables) {
        let (first, longest) = self.options.limits.backoff;
        let mut wait = first;
        let mut confirmed = false;
        for attempt in 0.. {
            let address = &self.options.addresses[attempt % self.options.addresses.len()].clone();
            let mut spoke = false;
            let options = self.options.clone();
            let mut hear = |event: Event| {
                spoke |= matches!(event, Event::Response(..));
                self.hear(address, event);
            };
            let what = (&mut memory, &mut in_tables);
            let trouble = session(&options, address, confirmed, what, &mut hear).await;
            confirmed = matches!(trouble, Trouble::Again { .. }) || (confirmed && !spoke);
            self.ended(&trouble, &memory);
            if spoke {
                wait = first;
            }
            if !matches!(trouble, Trouble::Again { .. }) {
                tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                wait = (wait * 2).min(longest);
            }
        }
    }

    fn hear(&mut self, address: &str, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected => {
                // While it fails again and again, only the first time is worth a line.
                if self.last.is_empty() {
                    info!(address, tls = is_tls(address), "connected to the control plane");
                } else {
                    debug!(address, "connected to the control plane");
                }
                self.with(|xds| {
                    xds.address = Some(address.to_owned());
                    xds.connected_at = Some(now);
                    xds.connects += 1;
                    xds.trouble = None;
                });
                self.because("connected; it has not answered yet");
            }
            Event::Portion(update) => {
                // The writer has ended: so does the process.
                let _ = self.orders.send(Order::Portion(Box::new(update)));
            }
            Event::Response(memory, taken) => {
                if !std::mem::take(&mut self.last).is_empty() {
                    info!(address, "the control plane answers again");
                }
                let nacked = taken.nack.is_some();
                if let Some(why) = &taken.nack {
                    warn!("refused of {address}: {why}; what was in force of it stays");
                }
                self.with(|xds| {
                    xds.last_response = Some(now);
                    xds.responses += 1;
                    xds.nacks += u64::from(nacked);
                    if !taken.version.is_empty() {
                        xds.version.clone_from(&taken.version);
                    }
                });
                self.note(memory);
                let complete = memory.is_complete();
                let order = Order::Update { update: Box::new(taken.update), complete };
                // The writer has ended: so does the process.
                let _ = self.orders.send(order);
                if complete {
                    self.token = None;
                }
            }
        }
    }

    /// Brings the facts in line with what is held.
    fn note(&mut self, memory: &Memory) {
        let held_back = memory.held_back();
        let refused = memory.refused.iter();
        let refused: Vec<_> =
            refused.map(|(name, (why, since))| (name.clone(), why.clone(), *since)).collect();
        let mut news = None;
        self.with(|xds| {
            xds.workloads = memory.count(Kind::Workload);
            xds.services = memory.count(Kind::Service);
            xds.policies = memory.count(Kind::Policy);
            xds.refusals = memory.refusals;
            xds.refused = refused;
            xds.complete = memory.is_complete();
            if held_back.is_some() && xds.held_back.is_none() {
                news.clone_from(&held_back);
            }
            xds.held_back.clone_from(&held_back);
        });
        if let Some(news) = news {
            warn!("held back: {news}; asking again in {} s", self.options.grace.as_secs());
        }
        let why = match held_back {
            Some(why) => why,
            None => format!("no answer yet for {}", memory.unanswered().join(" and ")),
        };
        self.because(&why);
    }

    fn ended(&mut self, trouble: &Trouble, memory: &Memory) {
        let said = crate::chain(trouble);
        self.with(|xds| {
            xds.connected_at = None;
            if xds.held_back.is_none() || !matches!(trouble, Trouble::Again { .. }) {
                xds.trouble = Some(said.clone());
            }
        });
        if memory.held_back().is_none() {
            self.because(&said);
        }
        if said != self.last {
            if matches!(trouble, Trouble::Closed { .. } | Trouble::Again { .. }) {
                info!("{said}");
            } else {
                error!("{said}; what is in force stays. Trying again");
            }
            self.last = said;
        }
        if !memory.is_complete() {
            // The writer has ended: so does the process.
            let _ = self.orders.send(Order::Away);
        }
    }

    fn because(&self, why: &str) {
        if let Some(token) = &self.token {
            token.because(why);
        }
    }

    fn with(&self, change: impl FnOnce(&mut XdsFacts)) {
        change(&mut self.status.facts().xds);
    }
}
