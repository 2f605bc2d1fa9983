//! Words: the single u64 values that a program trusts, packed and unpacked.
//!
//! Bit positions are those of `prog/layout.h`. All words are in host byte order;
//! an IPv4 address inside a word keeps its network byte order in memory.

use std::net::Ipv4Addr;

/// The tag of a key: mixes native-endian u32 words as `kmesh_tag32` in
/// `prog/layout.h` does, so that both sides agree about a key's tag.
#[must_use]
pub fn tag32(words: &[u32]) -> u32 {
    words.iter().fold(0x9e37_79b9, |mut hash: u32, word| {
        hash ^= word;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^ (hash >> 15)
    })
}

/// The 16-bit tag of a netns cookie in its [`ManagerWord`].
#[must_use]
pub fn cookie_tag(cookie: u64) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the cookie")]
    let words = [cookie as u32, (cookie >> 32) as u32];
    #[expect(clippy::cast_possible_truncation, reason = "the tag is the low half")]
    let tag = tag32(&words) as u16;
    tag
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable,
        )]
        #[repr(transparent)]
        pub struct $name(pub u64);
    };
}

word! {
    /// Value of `kmesh_frontend`: what a VIP and port, or an address, leads to.
    FrontendWord
}

impl FrontendWord {
    /// Index into `kmesh_service` or `kmesh_backend`, by the key's kind.
    #[must_use]
    pub fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The tag of the key that this value was written for.
    #[must_use]
    pub fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

word! {
    /// First word of a [`super::ServiceRecord`]: which slots are in use, and how.
    ServiceWord
}

impl ServiceWord {
    /// The record is in use.
    pub const VALID: u16 = 1;
    /// Completely known: having no endpoint means refuse, not pass.
    pub const SYNCED: u16 = 2;
    /// Connections go by the record's waypoint word.
    pub const WAYPOINT: u16 = 4;
    /// Leave the destination as it is.
    pub const PASSTHROUGH: u16 = 8;
    /// Locality mode STRICT (for views; resolved in user space).
    pub const STRICT: u16 = 16;
    /// Locality mode FAILOVER (for views; resolved in user space).
    pub const FAILOVER: u16 = 32;
    /// The largest base (28 bits).
    pub const MAX_BASE: u32 = (1 << 28) - 1;
    /// The largest count (20 bits).
    pub const MAX_COUNT: u32 = (1 << 20) - 1;

    /// A word of `count` slots from `base` on.
    #[must_use]
    pub fn new(base: u32, count: u32, flags: u16) -> Self {
        debug_assert!(base <= Self::MAX_BASE && count <= Self::MAX_COUNT);
        Self(u64::from(base) | u64::from(count) << 28 | u64::from(flags) << 48)
    }

    /// First slot in `kmesh_endpoint`.
    #[must_use]
    pub fn base(self) -> u32 {
        // `MAX_BASE`, as a literal so that the lint sees that it fits
        (self.0 & 0x0fff_ffff) as u32
    }

    /// Slots in use.
    #[must_use]
    pub fn count(self) -> u32 {
        (self.0 >> 28 & 0x000f_ffff) as u32
    }

    /// The flags, as the constants above.
    #[must_use]
    pub fn flags(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Whether `flag` is set.
    #[must_use]
    pub fn has(self, flag: u16) -> bool {
        self.flags() & flag != 0
    }
}

word! {
    /// A waypoint word: the service record (of kind waypoint) to go to; zero is none.
    WaypointWord
}

impl WaypointWord {
    /// No waypoint.
    pub const NONE: Self = Self(0);
    const VALID: u64 = 1 << 32;

    /// The word that names service record `index`.
    #[must_use]
    pub fn new(index: u32) -> Self {
        Self(Self::VALID | u64::from(index))
    }

    /// The service record it names, if any.
    #[must_use]
    pub fn service(self) -> Option<u32> {
        (self.0 & Self::VALID != 0).then_some((self.0 & 0xffff_ffff) as u32)
    }
}

word! {
    /// Value of `kmesh_endpoint`: one slot of a service.
    EndpointWord
}

impl EndpointWord {
    const VALID: u16 = 1;
    const V6: u16 = 2;

    /// A slot that leads to `backend` at `port` (host order), by its IPv6 address if `v6`.
    #[must_use]
    pub fn new(backend: u32, port: u16, v6: bool) -> Self {
        let flags = Self::VALID | if v6 { Self::V6 } else { 0 };
        Self(u64::from(backend) | u64::from(port) << 32 | u64::from(flags) << 48)
    }

    /// Index into `kmesh_backend`.
    #[must_use]
    pub fn backend(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// Target port, host order.
    #[must_use]
    pub fn port(self) -> u16 {
        (self.0 >> 32 & 0xffff) as u16
    }

    /// Whether the backend's IPv6 address is used.
    #[must_use]
    pub fn v6(self) -> bool {
        (self.0 >> 48) as u16 & Self::V6 != 0
    }

    /// Whether the slot was ever written.
    #[must_use]
    pub fn valid(self) -> bool {
        (self.0 >> 48) as u16 & Self::VALID != 0
    }
}

word! {
    /// First word of a [`super::BackendRecord`]: IPv4 address and flags.
    BackendWord
}

impl BackendWord {
    /// In use; cleared when removed (for views: programs reach only what is in use).
    pub const VALID: u32 = 1;
    /// The IPv4 address is set.
    pub const V4: u32 = 2;
    /// The IPv6 address is set.
    pub const V6: u32 = 4;
    /// The workload is a waypoint: its own connections meet none.
    pub const WAYPOINT: u32 = 8;
    /// No frontend leads to it: it shares its node's addresses (for `verify`; no program looks).
    pub const NO_ADDRESS: u32 = 16;

