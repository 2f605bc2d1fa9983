//! Compiles the empty program that the hooks are measured beside.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=empty.bpf.c");
    println!("cargo::rerun-if-env-changed=KMESH_CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("empty.o");
    let clang = env::var("KMESH_CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let include = format!("/usr/include/{}-linux-gnu", env::consts::ARCH);
    let status = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I", &include, "-c", "empty.bpf.c"])
        .arg("-o")
        .arg(&out)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()) && fs::metadata(&out).is_ok(),
        "{clang} could not compile empty.bpf.c: install clang-19 and libbpf-dev"
    );
}
