//! The writer over the kernel in memory: what it writes, when, and what it leaves alone.

mod fit;
mod istiod;
mod kept;
mod order;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kmesh_bpf::layout::Limits;
use kmesh_bpf::live::Revoke;
use kmesh_bpf::memory::{Fault, MemoryKernel};
use kmesh_bpf::pins::Root;
use kmesh_bpf::want::{Family, Kind, ServiceKey, Settings};

use super::start::{Start, adopt};
use super::{Awaited, Order, Tokens, Writer};
use crate::config::Place;
use crate::desired::Here;
use crate::readiness::Readiness;
use crate::resolve::Wanted;
use crate::sources::mesh_file;
use crate::status::{Began, Status};

const MESH: &str = "
workloads:
- {uid: a, workloadIps: [10.0.0.1], services: {n/s: {80: 1}}}
- {uid: b, workloadIps: [10.0.0.2], services: {n/s: {80: 1}}}
services:
- {namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1}}
";

/// A machine: a kernel, directories, and what a daemon on it says of itself.
struct Machine {
    limits: Limits,
    dirs: tempfile::TempDir,
    readiness: Readiness,
    status: Arc<Status>,
}

impl Machine {
    fn new() -> (Self, MemoryKernel) {
        let mut kernel = MemoryKernel::default();
        kernel.add_cgroup("/cgroup");
        let dirs = tempfile::tempdir().expect("a directory");
        let limits = Limits { services: 16, ..Limits::default() };
        (Self { limits, dirs, readiness: Readiness::default(), status: Arc::default() }, kernel)
    }

    fn place(&self) -> Place {
        Place {
            root: Root::new("/bpf/kmesh"),
            own_place: true,
            cgroup: PathBuf::from("/cgroup"),
            state_dir: self.dirs.path().join("state"),
            run_dir: self.dirs.path().join("run"),
            limits: self.limits,
            revoke: Revoke::Destroy,
        }
    }

    /// Starts a daemon as the binary does, but for the lock, which is a real file system's.
    fn start(&mut self, mut kernel: MemoryKernel) -> Writer<MemoryKernel> {
        self.readiness = Readiness::default();
        self.status = Arc::default();
        let have = adopt(&mut kernel, &self.place(), false).expect("adopted");
        let start = Start {
            place: self.place(),
            here: Here {
                node: "n1".into(),
                network: "".into(),
                cluster: "c".into(),
                waypoint_port: 15019,
                settings: Settings::default(),
            },
            sources: vec!["mesh file /mesh".to_owned()],
            awaited: Awaited { file: true, xds: false },
            status: Arc::clone(&self.status),
            tokens: Tokens {
                file: Some(self.readiness.hold("mesh file", "not read yet")),
                sync: Some(self.readiness.hold("first sync", "not done yet")),
                readiness: self.readiness.clone(),
            },
            names: tokio::sync::watch::channel(Wanted::default()).0,
            served: None,
            began: Began::threads_at(Instant::now()),
        };
        let mut writer = start.writer(kernel, have, None);
        writer.put_back_if_empty().expect("put back");
        writer
    }

    fn is_ready(&self) -> bool {
        self.readiness.pending().is_empty()
    }
}

fn say(writer: &mut Writer<MemoryKernel>, mesh: &str) {
    let order = match mesh_file::parse(mesh) {
        Ok(model) => Order::Model(Box::new(model)),
        Err(problems) => Order::Refused(mesh_file::MeshFileError::Refused {
            path: PathBuf::from("/mesh"),
            problems,
        }),
    };
    writer.obey(order);
    writer.work();
}

/// The process ends without a word; the kernel stays.
fn kill(writer: Writer<MemoryKernel>) -> MemoryKernel {
    let mut kernel = writer.k;
    kernel.restart();
    kernel
}

fn endpoints(writer: &Writer<MemoryKernel>) -> Vec<String> {
    let key = ServiceKey { name: "n/s".into(), port: 80, family: Family::V4, kind: Kind::Service };
    let service = writer.have.service(&key).expect("the service");
    let mut names: Vec<_> =
        service.endpoints.iter().map(|endpoint| endpoint.workload.to_string()).collect();
    names.sort();
    names
}

/// Works until the snapshot is on disk.
fn settle(writer: &mut Writer<MemoryKernel>) {
    for _ in 0..400 {
        writer.work();
        if writer.keeper.due().is_none() && !writer.keeper.is_writing() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the snapshot was never written");
}

fn said(path: &Path) -> Option<(Vec<u8>, std::time::SystemTime)> {
    let changed = std::fs::metadata(path).ok()?.modified().ok()?;
    Some((std::fs::read(path).ok()?, changed))
}

#[test]
fn ready_after_the_first_sync_and_a_second_start_writes_nothing() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    assert!(!machine.is_ready());
    say(&mut writer, MESH);
    assert!(machine.is_ready(), "{:?}", machine.readiness.pending());
    assert_eq!(endpoints(&writer), ["a", "b"]);
    settle(&mut writer);
    let file = machine.place().state_dir.join("snapshot.json");
    let kept = said(&file).expect("a snapshot");
    let half = machine.place().run_dir.join(".last-sync.json.4194305");
    std::fs::write(&half, "{").expect("a file that a dead process left");

    let kernel = kill(writer);
    let (written, tree) = (kernel.written(), kernel.tree());
    let mut writer = machine.start(kernel);
    say(&mut writer, MESH);
    assert!(machine.is_ready());
    settle(&mut writer);
    let kernel = kill(writer);
    assert_eq!(kernel.written(), written, "map elements");
    assert_eq!(kernel.tree(), tree, "pins");
    assert_eq!(said(&file), Some(kept), "the snapshot was not written again");
    assert!(!half.exists(), "what a dead process left is removed");
}

