//! Verify on the kernel in memory: the faults that cannot be planted on a real one by hand.

use std::path::Path;

use super::{Report, verify};
use crate::attach;
use crate::check::Severity;
use crate::kernel::Objects as _;
use crate::layout::{Hook, Limits};
use crate::memory::MemoryKernel;
use crate::pins::{self, Root};

const CGROUP: &str = "/cg";

fn installed() -> (MemoryKernel, Root) {
    let mut k = MemoryKernel::default();
    k.add_cgroup(CGROUP);
    let root = Root::new("/bpf/kmesh");
    k.make_dir(root.path()).unwrap();
    let limits = Limits::default();
    pins::adopt_maps(&mut k, &root, &limits).unwrap();
    attach::adopt_hooks(&mut k, &root, Path::new(CGROUP), &limits, false).unwrap();
    k.restart();
    (k, root)
}

fn look(k: &mut MemoryKernel, root: &Root) -> Report {
    verify(k, root, Path::new(CGROUP), None).unwrap()
}

/// The only finding, as severity, layer, object, problem.
fn only(report: &Report) -> (Severity, &str, &str, &str) {
    let [finding] = report.findings.as_slice() else { panic!("{:#?}", report.findings) };
    (finding.severity, finding.layer, &finding.object, &finding.problem)
}

#[test]
fn a_fresh_installation_has_no_finding_and_nothing_is_written() {
    let (mut k, root) = installed();
    let calls = k.calls();
    assert_eq!(look(&mut k, &root).findings, []);
    assert_eq!(k.calls(), calls);
}

#[test]
fn an_empty_root_is_one_finding() {
    let (mut k, _) = installed();
    let report = look(&mut k, &Root::new("/bpf/none"));
    assert_eq!(only(&report).3, "nothing is installed here");
    assert!(!report.is_good());
}

#[test]
fn a_program_of_another_build_is_a_warning() {
    let (mut k, root) = installed();
    k.set_build(Hook::SockOps, 0x99);
    let report = look(&mut k, &root);
    let (severity, layer, object, problem) = only(&report);
    assert_eq!((severity, layer, object), (Severity::Warning, "programs", "sockops"));
    assert!(problem.contains("another build") && problem.contains("0000000000000099"), "{problem}");
    assert!(report.is_good());
}

#[test]
fn a_link_with_another_program_is_one_finding() {
    let (mut k, root) = installed();
    // Of the same type, and not ours for this hook.
    k.link_update(Hook::Connect4, &root.link(Hook::Connect4), &root.prog(Hook::Connect6)).unwrap();
    let report = look(&mut k, &root);
    let (severity, layer, object, problem) = only(&report);
    assert_eq!((severity, layer, object), (Severity::Error, "programs", "connect4"));
    assert!(problem.contains("replaced by another: \"connect6\""), "{problem}");
}

#[test]
fn a_program_that_is_not_the_pinned_one_is_one_finding() {
    let (mut k, root) = installed();
    let aside = root.prog_new(Hook::Connect4);
    k.load(Hook::Connect4, &root.maps(), &Limits::default(), &aside).unwrap();
    k.link_update(Hook::Connect4, &root.link(Hook::Connect4), &aside).unwrap();
    let report = look(&mut k, &root);
    let (_, layer, object, problem) = only(&report);
    assert_eq!((layer, object), ("programs", "connect4"));
    assert!(problem.contains("stands at the hook, not the pinned"), "{problem}");
}

#[test]
fn an_unpinned_link_takes_only_its_own_hook() {
    let (mut k, root) = installed();
    k.unpin(&root.link(Hook::Connect6)).unwrap();
    let report = look(&mut k, &root);
    let (_, layer, object, _) = only(&report);
    assert_eq!((layer, object), ("links", "connect6"));
}

#[test]
fn a_cgroup_that_is_gone_is_one_finding_for_all_hooks() {
    let (mut k, root) = installed();
    k.remove_cgroup(Path::new(CGROUP));
    k.add_cgroup(CGROUP);
    let report = look(&mut k, &root);
    let (severity, layer, object, _) = only(&report);
    assert_eq!((severity, layer), (Severity::Error, "links"));
    assert_eq!(object, "sockops, connect4, connect6");
}

#[test]
fn every_pin_that_is_lost_is_one_finding() {
    let pins: Vec<_> = {
        let (k, root) = installed();
        let dirs = [root.maps(), root.progs(), root.links()];
        let names = |dir: &std::path::PathBuf| {
            let dir = dir.clone();
            let entries = k.list(&dir).unwrap().unwrap_or_default();
            entries.into_iter().map(move |(name, _)| dir.join(name))
        };
        dirs.iter().flat_map(names).collect()
    };
    assert!(pins.len() >= 18, "{pins:?}");
    for pin in pins {
        let (mut k, root) = installed();
        k.unpin(&pin).unwrap();
        let report = look(&mut k, &root);
        assert_eq!(report.findings.len(), 1, "{}: {:#?}", pin.display(), report.findings);
        let name = pin.file_name().unwrap().to_string_lossy();
        assert!(report.findings[0].object.contains(&*name), "{:?}", report.findings[0]);
    }
}
