//! `kmeshd`: parse, resolve, act.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use kmeshd::config::{Action, Args};
use kmeshd::{app, snapshot};

fn main() -> ExitCode {
    let began = Instant::now();
    let args = Args::parse();
    let done = app::log_to_stderr(args.log()).and_then(|()| match args.resolve()? {
        Action::Run(config) => app::run(*config, began),
        Action::Snapshot { mesh, here, output } => snapshot::write(&mesh, here, output),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kmeshd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
