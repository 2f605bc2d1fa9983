//! Compiles the daemon's interfaces, with the server's side.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "../../kmeshd/proto";
    let files = ["discovery.proto", "workload.proto", "authorization.proto"];
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile(files, [PROTO])?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
