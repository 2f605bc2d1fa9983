//! Authorization: ns of the whole hook for one connection, at 0 to 10,000 rules.
//!
//! In process: sets are compiled and written as the daemon would, and the program in the kernel is
//! run by `BPF_PROG_TEST_RUN`, again and again for each of many connections that are allowed.

#[path = "../../../bpf/tests/authz/rules.rs"]
mod rules;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kmesh_bpf::authz::{Identity, Policy, compile};
use kmesh_bpf::kernel::linux::{Dial, Linux};
use kmesh_bpf::kernel::{Objects as _, Put, Tables as _};
use kmesh_bpf::layout::{BackendRecord, FrontendKey, FrontendWord, Hook, Limits, ManagerWord, Map};
use kmesh_bpf::pins::{self, Root};

use crate::fixture::Fixture;
use crate::report::{Report, Target, median};

const COOKIE: u64 = 77;
/// Workloads, each with an identity of its own.
const WORKLOADS: u16 = 10_000;
/// Connections that are asked about in a round, each so often.
const CONNECTIONS: u16 = 200;
const REPEAT: u32 = 2_000;

struct Pod {
    k: Linux,
    prog: PathBuf,
}

impl Pod {
    fn new(fixture: &Fixture) -> anyhow::Result<Self> {
        let root = Root::new(fixture.root());
        let limits = Limits { policy_words: 1 << 18, policy_chunks: 1 << 14, ..Limits::default() };
        let mut k = Linux::new();
        pins::adopt_maps(&mut k, &root, &limits)?;
        let prog = root.path().join("pod");
        k.load_pod(Hook::SkLookup, COOKIE, &root.maps(), &limits, &prog)?;
        let mut pod = Self { k, prog };
        for at in 0..WORKLOADS {
            let who = u32::from(at) + 1;
            let record = BackendRecord { who, ..BackendRecord::default() };
            pod.put(Map::Backend, bytemuck::bytes_of(&who), bytemuck::bytes_of(&record))?;
            let key = FrontendKey::workload(home(at).into());
            let word = FrontendWord::new(&key, who);
            pod.put(Map::Frontend, bytemuck::bytes_of(&key), bytemuck::bytes_of(&word))?;
        }
        Ok(pod)
    }

    fn put(&mut self, map: Map, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.k.update(map, key, value, Put::Any).map(drop).context("write an element")
    }

    fn enforce(&mut self, policies: &[Policy]) -> anyhow::Result<()> {
        let all: Vec<Identity> = (0..WORKLOADS.into()).map(rules::identity).collect();
        let image = compile(policies, (1..).zip(&all))?.image();
        image.write(&mut self.k, 1, 0, 0)?;
        self.govern(1)
    }

    fn govern(&mut self, set: u16) -> anyhow::Result<()> {
        let word = ManagerWord::new(COOKIE, None, set, ManagerWord::MANAGED);
        self.put(Map::Manager, &COOKIE.to_ne_bytes(), bytemuck::bytes_of(&word))
    }

    /// Median ns of connections that the rules allow; `port` is that of the rule.
    fn ns(&self, rules: u16, port: impl Fn(usize) -> u16) -> anyhow::Result<f64> {
        let mut all = Vec::new();
        for at in 0..CONNECTIONS {
            let rule = u16::try_from(u32::from(at) * 7919 % u32::from(rules))?;
            let source = SocketAddr::from((home(rule), 40_000 + at));
            let destination = SocketAddr::from(([10, 200, 0, 1], port(rule.into())));
            let dial = Dial { source, destination, tcp: true };
            let ran = self.k.run_sk_lookup(&self.prog, &dial, REPEAT)?;
            anyhow::ensure!(ran.passes, "rule {rule} allows {dial:?}");
            all.push(f64::from(ran.ns));
        }
        Ok(median(all))
    }
}

/// The address of the workload of rule `at`.
fn home(at: u16) -> Ipv4Addr {
    Ipv4Addr::from(rules::net(at.into()).network().to_bits() + 7)
}

/// A kind of sets: its name, its policies, the port of a rule.
type Kind = (&'static str, fn(usize) -> Vec<Policy>, fn(usize) -> u16);

/// Measures a pod without policies and sets of both kinds.
pub fn measure(report: &mut Report, bin: &Path) -> anyhow::Result<()> {
    let fixture = Fixture::new(bin)?;
    let mut pod = Pod::new(&fixture)?;
    pod.govern(0)?;
    let none = pod.ns(1_000, rules::port)?;
    report.add("SYN, no policy", "ns", none, None, None);
    let kinds: [Kind; 2] = [
        ("usual", rules::usual, |at| 8_000 + u16::try_from(at % 50).unwrap_or_default()),
        ("distinct", rules::distinct, rules::port),
    ];
    for (kind, policies, port) in kinds {
        let mut ten = None;
        for (rules, limit) in [(10, 300.0), (1_000, 2.0), (10_000, 4.0)] {
            pod.enforce(&policies(rules.into()))?;
            let ns = pod.ns(rules, port)?;
            let target = Some(Target::AtMost(limit));
            report.add(format!("SYN, {rules} {kind} rules"), "ns", ns, ten, target);
            ten = ten.or(Some(ns));
        }
    }
    Ok(())
}
