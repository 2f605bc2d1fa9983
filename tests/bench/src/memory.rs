//! Memory: the daemon's own (RssAnon) and the kernel's for all maps (memlock in fdinfo).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::MapData;
use std::os::fd::{AsFd as _, AsRawFd as _};

use crate::fixture::Fixture;
use crate::mesh::{self, Shape};
use crate::report::{Report, Target};

/// Bytes of all maps pinned under the fixture's root, in MB (10⁶).
pub fn maps_mb(fixture: &Fixture) -> anyhow::Result<f64> {
    let mut total = 0.0;
    for entry in fs::read_dir(fixture.root().join("maps")).context("list the maps")? {
        let path = entry?.path();
        let map = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
        let fd = map.fd().as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        total += line.context("memlock in fdinfo")?.trim().parse::<f64>()?;
    }
    Ok(total / 1e6)
}

/// Measures both at 10 endpoints with the default limits and at 100,000.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    for (shape, daemon_mb, kernel_mb) in [
        (Shape { services: 2, endpoints: 5 }, 8.0, 20.0),
        (Shape { services: 4_000, endpoints: 25 }, 60.0, 60.0),
    ] {
        let fixture = Fixture::new(bin)?;
        let file = fixture.path("mesh.json");
        mesh::write(Path::new(&file), shape, &[], None)?;
        let limits = shape.limits();
        let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
        let mut daemon = fixture.daemon(&file, 15_212, &limits)?;
        daemon.wait_ready()?;
        std::thread::sleep(Duration::from_secs(15));
        let n = shape.workloads();
        let target = Some(Target::AtMost(daemon_mb));
        report.add(
            format!("daemon RssAnon, {n} endpoints"),
            "MB",
            daemon.rss_anon_mb()?,
            None,
            target,
        );
        let target = Some(Target::AtMost(kernel_mb));
        report.add(format!("all maps, {n} endpoints"), "MB", maps_mb(&fixture)?, None, target);
    }
    Ok(())
}
