//! dump, verify and restore of 1,000, 100,000 and 1,000,000 endpoints: how long, and how much
//! memory at most. Beside them, in the same run and on the same maps: bpftool's dump, and the same
//! restore with one call for each element.
//!
//! The verbs are run as an operator runs them, output into a file. What is held against bpftool
//! is told with the ratio that the project promises.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kmesh_bpf::apply::converge;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::{Limits, Map};
use kmesh_bpf::pins::{Root, adopt_maps};
use kmesh_bpf::snapshot::{About, Snapshot};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::Change;

use crate::change::{EACH, everything};
use crate::fixture::{Fixture, run};
use crate::one_by_one::OneByOne;
use crate::report::{Report, Target, median};

/// The maps that a snapshot is made of.
const MAPS: [Map; 5] = [Map::Frontend, Map::Service, Map::Endpoint, Map::Backend, Map::Names];

/// Measures each size.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    for (endpoints, rounds) in [(1_000, 5), (100_000, 3), (1_000_000, 1)] {
        Case { report, fixture: Fixture::new(bin)?, endpoints, rounds }.measure()?;
    }
    Ok(())
}

struct Case<'a> {
    report: &'a mut Report,
    fixture: Fixture,
    endpoints: u32,
    rounds: usize,
}

/// What a command cost: seconds, and its peaks in MB (10⁶ bytes).
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    ms: f64,
    resident_mb: f64,
    anonymous_mb: f64,
}

impl Case<'_> {
    fn measure(mut self) -> anyhow::Result<()> {
        let change = everything(self.endpoints / EACH);
        let file = self.fixture.path("snapshot.json");
        let snapshot = Snapshot::of_change(&change, About::default());
        snapshot.write_json(&mut File::create(&file)?).context("write the snapshot")?;
        drop(snapshot);
        let mut kernel = Linux::new();
        let limits = limits(self.endpoints);
        adopt_maps(&mut kernel, &Root::new(self.fixture.root()), &limits).context("make maps")?;
        let restored = self.kmeshctl(&["restore", &file])?;
        self.say("restore", restored, None, None);
        let bpftool = self.rounds(Self::bpftool)?;
        let n = self.endpoints;
        self.report.add(format!("bpftool dump, {n} endpoints"), "ms", bpftool.ms, None, None);
        let dumped = self.rounds(|case| case.kmeshctl(&["dump", "all", "-o", "json"]))?;
        let target = (n == 100_000).then_some(Target::AtMost(0.167));
        self.say("dump all -o json", dumped, Some(bpftool.ms), target);
        let verified = self.rounds(|case| case.kmeshctl(&["verify", "--against", &file]))?;
        self.say("verify --against", verified, Some(bpftool.ms), None);
        let again = self.kmeshctl(&["restore", &file])?;
        self.say("restore where nothing differs", again, Some(bpftool.ms), None);
        self.writes(&change, &limits)
    }

    fn rounds(&self, work: impl Fn(&Self) -> anyhow::Result<Cost>) -> anyhow::Result<Cost> {
        let costs = (0..self.rounds).map(|_| work(self)).collect::<anyhow::Result<Vec<_>>>()?;
        let middle = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
        Ok(Cost {
            ms: middle(|cost| cost.ms),
            resident_mb: middle(|cost| cost.resident_mb),
            anonymous_mb: middle(|cost| cost.anonymous_mb),
        })
    }

    fn say(&mut self, what: &str, cost: Cost, against: Option<f64>, target: Option<Target>) {
        let n = self.endpoints;
        self.report.add(format!("{what}, {n} endpoints"), "ms", cost.ms, against, target);
        let name = format!("{what}, {n} endpoints: VmHWM");
        self.report.add(name, "MB", cost.resident_mb, None, None);
        let name = format!("{what}, {n} endpoints: RssAnon, at most");
        self.report.add(name, "MB", cost.anonymous_mb, None, None);
    }

    fn kmeshctl(&self, args: &[&str]) -> anyhow::Result<Cost> {
        let mut command = self.fixture.command("kmeshctl");
        command
            .args(args)
            .args(["--bpf-root", &self.fixture.path("bpf/kmesh")])
            .args(["--cgroup", &self.fixture.cgroup().to_string_lossy()])
            .args(["--state-dir", &self.fixture.path("state")])
            .args(["--run-dir", &self.fixture.path("run")]);
        cost(&mut command, &PathBuf::from(self.fixture.path("output")))
    }

    /// bpftool's dump of each map into a file.
    fn bpftool(&self) -> anyhow::Result<Cost> {
        let mut sum = Cost::default();
        for map in MAPS {
            let pin = self.fixture.root().join("maps").join(map.name());
            let mut command = Command::new("bpftool");
            command.args(["-j", "map", "dump", "pinned"]).arg(pin);
            sum.ms += cost(&mut command, &PathBuf::from(self.fixture.path("output")))?.ms;
        }
        Ok(sum)
    }

    /// The same tables written from nothing: in batches, and one by one.
    fn writes(&mut self, change: &Change, limits: &Limits) -> anyhow::Result<()> {
        let mut times = [0.0; 2];
        for (name, time) in ["batches", "single"].into_iter().zip(&mut times) {
            let root = Root::new(PathBuf::from(self.fixture.path("bpf")).join(name));
            let mut kernel = Linux::new();
            adopt_maps(&mut kernel, &root, limits).context("make maps")?;
            let mut have = Have::read_locked(&kernel)?;
            let begin = Instant::now();
            if name == "single" {
                converge(&mut OneByOne(kernel), &mut have, change, &mut |_, _| {})?;
            } else {
                converge(&mut kernel, &mut have, change, &mut |_, _| {})?;
            }
            *time = ms(begin);
            run("rm", &["-r", &root.path().to_string_lossy()])?;
        }
        let [batches, single] = times;
        let n = self.endpoints;
        let name = format!("plan and write {n} endpoints, against one by one");
        self.report.add(name, "ms", batches, Some(single), None);
        Ok(())
    }
}

/// Room for so many endpoints, each a workload of its own.
fn limits(endpoints: u32) -> Limits {
    let limits = Limits::default();
    let services = endpoints / EACH + 16;
    let grown = endpoints + endpoints / EACH * (EACH / 8 + 1) + 16;
    Limits {
        frontends: limits.frontends.max(endpoints + services),
        services: limits.services.max(services),
        endpoints: limits.endpoints.max(grown),
        workloads: limits.workloads.max(endpoints + 16),
        names: limits.names.max(endpoints + services + 64),
        ..limits
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Runs a command to its end with its output in a file.
fn cost(command: &mut Command, output: &Path) -> anyhow::Result<Cost> {
    let file = File::create(output).with_context(|| format!("make {}", output.display()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("run {command:?}"))?;
    let mut cost = Cost::default();
    loop {
        look(&child, &mut cost);
        if child.try_wait().context("wait")?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    cost.ms = ms(begin);
    let ended = child.wait_with_output().context("wait")?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    anyhow::ensure!(ended.status.success(), "{command:?}: {}: {said}", ended.status);
    Ok(cost)
}

/// The peaks so far, as `/proc` tells them.
fn look(child: &Child, cost: &mut Cost) {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let mb = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        let kib = line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default();
        kib * 1024.0 / 1e6
    };
    cost.resident_mb = cost.resident_mb.max(mb("VmHWM:"));
    cost.anonymous_mb = cost.anonymous_mb.max(mb("RssAnon:"));
}
