//! Live connections ended by the XDP program, on the real kernel: exactly those that are denied, on
//! both sides, and the program is at the pod's interfaces only so long.

mod livepod;
mod wire;
mod world;

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use kmesh_bpf::kernel::{Objects as _, Put, Tables as _};
use kmesh_bpf::layout::{ConnectionKey, Map};
use kmesh_bpf::live::{self, Judged, Revoke, Round};
use kmesh_bpf::pods::xdp;
use livepod::raw::{ACK, RST, Raw};
use livepod::talk::{Denied, accepted, dial_from, echoes, everybody, is_reset, pair, record};
use livepod::{POD, Pod};

fn judge(pod: &mut Pod, says: &Denied) -> Judged {
    let (record, root) = (record(pod), pod.world.root.clone());
    let round = Round::begin(&pod.k, says).expect("begin");
    round.ending(Revoke::Xdp, &root).pod(&mut pod.k, &record, None).expect("judge")
}

fn tend(pod: &mut Pod, how: Revoke) -> bool {
    let (record, root) = (record(pod), pod.world.root.clone());
    live::tend(&mut pod.k, &root, how, &record).expect("tend")
}

/// Whether the pod's interface has an XDP program, as its own tools see it.
fn is_attached(pod: &Pod) -> bool {
    let name = &pod.wire.names[1];
    let said = Command::new("ip").args(["-n", name, "link", "show", "eth0"]).output().expect("ip");
    String::from_utf8(said.stdout).expect("text").contains("xdpgeneric")
}

fn noted(pod: &Pod) -> Vec<(ConnectionKey, [u64; 2])> {
    let mut all = Vec::new();
    pod.k
        .scan(Map::Auth, 0, &mut |keys, values| {
            let keys = keys.chunks_exact(48).map(bytemuck::pod_read_unaligned);
            all.extend(keys.zip(values.chunks_exact(16).map(bytemuck::pod_read_unaligned)));
        })
        .expect("read map_of_auth");
    all
}

/// Nothing is left: no note, no link, no pin, no program at the interface.
fn assert_gone(pod: &mut Pod) {
    assert!(!tend(pod, Revoke::Xdp));
    assert_eq!(noted(pod), []);
    assert!(!is_attached(pod));
    let entries = pod.k.list(&pod.world.root.pod(pod.cookie)).expect("list");
    assert_eq!(entries, Some(Vec::new()));
}

/// The client's next packet ends its connection, and it learns so itself.
fn ends((client, server): &mut (TcpStream, TcpStream)) {
    client.write_all(b"x").expect("write");
    is_reset(server);
    is_reset(client);
}

#[test]
fn exactly_the_denied_connections_end_on_both_sides() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    let mut pairs: Vec<_> = POD.iter().map(|to| pair(&pod, &listener, to)).collect();
    assert_eq!(judge(&mut pod, &Denied(vec!["10.1.0.0/16"])).ended, []);
    assert!(!is_attached(&pod), "nothing is to end");

    let v4 = Denied(vec!["10.9.1.0/24"]);
    assert_eq!(judge(&mut pod, &v4).ended.len(), 2);
    assert!(is_attached(&pod));
    assert_eq!(judge(&mut pod, &v4).ended, [], "told once");
    // same addresses, another port; and other ones
    let mut later = pair(&pod, &listener, POD[0]);
    echoes(&mut later.0, &mut later.1);
    pairs[..2].iter_mut().for_each(ends);
    for (client, server) in [&mut later].into_iter().chain(&mut pairs[2..]) {
        echoes(client, server);
    }
    assert_gone(&mut pod);

    assert_eq!(judge(&mut pod, &Denied(vec!["fd09::/16"])).ended.len(), 2);
    pairs[2..].iter_mut().for_each(ends);
    echoes(&mut later.0, &mut later.1);
    assert_gone(&mut pod);
}

#[test]
fn what_is_denied_no_more_lives_on() {
    let mut pod = Pod::new();
    let listener = pod.listen();
    let mut one = pair(&pod, &listener, POD[0]);
    assert_eq!(judge(&mut pod, &everybody()).ended.len(), 1);
    assert!(tend(&mut pod, Revoke::Xdp));
    assert!(is_attached(&pod));
    assert_eq!(judge(&mut pod, &Denied(vec!["10.1.0.0/16"])).ended, []);
    echoes(&mut one.0, &mut one.1);
    assert_gone(&mut pod);
    // a daemon that ends them otherwise takes the program away
    assert_eq!(judge(&mut pod, &everybody()).ended.len(), 1);
    assert!(!tend(&mut pod, Revoke::Destroy));
    assert!(!is_attached(&pod));
}

#[test]
fn a_later_connection_with_the_same_addresses_lives() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    let mut first = (dial_from(&pod, 40_000), listener.accept().expect("accept").0);
    // keeps the program where it is
    let _other = pair(&pod, &listener, POD[1]);
    assert_eq!(judge(&mut pod, &everybody()).ended.len(), 2);
    let old = noted(&pod).into_iter().find(|(key, _)| key.from().port() == 40_000).expect("noted");
    ends(&mut first);
    drop(first);
    // as if its note had outlived it
    let (key, value) = (bytemuck::bytes_of(&old.0), bytemuck::bytes_of(&old.1));
    pod.k.update(Map::Auth, key, value, Put::Any).expect("note");
    let mut second = (dial_from(&pod, 40_000), listener.accept().expect("accept").0);
    assert!(is_attached(&pod));
    echoes(&mut second.0, &mut second.1);
    assert!(tend(&mut pod, Revoke::Xdp), "the other one is to end");
    assert!(noted(&pod).iter().all(|(key, _)| key.from().port() != 40_000));
    echoes(&mut second.0, &mut second.1);
}

#[test]
fn a_half_open_connection_ends_with_its_final_ack() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    let late = Raw::new(&pod, 41_001);
    let seq = late.syn();
    assert_eq!(judge(&mut pod, &everybody()).ended.len(), 1);
    late.send(ACK, 1001, seq.wrapping_add(1));
    let begun = Instant::now();
    while tend(&mut pod, Revoke::Xdp) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!accepted(&listener));
    late.send(ACK, 1001, seq.wrapping_add(1));
    while late.hear().0 & RST == 0 {}
    assert_gone(&mut pod);
}

#[test]
fn an_interface_that_comes_later_has_the_program_too() {
    let mut pod = Pod::new();
    let listener = pod.listen();
    let _one = pair(&pod, &listener, POD[0]);
    assert_eq!(judge(&mut pod, &everybody()).ended.len(), 1);
    let links = |pod: &Pod| xdp::links(&pod.k, &pod.world.root, pod.cookie).expect("links");
    let before = links(&pod);
    assert_eq!(before.len(), 1);
    let name = pod.wire.names[1].clone();
    wire::ip(&["-n", &name, "link", "add", "a.b", "type", "veth", "peer", "a.c"]);
    assert!(tend(&mut pod, Revoke::Xdp));
    let after = links(&pod);
    assert_eq!(after.len(), 3);
    assert!(after.iter().any(|(_, link)| link.id == before[0].1.id), "the link stays");
    assert!(tend(&mut pod, Revoke::Xdp));
    assert_eq!(links(&pod), after, "what stands stays");
    wire::ip(&["-n", &name, "link", "del", "a.b"]);
    assert!(tend(&mut pod, Revoke::Xdp));
    assert!(is_attached(&pod));
}
