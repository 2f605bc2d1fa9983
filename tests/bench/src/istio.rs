//! A control plane feeds the daemon: a start, a restart where nothing changed, changes, a flood of
//! changes, a reconnection; up to 100,000 endpoints.
//!
//! The control plane is the fake of the suites, a process of its own. CPU is the daemon's, of all
//! its threads, in nanoseconds by the scheduler; memory is anonymous, looked at every 5 ms.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::fixture::{Daemon, Fixture};
use crate::mesh::Shape;
use crate::report::{Report, Target, median};

const ADMIN: u16 = 15_214;
const EACH: u32 = 25;
/// Single changes of each kind.
const CHANGES: usize = 40;
/// Changes a second, and for how long.
const FLOOD: (u32, Duration) = (1_000, Duration::from_mins(1));

/// Measures all of it.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    for services in [40, 400, 4_000] {
        let shape = Shape { services, endpoints: EACH };
        let fixture = Fixture::new(bin)?;
        let plane = Plane::start(&fixture)?;
        plane.tell(&json!({"many": {"services": services, "endpoints": EACH}}))?;
        let run = Run { fixture: &fixture, plane: &plane, shape, large: services == 4_000 };
        drop(run.start(report, "a first start")?);
        let daemon = run.start(report, "a restart where nothing changed")?;
        if run.large {
            thread::sleep(Duration::from_secs(15));
            let limit = Some(Target::AtMost(60.0));
            report.add("Istio, 100,000: steady RssAnon", "MB", daemon.rss_anon_mb()?, None, limit);
            run.single(report, &daemon)?;
            run.fifty(report, &daemon)?;
            run.reconnect(report, &daemon)?;
            run.flood(report, &daemon)?;
        }
    }
    Ok(())
}

struct Run<'a> {
    fixture: &'a Fixture,
    plane: &'a Plane<'a>,
    shape: Shape,
    large: bool,
}

