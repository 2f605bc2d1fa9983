//! Policies and connections for tests of live connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use kmesh_bpf::authz::{Action, Condition, Identity, Match, Policy, Scope};
use kmesh_bpf::layout::ManagerWord;
use kmesh_bpf::live::Says;
use kmesh_bpf::pods::Record;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

use super::{POD, Pod, SET};

/// Denies these addresses.
pub struct Denied(pub Vec<&'static str>);

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

pub fn everybody() -> Denied {
    Denied(vec!["0.0.0.0/0", "::/0"])
}

pub fn record(pod: &Pod) -> Record {
    let word = Some(ManagerWord::new(pod.cookie, None, SET, ManagerWord::MANAGED));
    Record { cookie: pod.cookie, word, uid: Some("pod".to_owned()), netns: Some(pod.wire.path(1)) }
}

pub fn echoes(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"x").expect("write");
    server.read_exact(&mut [0; 1]).expect("read");
    server.write_all(b"y").expect("answer");
    client.read_exact(&mut [0; 1]).expect("read the answer");
}

/// The end sees a reset, at once.
pub fn is_reset(mut end: &TcpStream) {
    end.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let error = end.read(&mut [0; 1]).expect_err("a reset");
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
    assert!(kinds.contains(&error.kind()), "{error}");
}

pub fn pair(pod: &Pod, listener: &TcpListener, to: &str) -> (TcpStream, TcpStream) {
    (pod.dial(to), listener.accept().expect("accept").0)
}

pub fn dial_from(pod: &Pod, port: u16) -> TcpStream {
    pod.wire.inside(0, || {
        let made = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&made, true).expect("SO_REUSEADDR");
        bind(&made, &SocketAddrV4::new(Ipv4Addr::new(10, 9, 1, 1), port)).expect("bind");
        let to: SocketAddr = POD[0].parse().expect("an address");
        connect(&made, &to).expect("connect");
        made.into()
    })
}

/// The accept queue of the listener, without waiting.
pub fn accepted(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    match listener.accept() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            false
        }
    }
}
