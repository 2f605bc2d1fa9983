//! The world that is changed at random: a few services with VIPs and endpoints in both families,
//! a few workloads with addresses from a pool. Small, so that everything is reused at once.
//!
//! The pool's addresses, 10.77.1.N and fd77::1:N, answer at [`PORT`]; the VIPs are 10.96.1.N and
//! fd96::1:N, port [`SERVICE_PORT`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kmesh_bpf::want::{Change, Endpoint, Family, Kind, Name, Service, ServiceKey, Workload};

use crate::truth::{Answer, Answers};

/// Where endpoints listen.
pub(crate) const PORT: u16 = 8080;
/// Where services are dialled.
pub(crate) const SERVICE_PORT: u16 = 80;

const SERVICES: u8 = 6;
const WORKLOADS: u8 = 10;
const POOL: u8 = 24;
const VIPS: u8 = 8;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A service of one family; `None` in the list: it is not there.
#[derive(Clone, Default)]
struct Entry {
    vips: BTreeSet<u8>,
    endpoints: BTreeSet<u8>,
}

/// The world.
pub(crate) struct World {
    random: fastrand::Rng,
    /// By family, by number.
    services: [Vec<Option<Entry>>; 2],
    /// Workload → number of its address in the pool.
    addresses: Vec<u8>,
    /// Services and workloads that the next change names.
    touched: BTreeSet<(usize, u8)>,
    moved: BTreeSet<u8>,
}

impl World {
    /// Services with one VIP and two endpoints each.
    pub(crate) fn new(seed: u64) -> Self {
        let entry = |number: u8| Entry {
            vips: BTreeSet::from([number]),
            endpoints: BTreeSet::from([number % WORKLOADS, (number + 1) % WORKLOADS]),
        };
        let services: Vec<_> = (0..SERVICES).map(|number| Some(entry(number))).collect();
        Self {
            random: fastrand::Rng::with_seed(seed),
            services: [services.clone(), services],
            addresses: (0..WORKLOADS).collect(),
            touched: BTreeSet::new(),
            moved: BTreeSet::new(),
        }
    }

    /// Everything, as a change that removes what else there is of services; other workloads stay.
    pub(crate) fn whole(&mut self) -> Change {
        self.touched = (0..2).flat_map(|f| (0..SERVICES).map(move |s| (f, s))).collect();
        self.moved = (0..WORKLOADS).collect();
        Change { all_services: true, ..self.take() }
    }

    /// One to three random changes in one.
    pub(crate) fn change(&mut self) -> Change {
        for _ in 0..self.random.u8(1..=3) {
            let family = self.random.usize(0..2);
            match self.random.u8(0..8) {
                0..=3 => self.toggle_endpoint(family),
                4..=5 => self.move_vip(family),
                6 => self.toggle_service(family),
                _ => self.move_workload(),
            }
        }
        self.take()
    }

    fn toggle_endpoint(&mut self, family: usize) {
        let (number, workload) = (self.random.u8(0..SERVICES), self.random.u8(0..WORKLOADS));
        if let Some(entry) = &mut self.services[family][usize::from(number)] {
            if !entry.endpoints.remove(&workload) {
                entry.endpoints.insert(workload);
            }
            self.touched.insert((family, number));
        }
    }

    fn move_vip(&mut self, family: usize) {
        let (vip, to) = (self.random.u8(0..VIPS), self.random.u8(0..SERVICES));
        for (number, service) in (0..).zip(&mut self.services[family]) {
            let Some(entry) = service else { continue };
            let changed =
                if number == to { entry.vips.insert(vip) } else { entry.vips.remove(&vip) };
            if changed {
                self.touched.insert((family, number));
            }
        }
    }

    fn toggle_service(&mut self, family: usize) {
        let number = self.random.u8(0..SERVICES);
        let service = &mut self.services[family][usize::from(number)];
        *service = match service {
            Some(_) => None,
            None => Some(Entry {
                endpoints: BTreeSet::from([self.random.u8(0..WORKLOADS)]),
                ..Entry::default()
            }),
        };
        self.touched.insert((family, number));
    }

