//! The messages of the interfaces, as they were compiled.
#![allow(clippy::all, clippy::pedantic, missing_docs, unused_qualifications, reason = "generated")]

/// Discovery.
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");
}

/// Workloads and services.
pub mod workload {
    tonic::include_proto!("istio.workload");
}

/// Policies.
pub mod security {
    tonic::include_proto!("istio.security");
}
