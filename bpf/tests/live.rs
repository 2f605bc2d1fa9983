//! Live connections on the real kernel: listed, judged, ended by their cookie, and no other.

mod livepod;
mod wire;
mod world;

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kmesh_bpf::authz::{Action, Condition, Identity, Match, Policy, Scope};
use kmesh_bpf::kernel::{Put, Sockets as _, Tables as _, TcpSocket};
use kmesh_bpf::layout::{LiveWhy, ManagerWord, Map, RevokedReason, SettingsWords};
use kmesh_bpf::live::{Judged, Round, Says};
use kmesh_bpf::netns;
use kmesh_bpf::pods::Record;
use livepod::{POD, Pod, SET};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType};
use rustix::net::{bind, connect, ipproto, recv, sendto, socket, sockopt};

/// Denies these addresses.
struct Denied(Vec<&'static str>);

impl Says for Denied {
    fn policies(&self, set: u16) -> Vec<Arc<Policy>> {
        assert_eq!(set, SET);
        let any = self.0.iter().map(|net| net.parse().expect("a range")).collect();
        let source_ips = Condition { any, none: Vec::new() };
        let groups = vec![vec![vec![Match { source_ips, ..Match::default() }]]];
        let (scope, action) = (Scope::Namespace, Action::Deny);
        vec![Arc::new(Policy { name: "ns/deny".into(), scope, action, dry_run: false, groups })]
    }

    fn identity(&self, _: IpAddr) -> Option<Identity> {
        None
    }
}

fn everybody() -> Denied {
    Denied(vec!["0.0.0.0/0", "::/0"])
}

fn record(pod: &Pod) -> Record {
    let word = Some(ManagerWord::new(pod.cookie, None, SET, ManagerWord::MANAGED));
    Record { cookie: pod.cookie, word, uid: Some("pod".to_owned()), netns: Some(pod.wire.path(1)) }
}

fn judge(pod: &mut Pod, says: &Denied, from: Option<&HashSet<IpAddr>>) -> Judged {
    let record = record(pod);
    let mut round = Round::begin(&pod.k, says).expect("begin");
    round.pod(&mut pod.k, &record, from).expect("judge")
}

fn sockets(pod: &Pod) -> Vec<TcpSocket> {
    pod.k.tcp_sockets(&pod.wire.path(1), pod.cookie).expect("list")
}

fn echoes(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"x").expect("write");
    server.read_exact(&mut [0; 1]).expect("read");
    server.write_all(b"y").expect("answer");
    client.read_exact(&mut [0; 1]).expect("read the answer");
}

/// The end sees a reset, at once.
fn is_reset(mut end: &TcpStream) {
    end.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let error = end.read(&mut [0; 1]).expect_err("a reset");
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
    assert!(kinds.contains(&error.kind()), "{error}");
}

fn pair(pod: &Pod, listener: &TcpListener, to: &str) -> (TcpStream, TcpStream) {
    (pod.dial(to), listener.accept().expect("accept").0)
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

fn dial_from(pod: &Pod, port: u16) -> TcpStream {
    pod.wire.inside(0, || {
        let made = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&made, true).expect("SO_REUSEADDR");
        bind(&made, &SocketAddrV4::new(Ipv4Addr::new(10, 9, 1, 1), port)).expect("bind");
        let to: SocketAddr = POD[0].parse().expect("an address");
        connect(&made, &to).expect("connect");
        made.into()
    })
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

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A client that sends what it is told: an address that nobody has, so that no kernel answers.
struct Raw {
    sending: OwnedFd,
    hearing: OwnedFd,
    port: u16,
}

const RAW: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 77);
const TO: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 2);

impl Raw {
    fn new(pod: &Pod, port: u16) -> Self {
        let mac = pod.wire.inside(0, || {
            let said = Command::new("ip").args(["-br", "link", "show", "eth0"]).output();
            String::from_utf8(said.expect("ip").stdout).expect("text")
        });
        let mac = mac.split_whitespace().nth(2).expect("an address").to_owned();
        let name = &pod.wire.names[1];
        let neighbour = RAW.to_string();
        wire::ip(&["-n", name, "neigh", "replace", &neighbour, "lladdr", &mac, "dev", "eth0"]);
        let (sending, hearing) = pod.wire.inside(0, || {
            let ipv4 = NonZeroU32::new(u32::from(0x0800_u16.to_be())).map(Protocol::from_raw);
            let sending = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
            let hearing = socket(AddressFamily::PACKET, SocketType::DGRAM, ipv4);
            (sending.expect("a raw socket"), hearing.expect("a packet socket"))
        });
        let long = Some(Duration::from_secs(20));
        sockopt::set_socket_timeout(&hearing, sockopt::Timeout::Recv, long).expect("a time-out");
        Self { sending, hearing, port }
    }

    fn send(&self, flags: u8, seq: u32, ack: u32) {
        let mut tcp = Vec::new();
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(7000_u16.to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let sum = checksum(&[&RAW.octets()[..], &TO.octets(), &[0, 6, 0, 20], &tcp].concat());
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
        packet.extend(RAW.octets());
        packet.extend(TO.octets());
        packet.extend(tcp);
        let to = SocketAddrV4::new(TO, 0);
        sendto(&self.sending, &packet, SendFlags::empty(), &to).expect("send");
    }

    /// The next packet to this client: its flags and sequence number.
    fn hear(&self) -> (u8, u32) {
        loop {
            let mut packet = [0; 256];
            let (len, _) =
                recv(&self.hearing, &mut packet[..], RecvFlags::empty()).expect("a packet");
            let ours = len >= 40
                && packet[9] == 6
                && packet[16..20] == RAW.octets()
                && packet[22..24] == self.port.to_be_bytes();
            if ours {
                let seq = packet[24..28].try_into().expect("four bytes");
                return (packet[33] & 0x3f, u32::from_be_bytes(seq));
            }
        }
    }

    /// Sends a SYN; the sequence number of the answer.
    fn syn(&self) -> u32 {
        self.send(SYN, 1000, 0);
        let (flags, seq) = self.hear();
        assert_eq!(flags, SYN | ACK);
        seq
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum & 0xffff)
        .expect("16 bits")
        .wrapping_add(u16::try_from(sum >> 16).expect("carry"))
}

/// The accept queue of the listener, without waiting.
fn accepted(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    match listener.accept() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            false
        }
    }
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
