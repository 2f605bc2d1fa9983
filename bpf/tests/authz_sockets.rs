//! The program in a pod's network namespace, with real sockets: a denied client is refused at
//! once, no address of the pod is a way around, and the pod may dial itself.

mod wire;
mod world;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use kmesh_bpf::authz::{Action, Policy, Scope, compile};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{LinkInfo, Objects, Pinned, Put, Tables};
use kmesh_bpf::layout::{COUNTERS, Hook, ManagerWord, Map, SettingsWords};
use kmesh_bpf::{netns, ours};
use wire::Wire;
use world::{SMALL, World};

/// A pod that lets nobody in, with a listener.
struct Pod {
    world: World,
    k: Linux,
    wire: Wire,
    cookie: u64,
    listener: TcpListener,
}

impl Pod {
    fn new() -> Self {
        let (world, wire) = (World::new(), Wire::new());
        let (mut k, ..) = world.start();
        let cookie = netns::cookie_of(&wire.path(1)).expect("the pod's cookie");
        let listener = wire.inside(1, || TcpListener::bind("[::]:7000").expect("listen"));
        let closed = Policy {
            name: "ns/closed".into(),
            scope: Scope::Namespace,
            action: Action::Allow,
            dry_run: false,
            groups: Vec::new(),
        };
        let image = compile(&[closed], []).expect("it fits").image();
        image.write(&mut k, 1, 0, 0).expect("write the set");
        let dir = world.root.pod(cookie);
        k.make_dir(&dir).expect("the pod's directory");
        let mut pod = Self { world, k, wire, cookie, listener };
        pod.load("one");
        let (prog, link) = (pod.prog("one"), pod.link());
        let made = pod.k.link_netns(&prog, cookie, &pod.wire.path(1), &link).expect("attach");
        assert_eq!((made.kind, made.attach_type), (ours::LINK_NETNS, Hook::SkLookup.attach_type()));
        assert_ne!(made.cgroup_id, 0, "the namespace's inode");
        pod
    }

    fn prog(&self, name: &str) -> PathBuf {
        self.world.root.pod(self.cookie).join(name)
    }

    fn link(&self) -> PathBuf {
        self.world.root.pod(self.cookie).join("sk_lookup")
    }

    fn load(&mut self, name: &str) -> u32 {
        let (path, maps) = (self.prog(name), self.world.root.maps());
        self.k.load_pod(Hook::SkLookup, self.cookie, &maps, &SMALL, &path).expect("load").id
    }

    fn govern(&mut self, set: u16) {
        let word = ManagerWord::new(self.cookie, None, set, ManagerWord::MANAGED);
        let (key, value) = (self.cookie.to_ne_bytes(), bytemuck::bytes_of(&word));
        self.k.update(Map::Manager, &key, value, Put::Any).expect("the pod's word");
    }

    fn counter(&self, name: &str) -> u64 {
        let counter = COUNTERS.iter().find(|counter| counter.name == name).expect("a counter");
        self.k.lookup_per_cpu(Map::Stats, counter.index).expect("read").iter().sum()
    }

    fn set(&mut self, setting: usize, word: u64) {
        let key = u32::try_from(setting).expect("a small number").to_ne_bytes();
        self.k.update(Map::Settings, &key, &word.to_ne_bytes(), Put::Any).expect("a setting");
    }

    /// Dials from a process in the governed cgroup; whether it connected.
    fn dial_noted(&self, at: usize, to: &str) -> bool {
        let cgroup = self.world.cgroup.0.join("cgroup.procs");
        self.wire.inside(at, || {
            let script = "echo $$ > \"$1\" && exec 3<>/dev/tcp/$2/7000";
            let args = ["-c", script, "dial", cgroup.to_str().expect("a path"), to];
            Command::new("bash").args(args).output().expect("bash").status.success()
        })
    }

    fn link_info(&self) -> LinkInfo {
        match self.k.pinned(&self.link()).expect("open") {
            Some(Pinned::Link(info)) => info,
            other => panic!("{other:?}"),
        }
    }

    /// Dials from a namespace; whether it connected. A refusal comes at once.
    fn dial(&self, at: usize, to: &str) -> bool {
        let to: SocketAddr = to.parse().expect("an address");
        let begun = Instant::now();
        match self.wire.inside(at, || TcpStream::connect_timeout(&to, Duration::from_secs(20))) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
                assert!(begun.elapsed() < Duration::from_secs(10), "{to}: not at once");
                false
            }
        }
    }
}

