//! `run`: a new connection to every target at every tick, long-lived ones that echo, each judged
//! by what is right at its moment.
//!
//! It refuses more than [`UNDER_WAY`] connects at once (such ticks are counted as held back), and
//! ends at its limits of connections and time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control;
use crate::expect::{Expectation, REFUSED, Verdict};
use crate::report::Report;
use crate::wire;

/// Connects under way at most.
const UNDER_WAY: usize = 256;

/// What `run` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to take commands: a Unix socket that is made here
    #[arg(long)]
    control: PathBuf,
    /// A target: LABEL=ADDRESS:PORT=NAME,NAME…, the names being the right answers
    #[arg(long, required = true, value_parser = parse_target)]
    target: Vec<Target>,
    /// A new connection to every target each so many milliseconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    every_ms: u64,
    /// Long-lived connections to every target
    #[arg(long, default_value_t = 4)]
    long_lived: usize,
    /// An echo over each of them every so many milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    echo_ms: u64,
    /// New connections at most
    #[arg(long, default_value_t = 2_000_000)]
    max_connections: u64,
    /// End after so many seconds
    #[arg(long, default_value_t = 1500)]
    max_seconds: u64,
}

#[derive(Clone)]
struct Target {
    label: String,
    address: SocketAddr,
    names: String,
}

fn parse_target(text: &str) -> anyhow::Result<Target> {
    let mut parts = text.splitn(3, '=');
    let (Some(label), Some(address), Some(names)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(anyhow!("{text}: LABEL=ADDRESS:PORT=NAME,NAME… is expected"));
    };
    let address = address.parse().with_context(|| format!("address {address}"))?;
    Ok(Target { label: label.to_owned(), address, names: names.to_owned() })
}

/// Everything that the tasks of a run share.
pub(crate) struct Prober {
    began: Instant,
    expectations: RefCell<BTreeMap<String, Expectation>>,
    report: RefCell<Report>,
    stop: watch::Sender<bool>,
    tasks: RefCell<JoinSet<()>>,
}

/// Runs until told to stop or until a limit is reached.
pub(crate) async fn run(options: Options) -> anyhow::Result<Report> {
    let listener = UnixListener::bind(&options.control)
        .with_context(|| format!("listen at {}", options.control.display()))?;
    let limit = Duration::from_secs(options.max_seconds);
    let prober = Rc::new(Prober::new(&options.target));
    LocalSet::new()
        .run_until(async {
            for target in &options.target {
                prober.start(target, &options);
            }
            match timeout(limit, control::obey(&listener, &prober)).await {
                Ok(result) => result?,
                Err(_) => prober.finish().await,
            }
            Ok(prober.report.borrow().clone())
        })
        .await
}

impl Prober {
    fn new(targets: &[Target]) -> Self {
        let began = Instant::now();
        let expectations = targets
            .iter()
            .map(|target| (target.label.clone(), Expectation::new(began, &target.names)))
            .collect();
        Self {
            began,
            expectations: RefCell::new(expectations),
            report: RefCell::default(),
            stop: watch::Sender::new(false),
            tasks: RefCell::default(),
        }
    }

    /// From now on these answers of a target are right.
    pub(crate) fn expect(&self, label: &str, names: &str) -> anyhow::Result<()> {
        let mut expectations = self.expectations.borrow_mut();
        let expectation =
            expectations.get_mut(label).ok_or_else(|| anyhow!("there is no target {label}"))?;
        expectation.change(Instant::now(), names);
        Ok(())
    }

    /// The counts so far.
    pub(crate) fn report_json(&self) -> anyhow::Result<String> {
        serde_json::to_string(&*self.report.borrow()).context("write the report")
    }

    /// Starts nothing more and waits for what is under way.
    pub(crate) async fn finish(&self) {
        self.stop.send_replace(true);
        let mut tasks = self.tasks.take();
        while tasks.join_next().await.is_some() {}
    }

