//! The messages and the client of `proto/discovery.proto`, as they were compiled. Resources are
//! looked at in place (`answer`); only what is wrong with one is learned from its message.
#![expect(clippy::pedantic, unused_qualifications, reason = "generated")]

tonic::include_proto!("envoy.service.discovery.v3");
