//! One endpoint added, changed, removed among 100,000: elements written and CPU time.
//!
//! In process, through the same `plan` and `apply` that the daemon calls, against maps of
//! its own on the real kernel. CPU time is the calling thread's, user and system.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context as _;
use kmesh_bpf::apply::{Applied, converge};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::Limits;
use kmesh_bpf::pins::{Root, adopt_maps};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{Change, Endpoint, Family, Kind, Name, Service, ServiceKey, Workload};
use rustix::time::{ClockId, clock_gettime};

use crate::fixture::Fixture;
use crate::mesh::workload as address;
use crate::report::{Report, Target, median};
use crate::worker::vip;

const SERVICES: u32 = 4_000;
/// Endpoints of each service.
pub const EACH: u32 = 25;
const CHANGES: u32 = 200;

/// Measures the three.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    let fixture = Fixture::new(bin)?;
    let mut kernel = Linux::new();
    let limits = Limits { workloads: 131_072, names: 196_608, ..Limits::default() };
    let root = Root::new(fixture.root());
    adopt_maps(&mut kernel, &root, &limits).context("make the maps")?;
    let mut have = Have::read(&kernel).context("read the maps")?;
    let mut world = World { kernel: &mut kernel, have: &mut have };
    world.apply(&everything(SERVICES))?;
    for (name, bound, change) in [
        ("added", 6 + 1 + 2, added as fn(u32) -> Change),
        ("changed (address)", 6 + 2 + 2, changed),
        ("removed", 6 + 1 + 2, removed),
    ] {
        let mut elements = 0;
        let mut cpu = Vec::new();
        for i in 0..CHANGES {
            let (applied, ms) = world.apply(&change(i))?;
            elements = elements.max(applied.elements);
            cpu.push(ms);
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of elements")]
        let elements = elements as f64;
        let target = Some(Target::AtMost(f64::from(bound)));
        let label = format!("one endpoint {name} of 100,000: elements");
        report.add(label, "elements", elements, None, target);
        let label = format!("one endpoint {name} of 100,000: CPU");
        report.add(label, "ms", median(cpu), None, Some(Target::AtMost(1.0)));
    }
    Ok(())
}

struct World<'a> {
    kernel: &'a mut Linux,
    have: &'a mut Have,
}

impl World<'_> {
    /// Applies a change; answers what it wrote and the CPU time in ms.
    fn apply(&mut self, change: &Change) -> anyhow::Result<(Applied, f64)> {
        let before = cpu_ms();
        let applied = converge(self.kernel, self.have, change, &mut |_, _| {})?;
        Ok((applied, cpu_ms() - before))
    }
}

#[expect(clippy::cast_precision_loss, reason = "CPU time of minutes fits")]
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn uid(i: u32) -> Name {
    format!("Kubernetes//Pod/bench/w{i}").into()
}

fn key(service: u32) -> ServiceKey {
    ServiceKey {
        name: format!("bench/s{service}.bench.svc.cluster.local").into(),
        port: 80,
        family: Family::V4,
        kind: Kind::Service,
    }
}

fn pod(address: Ipv4Addr) -> Workload {
    Workload {
        v4: Some(address),
        addresses: vec![IpAddr::V4(address)],
        identity: Some("cluster.local/ns/bench/sa/default".into()),
        ..Workload::default()
    }
}

fn service(index: u32, workloads: impl Iterator<Item = u32>) -> Service {
    Service {
        vips: vec![IpAddr::V4(vip(index))],
        synced: true,
        endpoints: workloads
            .map(|i| Endpoint { workload: uid(i), port: 8080, family: Family::V4 })
            .collect(),
        ..Service::default()
    }
}

fn own(index: u32) -> std::ops::Range<u32> {
    index * EACH..(index + 1) * EACH
}

/// A complete change of so many services, each with [`EACH`] workloads of its own.
pub fn everything(services: u32) -> Change {
    Change {
        services: (0..services).map(|s| (key(s), Some(service(s, own(s))))).collect(),
        workloads: (0..services * EACH).map(|i| (uid(i), Some(pod(address(i))))).collect(),
        all_services: true,
        all_workloads: true,
        ..Change::default()
    }
}

/// The extra workload of service `i`.
fn extra(i: u32) -> u32 {
    SERVICES * EACH + i
}

fn added(i: u32) -> Change {
    one(i, Some(pod(address(extra(i)))), service(i, own(i).chain([extra(i)])))
}

fn changed(i: u32) -> Change {
    one(i, Some(pod(address(extra(i) + 10_000))), service(i, own(i).chain([extra(i)])))
}

fn removed(i: u32) -> Change {
    one(i, None, service(i, own(i)))
}

fn one(i: u32, workload: Option<Workload>, service: Service) -> Change {
    Change {
        services: vec![(key(i), Some(service))],
        workloads: vec![(uid(extra(i)), workload)],
        ..Change::default()
    }
}