const POD: [&str; 4] = ["10.9.1.2:7000", "10.9.1.3:7000", "[fd09::2]:7000", "[fd09::3]:7000"];

/// The pod's link-local address, as the namespace's own interface reaches it.
fn link_local(pod: &Pod, at: usize) -> String {
    let index = pod.wire.inside(at, || {
        let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("addresses");
        let line = text.lines().find(|line| line.ends_with("eth0")).expect("eth0").to_owned();
        u32::from_str_radix(line.split_whitespace().nth(1).expect("an index"), 16)
            .expect("a number")
    });
    format!("[fe80::2%{index}]:7000")
}

#[test]
fn no_address_of_the_pod_is_a_way_around() {
    let mut pod = Pod::new();
    let mut addresses = POD.map(str::to_owned).to_vec();
    addresses.push(link_local(&pod, 0));
    pod.govern(0);
    for address in &addresses {
        assert!(pod.dial(0, address), "{address}: no policy");
    }
    pod.govern(1);
    for address in &addresses {
        assert!(!pod.dial(0, address), "{address}");
    }
    assert_eq!(pod.counter("auth_denied"), addresses.len() as u64);
    assert_eq!(pod.counter("auth_none"), addresses.len() as u64);
}

#[test]
fn the_pod_may_dial_itself_and_udp_passes() {
    let mut pod = Pod::new();
    pod.govern(1);
    for address in ["127.0.0.1:7000", "[::1]:7000", &link_local(&pod, 1), POD[0], POD[2], POD[3]] {
        assert!(pod.dial(1, address), "{address}");
    }
    assert_eq!(pod.counter("auth_local"), 6);
    // from one of its addresses to another that the model does not know: sockops has seen it
    pod.set(SettingsWords::FLAGS, SettingsWords::POLICIES);
    assert!(pod.dial_noted(1, "10.9.1.3"));
    assert!(!pod.dial_noted(0, "10.9.1.3"));
    assert_eq!(pod.counter("auth_local"), 7);
    let server = pod.wire.inside(1, || UdpSocket::bind("10.9.1.2:7001").expect("bind"));
    server.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    pod.wire.inside(0, || {
        let client = UdpSocket::bind("10.9.1.1:0").expect("bind");
        client.send_to(b"hello", "10.9.1.2:7001").expect("send")
    });
    assert_eq!(server.recv(&mut [0; 8]).expect("the datagram"), 5);
}

#[test]
fn what_stands_goes_on_and_the_program_can_be_replaced() {
    let mut pod = Pod::new();
    pod.govern(0);
    let to: SocketAddr = POD[0].parse().expect("an address");
    let stream = pod.wire.inside(0, || TcpStream::connect(to).expect("connect"));
    pod.govern(1);
    let (mut server, _) = pod.listener.accept().expect("accept");
    (&stream).write_all(b"x").expect("write");
    server.read_exact(&mut [0; 1]).expect("read");
    let second = pod.load("two");
    let (link, prog) = (pod.link(), pod.prog("two"));
    pod.k.link_update(Hook::SkLookup, &link, &prog).expect("replace");
    assert_eq!(pod.link_info().prog_id, second);
    assert!(!pod.dial(0, POD[0]));
}

#[test]
fn the_link_dies_with_the_namespace() {
    let pod = Pod::new();
    let Pod { world, k, wire, cookie, listener } = pod;
    drop((listener, wire));
    let link = world.root.pod(cookie).join("sk_lookup");
    let begun = Instant::now();
    loop {
        let Some(Pinned::Link(info)) = k.pinned(&link).expect("open") else { panic!("no link") };
        if info.cgroup_id == 0 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{info:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn only_what_the_host_itself_dials_is_exempt() {
    let mut pod = Pod::new();
    pod.govern(1);
    let host = netns::cookie_of(&pod.wire.path(0)).expect("a cookie");
    assert!(!pod.dial_noted(0, "10.9.1.2"), "nothing is noted before a policy is in force");
    pod.set(SettingsWords::HOST, host);
    pod.set(SettingsWords::FLAGS, SettingsWords::POLICIES);
    assert!(pod.dial_noted(0, "10.9.1.2"), "a probe");
    assert!(!pod.dial(0, POD[0]), "the same address, another socket: nobody noted it");
    assert_eq!(pod.counter("auth_host"), 1);
}
