//! A client and a pod in network namespaces of their own, for tests with real sockets.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two network namespaces joined by a veth pair.
pub struct Wire {
    pub names: [String; 2],
}

pub fn ip(args: &[&str]) {
    let done = Command::new("ip").args(args).status().expect("ip");
    assert!(done.success(), "ip {args:?}");
}

impl Wire {
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let names = ["client", "pod"].map(|of| format!("kmw{}-{number}{of}", std::process::id()));
        let [client, pod] = &names;
        for name in &names {
            ip(&["netns", "add", name]);
        }
        let wire = Self { names: names.clone() };
        ip(&["-n", client, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", pod]);
        let addresses = [
            (client, "10.9.1.1/24"),
            (client, "fd09::1/64"),
            (client, "fe80::1/64"),
            (pod, "10.9.1.2/24"),
            (pod, "10.9.1.3/24"),
            (pod, "fd09::2/64"),
            (pod, "fd09::3/64"),
            (pod, "fe80::2/64"),
        ];
        for (name, address) in addresses {
            let plain: &[&str] = &["-n", name, "addr", "add", address, "dev", "eth0"];
            ip(&if address.contains(':') { [plain, &["nodad"]].concat() } else { plain.to_vec() });
        }
        for name in &names {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        wire
    }

    /// The path of a namespace: 0 is the client's, 1 the pod's.
    pub fn path(&self, at: usize) -> PathBuf {
        Path::new("/run/netns").join(&self.names[at])
    }

    /// Runs `work` in a namespace: 0 is the client's, 1 the pod's.
    pub fn inside<T: Send>(&self, at: usize, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.path(at)).expect("the namespace");
        let enter = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).expect("enter");
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().expect("no panic inside"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}
