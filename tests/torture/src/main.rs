//! kmesh-torture: the one rule of shared memory, under fire. It changes endpoints, VIPs, services
//! and workload addresses as fast as `apply` can write, while several threads connect to the VIPs:
//! every connection must land in the set that was right before or after a change under way, never
//! anywhere else.
//!
//! ```text
//!   writer: random change → publish old ∪ new → converge → publish new     (world, main)
//!   client: connect to a VIP → who is the peer? → was it right meanwhile?  (client, truth)
//! ```
//! It stands in a governed pod over maps that a daemon made, with the daemon gone, and refuses to
//! start without the writer lock.

#![forbid(unsafe_code)]

mod client;
mod truth;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use kmesh_bpf::apply::{Applied, converge};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::pins::{Root, open_existing};
use kmesh_bpf::tables::Have;
use kmesh_bpf::{lock, want::Change};
use serde::Serialize;

use client::Counts;
use truth::Truth;
use world::World;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Kmesh's directory on a BPF file system
    #[arg(long, env = "KMESH_BPF_ROOT")]
    bpf_root: PathBuf,
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Threads that connect
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    clients: u8,
    /// The seed of the changes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What happened.
#[derive(Debug, Default, Serialize)]
struct Report {
    seed: u64,
    /// Transactions.
    changes: u64,
    /// Elements written.
    elements: u64,
    /// Grace periods waited for.
    graces: u64,
    #[serde(flatten)]
    counts: Counts,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let root = Root::new(&args.bpf_root);
    let _lock = lock::acquire_existing(&root).context("take the writer lock")?;
    let mut kernel = Linux::new();
    open_existing(&mut kernel, &root).context("open the maps")?;
    let mut have = Have::read_locked(&kernel).context("read the tables")?;
    let mut world = World::new(args.seed);
    let mut write = |change: &Change| {
        converge(&mut kernel, &mut have, change, &mut |_, _| {}).context("write a change")
    };
    write(&world.whole())?;
    let report = torture(&args, &mut world, &mut write)?;
    println!("{}", serde_json::to_string(&report).context("write the report")?);
    Ok(if report.counts.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Changes the world until the time is over, with the clients running.
fn torture(
    args: &Args,
    world: &mut World,
    write: &mut dyn FnMut(&Change) -> anyhow::Result<Applied>,
) -> anyhow::Result<Report> {
    let truth = Truth::new(world.answers());
    let stop = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut report = Report { seed: args.seed, ..Report::default() };
    std::thread::scope(|scope| {
        let (truth, stop) = (&truth, &stop);
        let clients: Vec<_> = (0..args.clients)
            .map(|number| scope.spawn(move || client::run(truth, stop, number)))
            .collect();
        let mut written = Ok(());
        while written.is_ok() && Instant::now() < until {
            let change = world.change();
            truth.widen(world.answers());
            written = write(&change).map(|applied| {
                truth.narrow();
                report.changes += 1;
                report.elements += applied.elements;
                report.graces += applied.graces;
            });
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            report.counts.add(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?);
        }
        written.map(|()| report)
    })
}
