//! Policies in force: what they cost a pod's traffic and its new connections under a storm of
//! denied ones, and how soon a changed policy holds.
//!
//! One daemon, one pod whose policies come and go with the mesh file, so that both sides of a ratio
//! are the same pod. Its client has two addresses: one is allowed by the tenth of ten rules, the
//! other by none. The storm is bounded in time, threads and connections a second.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::fixture::{Fixture, run};
use crate::report::{Report, Target, median};
use crate::worker;

/// Pairs of rounds: many short ones of throughput, since other work on the machine comes in bursts.
const STREAMS: usize = 31;
const STORMS: usize = 9;
const FLIPS: usize = 11;
/// The pod, as the allowed client dials it.
const ALLOWED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 2), 7300);
/// The pod, as the denied client dials it: by this address, its route has another source.
const DENIED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 1, 2), 7300);
/// The same, where nothing listens.
const CLOSED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 1, 2), 7301);
/// Connections a second of the storm.
const STORM: &str = "20000";
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures all of it.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    let mut fixture = Fixture::new(bin)?;
    let client = fixture.netns("client")?;
    let pod = fixture.netns("pod")?;
    Fixture::join(&client, &pod)?;
    let (plain, denied) = (DENIED.ip().to_string(), "10.9.0.3");
    run("ip", &["-n", &pod, "addr", "add", &plain, "dev", "eth0"])?;
    run("ip", &["-n", &client, "addr", "add", denied, "dev", "eth0"])?;
    run("ip", &["-n", &client, "route", "add", &plain, "dev", "eth0", "src", denied])?;
    let place = Place { fixture: &fixture, client: &client, pod: &pod };
    place.write(false)?.publish()?;
    let mut daemon = fixture.daemon(&fixture.path("mesh.json"), 15_215, &[])?;
    daemon.wait_ready()?;
    throughput(report, &place)?;
    storm(report, &place)?;
    times(report, &place)
}

/// One connection into the pod, with and without policies: large writes and small ones.
fn throughput(report: &mut Report, place: &Place<'_>) -> anyhow::Result<()> {
    let _sink = place.serve("sink")?;
    for (what, size) in [("64 KiB writes", "65536"), ("64 byte writes", "64")] {
        let to = ALLOWED.to_string();
        let work = ["stream", "--to", &to, "--seconds", "0.3", "--size", size];
        let [with, without, ratio] = place.pairs(STREAMS, |_| place.worker(&work))?;
        let name = format!("into a pod with 10 rules, {what}");
        report.add(name.clone(), "MB/s", with, Some(without), None);
        let target = Some(Target::AtLeast(0.98));
        report.add(format!("{name}: median of pairs"), "×", ratio, None, target);
    }
    Ok(())
}

/// Connections that the pod accepts in a second, while others are refused.
fn storm(report: &mut Report, place: &Place<'_>) -> anyhow::Result<()> {
    let _server = place.serve("accept")?;
    let mut refused = [Vec::new(), Vec::new()];
    let [with, without, ratio] = place.pairs(STORMS, |policies| {
        let to = if policies { DENIED } else { CLOSED }.to_string();
        let storm = place.start(&[
            "knock",
            "--to",
            &to,
            "--seconds",
            "2",
            "--threads",
            "2",
            "--rate",
            STORM,
            "--refused",
        ])?;
        thread::sleep(Duration::from_millis(250));
        let to = ALLOWED.to_string();
        let rate = place.worker(&["knock", "--to", &to, "--seconds", "1.5", "--threads", "2"])?;
        refused[usize::from(!policies)].push(storm.figure()?);
        Ok(rate)
    })?;
    let name = "accepted under a storm of denied clients, 10 rules";
    report.add(name, "1/s", with, Some(without), None);
    report.add(format!("{name}: median of pairs"), "×", ratio, None, None);
    let [denied, closed] = refused.map(median);
    report.add("the storm: refused by policy, by a closed port", "1/s", denied, Some(closed), None);
    Ok(())
}

/// From the new mesh file to the first refused connection and to the end of a live one.
fn times(report: &mut Report, place: &Place<'_>) -> anyhow::Result<()> {
    let _sink = place.serve("sink")?;
    let mut figures: [Vec<f64>; 2] = Default::default();
    for _ in 0..FLIPS {
        place.policies(false)?;
        thread::sleep(Duration::from_millis(300));
        let [refused, ended] = place.inside(|| place.flip())?;
        figures[0].push(refused);
        figures[1].push(ended);
    }
    let [refused, ended] = figures.map(median);
    report.add("policy file to the first refused connection", "ms", refused, None, None);
    report.add("policy file to the end of a live connection", "ms", ended, None, None);
    Ok(())
}

struct Place<'a> {
    fixture: &'a Fixture,
    client: &'a str,
    pod: &'a str,
}

/// A mesh file that is written, but not yet where the daemon reads it.
struct Aside(String, String);

impl Aside {
    fn publish(self) -> anyhow::Result<()> {
        fs::rename(&self.0, &self.1).with_context(|| format!("rename {} to {}", self.0, self.1))
    }
}

