//! How many elements one changed endpoint costs, and what does not fit.

use std::net::{IpAddr, Ipv4Addr};

use super::bring;
use crate::apply::{ApplyError, converge, converge_by_portions};
use crate::kernel::Tables;
use crate::layout::{BackendRecord, FrontendKey, Limits, Map};
use crate::memory::MemoryKernel;
use crate::plan::{PlanError, plan};
use crate::snapshot::{About, Snapshot};
use crate::tables::Have;
use crate::want::{Change, Endpoint, Family, Kind, Name, Service, ServiceKey, Workload};

const WORKLOADS: u8 = 200;
const PORTS: [u16; 2] = [80, 443];

fn uid(at: u8) -> Name {
    format!("cluster//Pod/ns/pod-{at}").into()
}

fn workload(at: u8, host: u8) -> (Name, Option<Workload>) {
    let v4 = Ipv4Addr::new(10, host, 0, at);
    let identity = Some("cluster.local/ns/ns/sa/default".into());
    let addresses = vec![v4.into()];
    (uid(at), Some(Workload { v4: Some(v4), addresses, identity, ..Workload::default() }))
}

fn service(port: u16, members: impl Iterator<Item = u8>) -> (ServiceKey, Option<Service>) {
    let (family, kind) = (Family::V4, Kind::Service);
    let key = ServiceKey { name: "ns/web".into(), port, family, kind };
    let endpoints = members.map(|at| Endpoint { workload: uid(at), port: 8080, family }).collect();
    let vips = vec![Ipv4Addr::new(10, 96, 0, 1).into(), Ipv4Addr::new(10, 96, 0, 2).into()];
    (key, Some(Service { vips, synced: true, endpoints, ..Service::default() }))
}

fn big() -> (MemoryKernel, Have) {
    let mut kernel = MemoryKernel::with_tables(&Limits::default());
    let mut have = Have::read_locked(&kernel).expect("read");
    let change = Change {
        services: PORTS.map(|port| service(port, 0..WORKLOADS)).to_vec(),
        workloads: (0..WORKLOADS).map(|at| workload(at, 0)).collect(),
        all_services: true,
        all_workloads: true,
        ..Change::default()
    };
    bring(&mut kernel, &mut have, &change);
    (kernel, have)
}

/// 6 + addresses + 2 for each service, port and family.
fn bound(addresses: u64) -> u64 {
    6 + addresses + 2 * PORTS.len() as u64
}

#[test]
fn one_endpoint_added_or_removed_costs_a_few_elements() {
    let (mut kernel, mut have) = big();
    let more = Change {
        services: PORTS.map(|port| service(port, 0..=WORKLOADS)).to_vec(),
        workloads: vec![workload(WORKLOADS, 0)],
        ..Change::default()
    };
    let added = bring(&mut kernel, &mut have, &more);
    assert!(added.elements <= bound(1), "{added:?}");
    // The first one, so that the last one must move into its slot.
    let less = Change {
        services: PORTS.map(|port| service(port, 1..=WORKLOADS)).to_vec(),
        workloads: vec![(uid(0), None)],
        ..Change::default()
    };
    let removed = bring(&mut kernel, &mut have, &less);
    assert!(removed.elements <= bound(1), "{removed:?}");
    assert_eq!(removed.graces, 0, "a change waits for a grace period");
}

#[test]
fn a_changed_address_costs_a_few_elements_and_is_followed_by_services_not_named() {
    let (mut kernel, mut have) = big();
    let change = Change { workloads: vec![workload(9, 1)], ..Change::default() };
    let changed = bring(&mut kernel, &mut have, &change);
    // The old address goes, the new one comes.
    assert!(changed.elements <= bound(2), "{changed:?}");
    let (key, _) = service(80, 0..1);
    assert_eq!(have.service(&key).expect("a service").endpoints.len(), usize::from(WORKLOADS));
    let index = have.backend(&uid(9)).expect("a workload");
    let mut record = BackendRecord::default();
    kernel
        .lookup(Map::Backend, &index.to_ne_bytes(), bytemuck::bytes_of_mut(&mut record))
        .expect("read");
    assert_eq!(record.word.v4(), Some(Ipv4Addr::new(10, 1, 0, 9)));
}