    /// A word with this IPv4 address (its flag is set here) and these other flags.
    #[must_use]
    pub fn new(v4: Option<Ipv4Addr>, flags: u32) -> Self {
        let (address, v4_flag) =
            v4.map_or((0, 0), |ip| (u32::from_ne_bytes(ip.octets()), Self::V4));
        Self(u64::from(address) | u64::from(flags | v4_flag) << 32)
    }

    /// The IPv4 address, if set.
    #[must_use]
    pub fn v4(self) -> Option<Ipv4Addr> {
        #[expect(clippy::cast_possible_truncation, reason = "the address is the low half")]
        let address = (self.0 as u32).to_ne_bytes();
        self.has(Self::V4).then(|| Ipv4Addr::from(address))
    }

    /// The flags, as the constants above.
    #[must_use]
    pub fn flags(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether `flag` is set.
    #[must_use]
    pub fn has(self, flag: u32) -> bool {
        self.flags() & flag != 0
    }
}

word! {
    /// Value of `map_of_manager`: how a pod is governed.
    ManagerWord
}

impl ManagerWord {
    /// The pod is managed.
    pub const MANAGED: u8 = 1;
    /// Its connections pass as if Kmesh were not there.
    pub const BYPASS: u8 = 2;
    const NO_BACKEND: u32 = 0x00ff_ffff;

    /// The word of the pod with this netns `cookie`; `backend` is its own record, if known.
    #[must_use]
    pub fn new(cookie: u64, backend: Option<u32>, policy_set: u16, flags: u8) -> Self {
        let backend = backend.unwrap_or(Self::NO_BACKEND);
        debug_assert!(backend <= Self::NO_BACKEND);
        Self(
            u64::from(backend)
                | u64::from(policy_set) << 24
                | u64::from(flags) << 40
                | u64::from(cookie_tag(cookie)) << 48,
        )
    }

    /// The pod's own backend record, if the model knows it.
    #[must_use]
    pub fn backend(self) -> Option<u32> {
        let index = (self.0 & 0x00ff_ffff) as u32;
        (index != Self::NO_BACKEND).then_some(index)
    }

    /// The policy set that applies to the pod; 0 is none.
    #[must_use]
    pub fn policy_set(self) -> u16 {
        (self.0 >> 24 & 0xffff) as u16
    }

    /// The flags, as the constants above.
    #[must_use]
    pub fn flags(self) -> u8 {
        (self.0 >> 40 & 0xff) as u8
    }

    /// Whether the pod's connections pass as if Kmesh were not there.
    #[must_use]
    pub fn bypass(self) -> bool {
        self.flags() & Self::BYPASS != 0
    }

    /// The tag of the cookie that this value was written for.
    #[must_use]
    pub fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The same word with another policy set.
    #[must_use]
    pub fn with_policy_set(self, set: u16) -> Self {
        Self(self.0 & !(0xffff << 24) | u64::from(set) << 24)
    }

    /// The same word with another backend.
    #[must_use]
    pub fn with_backend(self, backend: Option<u32>) -> Self {
        let index = u64::from(backend.unwrap_or(Self::NO_BACKEND));
        Self(self.0 & !u64::from(Self::NO_BACKEND) | index)
    }
}

/// All of `kmesh_settings`: what the programs may be told at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsWords(pub [u64; super::SETTINGS]);

impl SettingsWords {
    /// Index of the word of flags.
    pub const FLAGS: usize = 0;
    /// Index of the first of the four words of exempt ports.
    pub const EXEMPT: usize = 1;
    /// PROXY protocol v2 instead of the Kmesh TLV.
    pub const PROXY_V2: u64 = 1;
    /// Index of the word with the netns cookie of the host's own namespace.
    pub const HOST: usize = 5;
    /// getpeername answers the address that was dialled.
    pub const PEERNAME: u64 = 2;
    /// Some pod has a policy set: what the host dials is noted.
    pub const POLICIES: u64 = 4;

    /// The words for these flags and exempt ports (at most [`super::EXEMPT_PORTS`] are kept).
    #[must_use]
    pub fn new(flags: u64, exempt: &[u16]) -> Self {
        let mut words = [0; super::SETTINGS];
        words[Self::FLAGS] = flags;
        for (at, port) in exempt.iter().take(super::EXEMPT_PORTS).enumerate() {
            words[Self::EXEMPT + at / 4] |= u64::from(*port) << (16 * (at % 4));
        }
        Self(words)
    }

    /// The flags, as the constants above.
    #[must_use]
    pub fn flags(&self) -> u64 {
        self.0[Self::FLAGS]
    }

    /// The ports that no waypoint sees.
    #[must_use]
    pub fn exempt(&self) -> Vec<u16> {
        (0..super::EXEMPT_PORTS)
            .map(|at| (self.0[Self::EXEMPT + at / 4] >> (16 * (at % 4)) & 0xffff) as u16)
            .filter(|port| *port != 0)
            .collect()
    }
}
