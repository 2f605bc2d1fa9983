//! Mesh files of any size, as the daemon reads them.
//!
//! Service `i` has VIP [`crate::worker::vip`]`(i)` port 80; its endpoints lie in 10.128.0.0/9.

use std::fmt::Write as _;
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
            (
                "--max-frontends",
                (workloads + self.services + 16).max(131_072),
            ),
            ("--max-services", (self.services + 16).max(32_768)),
            (
                "--max-endpoints",
                (workloads + workloads / 8 + 2 * self.services).max(262_144),
            ),
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
    let mut text = String::from("{\"services\":[");
    for i in 0..shape.services {
        let comma = if i == 0 { "" } else { "," };
        write!(
            text,
            "{comma}{{\"name\":\"s{i}\",\"namespace\":\"bench\",\"hostname\":\"s{i}.bench.svc.cluster.local\",\
             \"vips\":[\"/{}\"],\"ports\":{{\"80\":8080}}}}",
            vip(i)
        )?;
    }
    if real.is_some() {
        let comma = if shape.services == 0 { "" } else { "," };
        write!(
            text,
            "{comma}{{\"name\":\"real\",\"namespace\":\"bench\",\"hostname\":\"real.bench.svc.cluster.local\",\
             \"vips\":[\"/10.7.0.1\"],\"ports\":{{\"80\":7300}}}}"
        )?;
    }
    text.push_str("],\"workloads\":[");
    let mut lines = Vec::new();
    for i in 0..shape.workloads() {
        let service = i / shape.endpoints;
        lines.push(format!(
            "{{\"uid\":\"Kubernetes//Pod/bench/w{i}\",\"name\":\"w{i}\",\"namespace\":\"bench\",\
             \"serviceAccount\":\"default\",\"workloadIps\":[\"{}\"],\
             \"services\":{{\"bench/s{service}.bench.svc.cluster.local\":{{\"80\":8080}}}}}}",
            workload(i)
        ));
    }
    for (netns, address) in pods {
        lines.push(format!(
            "{{\"uid\":\"Kubernetes//Pod/bench/{netns}\",\"name\":\"{netns}\",\"namespace\":\"bench\",\
             \"workloadIps\":[\"{address}\"],\"netns\":\"{netns}\"}}"
        ));
    }
    if let Some(address) = real {
        lines.push(format!(
            "{{\"uid\":\"Kubernetes//Pod/bench/server\",\"name\":\"server\",\"namespace\":\"bench\",\
             \"workloadIps\":[\"{address}\"],\
             \"services\":{{\"bench/real.bench.svc.cluster.local\":{{\"80\":7300}}}}}}"
        ));
    }
    text.push_str(&lines.join(","));
    text.push_str("]}");
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
