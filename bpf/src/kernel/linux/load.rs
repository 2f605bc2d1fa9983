//! Making maps and loading programs from the object files of this build.
//!
//! A program is loaded against maps that are pinned and were checked; the loader opens them by
//! the paths given here and makes none. What the verifier says is cut down to its end, where its
//! reason stands.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::MapData;
use aya::programs::{Program, ProgramError};
use aya::{EbpfError, EbpfLoader, VerifierLogLevel};

use super::{links, sys};
use crate::kernel::KernelError;
use crate::layout::{Hook, Limits, Map};
use crate::programs;

/// Lines of the verifier's log that an error keeps.
const LOG_LINES: usize = 24;

/// Creates `map` with the key and value types of its definition in C and pins it.
pub(super) fn create_map(map: Map, max_entries: u32, path: &Path) -> Result<(), KernelError> {
    let failed = |source| KernelError::Pin { op: "create and pin", path: path.to_owned(), source };
    let (mut definition, btf) = definition(map).map_err(failed)?;
    definition.set_max_entries(max_entries);
    let btf = sys::btf_load(&btf).map_err(failed)?;
    let made = MapData::create(definition, map.name(), Some(btf.as_fd()))
        .map_err(|error| failed(root_cause(&error)))?;
    sys::pin(made.fd().as_fd(), path).map_err(failed)
}

/// The definition of `map` in the objects, and the type information that it points into.
fn definition(map: Map) -> io::Result<(aya_obj::Map, Vec<u8>)> {
    for object in programs::all() {
        let mut parsed = aya_obj::Object::parse(object.bytes).map_err(io::Error::other)?;
        let Some(definition) = parsed.maps.remove(map.name()) else {
            continue;
        };
        let features = aya::features().btf().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "this kernel has no BPF type format")
        })?;
        let btf = parsed.fixup_and_sanitize_btf(features).map_err(io::Error::other)?;
        let btf = btf.ok_or_else(|| io::Error::other("an object without type information"))?;
        return Ok((definition, btf.to_bytes()));
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no object of this build defines the map"))
}

/// The constant of a pod's programs: whose copy it is.
const POD_COOKIE: &str = "kmesh_pod_cookie";

/// Loads the program of `hook` against the maps pinned in `maps` and pins it at `path`. `cookie`
/// is the pod's, for a program that is loaded once for each.
pub(super) fn load(
    hook: Hook,
    cookie: Option<u64>,
    maps: &Path,
    limits: &Limits,
    path: &Path,
) -> Result<(), KernelError> {
    let failed = |reason: String| KernelError::Load { hook, reason };
    let object = programs::of(hook)
        .ok_or_else(|| failed("this build holds no program for it".to_owned()))?;
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::DEBUG);
    for map in Map::ALL {
        loader.map_pin_path(map.name(), maps.join(map.name()));
        loader.map_max_entries(map.name(), limits.of(map));
    }
    if let Some(cookie) = &cookie {
        loader.override_global(POD_COOKIE, cookie, true);
    }
    let mut programs = loader.load(object.bytes).map_err(|error| failed(ebpf_reason(&error)))?;
    let program = programs
        .program_mut(hook.name())
        .ok_or_else(|| failed(format!("its object has no function {}", hook.name())))?;
    load_patiently(program)
        .ok_or_else(|| failed("its section is not of this hook's kind".to_owned()))?
        .map_err(|error| failed(program_reason(&error)))?;
    let fd = program.fd().map_err(|error| failed(program_reason(&error)))?;
    keep_maps(fd.as_fd(), maps)?;
    sys::pin(fd.as_fd(), path).map_err(|source| KernelError::Pin {
        op: "pin",
        path: path.to_owned(),
        source,
    })
}

/// Loads it; the verifier gives up with EAGAIN when a signal comes meanwhile, and is asked again.
fn load_patiently(program: &mut Program) -> Option<Result<(), ProgramError>> {
    const TRIES: usize = 5;
    let mut load = || match program {
        Program::SkMsg(program) => Some(program.load()),
        Program::SockOps(program) => Some(program.load()),
        Program::CgroupSockAddr(program) => Some(program.load()),
        Program::SkLookup(program) => Some(program.load()),
        Program::Xdp(program) => Some(program.load()),
        _ => None,
    };
    let interrupted = |answer: &Option<Result<(), ProgramError>>| match answer {
        Some(Err(ProgramError::LoadError { io_error, .. })) => {
            io_error.raw_os_error() == Some(libc::EAGAIN)
        }
        _ => false,
    };
    let mut answer = load();
    for _ in 1..TRIES {
        if !interrupted(&answer) {
            break;
        }
        answer = load();
    }
    answer
}

/// Lets a program keep every map of the set, also those that no instruction names: one program
/// is enough to find all of them again when their pins are gone.
fn keep_maps(prog: BorrowedFd<'_>, maps: &Path) -> Result<(), KernelError> {
    for map in Map::ALL {
        let path = maps.join(map.name());
        sys::open_pin(&path)
            .and_then(|fd| links::bind_map(prog, fd.as_fd()))
            .map_err(|source| KernelError::Pin { op: "let a program keep", path, source })?;
    }
    Ok(())
}

fn ebpf_reason(error: &EbpfError) -> String {
    match error {
        EbpfError::ProgramError(error) => program_reason(error),
        other => chain(other),
    }
}

/// Why a program was refused: of a verifier's log, its end.
fn program_reason(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return chain(error);
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if end.is_empty() {
        format!("the kernel refuses it: {io_error}")
    } else {
        format!("the kernel refuses it: {io_error}; the verifier's last words:\n{}", end.join("\n"))
    }
}

/// An error and its sources, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = error.source();
    }
    text
}

/// The system's error at the end of a chain, so that callers see its number.
fn root_cause(error: &(dyn Error + 'static)) -> io::Error {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(number);
        }
        at = error.source();
    }
    io::Error::other(chain(error))
}
