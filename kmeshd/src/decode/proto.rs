//! The messages of `proto/`, as they were compiled.
#![expect(clippy::all, clippy::pedantic, reason = "generated")]

pub(crate) mod workload {
    tonic::include_proto!("istio.workload");
}

pub(crate) mod security {
    tonic::include_proto!("istio.security");
}
