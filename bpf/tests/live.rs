//! Live connections on the real kernel: listed, judged, ended by their cookie, and no other.

mod livepod;
mod wire;
mod world;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kmesh_bpf::kernel::{Put, Sockets as _, Tables as _, TcpSocket};
use kmesh_bpf::layout::{LiveWhy, ManagerWord, Map, RevokedReason, SettingsWords};
use kmesh_bpf::live::{Judged, Round};
use kmesh_bpf::netns;
use livepod::talk::{Denied, accepted, dial_from, echoes, everybody, is_reset, pair, record};
use livepod::{POD, Pod, SET, raw};
use raw::{ACK, RST, Raw};
use rustix::net::sockopt;

fn judge(pod: &mut Pod, says: &Denied, from: Option<&HashSet<IpAddr>>) -> Judged {
    let record = record(pod);
    let mut round = Round::begin(&pod.k, says).expect("begin");
    round.pod(&mut pod.k, &record, from).expect("judge")
}

fn sockets(pod: &Pod) -> Vec<TcpSocket> {
    pod.k.tcp_sockets(&pod.wire.path(1), pod.cookie).expect("list")
}

#[test]
fn denied_connections_end_and_no_other() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    let mut pairs: Vec<_> = POD.iter().map(|to| pair(&pod, &listener, to)).collect();
    // what the pod dialled, to the client that is denied
    let outside = pod.wire.inside(0, || TcpListener::bind("10.9.1.1:7000").expect("listen"));
    let to: SocketAddr = "10.9.1.1:7000".parse().expect("an address");
    let mut dialled = pod.wire.inside(1, || TcpStream::connect(to).expect("connect"));
    let mut accepted = outside.accept().expect("accept").0;
    // to itself: nobody noted it
    let own: SocketAddr = POD[0].parse().expect("an address");
    let mut own = pod.wire.inside(1, || TcpStream::connect(own).expect("connect"));
    let mut own_server = listener.accept().expect("accept").0;

    assert_eq!(judge(&mut pod, &Denied(vec!["10.1.0.0/16"]), None).ended, []);
    for (client, server) in &mut pairs {
        echoes(client, server);
    }
    let judged = judge(&mut pod, &Denied(vec!["10.9.1.0/24"]), None);
    let ended: HashSet<_> = judged.ended.iter().map(|one| one.connection.to()).collect();
    assert_eq!(ended, POD[..2].iter().map(|to| to.parse().expect("an address")).collect());
    assert!(judged.ended.iter().all(|one| one.reason == RevokedReason::Denied));
    for (at, (client, server)) in pairs.iter_mut().enumerate() {
        if at < 2 {
            is_reset(client);
            is_reset(server);
        } else {
            echoes(client, server);
        }
    }
    echoes(&mut dialled, &mut accepted);
    echoes(&mut own, &mut own_server);
    let none = HashSet::from(["fd09::9".parse().expect("an address")]);
    assert_eq!(judge(&mut pod, &everybody(), Some(&none)).ended, []);
    let client = HashSet::from(["fd09::1".parse().expect("an address")]);
    assert_eq!(judge(&mut pod, &everybody(), Some(&client)).ended.len(), 2);
    is_reset(&pairs[2].0);
    echoes(&mut dialled, &mut accepted);
    let mut left = 0;
    pod.k.scan(Map::Auth, 0, &mut |_, values| left += values.len()).expect("read map_of_auth");
    assert_eq!(left, 0, "what was ended is noted no more");
}

#[test]
fn probes_of_the_host_survive() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let host = netns::cookie_of(&pod.wire.path(0)).expect("a cookie");
    for (at, word) in [(SettingsWords::HOST, host), (SettingsWords::FLAGS, SettingsWords::POLICIES)]
    {
        let key = u32::try_from(at).expect("a small number").to_ne_bytes();
        pod.k.update(Map::Settings, &key, &word.to_ne_bytes(), Put::Any).expect("a setting");
    }
    let listener = pod.listen();
    let (mut client, mut server) = pair(&pod, &listener, POD[0]);
    let whys: Vec<_> = pod.notes().iter().map(|(_, note)| note.why()).collect();
    assert_eq!(whys, [Some(LiveWhy::Host)]);
    assert_eq!(judge(&mut pod, &everybody(), None).ended, []);
    echoes(&mut client, &mut server);
}

#[test]
fn what_was_there_before_the_pod_was_governed_is_judged_too() {
    let mut pod = Pod::new();
    pod.word(0, 0);
    let listener = pod.listen();
    let (client, server) = pair(&pod, &listener, POD[1]);
    assert_eq!(pod.notes(), []);
    pod.word(SET, ManagerWord::MANAGED);
    assert_eq!(judge(&mut pod, &everybody(), None).ended.len(), 1);
    is_reset(&client);
    is_reset(&server);
}

#[test]
fn a_later_connection_with_the_same_addresses_is_another() {
    let mut pod = Pod::new();
    let listener = pod.listen();
    let first = (dial_from(&pod, 40_000), listener.accept().expect("accept").0);
    let live = |socket: &&TcpSocket| socket.peer.port() == 40_000;
    let old = *sockets(&pod).iter().find(live).expect("the first one");
    sockopt::set_socket_linger(&first.0, Some(Duration::ZERO)).expect("SO_LINGER");
    drop(first.0);
    is_reset(&first.1);
    drop(first.1);
    let mut second = (dial_from(&pod, 40_000), listener.accept().expect("accept").0);
    let new = *sockets(&pod).iter().find(live).expect("the second one");
    assert_eq!((old.local, old.peer), (new.local, new.peer));
    assert_ne!(old.cookie, new.cookie);
    let path = pod.wire.path(1);
    assert_eq!(pod.k.end_sockets(&path, pod.cookie, &[old]).expect("end"), 0);
    echoes(&mut second.0, &mut second.1);
    assert_eq!(pod.k.end_sockets(&path, pod.cookie, &[new]).expect("end"), 1);
    is_reset(&second.0);
    let wrong = pod.k.tcp_sockets(&path, pod.cookie + 1).expect_err("another namespace");
    assert!(wrong.to_string().contains("list the TCP sockets"), "{wrong}");
}

#[test]
fn a_syn_while_allowed_the_flip_to_deny_the_final_ack_after_it_must_not_live() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    // the same steps without a flip give a connection
    let allowed = Raw::new(&pod, 41_000);
    let seq = allowed.syn();
    assert_eq!(judge(&mut pod, &Denied(vec!["10.1.0.0/16"]), None).ended, []);
    allowed.send(ACK, 1001, seq.wrapping_add(1));
    let begun = Instant::now();
    while !accepted(&listener) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the control never came about");
        std::thread::sleep(Duration::from_millis(5));
    }
    let late = Raw::new(&pod, 41_001);
    let seq = late.syn();
    let half: Vec<_> = sockets(&pod).into_iter().filter(|one| one.peer.port() == 41_001).collect();
    assert_eq!(half.iter().map(|one| one.state).collect::<Vec<_>>(), [TcpSocket::SYN_RECV]);
    let ended = judge(&mut pod, &everybody(), None).ended;
    assert!(ended.iter().any(|one| one.connection.from().port() == 41_001), "{ended:?}");
    late.send(ACK, 1001, seq.wrapping_add(1));
    // retransmissions of the answer may still be under way
    while late.hear().0 & RST == 0 {}
    assert!(!accepted(&listener));
    assert!(!sockets(&pod).iter().any(|one| one.peer.port() == 41_001));
}
