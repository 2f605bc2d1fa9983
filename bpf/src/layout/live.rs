//! Records of live connections.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytemuck::{Pod, Zeroable};

use super::record::mapped;
use super::tag32;

/// Key of `host_dialled`, `map_of_tuple` and `map_of_auth`: a connection as one network namespace
/// knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct ConnectionKey {
    /// Of the network namespace that dialled (`host_dialled`), or of the pod.
    pub cookie: u64,
    /// The address that dialled, network order; IPv4 as `::ffff:a.b.c.d`.
    pub source: [u8; 16],
    /// The address that was dialled.
    pub destination: [u8; 16],
    /// Its port, network order.
    pub source_port: [u8; 2],
    /// The port that was dialled, network order.
    pub port: [u8; 2],
    /// Zero.
    pub pad: u32,
}

impl ConnectionKey {
    /// The key of a connection in namespace `cookie`; ports in host order.
    #[must_use]
    pub fn new(cookie: u64, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        Self {
            cookie,
            source: mapped(source.0),
            destination: mapped(destination.0),
            source_port: source.1.to_be_bytes(),
            port: destination.1.to_be_bytes(),
            pad: 0,
        }
    }

    /// Where it comes from; the port in host order, IPv4 as such.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        SocketAddr::new(
            Ipv6Addr::from(self.source).to_canonical(),
            u16::from_be_bytes(self.source_port),
        )
    }

    /// Where it goes to; the port in host order, IPv4 as such.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        SocketAddr::new(
            Ipv6Addr::from(self.destination).to_canonical(),
            u16::from_be_bytes(self.port),
        )
    }

    /// The tag that a value of it carries.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let mut words = [0; 12];
        for (word, bytes) in words.iter_mut().zip(bytemuck::bytes_of(self).chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        tag32(&words)
    }

    /// The value of `host_dialled` that says it was dialled so many seconds after boot
    /// (`CLOCK_MONOTONIC`).
    #[must_use]
    pub fn word(&self, seconds: u32) -> u64 {
        u64::from(self.tag()) | u64::from(seconds) << 32
    }
}

/// Why a live connection was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveWhy {
    /// By the policies.
    Judged,
    /// By the policies, its source without identity.
    Nobody,
    /// It is exempt: the pod dialled itself.
    Local,
    /// It is exempt: the host dialled.
    Host,
}

impl LiveWhy {
    /// All, by number.
    pub const ALL: [Self; 4] = [Self::Judged, Self::Nobody, Self::Local, Self::Host];

    /// The number in `enum kmesh_live_why`.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// Value of `map_of_tuple`: a live inbound connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LiveRecord {
    /// The socket's cookie.
    pub socket: u64,
    /// Why, policy set, since when.
    pub word: u64,
}

impl LiveRecord {
    /// A connection of `socket` that was let in by `set` so many seconds after boot.
    #[must_use]
    pub fn new(socket: u64, why: LiveWhy, set: u16, since: u32) -> Self {
        let word = u64::from(why.number()) | u64::from(set) << 16 | u64::from(since) << 32;
        Self { socket, word }
    }

    /// Why it was let in; `None` for a number that this build does not know.
    #[must_use]
    pub fn why(&self) -> Option<LiveWhy> {
        let number = u8::try_from(self.word & 0xff).ok()?;
        LiveWhy::ALL.into_iter().find(|why| why.number() == number)
    }

    /// The policy set that was in force.
    #[must_use]
    pub fn set(&self) -> u16 {
        u16::try_from(self.word >> 16 & 0xffff).unwrap_or_default()
    }

    /// When: seconds since boot (`CLOCK_MONOTONIC`).
    #[must_use]
    pub fn since(&self) -> u32 {
        u32::try_from(self.word >> 32).unwrap_or_default()
    }
}

/// Why a live connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RevokedReason {
    /// A policy denies it.
    Denied = 1,
    /// Policies of action ALLOW apply, and none matches.
    NoAllow = 2,
}

impl RevokedReason {
    /// All.
    pub const ALL: [Self; 2] = [Self::Denied, Self::NoAllow];

    /// Its name in metrics and views.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NoAllow => "no_allow",
        }
    }
}

/// Value of `map_of_auth`: a live connection that the policies deny by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RevokedRecord {
    /// The socket's cookie.
    pub socket: u64,
    /// Tag of the key, reason.
    pub word: u64,
}

impl RevokedRecord {
    /// The connection `key`, which is that of `socket`.
    #[must_use]
    pub fn new(key: &ConnectionKey, socket: u64, reason: RevokedReason) -> Self {
        Self { socket, word: u64::from(key.tag()) | (reason as u64) << 32 }
    }

    /// Why; `None` for a number that this build does not know.
    #[must_use]
    pub fn reason(&self) -> Option<RevokedReason> {
        let number = self.word >> 32 & 0xff;
        RevokedReason::ALL.into_iter().find(|reason| *reason as u64 == number)
    }
}

const _: () = {
    assert!(size_of::<ConnectionKey>() == 48);
    assert!(size_of::<LiveRecord>() == 16);
    assert!(size_of::<RevokedRecord>() == 16);
};
