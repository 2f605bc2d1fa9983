//! Kmesh's benchmarks: figures on the real kernel, ratios taken in one run.
//!
//! It makes everything it touches (a mount namespace with a bpffs, a cgroup, network
//! namespaces) and removes it. Its method is told in docs/benchmarks.md.
#![forbid(unsafe_code)]

mod authz;
mod change;
mod connect;
mod enforce;
mod fixture;
mod istio;
mod memory;
mod mesh;
mod one_by_one;
mod report;
mod restart;
mod throughput;
mod verbs;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

/// Measures Kmesh on this kernel; needs root.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only these groups.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Where to write the figures.
    #[arg(long, default_value = "target/bench.json")]
    output: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// What runs inside a pod (started by the benchmark itself).
    #[command(hide = true)]
    Worker(worker::Args),
}

/// Measures a group into the report; the path is the directory of the built binaries.
type Measure = fn(&mut report::Report, &Path) -> anyhow::Result<()>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    Connect,
    Throughput,
    Restart,
    Change,
    Memory,
    Verbs,
    Authz,
    Enforce,
    Istio,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Verb::Worker(args)) = &cli.verb {
        worker::main(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(rustix::process::geteuid().is_root(), "the benchmarks need root");
    let exe = std::env::current_exe().context("own path")?;
    let bin = exe.parent().context("own directory")?.to_owned();
    let wanted = |group| cli.only.is_empty() || cli.only.contains(&group);
    let mut report = report::Report::default();
    let groups: [(Group, Measure); 9] = [
        (Group::Connect, connect::measure),
        (Group::Throughput, throughput::measure),
        (Group::Restart, restart::measure),
        (Group::Change, change::measure),
        (Group::Memory, memory::measure),
        (Group::Verbs, verbs::measure),
        (Group::Authz, authz::measure),
        (Group::Enforce, enforce::measure),
        (Group::Istio, istio::measure),
    ];
    for (group, measure) in groups {
        if wanted(group) {
            eprintln!("{group:?}");
            measure(&mut report, &bin).with_context(|| format!("{group:?}"))?;
        }
    }
    println!("{}", report.table());
    report.write(&cli.output)?;
    let missed = report.missed();
    println!("{missed} of the targets missed");
    Ok(ExitCode::from(u8::from(missed > 0)))
}
