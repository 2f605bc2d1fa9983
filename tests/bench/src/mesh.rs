//! Mesh files of any size, as the daemon reads them.
//!
//! Service `i` has VIP [`crate::worker::vip`]`(i)` port 80; its endpoints lie in 10.128.0.0/9.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;

use crate::worker::vip;

/// The address of the `i`-th workload.
#[must_use]
pub fn workload(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a80_0000 + i)
}

/// What a mesh file holds.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
}

impl Shape {
    /// Workloads in all.
    #[must_use]
    pub fn workloads(self) -> u32 {
        self.services * self.endpoints
    }

    /// Options that make room for it.
    #[must_use]
    pub fn limits(self) -> Vec<String> {
        let workloads = self.workloads() + 16;
        [
            ("--max-workloads", workloads.max(65_536)),
            ("--max-frontends", (workloads + self.services + 16).max(131_072)),
            ("--max-services", (self.services + 16).max(32_768)),
            ("--max-endpoints", (workloads + workloads / 8 + 2 * self.services).max(262_144)),
            ("--max-names", (workloads + self.services + 64).max(98_304)),
        ]
        .into_iter()
        .flat_map(|(option, limit)| [option.to_owned(), limit.to_string()])
        .collect()
    }
}

/// Writes the mesh as JSON; `pods` are (network namespace, address) of enrolled workloads and
/// `real` is one more service with VIP 10.7.0.1 port 80 whose endpoint is that address, port 7300.
pub fn write(
    path: &Path,
    shape: Shape,
    pods: &[(&str, Ipv4Addr)],
    real: Option<Ipv4Addr>,
) -> anyhow::Result<()> {
    let mut services: Vec<String> =
        (0..shape.services).map(|i| service(&format!("s{i}"), vip(i), 8080)).collect();
    services.extend(real.map(|_| service("real", Ipv4Addr::new(10, 7, 0, 1), 7300)));
    let mut workloads: Vec<String> = (0..shape.workloads())
        .map(|i| {
            let of = format!("s{}", i / shape.endpoints);
            pod(&format!("w{i}"), workload(i), &serves(&of, 8080))
        })
        .collect();
    for (netns, address) in pods {
        workloads.push(pod(netns, *address, &format!("\"netns\":\"{netns}\"")));
    }
    workloads.extend(real.map(|address| pod("server", address, &serves("real", 7300))));
    let (services, workloads) = (services.join(","), workloads.join(","));
    let text = format!("{{\"services\":[{services}],\"workloads\":[{workloads}]}}");
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn service(name: &str, vip: Ipv4Addr, target: u16) -> String {
    format!(
        "{{\"name\":\"{name}\",\"namespace\":\"bench\",\"hostname\":\"{name}.bench.svc.cluster.local\",\
         \"vips\":[\"/{vip}\"],\"ports\":{{\"80\":{target}}}}}"
    )
}

fn pod(name: &str, address: Ipv4Addr, more: &str) -> String {
    format!(
        "{{\"uid\":\"Kubernetes//Pod/bench/{name}\",\"name\":\"{name}\",\"namespace\":\"bench\",\
         \"serviceAccount\":\"default\",\"workloadIps\":[\"{address}\"],{more}}}"
    )
}

fn serves(service: &str, target: u16) -> String {
    format!("\"services\":{{\"bench/{service}.bench.svc.cluster.local\":{{\"80\":{target}}}}}")
}
