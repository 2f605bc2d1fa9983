//! A pod with a policy set, for tests of live connections.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod raw;
pub mod talk;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{Put, Tables};
use kmesh_bpf::layout::{COUNTERS, ConnectionKey, LiveRecord, ManagerWord, Map};
use kmesh_bpf::{live, netns};

use crate::wire::Wire;
use crate::world::World;

pub const SET: u16 = 3;
pub const POD: [&str; 4] = ["10.9.1.2:7000", "10.9.1.3:7000", "[fd09::2]:7000", "[fd09::3]:7000"];

/// A governed pod in a namespace of its own, and a client beside it.
pub struct Pod {
    pub world: World,
    pub k: Linux,
    pub wire: Wire,
    pub cookie: u64,
}

impl Pod {
    /// A pod that has a policy set; nothing judges here, so everybody gets in.
    pub fn new() -> Self {
        let (world, wire) = (World::new(), Wire::new());
        let (k, ..) = world.start();
        let cookie = netns::cookie_of(&wire.path(1)).expect("the pod's cookie");
        let mut pod = Self { world, k, wire, cookie };
        pod.word(SET, ManagerWord::MANAGED);
        pod
    }

    pub fn word(&mut self, set: u16, flags: u8) {
        let word = ManagerWord::new(self.cookie, None, set, flags);
        let (key, value) = (self.cookie.to_ne_bytes(), bytemuck::bytes_of(&word));
        self.k.update(Map::Manager, &key, value, Put::Any).expect("the pod's word");
    }

    pub fn notes(&self) -> Vec<(ConnectionKey, LiveRecord)> {
        live::notes_of(&self.k).expect("read map_of_tuple")
    }

    pub fn wait_empty(&self) {
        let begun = Instant::now();
        while !self.notes().is_empty() {
            let left = self.notes();
            assert!(begun.elapsed() < Duration::from_mins(3), "{} left: {left:x?}", left.len());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn full(&self) -> u64 {
        let counter = COUNTERS.iter().find(|of| of.name == "live_full").expect("a counter");
        self.k.lookup_per_cpu(Map::Stats, counter.index).expect("read").iter().sum()
    }

    pub fn listen(&self) -> TcpListener {
        self.wire.inside(1, || TcpListener::bind("[::]:7000").expect("listen"))
    }

    pub fn dial(&self, to: &str) -> TcpStream {
        let to: SocketAddr = to.parse().expect("an address");
        self.wire.inside(0, || TcpStream::connect(to).expect("connect"))
    }
}
