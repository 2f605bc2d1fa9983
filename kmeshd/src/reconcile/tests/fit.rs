//! A mesh that the tables have no room for: what is in force is kept up to date, as much of the
//! rest as fits is there, whole, and the rest comes as soon as there is room.

use std::fmt::Write as _;

use kmesh_bpf::check;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::want::{Family, Kind, ServiceKey};

use super::{Machine, kill, say};

/// Services s00, s01, …, each with two endpoints of its own, and a policy.
fn mesh(services: std::ops::Range<usize>, unhealthy: &str) -> String {
    let mut workloads = "workloads:\n".to_owned();
    let mut text = "services:\n".to_owned();
    for n in services {
        writeln!(
            text,
            "- {{namespace: n, hostname: s{n:02}, vips: [/10.1.0.{n}], ports: {{80: 1}}}}"
        )
        .expect("a text");
        for which in ["a", "b"] {
            let uid = format!("{which}{n:02}");
            let ip = format!("10.0.{}.{n}", u8::from(which == "b"));
            let status = if uid == unhealthy { "Unhealthy" } else { "Healthy" };
            writeln!(
                workloads,
                "- {{uid: {uid}, workloadIps: [{ip}], status: {status}, services: {{n/s{n:02}: {{80: 1}}}}}}"
            )
            .expect("a text");
        }
    }
    text + &workloads
}

fn endpoints(writer: &super::Writer<MemoryKernel>, n: usize) -> Option<usize> {
    let name = format!("n/s{n:02}");
    let key =
        ServiceKey { name: (*name).into(), port: 80, family: Family::V4, kind: Kind::Service };
    writer.have.service(&key).map(|service| service.endpoints.len())
}

/// Nothing leads nowhere; that a map is nearly full is as it should be here.
fn is_whole(writer: &super::Writer<MemoryKernel>) {
    let found = check::check(&writer.have);
    let errors = found.iter().filter(|finding| finding.severity == check::Severity::Error);
    assert_eq!(errors.count(), 0, "{found:?}");
}

#[test]
fn a_mesh_too_large_freezes_nothing_and_what_fits_is_in_force() {
    // Room for 16 services.
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, &mesh(1..9, ""));
    assert!(machine.is_ready());
    // 40: those that are there stay, eight of the others fit.
    say(&mut writer, &mesh(1..41, ""));
    let failing = writer.status.facts().failing.clone().expect("it says so");
    for part in ["map kmesh_service is too small", "--max-services", "24 services, 48 workloads"] {
        assert!(failing.contains(part), "{failing}");
    }
    let there = |writer: &_| (1..41).filter(|n| endpoints(writer, *n) == Some(2)).count();
    assert_eq!(there(&writer), 16);
    assert!((1..9).all(|n| endpoints(&writer, n) == Some(2)));
    is_whole(&writer);

    // Endpoints still go, and the services that are left out do not come.
    writer.squeezed = None;
    say(&mut writer, &mesh(1..41, "a03"));
    assert_eq!(endpoints(&writer, 3), Some(1));
    // A service that goes makes room for another.
    writer.squeezed = None;
    say(&mut writer, &mesh(2..41, ""));
    assert_eq!((endpoints(&writer, 1), there(&writer)), (None, 16));
    is_whole(&writer);

    // A daemon that starts keeps what is there, and is not ready.
    let kernel = kill(writer);
    let before = kernel.written();
    let mut writer = machine.start(kernel);
    say(&mut writer, &mesh(2..41, ""));
    assert_eq!(writer.k.written(), before, "nothing differs of what fits");
    assert!(!machine.is_ready());
    // The mesh is small again.
    writer.squeezed = None;
    say(&mut writer, &mesh(2..10, ""));
    assert_eq!(writer.status.facts().failing, None);
    assert_eq!(there(&writer), 8);
    assert!(machine.is_ready());
    is_whole(&writer);
}
