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

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;

use crate::args::{Cli, Verb};
use crate::context::Context;
use crate::output::Undeterred;
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
            output::tell(&format!("kmeshctl: {error:#}\n"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<End> {
    let ctx = Context::new(cli);
    if matches!(cli.verb, Verb::Restore(_) | Verb::Purge(_)) {
        return run_verb(cli, &ctx, &mut BufWriter::new(Undeterred(io::stdout().lock())));
    }
    run_verb(cli, &ctx, &mut BufWriter::new(io::stdout().lock()))
}

fn run_verb(cli: &Cli, ctx: &Context, out: &mut dyn Write) -> anyhow::Result<End> {
    let end = match &cli.verb {
        Verb::Dump(args) => verbs::dump::run(ctx, args, out),
        Verb::Restore(args) => verbs::restore::run(ctx, args, out),
        Verb::Status(args) => verbs::status::run(ctx, args, out),
        Verb::GuardRollback(args) => verbs::guard::run(ctx, args),
        Verb::Verify(args) => verbs::verify::run(ctx, args, out),
        Verb::Purge(args) => verbs::purge::run(ctx, args, out),
        Verb::Explain(args) => verbs::explain::run(ctx, args, out),
        Verb::Completions(args) => verbs::completions::run(args, out),
        Verb::Man(args) => verbs::man::run(args, out),
    }?;
    out.flush()?;
    Ok(end)
}
