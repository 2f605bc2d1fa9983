//! Asks a pinned program about a connection without making one (`BPF_PROG_TEST_RUN`, for
//! sk_lookup since Linux 5.9). The program runs as it does in earnest: it counts, and reports.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

use super::Linux;
use super::sys::{self, bpf, number};
use crate::kernel::KernelError;

const PROG_TEST_RUN: u32 = 10;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const IPPROTO_TCP: u32 = 6;
const SK_PASS: u32 = 1;

/// A connection to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Where it comes from. A v4-mapped address is one of IPv6, as a packet might have it.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// `IPPROTO_TCP` if true, else `IPPROTO_UDP`.
    pub tcp: bool,
}

/// What the program answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// It let the connection pass.
    pub passes: bool,
    /// What one run took, on average of all, in nanoseconds.
    pub ns: u32,
}

/// `struct bpf_sk_lookup`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Context {
    cookie: u64,
    family: u32,
    protocol: u32,
    remote_ip4: [u8; 4],
    remote_ip6: [u8; 16],
    remote_port: [u8; 2],
    pad: u16,
    local_ip4: [u8; 4],
    local_ip6: [u8; 16],
    local_port: u32,
    ingress_ifindex: u32,
    pad2: u32,
}

impl Context {
    fn of(dial: &Dial) -> Self {
        let mut context = Self {
            protocol: if dial.tcp { IPPROTO_TCP } else { 17 },
            remote_port: dial.source.port().to_be_bytes(),
            local_port: dial.destination.port().into(),
            ..Self::default()
        };
        match (dial.source.ip(), dial.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                context.family = AF_INET;
                context.remote_ip4 = source.octets();
                context.local_ip4 = destination.octets();
            }
            (source, destination) => {
                context.family = AF_INET6;
                context.remote_ip6 = wide(source);
                context.local_ip6 = wide(destination);
            }
        }
        context
    }
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct TestRun {
    prog: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

impl Linux {
    /// Runs the sk_lookup program pinned at `prog` `repeat` times.
    pub fn run_sk_lookup(&self, prog: &Path, dial: &Dial, repeat: u32) -> Result<Ran, KernelError> {
        let failed = |source: io::Error| KernelError::Pin {
            op: "run the program",
            path: prog.to_owned(),
            source,
        };
        let prog = sys::open_pin(prog).map_err(failed)?;
        let context = Context::of(dial);
        let size = u32::try_from(size_of::<Context>()).unwrap_or_default();
        let mut attr = TestRun {
            prog: number(prog.as_fd()),
            repeat,
            ctx_size_in: size,
            ctx_in: std::ptr::from_ref(&context).addr() as u64,
            ..TestRun::default()
        };
        // SAFETY: `context` has the size that is given, is only read, and outlives the call.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }.map_err(failed)?;
        Ok(Ran { passes: attr.retval == SK_PASS, ns: attr.duration })
    }
}
