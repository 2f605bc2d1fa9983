//! Attaches a pinned `sk_lookup` program to a network namespace beside whatever is there, as
//! another project would: for the suite of authorization, whose verify must tell of it.
//!
//! Run it with `beside NETNS PROGRAM-PIN LINK-PIN`.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use kmesh_bpf::kernel::Objects as _;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::netns;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [netns, prog, link] = args.as_slice() else {
        eprintln!("beside NETNS PROGRAM-PIN LINK-PIN");
        return ExitCode::FAILURE;
    };
    let (path, prog, link) = (Path::new(netns), Path::new(prog), Path::new(link));
    let cookie = match netns::cookie_of(path) {
        Ok(cookie) => cookie,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match Linux::new().link_netns(prog, cookie, path, link) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error));
            ExitCode::FAILURE
        }
    }
}