#[test]
fn a_workload_that_goes_is_taken_out_of_services_not_named() {
    let (mut kernel, mut have) = big();
    let change = Change { workloads: vec![(uid(9), None)], ..Change::default() };
    bring(&mut kernel, &mut have, &change);
    let (key, _) = service(443, 0..1);
    let endpoints = have.service(&key).expect("a service").endpoints;
    assert!(endpoints.iter().all(|endpoint| endpoint.workload != uid(9)));
    assert_eq!(endpoints.len(), usize::from(WORKLOADS) - 1);
}

#[test]
fn what_does_not_fit_is_told_and_nothing_is_written() {
    let limits = Limits { workloads: 20, ..Limits::default() };
    let mut kernel = MemoryKernel::with_tables(&limits);
    let mut have = Have::read_locked(&kernel).expect("read");
    let change = Change {
        workloads: (0..30).map(|at| workload(at, 0)).collect(),
        all_workloads: true,
        ..Change::default()
    };
    let error = converge(&mut kernel, &mut have, &change, &mut |_, _| {});
    let Err(ApplyError::Plan(full)) = error else { panic!("{error:?}") };
    assert_eq!(full, PlanError::Full { map: Map::Backend, needed: 30, limit: 20 });
    let text = full.to_string();
    assert!(text.contains("kmesh_backend") && text.contains("--max-workloads"), "{text}");
    let mut rest = Change { all_workloads: false, ..change };
    let error = converge_by_portions(&mut kernel, &mut have, &mut rest);
    assert!(matches!(error, Err(ApplyError::Plan(again)) if again == full), "by portions");
    assert_eq!(kernel.written(), 0);
}

#[test]
fn an_address_that_another_workload_keeps_is_refused() {
    let (_, have) = big();
    let (_, taker) = workload(3, 0);
    let change =
        Change { workloads: vec![("cluster//Pod/ns/x".into(), taker)], ..Change::default() };
    let error = plan(&have, &change).expect_err("a conflict");
    let held_by = format!("workload {}", uid(3));
    assert!(matches!(&error, PlanError::AddressTaken { held_by: by, .. } if *by == held_by));
}

#[test]
fn a_damaged_table_is_named_and_mended_by_a_complete_change() {
    let (mut kernel, have) = big();
    let wanted = Snapshot::of(&have, About::default(), None);
    let foreign = FrontendKey { kind: 9_u16.to_ne_bytes(), ..FrontendKey::default() };
    let lost = FrontendKey::service(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 9)), 80);
    let word = crate::layout::FrontendWord::new(&lost, 77);
    for (key, word) in [(foreign, word), (lost, word)] {
        let (key, value) = (bytemuck::bytes_of(&key), bytemuck::bytes_of(&word));
        kernel.update(Map::Frontend, key, value, crate::kernel::Put::Any).expect("damage");
    }
    let dead = have.backend(&uid(5)).expect("a workload");
    let record = [0_u8; size_of::<BackendRecord>()];
    kernel
        .update(Map::Backend, &dead.to_ne_bytes(), &record, crate::kernel::Put::Any)
        .expect("damage");
    let mut have = Have::read_locked(&kernel).expect("read");
    let found = crate::check::check(&have);
    for part in ["kind 9", "10.96.0.9 port 80", "backend 5, which is not in use"] {
        let told = found.iter().any(|one| format!("{} {}", one.object, one.problem).contains(part));
        assert!(told, "{part}: {found:?}");
    }
    assert!(!crate::check::compare(&have, &wanted).is_empty());
    let left = super::rest(&have, &wanted.clone().into_change());
    bring(&mut kernel, &mut have, &left);
    assert_eq!(crate::check::check(&have), []);
    assert_eq!(crate::check::compare(&have, &wanted), []);
}
