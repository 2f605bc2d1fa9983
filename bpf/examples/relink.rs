//! Puts the program pinned at one place into the link pinned at another, as a foreign hand would:
//! for the suite of `verify`, which must find it.
//!
//! Run it with `relink HOOK LINK-PIN PROGRAM-PIN`.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use kmesh_bpf::kernel::Objects as _;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::Hook;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [hook, link, prog] = args.as_slice() else {
        eprintln!("relink HOOK LINK-PIN PROGRAM-PIN");
        return ExitCode::FAILURE;
    };
    let Some(hook) = Hook::ALL.into_iter().find(|one| one.name() == hook) else {
        eprintln!("{hook} is no hook");
        return ExitCode::FAILURE;
    };
    match Linux::new().link_update(hook, Path::new(link), Path::new(prog)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error));
            ExitCode::FAILURE
        }
    }
}
