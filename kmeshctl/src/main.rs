//! `kmeshctl`: looks at, saves, restores, checks and removes what Kmesh keeps in the kernel.
//!
//! ```text
//!  args → context → verbs/<verb> → kmesh_bpf → view, tables, output
//! ```
//!
//! It refuses to know how the tables work: every rule is in `kmesh_bpf`. It needs no daemon.

#![forbid(unsafe_code)]

mod args;
mod complete;
mod context;
mod daemon;
mod output;
mod screen;
mod select;
mod tables;
mod verbs;
mod view;

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;

use crate::args::{Cli, Verb};
use crate::context::Context;
use crate::verbs::End;

fn main() -> ExitCode {
    // A shell that asks for completions is answered, and nothing else is done.
    CompleteEnv::with_factory(Cli::command).complete();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(End::Good) => ExitCode::SUCCESS,
        Ok(End::Differs) => ExitCode::from(1),
        // The reader has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kmeshctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<End> {
    let ctx = Context::new(cli);
    let mut out = BufWriter::new(io::stdout().lock());
    let end = match &cli.verb {
        Verb::Dump(args) => verbs::dump::run(&ctx, args, &mut out),
        Verb::Restore(args) => verbs::restore::run(&ctx, args, &mut out),
        Verb::Status(args) => verbs::status::run(&ctx, args, &mut out),
        Verb::Verify(args) => verbs::verify::run(&ctx, args, &mut out),
        Verb::Purge(args) => verbs::purge::run(&ctx, args, &mut out),
        Verb::Explain(args) => verbs::explain::run(&ctx, args, &mut out),
        Verb::Completions(args) => verbs::completions::run(args, &mut out),
        Verb::Man(args) => verbs::man::run(args, &mut out),
    }?;
    out.flush()?;
    Ok(end)
}
