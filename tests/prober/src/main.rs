//! kmesh-prober: the witness of the test suites. It stands in a pod, opens a new connection to
//! each target every few milliseconds, keeps long-lived ones echoing, and knows at each moment
//! which answers are right.
//!
//! ```text
//! serve   endpoints that answer their name, then echo
//! names   a few connections: who answered
//! run     the prober itself, told by a socket what is right from now on
//! tell    one command to a running prober
//! ```
//!
//! It refuses to run without bounds: every verb has a limit in connections and in time. It does
//! not enter namespaces: whoever starts it has placed it.

#![forbid(unsafe_code)]

mod control;
mod expect;
mod probe;
mod report;
mod serve;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer connections with a name, then echo
    Serve(serve::Options),
    /// Connect a few times and print who answered, one line each
    Names {
        /// Where to connect to
        target: SocketAddr,
        /// How many times
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Pause between them, in milliseconds
        #[arg(long, default_value_t = 0)]
        every_ms: u64,
    },
    /// Probe until told to stop
    Run(probe::Options),
    /// Tell a running prober: expect LABEL NAME,NAME… | report | stop
    Tell {
        /// The socket that the prober was given
        socket: PathBuf,
        /// The command
        #[arg(required = true)]
        words: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        match args.verb {
            Verb::Serve(options) => serve::run(options).await.map(|()| ExitCode::SUCCESS),
            Verb::Names { target, count, every_ms } => {
                probe::names(target, count, every_ms).await;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Run(options) => {
                let report = probe::run(options).await?;
                println!("{report}");
                Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Verb::Tell { socket, words } => {
                println!("{}", control::tell(&socket, &words.join(" ")).await?);
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}
