//! Judging on the kernel in memory: who is ended, who is not.

use std::net::SocketAddr;

use super::*;
use crate::authz::{Action, Condition, Match, Scope, StringMatch};
use crate::kernel::{Put, Sockets as _};
use crate::layout::{Limits, ManagerWord, RevokedRecord};
use crate::memory::{Fault, MemoryKernel};

const COOKIE: u64 = 77;
const SET: u16 = 4;
const ESTABLISHED: u8 = 1;
const CLIENT: &str = "10.0.0.1";

/// Lets in who has an identity.
struct Known(Vec<IpAddr>);

impl Says for Known {
    fn policies(&self, set: u16) -> Vec<Arc<Policy>> {
        assert_eq!(set, SET);
        let known = Condition { any: vec![StringMatch::Presence], none: Vec::new() };
        let groups = vec![vec![vec![Match { principals: known, ..Match::default() }]]];
        let scope = Scope::Namespace;
        let name = "ns/known".into();
        vec![Arc::new(Policy { name, scope, action: Action::Allow, dry_run: false, groups })]
    }

    fn identity(&self, address: IpAddr) -> Option<Identity> {
        self.0.contains(&address).then(|| Identity::parse("td/ns/a/sa/b").expect("an identity"))
    }
}

fn nobody() -> Known {
    Known(Vec::new())
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn socket(local: &str, peer: &str, cookie: u64, state: u8) -> TcpSocket {
    let (local, peer) = (at(local), at(peer));
    TcpSocket { local, peer, cookie, state, family: 4, interface: 0, rest: false }
}

fn pod(set: u16, flags: u8) -> Record {
    let word = Some(ManagerWord::new(COOKIE, None, set, flags));
    let netns = Some("/run/netns/pod".into());
    Record { cookie: COOKIE, word, uid: Some("pod".to_owned()), netns }
}

fn managed() -> Record {
    pod(SET, ManagerWord::MANAGED)
}

fn kernel(sockets: &[TcpSocket]) -> MemoryKernel {
    let mut k = MemoryKernel::with_tables(&Limits { connections: 8, ..Limits::default() });
    for socket in sockets {
        k.add_socket(COOKIE, *socket);
    }
    k
}

fn left(k: &MemoryKernel) -> Vec<u64> {
    let sockets = k.tcp_sockets(Path::new("/"), COOKIE).expect("the sockets");
    sockets.iter().map(|socket| socket.cookie).collect()
}

fn judge_all(k: &mut MemoryKernel, says: &Known, pod: &Record) -> Judged {
    let mut round = Round::begin(k, says).expect("begin");
    round.pod(k, pod, None).expect("judge")
}

fn note(k: &mut MemoryKernel, from: &str, to: &str, socket: u64, why: LiveWhy) {
    let (from, to) = (at(from), at(to));
    let key = ConnectionKey::new(COOKIE, (from.ip(), from.port()), (to.ip(), to.port()));
    let record = LiveRecord::new(socket, why, SET, 1);
    k.update(Map::Tuple, bytemuck::bytes_of(&key), bytemuck::bytes_of(&record), Put::Any)
        .expect("note");
}

#[test]
fn only_what_came_in_and_is_denied_is_ended() {
    let mut k = kernel(&[
        socket("0.0.0.0:80", "0.0.0.0:0", 1, TcpSocket::LISTEN),
        socket("10.0.0.9:80", "10.0.0.1:1000", 2, ESTABLISHED),
        socket("10.0.0.9:80", "10.0.0.2:1000", 3, ESTABLISHED),
        // the pod dialled
        socket("10.0.0.9:2000", "10.0.0.1:80", 4, ESTABLISHED),
        socket("10.0.0.9:80", "10.0.0.1:81", 5, TcpSocket::SYN_SENT),
        // half-open, nobody listens any more
        socket("10.0.0.9:81", "10.0.0.1:1001", 6, TcpSocket::SYN_RECV),
        // to itself
        socket("10.0.0.9:80", "10.0.0.9:3000", 7, ESTABLISHED),
        socket("10.0.0.9:3000", "10.0.0.9:80", 8, ESTABLISHED),
        // a rest
        TcpSocket { rest: true, ..socket("10.0.0.9:80", "10.0.0.1:1002", 9, 5) },
    ]);
    let judged = judge_all(&mut k, &Known(vec!["10.0.0.2".parse().expect("ip")]), &managed());
    assert_eq!(left(&k), [1, 3, 4, 5, 7, 8, 9]);
    let ended: Vec<_> = judged.ended.iter().map(|one| one.connection.from()).collect();
    assert_eq!(ended, [at("10.0.0.1:1000"), at("10.0.0.1:1001")]);
    assert!(judged.ended.iter().all(|one| one.reason == RevokedReason::NoAllow));
    assert_eq!(revoked_of(&k, COOKIE).expect("read"), []);
}

#[test]
fn a_note_makes_a_connection_inbound_and_may_exempt_it() {
    let sockets = [
        socket("10.0.0.9:80", "10.0.0.1:1000", 2, ESTABLISHED),
        socket("10.0.0.9:80", "10.0.0.1:1001", 3, ESTABLISHED),
        socket("10.0.0.9:80", "10.0.0.1:1002", 4, ESTABLISHED),
    ];
    let mut k = kernel(&sockets);
    note(&mut k, "10.0.0.1:1000", "10.0.0.9:80", 2, LiveWhy::Nobody);
    note(&mut k, "10.0.0.1:1001", "10.0.0.9:80", 3, LiveWhy::Host);
    // of an earlier socket: says nothing of this one, and is swept
    note(&mut k, "10.0.0.1:1002", "10.0.0.9:80", 99, LiveWhy::Judged);
    let judged = judge_all(&mut k, &nobody(), &managed());
    assert_eq!(left(&k), [3, 4]);
    assert_eq!((judged.ended.len(), judged.swept), (1, 1));
    assert_eq!(notes_of(&k).expect("read").len(), 2);
}

#[test]
fn only_the_addresses_that_changed_are_judged() {
    let sockets = [
        socket("[::]:80", "[::]:0", 1, TcpSocket::LISTEN),
        socket("10.0.0.9:80", "10.0.0.1:1000", 2, ESTABLISHED),
        socket("10.0.0.9:80", "10.0.0.2:1000", 3, ESTABLISHED),
    ];
    let mut k = kernel(&sockets);
    let says = nobody();
    let from = HashSet::from([CLIENT.parse().expect("ip")]);
    let mut round = Round::begin(&k, &says).expect("begin");
    round.pod(&mut k, &managed(), Some(&from)).expect("judge");
    assert_eq!(left(&k), [1, 3]);
}

#[test]
fn bypass_lifts_and_a_waiting_pod_is_left_alone() {
    let sockets = [
        socket("10.0.0.9:80", "0.0.0.0:0", 1, TcpSocket::LISTEN),
        socket("10.0.0.9:80", "10.0.0.1:1000", 2, ESTABLISHED),
    ];
    for word in [
        pod(SET, ManagerWord::MANAGED | ManagerWord::BYPASS),
        pod(0, ManagerWord::MANAGED),
        pod(SET, 0),
        pod(POLICY_WAIT, ManagerWord::MANAGED),
    ] {
        let mut k = kernel(&sockets);
        let key =
            ConnectionKey::new(COOKIE, (at("10.0.0.1:1").ip(), 1), (at("10.0.0.9:80").ip(), 80));
        let record = RevokedRecord::new(&key, 2, RevokedReason::Denied);
        k.update(Map::Auth, bytemuck::bytes_of(&key), bytemuck::bytes_of(&record), Put::Any)
            .expect("note");
        judge_all(&mut k, &nobody(), &word);
        assert_eq!(left(&k), [1, 2], "{word:?}");
        let waits = set_of(&word) == POLICY_WAIT;
        assert_eq!(revoked_of(&k, COOKIE).expect("read").len(), usize::from(waits));
    }
}

#[test]
fn what_could_not_be_ended_stays_noted_and_is_ended_the_next_time() {
    let mut k = kernel(&[
        socket("10.0.0.9:80", "0.0.0.0:0", 1, TcpSocket::LISTEN),
        socket("10.0.0.9:80", "10.0.0.1:1000", 2, ESTABLISHED),
    ]);
    let (says, pod) = (nobody(), managed());
    let fault = Fault { call: 2, elements: 0, errno: libc::EOPNOTSUPP, for_good: false };
    k.set_fault(Some(fault));
    let failed = Round::begin(&k, &says).expect("begin").pod(&mut k, &pod, None);
    assert!(matches!(failed, Err(LiveError::Unsupported { .. })), "{failed:?}");
    assert_eq!(revoked_of(&k, COOKIE).expect("read").len(), 1);
    judge_all(&mut k, &says, &pod);
    assert_eq!(left(&k), [1]);
    assert_eq!(revoked_of(&k, COOKIE).expect("read"), []);
}

#[test]
fn notes_of_namespaces_that_are_no_pods_are_swept() {
    let mut k = kernel(&[]);
    note(&mut k, "10.0.0.1:1000", "10.0.0.9:80", 2, LiveWhy::Judged);
    assert_eq!(sweep(&mut k, &HashSet::from([COOKIE])).expect("sweep"), 0);
    assert_eq!(sweep(&mut k, &HashSet::new()).expect("sweep"), 1);
    assert_eq!(notes_of(&k).expect("read"), []);
}
