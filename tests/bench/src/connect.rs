//! What a connect() costs in the hook, by the kernel's own statistics.
//!
//! `BPF_ENABLE_STATS` counts time and runs of every program; the figure is their
//! quotient over one worker's calls. The empty program is measured in the same run.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aya::programs::cgroup_sock_addr::CgroupSockAddr;
use aya::programs::{CgroupAttachMode, ProgramInfo};
use aya::sys::{Stats, enable_stats};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use crate::fixture::Fixture;
use crate::mesh::{self, Shape};
use crate::report::{Report, Target, median};

const CALLS: u32 = 200_000;
const ROUNDS: usize = 3;

/// Measures the empty program, the unmanaged exit, a hot VIP, and random VIPs of 10, 10,000 and
/// 100,000 services.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    let _stats = enable_stats(Stats::RunTime).context("enable the kernel's BPF statistics")?;
    let empty = empty(bin)?;
    report.add("connect4, empty program", "ns", empty, None, None);
    for services in [10, 10_000, 100_000] {
        sized(report, bin, services, empty)?;
    }
    Ok(())
}

fn sized(report: &mut Report, bin: &Path, services: u32, empty: f64) -> anyhow::Result<()> {
    let mut fixture = Fixture::new(bin)?;
    let governed = fixture.netns("governed")?;
    let stranger = fixture.netns("stranger")?;
    let shape = Shape { services, endpoints: if services == 100_000 { 1 } else { 4 } };
    let file = fixture.path("mesh.json");
    let own = "10.9.0.1".parse().context("own address")?;
    mesh::write(Path::new(&file), shape, &[(governed.as_str(), own)], None)?;
    let limits = shape.limits();
    let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
    let mut daemon = fixture.daemon(&file, 15_210, &limits)?;
    daemon.wait_ready()?;
    let hook = fixture.root().join("progs/connect4");
    if services == 10 {
        let unmanaged = program_ns(&fixture, &hook, &stranger, 10)?;
        let target = Some(Target::AtMost(2.0));
        report.add("connect4, unmanaged process", "ns", unmanaged, Some(empty), target);
        let hot = program_ns(&fixture, &hook, &governed, 1)?;
        report.add("connect4, hot VIP", "ns", hot, Some(empty), Some(Target::AtMost(4.0)));
    }
    let random = program_ns(&fixture, &hook, &governed, services)?;
    let target = (services == 100_000).then_some(Target::AtMost(1_100.0));
    report.add(format!("connect4, random of {services} services"), "ns", random, None, target);
    Ok(())
}

/// Median ns per run of the program pinned at `hook` while a worker dials.
fn program_ns(fixture: &Fixture, hook: &Path, netns: &str, services: u32) -> anyhow::Result<f64> {
    let info = ProgramInfo::from_pin(hook).with_context(|| format!("open {}", hook.display()))?;
    let fd = info.fd().context("program fd")?;
    rounds(fixture, fd.as_fd(), netns, services)
}

fn rounds(
    fixture: &Fixture,
    prog: BorrowedFd<'_>,
    netns: &str,
    services: u32,
) -> anyhow::Result<f64> {
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let before = run_stats(prog)?;
        let output = fixture
            .command("kmesh-bench")
            .args(["worker", "--cgroup", &fixture.cgroup().to_string_lossy(), "--netns", netns])
            .args(["dial", "--services", &services.to_string(), "--count", &CALLS.to_string()])
            .output()
            .context("run a worker")?;
        anyhow::ensure!(
            output.status.success(),
            "worker: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let after = run_stats(prog)?;
        let runs = after.1 - before.1;
        anyhow::ensure!(runs >= f64::from(CALLS), "the hook ran {runs} times for {CALLS} calls");
        figures.push((after.0 - before.0) / runs);
    }
    Ok(median(figures))
}

/// (run time in ns, runs) of a program since the statistics were enabled.
fn run_stats(prog: BorrowedFd<'_>) -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", prog.as_raw_fd()))?;
    let field = |name: &str| -> anyhow::Result<f64> {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
        Ok(line.trim().parse()?)
    };
    Ok((field("run_time_ns:")?, field("run_cnt:")?))
}

fn empty(bin: &Path) -> anyhow::Result<f64> {
    let mut fixture = Fixture::new(bin)?;
    let netns = fixture.netns("empty")?;
    let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty.o"));
    let mut ebpf = aya::Ebpf::load(object).context("load the empty program")?;
    let program: &mut CgroupSockAddr =
        ebpf.program_mut("empty").context("no program `empty`")?.try_into()?;
    program.load().context("load the empty program")?;
    let cgroup = fs::File::open(fixture.cgroup()).context("open the cgroup")?;
    program.attach(&cgroup, CgroupAttachMode::Single).context("attach it")?;
    let fd = program.fd().context("program fd")?;
    rounds(&fixture, fd.as_fd(), &netns, 10)
}