    fn start(self: &Rc<Self>, target: &Target, options: &Options) {
        let mut tasks = self.tasks.borrow_mut();
        let tick = Duration::from_millis(options.every_ms);
        let most = options.max_connections;
        tasks.spawn_local(Rc::clone(self).open_anew(target.clone(), tick, most));
        for _ in 0..options.long_lived {
            let tick = Duration::from_millis(options.echo_ms);
            tasks.spawn_local(Rc::clone(self).keep(target.clone(), tick));
        }
    }

    async fn open_anew(self: Rc<Self>, target: Target, tick: Duration, most: u64) {
        let mut stopped = self.stop.subscribe();
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        for _ in 0..most {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            while under_way.try_join_next().is_some() {}
            if under_way.len() < UNDER_WAY {
                under_way.spawn_local(Rc::clone(&self).once(target.clone()));
            } else {
                self.report.borrow_mut().held_back += 1;
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn once(self: Rc<Self>, target: Target) {
        let started = Instant::now();
        let answer = match wire::ask(target.address).await {
            Ok(mut answered) => {
                self.slowest(answered.connected - started);
                let echoed = wire::echo(&mut answered.stream, 1).await;
                wire::hang_up(answered.stream);
                echoed.map(|()| (answered.name, answered.connected))
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Ok((REFUSED.to_owned(), Instant::now()))
            }
            Err(error) => Err(error),
        };
        self.judge(&target, started, answer);
    }

    fn judge(&self, target: &Target, started: Instant, answer: io::Result<(String, Instant)>) {
        let expectations = self.expectations.borrow();
        let expectation = &expectations[&target.label];
        let (words, verdict) = match answer {
            Ok((name, at)) => {
                let verdict = expectation.judge(&name, started, at);
                (name, verdict)
            }
            Err(error) => (format!("error: {error}"), Verdict::Failed),
        };
        let mut report = self.report.borrow_mut();
        report.count(&target.label, &words, verdict);
        if verdict != Verdict::Right {
            let at = self.began.elapsed().as_secs_f64();
            let right = expectation.now();
            report.note(format!("{at:.3} s: {} answered {words}; right: {right}", target.label));
        }
    }

    fn slowest(&self, took: Duration) {
        let mut report = self.report.borrow_mut();
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        report.slowest_us = report.slowest_us.max(took);
    }

    /// A long-lived connection: opened once, echoing to the end.
    async fn keep(self: Rc<Self>, target: Target, tick: Duration) {
        self.report.borrow_mut().long_lived += 1;
        let started = Instant::now();
        let result = match wire::ask(target.address).await {
            Ok(mut answered) => {
                self.judge(&target, started, Ok((answered.name, answered.connected)));
                self.echo_on(&mut answered.stream, tick).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let at = self.began.elapsed().as_secs_f64();
            let mut report = self.report.borrow_mut();
            report.broken += 1;
            report.note(format!("{at:.3} s: a long-lived one to {} broke: {error}", target.label));
        }
    }

    async fn echo_on(&self, stream: &mut TcpStream, tick: Duration) -> io::Result<()> {
        let mut stopped = self.stop.subscribe();
        let mut number = 0;
        loop {
            number += 1;
            wire::echo(stream, number).await?;
            self.report.borrow_mut().echoes += 1;
            // One more echo after the stop would show nothing that this one did not.
            if timeout(tick, stopped.wait_for(|stop| *stop)).await.is_ok() {
                return Ok(());
            }
        }
    }
}

/// `names`: who answers, one line each.
pub(crate) async fn names(target: SocketAddr, count: u32, every_ms: u64) {
    for number in 0..count {
        if number > 0 && every_ms > 0 {
            tokio::time::sleep(Duration::from_millis(every_ms.min(60_000))).await;
        }
        match wire::ask(target).await {
            Ok(answered) => {
                println!("{}", answered.name);
                wire::hang_up(answered.stream);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => println!("{REFUSED}"),
            Err(error) => println!("error: {error}"),
        }
    }
}
