//! `map_of_tuple` holds what is live and nothing else: short connections, resets, connections that
//! nobody accepts and namespaces that end leave it empty. `KMESH_LIVE_CONNECTIONS` says how many;
//! `just proof-live` has a million.

mod livepod;
mod wire;
mod world;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kmesh_bpf::layout::{LiveWhy, ManagerWord};
use livepod::{POD, Pod, SET};
use rustix::net::sockopt::set_socket_linger;
use wire::{Wire, ip};

fn wanted() -> usize {
    let said = std::env::var("KMESH_LIVE_CONNECTIONS").ok();
    said.map_or(20_000, |said| said.parse().expect("KMESH_LIVE_CONNECTIONS: a number"))
}

fn reset_on_close(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).expect("SO_LINGER");
}

#[test]
fn what_is_live_is_noted_and_forgotten_when_it_closes() {
    let mut pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    for to in POD {
        let client = pod.dial(to);
        let (server, from) = listener.accept().expect("accept");
        let notes = pod.notes();
        let [(key, note)] = notes.as_slice() else { panic!("{notes:x?}") };
        assert_eq!(key.cookie, pod.cookie);
        assert_eq!(key.to(), to.parse().expect("an address"));
        assert_eq!((key.from().ip(), key.from().port()), (from.ip().to_canonical(), from.port()));
        assert_eq!((note.why(), note.set()), (Some(LiveWhy::Nobody), SET));
        drop((client, server));
        pod.wait_empty();
    }
    // what the pod itself dials is not noted at the end that dials
    let outside = pod.wire.inside(0, || TcpListener::bind("10.9.1.1:7000").expect("listen"));
    let to: SocketAddr = "10.9.1.1:7000".parse().expect("an address");
    let dialled = pod.wire.inside(1, || TcpStream::connect(to).expect("connect"));
    let _accepted = outside.accept().expect("accept");
    assert_eq!(pod.notes(), []);
    drop(dialled);
    for (set, flags) in
        [(0, ManagerWord::MANAGED), (SET, ManagerWord::MANAGED | ManagerWord::BYPASS)]
    {
        pod.word(set, flags);
        let _client = pod.dial(POD[0]);
        let _server = listener.accept().expect("accept");
        assert_eq!(pod.notes(), [], "set {set}, flags {flags}");
    }
}

#[test]
fn a_full_map_is_counted_and_ends_nothing() {
    let pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let listener = pod.listen();
    let mut pairs: Vec<_> =
        (0..80).map(|_| (pod.dial(POD[0]), listener.accept().expect("accept").0)).collect();
    assert_eq!(pod.notes().len(), world::SMALL.connections as usize);
    assert_eq!(pod.full(), 80 - u64::from(world::SMALL.connections));
    for (client, server) in &mut pairs {
        client.write_all(b"x").expect("write");
        server.read_exact(&mut [0; 1]).expect("read");
    }
    drop(pairs);
    pod.wait_empty();
}

/// The ends of a short connection, by turns: the server closes, the server resets, the client does.
fn serve(listener: &TcpListener, stop: &AtomicBool) {
    for (at, stream) in listener.incoming().enumerate() {
        let mut stream = stream.expect("accept");
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match at % 3 {
            0 => drop(stream),
            1 => reset_on_close(&stream),
            // waits for the client's reset
            _ => drop((stream.write_all(b"r"), stream.read(&mut [0; 1]))),
        }
    }
}

fn storm(pod: &Pod, listener: &TcpListener, most: &AtomicUsize) {
    const CLIENTS: usize = 4;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| serve(listener, &stop));
        }
        let client = |to: &'static str| {
            let to: SocketAddr = to.parse().expect("an address");
            for _ in 0..wanted() / CLIENTS {
                match TcpStream::connect(to) {
                    Ok(mut stream) => {
                        if matches!(stream.read(&mut [0; 1]), Ok(1)) {
                            reset_on_close(&stream);
                        }
                    }
                    // the server's reset was faster
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
                }
            }
        };
        let clients: Vec<_> = POD
            .into_iter()
            .map(|to| scope.spawn(move || pod.wire.inside(0, || client(to))))
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            most.fetch_max(pod.notes().len(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        for _ in 0..CLIENTS {
            drop(pod.dial(POD[0]));
        }
    });
}

fn never_accepted(pod: &Pod) {
    let listener = pod.listen();
    let clients: Vec<_> = (0..50).map(|at| pod.dial(POD[at % 4])).collect();
    assert_eq!(pod.notes().len(), clients.len());
    drop(listener);
    pod.wait_empty();
    drop(clients);
}

/// A process that keeps `count` connections to itself open inside the namespace.
fn resident(wire: &Wire, at: usize, cgroup: &std::path::Path) -> Child {
    let script = "echo $$ > \"$1\"; exec python3 -c '
import socket, time
l = socket.socket(); l.bind((\"10.9.1.2\", 7100)); l.listen(64)
held = [socket.create_connection((\"10.9.1.2\", 7100)) for _ in range(40)]
held += [l.accept()[0] for _ in range(20)]
print(\"held\", flush=True); time.sleep(600)'";
    let procs = cgroup.join("cgroup.procs");
    let mut child = wire.inside(at, || {
        Command::new("bash")
            .args(["-c", script, "resident"])
            .arg(procs)
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash")
    });
    let mut said = [0; 4];
    child.stdout.as_mut().expect("its output").read_exact(&mut said).expect("python3 holds them");
    child
}

#[test]
fn nothing_is_left() {
    let pod = Pod::new();
    let _inside = pod.world.cgroup.enter();
    let most = AtomicUsize::new(0);
    let listener = pod.listen();
    storm(&pod, &listener, &most);
    pod.wait_empty();
    drop(listener);
    assert!(most.load(Ordering::Relaxed) > 0, "nothing was ever noted");
    never_accepted(&pod);
    let mut child = resident(&pod.wire, 1, &pod.world.cgroup.0);
    assert_eq!(pod.notes().len(), 40, "20 of them accepted");
    child.kill().expect("kill");
    ip(&["netns", "del", &pod.wire.names[1]]);
    child.wait().expect("its end");
    pod.wait_empty();
    assert_eq!(pod.full(), 0);
    println!("{} short connections, resets, never accepted, killed: 0 left", wanted());
}
