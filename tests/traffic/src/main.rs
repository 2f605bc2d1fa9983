//! Connections of every awkward kind, for the tests of the data plane.
//!
//! `hear` is a server that answers, once its client has finished, with its own name and all that
//! it heard, in hex. `dial` is a client that opens one connection in a given way, sends in a given
//! way, and prints what the server answered; an error is printed by its name, and is an answer
//! like any other. It refuses to wait: whatever takes over ten seconds is an error.
#![forbid(unsafe_code)]

mod dial;
mod hear;
mod send;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
#[command(about, version)]
enum Command {
    /// Answer every connection with a name and what it said.
    Hear(Hear),
    /// Open a connection and print what became of it.
    Dial(Dial),
}

/// What the server does.
#[derive(clap::Args)]
struct Hear {
    /// Its name in the answers.
    #[arg(long)]
    name: String,
    /// Where it listens, for TCP; repeatable.
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// Where it listens, for UDP; repeatable.
    #[arg(long)]
    udp: Vec<SocketAddr>,
    /// Speak first: send this to every client at once.
    #[arg(long)]
    greet: Option<String>,
    /// Created once all sockets listen.
    #[arg(long)]
    ready: PathBuf,
}

/// How the connection is opened.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// `connect()`, then send.
    Plain,
    /// `sendto(MSG_FASTOPEN)`.
    FastopenMsg,
    /// `TCP_FASTOPEN_CONNECT`, `connect()`, then send.
    FastopenConnect,
    /// A non-blocking `connect()`, then at once a blocking send.
    Early,
    /// An MPTCP socket.
    Mptcp,
    /// A UDP socket.
    Udp,
    /// Send nothing, finish at once.
    Silent,
    /// Send nothing and wait for the server's greeting.
    Listen,
    /// Send "hello", then wait for standard input to end, then finish.
    Hold,
    /// Wait for standard input to end, then send.
    Wait,
}

/// How the payload is sent.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Payload {
    /// One `send` of "hello".
    Hello,
    /// An empty send, then "hello".
    Empty,
    /// `send(MSG_MORE)` of "hel", then "lo".
    More,
    /// One `sendmsg` of 100 buffers.
    Writev,
    /// `sendfile` of 1 MiB.
    Sendfile,
    /// `splice` of 4 KiB from a pipe.
    Splice,
    /// 1 MiB by non-blocking sends and a small send buffer.
    Big,
    /// `send(MSG_OOB)` of one byte, then "hello".
    Urgent,
    /// Two sends of "hello", 50 ms apart.
    Twice,
}

/// What the client does.
#[derive(clap::Args)]
struct Dial {
    /// Where to.
    to: SocketAddr,
    /// How the connection is opened.
    #[arg(long, value_enum, default_value = "plain")]
    way: Way,
    /// How the payload is sent.
    #[arg(long, value_enum, default_value = "hello")]
    payload: Payload,
    /// Dial this first, on the same socket; it may fail.
    #[arg(long)]
    first: Option<SocketAddr>,
    /// Bind the socket to this address.
    #[arg(long)]
    bind: Option<SocketAddr>,
    /// Set `IPV6_V6ONLY`.
    #[arg(long)]
    v6only: bool,
    /// How many connections, one after the other.
    #[arg(long, default_value_t = 1)]
    count: u32,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Hear(hear) => hear::run(&hear),
        Command::Dial(dial) => {
            for _ in 0..dial.count {
                println!("{}", dial::run(&dial));
            }
            Ok(())
        }
    }
}