impl Run<'_> {
    fn start(&self, report: &mut Report, what: &str) -> anyhow::Result<Daemon> {
        // Room for what changes add, and for an account for each service.
        let limits = Shape { services: self.shape.services + 400, ..self.shape }.limits();
        let mut args = vec!["--xds", &*self.plane.url];
        args.extend(limits.iter().map(String::as_str));
        let begin = Instant::now();
        let mut daemon = self.fixture.daemon_with(&args, ADMIN)?;
        let peak = Peak::watch(daemon.pid());
        daemon.wait_ready()?;
        let wall = begin.elapsed().as_secs_f64();
        let peak = peak.end();
        let name =
            |figure| format!("Istio, {} endpoints, {what}: {figure}", self.shape.workloads());
        let again = what != "a first start";
        let at_most = |limit| self.large.then_some(Target::AtMost(limit));
        report.add(name("to ready"), "s", wall, None, at_most(if again { 0.3 } else { 0.6 }));
        report.add(name("CPU"), "s", cpu(daemon.pid())?, None, None);
        let bytes = self.plane.report()?["largestResponse"].as_f64().unwrap_or_default() / 1e6;
        let limit = 60.0 + 2.0 * bytes;
        report.add(name("largest RssAnon"), "MB", peak, None, at_most(limit));
        let written = daemon.metric("kmesh_map_elements_written_total")?;
        let target = again.then_some(Target::AtMost(0.0));
        report.add(name("elements written"), "elements", written, None, target);
        Ok(daemon)
    }

    /// One endpoint added, changed, removed.
    fn single(&self, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
        for (what, ip) in [("added", Some(1)), ("changed", Some(101)), ("removed", None)] {
            let mut figures: [Vec<f64>; 2] = Default::default();
            for at in 0..CHANGES {
                let order = match ip {
                    Some(from) => json!({"set": {"workloads": [extra(at, from + at)]}}),
                    None => json!({"set": {"remove": [uid(at)]}}),
                };
                let [elements, cpu] = self.change(daemon, &order)?;
                figures[0].push(elements);
                figures[1].push(cpu * 1e3);
            }
            let name = format!("Istio, 100,000: one endpoint {what}");
            let [elements, cpu] = figures.map(median);
            report.add(format!("{name}: elements"), "elements", elements, None, None);
            report.add(format!("{name}: CPU"), "ms", cpu, None, Some(Target::AtMost(1.0)));
        }
        Ok(())
    }

    fn fifty(&self, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
        let removed: Vec<String> =
            (0..50).map(|at| format!("Kubernetes//Pod/ns-{at}/svc-{at}-0")).collect();
        let [elements, cpu] = self.change(daemon, &json!({"set": {"remove": removed}}))?;
        let name = "Istio, 100,000: fifty endpoints removed in one push";
        report.add(format!("{name}: elements"), "elements", elements, None, None);
        report.add(format!("{name}: CPU"), "ms", cpu * 1e3, None, Some(Target::AtMost(10.0)));
        Ok(())
    }

    /// What an order cost: elements written, and seconds of CPU.
    fn change(&self, daemon: &Daemon, order: &Value) -> anyhow::Result<[f64; 2]> {
        let syncs = daemon.metric("kmesh_syncs_total")?;
        let written = daemon.metric("kmesh_map_elements_written_total")?;
        let (mut spent, mut from) = (0.0, cpu(daemon.pid())?);
        self.plane.tell(order)?;
        let begin = Instant::now();
        loop {
            // Asking costs CPU, too: it is asked seldom, and that is not counted.
            thread::sleep(Duration::from_millis(200));
            spent += cpu(daemon.pid())? - from;
            if daemon.metric("kmesh_syncs_total")? > syncs {
                break;
            }
            from = cpu(daemon.pid())?;
            if begin.elapsed() > Duration::from_secs(10) {
                bail!("the change did not arrive");
            }
        }
        Ok([daemon.metric("kmesh_map_elements_written_total")? - written, spent])
    }

    fn reconnect(&self, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
        let connections = daemon.metric("kmesh_xds_connections_total")?;
        let (before, written) =
            (cpu(daemon.pid())?, daemon.metric("kmesh_map_elements_written_total")?);
        self.plane.tell(&json!("close"))?;
        let begin = Instant::now();
        while daemon.metric("kmesh_xds_connections_total")? <= connections
            || daemon.metric("kmesh_xds_connected")? < 1.0
        {
            if begin.elapsed() > Duration::from_mins(1) {
                bail!("it did not connect again");
            }
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_secs(2));
        let name = "Istio, 100,000: reconnection";
        report.add(format!("{name}: CPU"), "ms", (cpu(daemon.pid())? - before) * 1e3, None, None);
        let written = daemon.metric("kmesh_map_elements_written_total")? - written;
        let none = Some(Target::AtMost(0.0));
        report.add(format!("{name}: elements written"), "elements", written, None, none);
        Ok(())
    }

    fn flood(&self, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
        let (rate, time) = FLOOD;
        let (before, written) =
            (cpu(daemon.pid())?, daemon.metric("kmesh_map_elements_written_total")?);
        let peak = Peak::watch(daemon.pid());
        let begin = Instant::now();
        let mut sent = 0_u32;
        while begin.elapsed() < time {
            let due = begin.elapsed().as_secs_f64() * f64::from(rate);
            let mut workloads = Vec::new();
            while f64::from(sent) < due {
                workloads.push(extra((sent % 500) as usize, (1_000 + sent / 500) as usize));
                sent += 1;
            }
            if !workloads.is_empty() {
                self.plane.tell(&json!({"set": {"workloads": workloads}}))?;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let share = (cpu(daemon.pid())? - before) / begin.elapsed().as_secs_f64();
        let written = daemon.metric("kmesh_map_elements_written_total")? - written;
        let name = "Istio, 100,000: 1,000 changes a second for a minute";
        report.add(format!("{name}: changes"), "changes", f64::from(sent), None, None);
        report.add(format!("{name}: CPU"), "cores", share, None, None);
        let each = written / f64::from(sent);
        report.add(format!("{name}: elements a change"), "elements", each, None, None);
        report.add(format!("{name}: largest RssAnon"), "MB", peak.end(), None, None);
        Ok(())
    }
}

fn uid(at: usize) -> String {
    format!("Kubernetes//Pod/ns-0/extra-{at}")
}

/// One more endpoint of the first service.
fn extra(at: usize, ip: usize) -> Value {
    let ip = format!("12.{}.{}.{}", at % 200, ip / 250 % 250, ip % 250 + 1);
    json!({
        "uid": uid(at), "namespace": "ns-0", "ips": [ip], "account": "svc-0", "node": "node-1",
        "services": {"ns-0/svc-0.ns-0.svc.cluster.local": {"80": 8080}},
    })
}

/// The control plane; ended when dropped.
struct Plane<'a> {
    fixture: &'a Fixture,
    child: Child,
    url: String,
}

impl<'a> Plane<'a> {
    fn start(fixture: &'a Fixture) -> anyhow::Result<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = free.local_addr()?;
        drop(free);
        let child = fixture
            .command("kmesh-fake-istiod")
            .args(["serve", "--listen", &address.to_string()])
            .args(["--control", &fixture.path("plane.sock")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start kmesh-fake-istiod")?;
        let plane = Self { fixture, child, url: format!("http://{address}") };
        for _ in 0..500 {
            if plane.tell(&json!("report")).is_ok() {
                return Ok(plane);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the control plane did not start")
    }

    /// Says one command; answers what it said.
    fn tell(&self, command: &Value) -> anyhow::Result<Value> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(self.fixture.path("plane.sock"))?;
        writeln!(stream, "{command}")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let answer: Value = serde_json::from_str(&answer).context("the control plane's answer")?;
        anyhow::ensure!(answer.get("error").is_none(), "the control plane: {answer}");
        Ok(answer)
    }

    fn report(&self) -> anyhow::Result<Value> {
        self.tell(&json!("report"))
    }
}

impl Drop for Plane<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of CPU that all threads of a process used.
fn cpu(pid: u32) -> anyhow::Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the daemon's threads")? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or("0");
        nanoseconds += first.parse::<f64>().context("schedstat")?;
    }
    Ok(nanoseconds / 1e9)
}

/// The largest RssAnon of a process, from now on.
struct Peak {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<f64>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut most: f64 = 0.0;
            while !end.load(Ordering::Relaxed) {
                most = most.max(Daemon::rss_anon_mb_of(pid).unwrap_or_default());
                thread::sleep(Duration::from_millis(5));
            }
            most
        });
        Self { over, thread }
    }

    fn end(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}
