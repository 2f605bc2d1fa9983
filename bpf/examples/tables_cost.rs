//! What the tables cost at 100,000 endpoints, on the kernel in memory: reading, planning a
//! complete change that changes nothing, one endpoint more, and the memory of the mirror.
//!
//! Run it with `cargo run --release -p kmesh-bpf --example tables_cost`.

#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::time::Instant;

use kmesh_bpf::apply::converge;
use kmesh_bpf::layout::Limits;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::plan::plan;
use kmesh_bpf::snapshot::{About, Snapshot};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{Change, Endpoint, Family, Kind, Service, ServiceKey, Workload};

const ENDPOINTS: u32 = 100_000;
const PER_SERVICE: u32 = 100;

fn workload(at: u32) -> (std::sync::Arc<str>, Option<Workload>) {
    let v4 = Ipv4Addr::from(0x0a00_0000 + at);
    let uid = format!("Kubernetes//Pod/namespace-{}/deployment-{at:08x}", at % 50);
    let identity = Some(format!("cluster.local/ns/namespace-{}/sa/default", at % 50).into());
    let workload =
        Workload { v4: Some(v4), addresses: vec![v4.into()], identity, ..Workload::default() };
    (uid.into(), Some(workload))
}

fn service(at: u32, more: u32) -> (ServiceKey, Option<Service>) {
    let name = format!("namespace-{}/service-{at}.example.svc.cluster.local", at % 50).into();
    let (family, kind) = (Family::V4, Kind::Service);
    let from = at * PER_SERVICE;
    let members = (from..from + PER_SERVICE).chain(ENDPOINTS..ENDPOINTS + more);
    let endpoints =
        members.map(|at| Endpoint { workload: workload(at).0, port: 8080, family }).collect();
    let vips = vec![Ipv4Addr::from(0x0a60_0000 + at).into()];
    let service = Service { vips, synced: true, endpoints, ..Service::default() };
    (ServiceKey { name, port: 80, family, kind }, Some(service))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

fn main() {
    let limits = Limits { workloads: 131_072, names: 262_144, ..Limits::default() };
    let mut kernel = MemoryKernel::with_tables(&limits);
    let change = Change {
        services: (0..ENDPOINTS / PER_SERVICE).map(|at| service(at, 0)).collect(),
        workloads: (0..ENDPOINTS).map(workload).collect(),
        all_services: true,
        all_workloads: true,
        ..Change::default()
    };
    let mut have = Have::read_locked(&kernel).expect("read");
    let first = timed("first write", || converge(&mut kernel, &mut have, &change, &mut |_, _| {}));
    println!("  {:?}", first.expect("write"));
    drop(have);
    let before = resident_kib();
    let mut have = timed("read and index", || Have::read_locked(&kernel).expect("read"));
    let bytes = (resident_kib() - before) * 1024 / u64::from(ENDPOINTS);
    println!("  at most {bytes} bytes per endpoint, what reading left behind included");
    let same = timed("complete plan, nothing changed", || plan(&have, &change).expect("plan"));
    assert!(same.steps.is_empty());
    let one = Change {
        services: vec![service(7, 1)],
        workloads: vec![workload(ENDPOINTS)],
        ..Change::default()
    };
    let applied = timed("one endpoint more", || {
        converge(&mut kernel, &mut have, &one, &mut |_, _| {}).expect("write")
    });
    println!("  {applied:?}");
    let gone = Change {
        services: vec![service(7, 0)],
        workloads: vec![(workload(ENDPOINTS).0, None)],
        ..Change::default()
    };
    let applied = timed("one endpoint less", || {
        converge(&mut kernel, &mut have, &gone, &mut |_, _| {}).expect("write")
    });
    println!("  {applied:?}");
    let snapshot = timed("snapshot", || Snapshot::of(&have, About::default(), None));
    let mut json = Vec::new();
    timed("write JSON", || {
        snapshot.write_json(&mut json).expect("JSON");
    });
    let read = timed("parse JSON", || Snapshot::parse(&json, "memory").expect("a snapshot"));
    assert_eq!(read, snapshot);
    println!("  {} bytes", json.len());
}
