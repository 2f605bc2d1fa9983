//! What the writer keeps where a source says too little: over a restart, and of two sources.

use kmesh_bpf::check;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::want::{Family, Kind, ServiceKey};

use super::{Machine, kill, say};
use crate::reconcile::{Order, Served, Writer};
use crate::sources::mesh_file;

/// Like a mesh file, but for services that are only named: a control plane may do that.
fn say_all_but(writer: &mut Writer<MemoryKernel>, mesh: &str, services: &[&str]) {
    let mut model = mesh_file::parse(mesh).expect("a good mesh");
    model.services.retain(|(name, _)| !services.contains(&&**name));
    writer.obey(Order::Model(Box::new(model)));
    writer.work();
}

#[test]
fn what_the_mesh_file_names_was_not_the_control_planes() {
    const BOTH: &str = "
workloads:
- {uid: a, workloadIps: [10.0.0.1], services: {n/s: {80: 1}}, waypoint: {destination: /192.0.2.1}}
- {uid: b, workloadIps: [10.0.0.2], services: {n/s: {80: 1}}}
services:
- {namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1, 81: 1}}
- {namespace: n, hostname: t, vips: [/10.1.0.2], ports: {80: 1}}
policies:
- {name: p, namespace: n, action: Deny, scope: Global, rules: []}
- {name: q, namespace: n, action: Deny, scope: Global, rules: []}
";
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, BOTH);
    let mut kernel = kill(writer);
    // An outsider's record counts for nobody; what the file names, or names anew, is the file's.
    let file = "
workloads: [{uid: b, workloadIps: [10.0.0.2]}, {uid: c, workloadIps: [10.0.0.3]}]
services: [{namespace: n, hostname: t, vips: [/10.1.0.2], ports: {80: 1}}]
policies: [{name: q, namespace: n, action: Deny, scope: Global, rules: []}]
";
    for (file, expected) in [
        ("{}", Served { addresses: 4, policies: 2 }),
        (file, Served { addresses: 2, policies: 1 }),
        // What it names is not known: all of it may be the control plane's.
        ("nonsense", Served { addresses: 4, policies: 2 }),
    ] {
        let mut writer = machine.start(kernel);
        writer.awaited.xds = true;
        let (counts, mut in_tables) = tokio::sync::oneshot::channel();
        writer.served = Some(counts);
        say(&mut writer, file);
        assert_eq!(in_tables.try_recv(), Ok(expected), "{file}");
        kernel = kill(writer);
    }
}

#[test]
fn what_an_unknown_waypoint_leaves_in_force_outlives_the_daemon() {
    const THROUGH: &str = "
workloads:
- {uid: wp, workloadIps: [10.0.0.3], services: {n/wp: {}}}
- {uid: a, workloadIps: [10.0.0.1], services: {n/s: {80: 1}}}
services:
- {namespace: n, hostname: wp}
- {namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1}, waypoint: {destination: n/wp}}
- {namespace: n, hostname: t, vips: [/10.1.0.2], ports: {80: 1}, waypoint: {destination: n/wp}}
";
    let through = |writer: &Writer<MemoryKernel>, name: &str| {
        let family = Family::V4;
        let key = ServiceKey { name: name.into(), port: 80, family, kind: Kind::Service };
        let waypoint = writer.have.service(&key).and_then(|service| service.waypoint)?;
        let key = ServiceKey { name: waypoint.name, port: 15019, family, kind: Kind::Waypoint };
        let record = writer.have.service(&key)?;
        Some(record.endpoints.iter().map(|endpoint| endpoint.workload.to_string()).collect())
    };
    let there: Option<Vec<String>> = Some(vec!["wp".to_owned()]);
    // One service goes to a waypoint that is not known; the one of both vanishes.
    let gone = THROUGH
        .replace("- {uid: wp, workloadIps: [10.0.0.3], services: {n/wp: {}}}\n", "")
        .replace("services:\n", "services:\n- {namespace: n, hostname: later}\n")
        .replacen("n/wp}", "n/later}", 1);
    let (mut machine, kernel) = Machine::new();
    let mut writer = machine.start(kernel);
    say(&mut writer, THROUGH);
    say_all_but(&mut writer, &gone, &["n/wp", "n/later"]);
    for restarted in [false, true] {
        if restarted {
            let kernel = kill(writer);
            let written = kernel.written();
            writer = machine.start(kernel);
            say_all_but(&mut writer, &gone, &["n/wp", "n/later"]);
            assert_eq!(writer.k.written(), written, "nothing changed");
        }
        assert_eq!(
            [through(&writer, "n/s"), through(&writer, "n/t")],
            [there.clone(), there.clone()]
        );
        assert_eq!(check::check(&writer.have), []);
        let wanted = writer.wanted();
        assert_eq!(check::compare(&writer.have, &wanted), [], "verify --against daemon");
        assert_eq!(writer.desired.oddities().waypoints.len(), 2);
    }
    let later = "- {uid: later, workloadIps: [10.0.0.4], services: {n/later: {}}}\nservices:\n";
    say_all_but(&mut writer, &gone.replace("services:\n", later), &["n/wp"]);
    assert_eq!(through(&writer, "n/s"), Some(vec!["later".to_owned()]));
    assert_eq!(through(&writer, "n/t"), there);
}
