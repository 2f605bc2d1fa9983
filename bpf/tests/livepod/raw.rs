//! A client without a kernel: it sends exactly what a test says.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType};
use rustix::net::{ipproto, recv, sendto, socket, sockopt};

use super::Pod;
use crate::wire;

pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A client that sends what it is told: an address that nobody has, so that no kernel answers.
pub struct Raw {
    sending: OwnedFd,
    hearing: OwnedFd,
    port: u16,
}

pub const RAW: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 77);
pub const TO: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 2);

impl Raw {
    pub fn new(pod: &Pod, port: u16) -> Self {
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

    pub fn send(&self, flags: u8, seq: u32, ack: u32) {
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
    pub fn hear(&self) -> (u8, u32) {
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
    pub fn syn(&self) -> u32 {
        self.send(SYN, 1000, 0);
        let (flags, seq) = self.hear();
        assert_eq!(flags, SYN | ACK);
        seq
    }
}

pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum & 0xffff)
        .expect("16 bits")
        .wrapping_add(u16::try_from(sum >> 16).expect("carry"))
}