#[test]
fn what_a_hostname_had_outlives_the_daemon_and_the_resolver() {
    const NAMED: &str = "
workloads:
- {uid: a, hostname: db.example, services: {n/s: {80: 1}}}
services:
- {namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1}}
";
    let dials = |writer: &Writer<MemoryKernel>| writer.have.workload("a").and_then(|w| w.v4);
    let answer = |writer: &mut Writer<MemoryKernel>, ip: [u8; 4]| {
        writer.obey(Order::Resolved("db.example".into(), vec![ip.into()]));
        writer.work();
    };
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, NAMED);
    assert_eq!(endpoints(&writer), [""; 0]);
    answer(&mut writer, [192, 0, 2, 1]);
    assert_eq!(
        (endpoints(&writer), dials(&writer)),
        (vec!["a".to_owned()], Some([192, 0, 2, 1].into()))
    );

    let kernel = kill(writer);
    let written = kernel.written();
    let mut writer = machine.start(kernel);
    say(&mut writer, NAMED);
    assert_eq!(endpoints(&writer), ["a"]);
    assert_eq!(writer.k.written(), written, "nothing changed");
    answer(&mut writer, [192, 0, 2, 2]);
    assert_eq!(dials(&writer), Some([192, 0, 2, 2].into()));
}

#[test]
fn a_file_that_cannot_be_used_leaves_everything_as_it_is() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, MESH);
    let mut writer = machine.start(kill(writer));
    say(&mut writer, "workloads: [{nonsense: 1}]");
    assert!(!machine.is_ready());
    let pending = machine.readiness.pending().join("\n");
    assert!(pending.contains("line 1 column") && pending.contains("nonsense"), "{pending}");
    assert_eq!(endpoints(&writer), ["a", "b"]);
    // The file is mended, without b.
    say(
        &mut writer,
        &MESH.replace("- {uid: b, workloadIps: [10.0.0.2], services: {n/s: {80: 1}}}\n", ""),
    );
    assert!(machine.is_ready());
    assert_eq!(endpoints(&writer), ["a"]);
    assert!(writer.have.backend("b").is_none(), "it is pruned after a complete answer");
}

#[test]
fn a_failed_write_is_tried_again_until_it_holds() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    writer.k.set_fault(Some(Fault { call: 3, elements: 0, errno: 12, for_good: true }));
    say(&mut writer, MESH);
    assert!(!machine.is_ready());
    assert_eq!(machine.status.facts().apply_errors, 1);
    assert!(machine.readiness.pending().join("").contains("write the tables"));
    writer.k.set_fault(None);
    writer.due = Some(Instant::now());
    writer.work();
    assert!(machine.is_ready(), "{:?}", machine.readiness.pending());
    assert_eq!(endpoints(&writer), ["a", "b"]);
}

#[test]
fn more_than_a_map_holds_is_said_and_what_was_good_stays() {
    use std::fmt::Write as _;
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, MESH);
    let mut many = MESH.to_owned();
    for n in 0..17 {
        writeln!(
            many,
            "- {{namespace: n, hostname: m{n}, vips: [/10.2.0.{}], ports: {{80: 1}}}}",
            n + 1
        )
        .expect("a text");
    }
    say(&mut writer, &many);
    // Two more than fit.
    assert_eq!(writer.have.services().count(), 16);
    assert_eq!(machine.status.facts().apply_errors, 1);
    assert_eq!(endpoints(&writer), ["a", "b"]);
    writer.squeezed = None;
    say(&mut writer, MESH);
    assert_eq!(writer.have.services().count(), 1);
    assert_eq!(machine.status.facts().failing, None);
}

#[test]
fn an_empty_machine_gets_the_last_snapshot_of_this_node_and_no_other() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, MESH);
    settle(&mut writer);
    drop(writer);
    let empty = || {
        let mut kernel = MemoryKernel::default();
        kernel.add_cgroup("/cgroup");
        kernel
    };
    let mut writer = machine.start(empty());
    assert_eq!(endpoints(&writer), ["a", "b"]);
    assert!(!machine.is_ready(), "the mesh file has not spoken yet");
    say(&mut writer, "workloads: [");
    assert_eq!(endpoints(&writer), ["a", "b"]);

    let file = machine.place().state_dir.join("snapshot.json");
    let text = std::fs::read_to_string(&file).expect("the snapshot");
    std::fs::write(&file, text.replace("10.1.0.1", "10.1.0.9")).expect("damaged");
    assert!(machine.start(empty()).have.services().next().is_none(), "damaged: not used");
}

#[test]
fn writes_are_held_for_a_reader_and_then_done() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, MESH);
    let (done, mut held) = tokio::sync::oneshot::channel();
    writer.obey(Order::Hold(Duration::from_millis(50), done));
    assert!(held.try_recv().is_ok());
    let before = writer.k.written();
    say(&mut writer, &MESH.replace("10.0.0.2", "10.0.0.3"));
    assert_eq!(writer.k.written(), before);
    std::thread::sleep(Duration::from_millis(60));
    writer.work();
    assert!(writer.k.written() > before);
}

#[test]
fn a_hook_that_was_taken_away_is_put_back() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, MESH);
    assert!(writer.hooks_amiss().is_empty());
    writer.k.remove_cgroup(Path::new("/cgroup"));
    writer.k.add_cgroup("/cgroup");
    assert!(!writer.hooks_amiss().is_empty());
    writer.inspect_at = Instant::now();
    writer.work();
    assert!(writer.hooks_amiss().is_empty(), "{:?}", writer.hooks_amiss());
    assert_eq!(endpoints(&writer), ["a", "b"]);
}
