//! Compiles `prog/*.bpf.c` for the BPF machine and writes the table that `src/programs.rs`
//! includes: name, object bytes, build id.
//!
//! The compiler is Debian's clang-19; `KMESH_CLANG` names another. Objects hold no path of the
//! machine that built them, so equal sources have equal build ids.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=prog");
    println!("cargo::rerun-if-env-changed=KMESH_CLANG");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let sources = sources(Path::new("prog"))?;
    let mut table = format!("static OBJECTS: [Object; {}] = [\n", sources.len());
    for source in sources {
        let object = compile(&source, &out)?;
        writeln!(table, "{}", row(&source, &object)?)?;
    }
    table.push_str("];\n");
    fs::write(out.join("objects.rs"), table)?;
    Ok(())
}

/// Every `*.bpf.c`, sorted; each header is watched too.
fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        println!("cargo::rerun-if-changed={}", path.display());
        if path.to_string_lossy().ends_with(".bpf.c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn compile(source: &Path, out: &Path) -> Result<PathBuf> {
    let clang = env::var("KMESH_CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let object = out.join(name_of(source)?).with_extension("o");
    let endian = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb",
        _ => "bpfel",
    };
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let answer = Command::new(&clang)
        .args(["-target", endian, "-mcpu=v3", "-O2", "-g", "-std=gnu11"])
        .args(["-Wall", "-Wextra", "-Werror", "-fno-ident", "-fdebug-compilation-dir=."])
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object)
        .output();
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Err(format!(
                "cannot run {clang}: {error}. Install it (Debian: apt-get install clang-19 \
                 libbpf-dev linux-libc-dev), or name another clang by KMESH_CLANG"
            )
            .into());
        }
    };
    if answer.status.success() {
        return Ok(object);
    }
    let said = String::from_utf8_lossy(&answer.stderr);
    Err(refusal(&clang, source, &said).into())
}

/// What the compiler said, and what to do where a package is missing.
fn refusal(clang: &str, source: &Path, said: &str) -> String {
    let hint = if said.contains("file not found") {
        "\nHeaders are missing: apt-get install libbpf-dev linux-libc-dev"
    } else {
        ""
    };
    format!("{clang} refuses {}:\n{said}{hint}", source.display())
}

/// One row of the table: name, aligned bytes, build id.
fn row(source: &Path, object: &Path) -> Result<String> {
    let digest = Sha256::digest(fs::read(object)?);
    let build = &digest[..8];
    let object = object.to_str().ok_or("the output directory is not UTF-8")?;
    let name = name_of(source)?;
    Ok(format!(
        "    Object {{ name: {name:?}, bytes: aligned!({object:?}), build: u64::from_be_bytes({build:?}) }},"
    ))
}

/// `prog/connect4.bpf.c` → `connect4`.
fn name_of(source: &Path) -> Result<String> {
    let file =
        source.file_name().and_then(|name| name.to_str()).ok_or("a source without a name")?;
    Ok(file.trim_end_matches(".bpf.c").to_owned())
}
