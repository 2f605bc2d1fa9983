//! Records and words of authorization.

use bytemuck::{Pod, Zeroable};

/// In [`super::ManagerWord`]: no policy applies to the pod.
pub const POLICY_NONE: u16 = 0;
/// In [`super::ManagerWord`]: nobody may connect until the model knows the pod.
pub const POLICY_WAIT: u16 = 0xffff;

/// A run of a set's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AuthRun {
    /// Its first word, relative to the set's.
    pub at: u32,
    /// Ranges, or identities.
    pub count: u32,
}

/// Value of `kmesh_auth_set`: immutable while a pod's word names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AuthSetRecord {
    /// The constants below.
    pub flags: u64,
    /// The set's first word in `kmesh_auth_word`.
    pub words: u32,
    /// Its first chunk in `kmesh_auth_bits`.
    pub chunks: u32,
    /// By action: where its bits end that decide alone, then those of conjunctions, in pairs of
    /// chunks.
    pub ends: [u16; 8],
    /// Source ranges, IPv4.
    pub source4: AuthRun,
    /// Source ranges, IPv6: three words each.
    pub source6: AuthRun,
    /// Destination ranges, IPv4.
    pub destination4: AuthRun,
    /// Destination ranges, IPv6: three words each.
    pub destination6: AuthRun,
    /// Destination ports.
    pub port: AuthRun,
    /// Identities by number.
    pub identities: AuthRun,
    /// The row of a source without identity.
    pub nobody: u32,
    /// The row that marks the last bit of each rule.
    pub rule_ends: u32,
    /// The row that marks the last bit of each group.
    pub group_ends: u32,
    /// Words that the set may grow to.
    pub words_room: u32,
    /// Chunks that the set may grow to.
    pub chunks_room: u32,
    /// What it was compiled from: first chunk in `kmesh_names` of a JSON list of indices into
    /// `kmesh_policy`.
    pub policies: u32,
    /// Bytes of that.
    pub policies_len: u32,
    /// Zero.
    pub pad: u32,
}

impl AuthSetRecord {
    /// The record is in use.
    pub const VALID: u64 = 1;
    /// Policies of action ALLOW apply.
    pub const ALLOWS: u64 = 2;
    /// Dry-run ones do.
    pub const DRY_ALLOWS: u64 = 4;
}

/// Value of `kmesh_policy`: a version of an authorization policy, immutable while it is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PolicyRecord {
    /// [`Self::VALID`], [`Self::SUPERSEDED`].
    pub flags: u32,
    /// First chunk in `kmesh_names` of `namespace/name`.
    pub name: u32,
    /// First chunk of the policy as JSON.
    pub text: u32,
    /// Bytes of that.
    pub text_len: u32,
    /// Bytes of the name.
    pub name_len: u16,
    /// Zero.
    pub pad: [u16; 3],
}

impl PolicyRecord {
    /// The record is in use.
    pub const VALID: u32 = 1;
    /// A newer version is there, or the policy is gone: only sets still stand for it.
    pub const SUPERSEDED: u32 = 2;
}

/// Value of `kmesh_auth_bits`: 512 bits of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AuthChunk(pub [u64; 8]);

/// An element of `kmesh_denials`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DenialRecord {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Of the pod's network namespace.
    pub cookie: u64,
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub source: [u8; 16],
    /// Likewise.
    pub destination: [u8; 16],
    /// The source's identity; 0 is none.
    pub who: u32,
    /// Network order.
    pub source_port: [u8; 2],
    /// Host order.
    pub port: u16,
    /// The policy set.
    pub set: u16,
    /// The counter that it counted into.
    pub why: u16,
    /// Zero.
    pub pad: u32,
}

const _: () = {
    assert!(size_of::<AuthSetRecord>() == 112);
    assert!(size_of::<PolicyRecord>() == 24);
    assert!(size_of::<AuthChunk>() == 64);
    assert!(size_of::<DenialRecord>() == 64);
};
