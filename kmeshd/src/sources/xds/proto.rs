//! The messages and the client of `proto/discovery.proto`, as they were compiled.
#![expect(clippy::pedantic, unused_qualifications, reason = "generated")]
#![cfg_attr(not(test), allow(dead_code, reason = "a resource's text stays bytes: see `answer`"))]

tonic::include_proto!("envoy.service.discovery.v3");
