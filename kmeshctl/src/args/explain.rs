//! What may be said to `explain`.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter as Live;

use crate::complete;

/// How an explanation is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
}

/// The family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SocketFamily {
    /// An IPv4 socket.
    #[value(name = "4")]
    V4,
    /// An IPv6 socket; it dials IPv4 addresses as v4-mapped.
    #[value(name = "6")]
    V6,
}

/// The protocol of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SocketProtocol {
    /// Steered.
    #[default]
    Tcp,
    /// Passes.
    Udp,
}

/// `kmeshctl explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
What the kernel would do with the connection now, from the live maps, step by step as the programs
decide. No connection is made, no daemon is needed. A pod is named by its uid, namespace/name, name,
address, netns cookie, pid:N, or the path of its network namespace; the host itself is `host`.

Where the connection reaches a pod of this node, that pod's answer is told: allowed or denied, by
which policy, group and match. The address that it comes from is the pod's own, or --bind; any
address may connect: --from 192.0.2.7.

TCP Fast Open and MPTCP sockets are refused where a waypoint is met (EOPNOTSUPP; refused_fastopen,
refused_mptcp).

Exit status: 0 steered or passed, 1 refused (or refused by some of the endpoints, or the tables
changed under every reading), 2 it could not look.

Examples:
  kmeshctl explain --from shop/cart-7d9f --to 10.96.0.10:80
  kmeshctl explain --from 10.244.1.7 --to '[fd96::10]:80'
  kmeshctl explain --from 192.0.2.7 --to 10.244.1.9:8080             is this client let in?
  kmeshctl explain --from pid:4711 --to 10.96.0.10:80 --family 6     as ::ffff:10.96.0.10
  kmeshctl explain --from cart-7d9f --to 10.96.0.10:80 -o json | jq -r .verdict")]
pub struct Explain {
    /// Who connects: a pod of this node, any address, or `host`.
    #[arg(long, value_name = "POD|ADDRESS", add = Live::new(complete::pods))]
    pub from: String,
    /// The address and port that are dialled; IPv6 in brackets.
    #[arg(long, value_name = "ADDRESS:PORT", add = Live::new(complete::targets))]
    pub to: SocketAddr,
    /// The family of the socket [default: the address'].
    #[arg(long, value_enum)]
    pub family: Option<SocketFamily>,
    /// Its protocol.
    #[arg(long, value_enum, default_value_t)]
    pub protocol: SocketProtocol,
    /// The socket has IPV6_V6ONLY.
    #[arg(long)]
    pub v6only: bool,
    /// The address that the socket is bound to before it dials.
    #[arg(long, value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ExplainFormat,
}