    fn move_workload(&mut self) {
        let workload = self.random.u8(0..WORKLOADS);
        let to = self.random.u8(0..POOL);
        if !self.addresses.contains(&to) {
            self.addresses[usize::from(workload)] = to;
            self.moved.insert(workload);
        }
    }

    /// The change that brings the tables from where they were to here.
    fn take(&mut self) -> Change {
        let services = std::mem::take(&mut self.touched)
            .into_iter()
            .map(|(family, number)| (key(family, number), self.service(family, number)))
            .collect();
        let workloads = std::mem::take(&mut self.moved)
            .into_iter()
            .map(|number| (uid(number), Some(self.workload(number))))
            .collect();
        Change { services, workloads, ..Change::default() }
    }

    fn service(&self, family: usize, number: u8) -> Option<Service> {
        let entry = self.services[family][usize::from(number)].as_ref()?;
        let endpoint = |workload: &u8| Endpoint {
            workload: uid(*workload),
            port: PORT,
            family: FAMILIES[family],
        };
        Some(Service {
            vips: entry.vips.iter().map(|vip| vip_address(family, *vip)).collect(),
            synced: true,
            endpoints: entry.endpoints.iter().map(endpoint).collect(),
            ..Service::default()
        })
    }

    fn workload(&self, number: u8) -> Workload {
        let address = self.addresses[usize::from(number)];
        Workload {
            v4: Some(pool_v4(address)),
            v6: Some(pool_v6(address)),
            addresses: vec![pool_v4(address).into(), pool_v6(address).into()],
            ..Workload::default()
        }
    }

    /// The right answers of every VIP.
    pub(crate) fn answers(&self) -> Answers {
        let mut answers = Answers::new();
        for family in 0..2 {
            for vip in 0..VIPS {
                let address = SocketAddr::new(vip_address(family, vip), SERVICE_PORT);
                answers.insert(address, self.answers_of(family, vip));
            }
        }
        answers
    }

    fn answers_of(&self, family: usize, vip: u8) -> BTreeSet<Answer> {
        let owner = self.services[family].iter().flatten().find(|entry| entry.vips.contains(&vip));
        let Some(entry) = owner else {
            return BTreeSet::from([Answer::Unchanged]);
        };
        if entry.endpoints.is_empty() {
            return BTreeSet::from([Answer::Refused]);
        }
        entry.endpoints.iter().map(|workload| self.endpoint(family, *workload)).collect()
    }

    fn endpoint(&self, family: usize, workload: u8) -> Answer {
        let address = self.addresses[usize::from(workload)];
        let ip: IpAddr =
            if family == 0 { pool_v4(address).into() } else { pool_v6(address).into() };
        Answer::Endpoint(SocketAddr::new(ip, PORT))
    }
}

fn key(family: usize, number: u8) -> ServiceKey {
    ServiceKey {
        name: format!("torture/service-{number}").into(),
        port: SERVICE_PORT,
        family: FAMILIES[family],
        kind: Kind::Service,
    }
}

fn uid(number: u8) -> Name {
    format!("Kubernetes//Pod/torture/workload-{number}").into()
}

fn vip_address(family: usize, number: u8) -> IpAddr {
    if family == 0 {
        Ipv4Addr::new(10, 96, 1, number + 1).into()
    } else {
        Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 1, u16::from(number) + 1).into()
    }
}

fn pool_v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, number + 1)
}

fn pool_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, u16::from(number) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_never_give_two_services_one_vip_nor_two_workloads_one_address() {
        let mut world = World::new(7);
        for _ in 0..2000 {
            world.change();
            for services in &world.services {
                let mut seen = BTreeSet::new();
                for entry in services.iter().flatten() {
                    assert!(entry.vips.iter().all(|vip| seen.insert(*vip)));
                }
            }
            let addresses: BTreeSet<_> = world.addresses.iter().collect();
            assert_eq!(addresses.len(), usize::from(WORKLOADS));
        }
    }
}