impl Place<'_> {
    /// Medians with and without policies and of the ratios, in rounds whose order alternates.
    fn pairs(
        &self,
        rounds: usize,
        mut figure: impl FnMut(bool) -> anyhow::Result<f64>,
    ) -> anyhow::Result<[f64; 3]> {
        let mut all: [Vec<f64>; 3] = Default::default();
        for round in 0..rounds {
            let mut pair = [0.0; 2];
            for policies in [round % 2 == 0, round % 2 == 1] {
                self.policies(policies)?;
                pair[usize::from(!policies)] = figure(policies)?;
            }
            all[0].push(pair[0]);
            all[1].push(pair[1]);
            all[2].push(pair[0] / pair[1]);
        }
        Ok(all.map(median))
    }

    /// Writes the mesh, with or without policies.
    fn write(&self, policies: bool) -> anyhow::Result<Aside> {
        let aside = Aside(self.fixture.path("mesh.new"), self.fixture.path("mesh.json"));
        let mut pod = workload("pod", "pod", "10.9.0.2");
        pod["netns"] = json!(self.pod);
        let policies: Vec<Value> = policies.then(ten_rules).into_iter().collect();
        let mesh = json!({
            "workloads": [
                workload("allowed", &account(9), "10.9.0.1"),
                workload("denied", "stranger", "10.9.0.3"),
                pod,
            ],
            "policies": policies,
        });
        fs::write(&aside.0, mesh.to_string()).with_context(|| format!("write {}", aside.0))?;
        Ok(aside)
    }

    /// Makes policies come or go; they are in force when this returns.
    fn policies(&self, wanted: bool) -> anyhow::Result<()> {
        self.write(wanted)?.publish()?;
        self.inside(|| until("the policies take hold", || Ok(refused(DENIED)? == wanted)))
    }

    /// A change to denying; ms to the first refused connection, and to the end of a live one.
    fn flip(&self) -> anyhow::Result<[f64; 2]> {
        let mut held = TcpStream::connect(DENIED).context("dial before the change")?;
        held.set_read_timeout(Some(PATIENCE))?;
        thread::sleep(Duration::from_millis(20));
        let aside = self.write(true)?;
        let begin = Instant::now();
        let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
        thread::scope(|scope| {
            let end = scope.spawn(move || match held.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(ms(begin)),
                other => bail!("the live connection was not reset: {other:?}"),
            });
            aside.publish()?;
            until("a connection is refused", || refused(DENIED))?;
            let first = ms(begin);
            match end.join() {
                Ok(ended) => Ok([first, ended?]),
                Err(_) => bail!("the reader of the live connection ended early"),
            }
        })
    }

    /// Does it in the client's network namespace, on a thread of its own.
    fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let there = || worker::enter(self.client).and_then(|()| work());
        match thread::scope(|scope| scope.spawn(there).join()) {
            Ok(done) => done,
            Err(_) => bail!("a thread of the client panicked"),
        }
    }

    /// Starts the pod's server and waits until the allowed client reaches it.
    fn serve(&self, what: &str) -> anyhow::Result<Running> {
        let mut command = self.fixture.command("kmesh-bench");
        command.args(["worker", "--cgroup"]).arg(self.fixture.cgroup());
        command.args(["--netns", self.pod, what, "--at", "0.0.0.0:7300", "--seconds", "300"]);
        let child = command.stdout(Stdio::null()).spawn().context("start the server")?;
        let server = Running(child);
        self.inside(|| until("the server listens", || Ok(!refused(ALLOWED)?)))?;
        Ok(server)
    }

    fn start(&self, work: &[&str]) -> anyhow::Result<Running> {
        let mut command = self.fixture.command("kmesh-bench");
        command.args(["worker", "--netns", self.client]).args(work).stdout(Stdio::piped());
        Ok(Running(command.spawn().context("start a client")?))
    }

    fn worker(&self, work: &[&str]) -> anyhow::Result<f64> {
        self.start(work)?.figure()
    }
}

/// A worker; killed and reaped when dropped.
struct Running(Child);

impl Running {
    /// What it prints when it is done.
    fn figure(mut self) -> anyhow::Result<f64> {
        let mut text = String::new();
        let mut output = self.0.stdout.take().context("the client's output")?;
        output.read_to_string(&mut text).context("read the client's figure")?;
        let status = self.0.wait().context("wait for the client")?;
        anyhow::ensure!(status.success(), "a client failed ({status}); it says above why");
        text.trim().parse().with_context(|| format!("the client's figure: {text}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a new connection is refused.
fn refused(to: SocketAddrV4) -> anyhow::Result<bool> {
    match TcpStream::connect_timeout(&to.into(), PATIENCE) {
        Ok(connection) => {
            rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO))?;
            Ok(false)
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error).with_context(|| format!("connect to {to}")),
    }
}

fn until(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !holds()? {
        anyhow::ensure!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn account(rule: usize) -> String {
    format!("account-{rule}")
}

fn workload(name: &str, account: &str, address: &str) -> Value {
    json!({
        "uid": format!("Kubernetes//Pod/bench/{name}"), "name": name, "namespace": "bench",
        "serviceAccount": account, "workloadIps": [address], "services": {},
    })
}

/// A policy of ten rules as people write them: an account, some ports.
fn ten_rules() -> Value {
    let rule = |at| {
        let from = format!("cluster.local/ns/bench/sa/{}", account(at));
        json!([[{"principals": [{"Exact": from}]}], [{"destinationPorts": [7300, 9000 + at]}]])
    };
    let rules: Vec<Value> = (0..10).map(rule).collect();
    json!({
        "name": "allow", "namespace": "bench", "scope": "Namespace", "action": "Allow",
        "rules": rules,
    })
}
