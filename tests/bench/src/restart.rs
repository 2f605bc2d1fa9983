//! Starting again where nothing changed: 100,000 endpoints, the daemon killed and started.
//!
//! The phases are the daemon's own monotonic clock and CPU time, from its first instruction
//! on, as `/metrics` tells them; the time to ready is also taken from outside.

use std::path::Path;
use std::time::Instant;

use crate::fixture::Fixture;
use crate::mesh::{self, Shape};
use crate::report::{Report, Target, median};

const ROUNDS: usize = 5;

/// Measures the first start once and the second start several times.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    let fixture = Fixture::new(bin)?;
    let shape = Shape { services: 4_000, endpoints: 25 };
    let file = fixture.path("mesh.json");
    mesh::write(Path::new(&file), shape, &[], None)?;
    let limits = shape.limits();
    let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
    let begin = Instant::now();
    let mut first = fixture.daemon(&file, 15_213, &limits)?;
    first.wait_ready()?;
    report.add("first start to ready, 100,000 endpoints", "ms", ms(begin), None, None);
    let written = first.metric("kmesh_map_elements_written_total")?;
    report.add("elements written by the first start", "elements", written, None, None);
    drop(first);
    let mut figures: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut again = fixture.daemon(&file, 15_213, &limits)?;
        again.wait_ready()?;
        figures[0].push(ms(begin));
        for (at, series) in [
            (1, "kmesh_start_wall_seconds{phase=\"adopted\"}"),
            (2, "kmesh_start_cpu_seconds{phase=\"adopted\"}"),
            (3, "kmesh_start_wall_seconds{phase=\"decoded\"}"),
        ] {
            figures[at].push(again.metric(series)? * 1e3);
        }
        figures[4].push(again.metric("kmesh_map_elements_written_total")?);
    }
    let [ready, adopted, adopted_cpu, decoded, writes] = figures;
    let limit = Some(Target::AtMost(100.0));
    report.add("second start to adopted, wall", "ms", median(adopted), None, limit);
    report.add("second start to adopted, CPU", "ms", median(adopted_cpu), None, limit);
    let decode = median(decoded);
    report.add("mesh file read, JSON", "ms", decode, None, Some(Target::AtMost(400.0)));
    report.add("second start to ready, from outside", "ms", median(ready), None, None);
    let most = writes.into_iter().fold(0.0, f64::max);
    report.add("map writes of a second start", "elements", most, None, Some(Target::AtMost(0.0)));
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
