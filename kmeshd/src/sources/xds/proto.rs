//! The messages and the client of `proto/discovery.proto`, as they were compiled.
#![expect(clippy::pedantic, unused_qualifications, reason = "generated")]

tonic::include_proto!("envoy.service.discovery.v3");
