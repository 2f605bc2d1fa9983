//! A governed pod beside the same pod outside the cgroup: throughput, connections, latency.
//!
//! The two are interleaved, round by round, so that a drift of the machine meets both.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;

use crate::fixture::Fixture;
use crate::mesh::{self, Shape};
use crate::report::{Report, Target, median};

const ROUNDS: usize = 7;
const SECONDS: &str = "1.5";
const CONNECTIONS: &str = "4000";

/// Measures all three.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    let mut fixture = Fixture::new(bin)?;
    let client = fixture.netns("client")?;
    let server = fixture.netns("server")?;
    Fixture::join(&client, &server)?;
    let file = fixture.path("mesh.json");
    let (own, other) = ("10.9.0.1".parse()?, "10.9.0.2".parse()?);
    let shape = Shape { services: 10, endpoints: 4 };
    mesh::write(Path::new(&file), shape, &[(client.as_str(), own)], Some(other))?;
    let mut daemon = fixture.daemon(&file, 15_211, &[])?;
    daemon.wait_ready()?;
    let place = Place { fixture: &fixture, client: &client, server: &server };
    let (mut governed, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dialled, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let with = place.pair(true, &["stream", "--seconds", SECONDS])?;
        let without = place.pair(false, &["stream", "--seconds", SECONDS])?;
        governed.push(with);
        plain.push(without);
        ratios.push(with / without);
        dialled.push(place.pair(true, &["rate", "--count", CONNECTIONS])?);
        direct.push(place.pair(false, &["rate", "--count", CONNECTIONS])?);
    }
    report.add("throughput, governed pod", "MB/s", median(governed), Some(median(plain)), None);
    let target = Some(Target::AtLeast(0.98));
    report.add("throughput ratio, median of pairs", "×", median(ratios), None, target);
    let (with, without) = (median(dialled), median(direct));
    report.add("connect() latency, governed pod", "µs", with, Some(without), None);
    report.add("connections, governed pod", "1/s", 1e6 / with, Some(1e6 / without), None);
    Ok(())
}

struct Place<'a> {
    fixture: &'a Fixture,
    client: &'a str,
    server: &'a str,
}

impl Place<'_> {
    /// One server and one client; governed dials the VIP from inside the cgroup, plain dials the
    /// server from outside it.
    fn pair(&self, governed: bool, work: &[&str]) -> anyhow::Result<f64> {
        let server = if work[0] == "rate" { "accept" } else { "sink" };
        let mut sink = self
            .fixture
            .command("kmesh-bench")
            .args(["worker", "--netns", self.server, server])
            .args(["--at", "10.9.0.2:7300", "--seconds", "30"])
            .stdout(Stdio::null())
            .spawn()
            .context("start the server")?;
        let mut command = self.fixture.command("kmesh-bench");
        command.arg("worker");
        if governed {
            command.arg("--cgroup").arg(self.fixture.cgroup());
        }
        let to = if governed { "10.7.0.1:80" } else { "10.9.0.2:7300" };
        let output = command
            .args(["--netns", self.client])
            .args(&work[..1])
            .args(["--to", to])
            .args(&work[1..])
            .output()
            .context("run the client")?;
        let _ = sink.kill();
        sink.wait().context("end the server")?;
        anyhow::ensure!(
            output.status.success(),
            "client: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().parse().context("the client's figure")
    }
}
